//! What a layer may do, what it leaves behind, and every way out that is closed.

#![cfg(test)]

use super::*;
use crate::image::fixture::{Member as Given, Scratch, tar};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// Unpacks a stack of layers, the lowest first, each into a directory `0`, `1`, ... of `scratch`.
fn stack(scratch: &Scratch, layers: &[Vec<u8>]) -> Result<(), LayerError> {
    for (n, layer) in layers.iter().enumerate() {
        let path = scratch.0.join(n.to_string());
        std::fs::create_dir(&path).unwrap();
        let lower: Vec<Dir> = (0..n).rev().map(|m| Dir::open(&scratch.0.join(m.to_string())).unwrap()).collect();
        unpack(&mut TarReader::stream(layer.as_slice()), Dir::open(&path).unwrap(), &lower)?;
    }
    Ok(())
}

fn one(name: &str, members: &[Given]) -> (Scratch, PathBuf) {
    let scratch = Scratch::new(name);
    stack(&scratch, &[tar(members)]).unwrap();
    let root = scratch.0.join("0");
    (scratch, root)
}

fn refusal(name: &str, members: &[Given]) -> String {
    let scratch = Scratch::new(name);
    match stack(&scratch, &[tar(members)]) {
        Err(error @ LayerError::Refused { .. }) => error.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}

fn is_hidden(path: &Path) -> bool {
    let meta = std::fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn xattr(path: &Path, key: &str) -> Option<Vec<u8>> {
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    let all = dir.xattrs(path.file_name().unwrap()).unwrap();
    all.into_iter().find(|(k, _)| k == key).map(|(_, value)| value)
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn every_kind_of_member_keeps_what_it_is() {
    let long = "deep/".repeat(60) + "file";
    let (_scratch, root) = one(
        "kinds",
        &[
            Given::dir("./").mode(0o751).owner(5, 6).mtime(1000),
            Given::dir("bin").mode(0o555).mtime(2000),
            Given::file("bin/su", b"#!").mode(0o4755).owner(0, 7).mtime(3000),
            Given::hard_link("bin/su2", "bin/su"),
            Given::symlink("bin/sh", "/bin/dash").owner(8, 9).mtime(4000),
            Given::symlink("bin/dangling", "../../../outside"),
            Given::char_device("null", 1, 3),
            Given::fifo("pipe"),
            Given::file(&long, b"long"),
            Given::file("caps", b"x").xattr("security.capability", CAP_NET_RAW).xattr("user.note", b"a\nb\0c"),
        ],
    );
    let su = std::fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!((mode(&root.join("bin/su")), su.uid(), su.gid(), su.mtime(), su.nlink()), (0o4755, 0, 7, 3000, 2));
    assert_eq!(std::fs::read_link(root.join("bin/sh")).unwrap(), Path::new("/bin/dash"));
    let sh = std::fs::symlink_metadata(root.join("bin/sh")).unwrap();
    assert_eq!((sh.uid(), sh.gid(), sh.mtime()), (8, 9, 4000));
    assert!(std::fs::symlink_metadata(root.join("bin/dangling")).unwrap().is_symlink());
    let null = std::fs::metadata(root.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), mode(&root.join("null"))), (0x103, 0o666));
    assert!(std::fs::metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::read(root.join(&long)).unwrap(), b"long");
    assert_eq!(xattr(&root.join("caps"), "security.capability").unwrap(), CAP_NET_RAW);
    assert_eq!(xattr(&root.join("caps"), "user.note").unwrap(), b"a\nb\0c");
    // Times of directories are those of the archive, though things were put into them later.
    let top = std::fs::metadata(&root).unwrap();
    assert_eq!((mode(&root), top.uid(), top.gid(), top.mtime()), (0o751, 5, 6, 1000));
    assert_eq!((mode(&root.join("bin")), std::fs::metadata(root.join("bin")).unwrap().mtime()), (0o555, 2000));
}

/// vfs_cap_data, version 2: CAP_NET_RAW permitted and effective.
const CAP_NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn whiteouts_and_opaque_directories_become_overlays_own_marks() {
    let (_scratch, root) = one(
        "whiteouts",
        &[
            Given::file("etc/.wh.passwd", b""),
            Given::file("opaque/new", b"n"),
            Given::file("opaque/.wh..wh..opq", b""),
            Given::file(".wh.gone", b""),
            Given::file(".wh..wh.plnk/1.2", b"aufs"),
            Given::file(".wh..wh.aufs", b"aufs"),
        ],
    );
    assert!(is_hidden(&root.join("etc/passwd")));
    assert!(is_hidden(&root.join("gone")));
    assert_eq!(xattr(&root.join("opaque"), "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(std::fs::read(root.join("opaque/new")).unwrap(), b"n");
    let names: Vec<_> = Dir::open(&root).unwrap().names().unwrap();
    assert_eq!(names, ["etc", "gone", "opaque"]);
}

#[test]
fn a_whiteout_hides_only_what_is_below_whichever_comes_first() {
    for (case, swap) in [("whiteout-last", false), ("whiteout-first", true)] {
        let mut members = vec![
            Given::file("file", b"f"),
            Given::dir("dir"),
            Given::file("dir/a", b"a"),
            Given::file("implicit/b", b"b"),
            Given::file(".wh.file", b""),
            Given::file(".wh.dir", b""),
            Given::file(".wh.implicit", b""),
        ];
        if swap {
            members.rotate_left(4);
        }
        let (_scratch, root) = one(case, &members);
        assert_eq!(std::fs::read(root.join("file")).unwrap(), b"f", "{case}");
        for (dir, inside) in [("dir", "a"), ("implicit", "b")] {
            assert_eq!(xattr(&root.join(dir), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{case}");
            assert_eq!(std::fs::read(root.join(dir).join(inside)).unwrap(), inside.as_bytes(), "{case}");
        }
    }
}

#[test]
fn a_layer_whose_root_is_opaque_hides_each_name_below() {
    let scratch = Scratch::new("opaque-root");
    let base = tar(&[Given::file("a/x", b""), Given::file("b", b""), Given::file("c/x", b"")]);
    let top = tar(&[Given::file(".wh..wh..opq", b""), Given::file("c/y", b""), Given::file("b", b"new")]);
    stack(&scratch, &[base, top]).unwrap();
    let root = scratch.0.join("1");
    assert!(is_hidden(&root.join("a")));
    assert_eq!(std::fs::read(root.join("b")).unwrap(), b"new");
    assert_eq!(xattr(&root.join("c"), "trusted.overlay.opaque").unwrap(), b"y");
}

#[test]
fn directories_that_a_layer_only_implies_look_as_they_do_below() {
    let scratch = Scratch::new("implicit");
    let base = tar(&[
        Given::dir("./").mode(0o711).owner(3, 3),
        Given::dir("tmp").mode(0o1777).mtime(500).xattr("user.a", b"1"),
        Given::dir("srv").mode(0o700).owner(9, 9),
        Given::dir("old").mode(0o700),
        Given::dir("old/in").mode(0o700),
    ]);
    let middle = tar(&[
        Given::file("other", b""),
        Given::file(".wh.srv", b""),
        Given::dir("old").mode(0o750),
        Given::file("old/.wh..wh..opq", b""),
    ]);
    let top = tar(&[Given::file("tmp/x", b""), Given::file("srv/x", b""), Given::file("old/in/x", b"")]);
    stack(&scratch, &[base, middle, top]).unwrap();
    let root = scratch.0.join("2");
    assert_eq!((mode(&root), std::fs::metadata(&root).unwrap().uid()), (0o711, 3));
    assert_eq!((mode(&root.join("tmp")), std::fs::metadata(root.join("tmp")).unwrap().mtime()), (0o1777, 500));
    assert_eq!(xattr(&root.join("tmp"), "user.a").unwrap(), b"1");
    // Hidden in between: neither a whiteout nor an opaque directory lets the old attributes through.
    assert_eq!((mode(&root.join("srv")), std::fs::metadata(root.join("srv")).unwrap().uid()), (0o755, 0));
    assert_eq!((mode(&root.join("old")), mode(&root.join("old/in"))), (0o750, 0o755));
    assert_eq!(xattr(&root.join("old"), "trusted.overlay.opaque"), None);
}

#[test]
fn the_last_of_several_members_of_one_name_wins() {
    let (_scratch, root) = one(
        "replace",
        &[
            Given::dir("d2f"),
            Given::file("d2f/x", b""),
            Given::file("d2f", b"file"),
            Given::file("f2d", b""),
            Given::dir("f2d"),
            Given::file("f2d/x", b"x"),
            Given::symlink("l2f", "f2d"),
            Given::file("l2f", b"plain"),
            Given::file("same", b"1").mode(0o600),
            Given::file("same", b"2").mode(0o644),
            Given::dir("d2d").mode(0o700),
            Given::file("d2d/kept", b""),
            Given::dir("d2d").mode(0o711),
            Given::symlink("f2l", "x"),
            Given::hard_link("f2h", "same"),
            Given::hard_link("same", "same"),
        ],
    );
    assert_eq!(std::fs::read(root.join("d2f")).unwrap(), b"file");
    assert_eq!(std::fs::read(root.join("f2d/x")).unwrap(), b"x");
    assert_eq!(std::fs::read(root.join("l2f")).unwrap(), b"plain");
    assert_eq!((std::fs::read(root.join("same")).unwrap(), mode(&root.join("same"))), (b"2".to_vec(), 0o644));
    assert!(root.join("d2d/kept").exists());
    assert_eq!(mode(&root.join("d2d")), 0o711);
    assert_eq!(std::fs::metadata(root.join("f2h")).unwrap().nlink(), 2);
}

#[test]
fn members_may_go_through_symlinks_that_stay_in_the_layer() {
    let (_scratch, root) = one(
        "through",
        &[
            Given::dir("usr/lib"),
            Given::symlink("lib", "usr/lib"),
            Given::file("lib/a", b"a"),
            Given::symlink("usr/up", "../usr/lib"),
            Given::file("usr/up/deep/b", b"b"),
            Given::hard_link("hard", "lib/a"),
        ],
    );
    assert_eq!(std::fs::read(root.join("usr/lib/a")).unwrap(), b"a");
    assert_eq!(std::fs::read(root.join("usr/lib/deep/b")).unwrap(), b"b");
    assert!(std::fs::symlink_metadata(root.join("lib")).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(root.join("hard")).unwrap().nlink(), 2);
}

#[test]
fn whatever_leads_out_of_the_layer_is_refused_by_name() {
    let outside = Scratch::new("outside");
    let victim = outside.write("victim", b"untouched");
    let absolute = outside.0.to_str().unwrap();
    let relative = format!("../../{}", outside.0.strip_prefix("/tmp").unwrap_or(&outside.0).display());
    let hard_absolute = format!("h: hard link to {}: the name is absolute", victim.display());
    let too_deep = format!("{}: the name has more than 500", "d/".repeat(501));
    let into = |target: &str| [Given::symlink("link", target), Given::file("link/evil", b"evil")];
    let cases: Vec<(&str, Vec<Given>, &str)> = vec![
        ("absolute", vec![Given::file("/evil", b"")], "/evil: the name is absolute"),
        ("dots", vec![Given::file("../evil", b"")], "../evil: the name leads out of the layer by .."),
        ("inner-dots", vec![Given::file("a/../../evil", b"")], "a/../../evil: the name leads out of the layer by .."),
        ("dot-whiteout", vec![Given::file("a/.wh...", b"")], "a/.wh...: whiteout of nothing"),
        ("bare-whiteout", vec![Given::file(".wh.", b"")], ".wh.: whiteout of nothing"),
        ("symlink-absolute", into(absolute).to_vec(), "link: is a symlink that leads out"),
        ("symlink-root", into("/").to_vec(), "link: is a symlink that leads out"),
        ("symlink-relative", into(&relative).to_vec(), "link: is a symlink that leads out"),
        ("symlink-nowhere", into("nowhere").to_vec(), "link: is a symlink to no directory of this layer"),
        ("symlink-loop", into("link").to_vec(), "link: is a symlink to no directory of this layer"),
        ("symlink-proc", into("/proc/self/root").to_vec(), "link: is a symlink that leads out"),
        (
            "symlink-chain",
            vec![Given::symlink("a", "b"), Given::symlink("b", ".."), Given::dir("a/evil")],
            "a: is a symlink that leads out",
        ),
        ("file-parent", vec![Given::file("f", b""), Given::file("f/x", b"")], "f: has members below it, but is no"),
        ("root-file", vec![Given::file("./", b"").mode(0o600), Given::symlink(".", "/")], ".: stands for the layer's"),
        ("hard-absolute", vec![Given::hard_link("h", victim.to_str().unwrap())], &hard_absolute),
        (
            "hard-dots",
            vec![Given::hard_link("h", "../x")],
            "h: hard link to ../x: the name leads out of the layer by ..",
        ),
        (
            "hard-symlink",
            vec![Given::symlink("link", absolute), Given::hard_link("h", "link/victim")],
            "h: hard link to link/victim: leads out of the layer",
        ),
        ("hard-missing", vec![Given::hard_link("h", "none")], "h: hard link to none: there is no such file in this"),
        ("hard-dir", vec![Given::dir("d"), Given::hard_link("h", "d")], "h: hard link to d: is a directory"),
        ("owner", vec![Given::file("f", b"").owner(0xffff_ffff, 0)], "f: owner 4294967295 is above 2147483647"),
        ("deep", vec![Given::dir(&"d/".repeat(501))], &too_deep),
        ("nul", vec![Given::file("f", b"").pax("path", b"a\0b")], "a\0b: the name holds a NUL"),
    ];
    for (case, members, expected) in cases {
        let text = refusal(case, &members);
        assert!(text.starts_with(expected), "{case}: {text}");
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched", "{case}");
        assert_eq!(std::fs::metadata(&victim).unwrap().nlink(), 1, "{case}");
        assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 1, "{case}");
    }
}

#[test]
fn symlinks_can_not_make_a_tree_deeper_than_names_allow() {
    let deep = "d/".repeat(400);
    let text =
        refusal("deep-links", &[Given::dir(&deep), Given::symlink("s", &deep), Given::dir(&format!("s/{deep}"))]);
    assert!(text.starts_with("s: is a symlink that leads too deep"), "{text}");
}

#[test]
fn an_existing_symlink_is_replaced_and_never_written_through() {
    let outside = Scratch::new("write-through");
    let victim = outside.write("victim", b"untouched");
    let target = victim.to_str().unwrap();
    let (_scratch, root) = one(
        "replace-link",
        &[
            Given::symlink("f", target),
            Given::file("f", b"evil").mode(0o777).owner(1, 1),
            Given::symlink("d", outside.0.to_str().unwrap()),
            Given::dir("d").mode(0o777),
            Given::file("d/victim", b"evil"),
            Given::symlink("n", target),
            Given::fifo("n"),
        ],
    );
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
    assert_eq!((mode(&victim), std::fs::metadata(&victim).unwrap().uid()), (0o644, 0));
    assert_eq!(std::fs::read(root.join("d/victim")).unwrap(), b"evil");
}

#[test]
fn marks_of_overlayfs_and_labels_of_another_policy_are_not_a_layers_to_set() {
    let (_scratch, root) = one(
        "marks",
        &[
            Given::dir("d").xattr("trusted.overlay.redirect", b"/etc").xattr("trusted.overlay.opaque", b"y"),
            Given::file("f", b"").xattr("security.selinux", b"system_u:object_r:x_t:s0").xattr("trusted.mine", b"1"),
            Given::symlink("s", "f").xattr("user.on-a-symlink", b"1"),
        ],
    );
    assert_eq!(Dir::open(&root).unwrap().xattrs(OsStr::new("d")).unwrap(), []);
    assert_eq!(xattr(&root.join("f"), "security.selinux"), None);
    assert_eq!(xattr(&root.join("f"), "trusted.mine").unwrap(), b"1");
}

#[test]
fn a_truncated_layer_is_an_error_at_every_offset_within_a_header_or_data() {
    let whole = tar(&[Given::file("a", &[1; 700]), Given::dir("d"), Given::file("d/b", b"b")]);
    // Header, data and filling of a; header of d; header and data of b.
    let (filling, ends) = (512 + 700..512 + 1024, [512 + 1024, 512 + 1024 + 512]);
    for cut in (1..512 + 1024 + 512 + 512).filter(|cut| cut % 5 != 0 && !filling.contains(cut) && !ends.contains(cut)) {
        let scratch = Scratch::new("cut");
        let result = stack(&scratch, &[whole[..cut].to_vec()]);
        assert!(matches!(result, Err(LayerError::Tar(_))), "{cut}: {result:?}");
    }
}

/// Layers of random members over a few names that collide, nest and climb.
#[test]
fn no_sequence_of_members_touches_anything_outside_or_leaves_what_cannot_be_removed() {
    let outside = Scratch::new("random-outside");
    let victim = outside.write("victim", b"untouched");
    let absolute = outside.0.to_str().unwrap();
    let below = format!("{absolute}/victim");
    let names =
        ["a", "b", "a/b", "a/b/c", "b/a", "./a/", "..", "a/../b", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", "/a", "."];
    let links = ["a", "b", "a/b", ".", "..", "../..", "/", "../a", absolute, below.as_str(), "a/victim", "b/victim"];
    let mut state = 7u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let (mut taken, mut refused) = (0, 0);
    for round in 0..1500 {
        let members: Vec<Given> = (0..2 + next(8))
            .map(|_| {
                let (name, link) = (names[next(names.len())], links[next(links.len())]);
                match next(6) {
                    0 | 1 => Given::symlink(name, link),
                    2 => Given::file(name, b"evil").mode(0o777).owner(1, 1),
                    3 => Given::dir(name).mode(0o777).owner(1, 1).mtime(1),
                    4 => Given::hard_link(name, link),
                    _ => Given::fifo(name).xattr("user.x", b"evil"),
                }
            })
            .collect();
        let scratch = Scratch::new("random");
        match stack(&scratch, &[tar(&members)]) {
            Ok(()) => taken += 1,
            Err(LayerError::Refused { .. }) => refused += 1,
            Err(error) => panic!("round {round}: {error:?} from {members:?}"),
        }
        std::fs::remove_dir_all(scratch.0.join("0")).unwrap();
        let meta = std::fs::metadata(&victim).unwrap();
        assert_eq!((meta.nlink(), meta.uid(), mode(&victim)), (1, 0, 0o644), "round {round}: {members:?}");
        assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 1, "round {round}: {members:?}");
        assert_eq!(std::fs::metadata(&outside.0).unwrap().uid(), 0, "round {round}: {members:?}");
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
}
