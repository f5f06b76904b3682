//! Images from archives to a mounted root file system: with the unpacking child as it is, its limits, a full disk, the
//! kernel's overlayfs, and archives that other programs wrote. Needs root.

#[path = "../src/image/fixture.rs"]
mod fixture;

use fixture::{Blobs, Image, Member, Packing, Scratch, docker, oci, tar};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pinlet::error::chain;
use pinlet::image::digest::Digest;
use pinlet::image::preload;
use pinlet::image::store::Store;
use pinlet::image::unpack::{LayerRequest, Request, UnpackFailure, in_child_within};
use pinlet::sys::child::{Limits, SelfImage};
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test, as it runs itself.
fn me() -> SelfImage {
    let path = std::env::var_os("PINLET_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pinlet").into(), PathBuf::from);
    SelfImage::open_path(&path).unwrap()
}

struct Node {
    scratch: Scratch,
    store: Store,
}

impl Node {
    fn new(name: &str) -> Node {
        let scratch = Scratch::new(&format!("it-{name}"));
        let store = Store::open(&scratch.0.join("images")).unwrap();
        Node { scratch, store }
    }

    fn import(&self, blobs: &Blobs) -> Result<Vec<String>, String> {
        self.import_path(&self.scratch.write("archive.tar", &blobs.to_tar()))
    }

    fn import_path(&self, path: &Path) -> Result<Vec<String>, String> {
        self.store.import(path, &me()).map(|imported| imported.names).map_err(|error| chain(&error))
    }

    fn layers(&self, image: &str) -> Vec<PathBuf> {
        self.store.find(image).unwrap().unwrap().layers
    }

    /// The image as a container sees it.
    fn mount(&self, image: &str) -> Mounted {
        let at = |name: &str| {
            let path = self.scratch.0.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (upper, work, target) = (at("upper"), at("work"), at("root"));
        let lower: Vec<String> = self.layers(image).iter().map(|layer| layer.display().to_string()).collect();
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Mounted(target)
    }
}

/// Unmounted whatever the test does.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn overlayfs_shows_what_the_layers_say_together() {
    let node = Node::new("overlay");
    let base = tar(&[
        Member::dir("./").mode(0o711),
        Member::dir("tmp").mode(0o1777),
        Member::dir("etc").mode(0o750).owner(3, 4),
        Member::file("etc/removed", b"base"),
        Member::file("etc/kept", b"base"),
        Member::dir("opaque"),
        Member::file("opaque/old", b"base"),
        Member::dir("gone"),
        Member::file("gone/x", b"base"),
        Member::dir("to-file"),
        Member::file("to-file/x", b"base"),
        Member::file("to-dir", b"base"),
        Member::file("su", b"base").mode(0o4755).owner(0, 7),
    ]);
    let middle = tar(&[
        Member::file("etc/.wh.removed", b""),
        Member::file("opaque/.wh..wh..opq", b""),
        Member::file("opaque/new", b"middle"),
        Member::file(".wh.gone", b""),
        Member::file("to-file", b"middle"),
        Member::file("tmp/x", b"middle"),
        Member::file(".wh.to-dir", b""),
        Member::file("to-dir/inside", b"middle"),
    ]);
    let top = tar(&[Member::dir("gone"), Member::file("gone/again", b"top"), Member::file("etc/added", b"top")]);
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let name = format!("x:{packing:?}");
        let image = Image::new(&name, &[base.clone(), middle.clone(), top.clone()]).packing(packing);
        node.import(&oci(&[image])).unwrap();
        let root = node.mount(&name);
        let at = |name: &str| root.0.join(name);
        assert_eq!(names(&root.0), ["etc", "gone", "opaque", "su", "tmp", "to-dir", "to-file"]);
        assert_eq!(names(&at("etc")), ["added", "kept"]);
        assert_eq!(names(&at("opaque")), ["new"]);
        assert_eq!(names(&at("gone")), ["again"]);
        assert_eq!(names(&at("to-dir")), ["inside"]);
        assert_eq!(std::fs::read(at("to-file")).unwrap(), b"middle");
        let meta = |name: &str| std::fs::metadata(at(name)).unwrap();
        assert_eq!(meta("tmp").permissions().mode() & 0o7777, 0o1777);
        assert_eq!((meta("etc").mode() & 0o7777, meta("etc").uid(), meta("etc").gid()), (0o750, 3, 4));
        assert_eq!((meta("su").mode() & 0o7777, meta("su").gid()), (0o4755, 7));
    }
}

#[test]
fn a_layer_whose_root_is_opaque_shows_nothing_of_what_is_below() {
    let node = Node::new("opaque-root");
    let base = tar(&[Member::file("a", b""), Member::dir("d"), Member::file("d/old", b"")]);
    let top = tar(&[Member::file("./.wh..wh..opq", b""), Member::file("d/new", b""), Member::file("b", b"")]);
    node.import(&docker(&[Image::new("x", &[base, top])])).unwrap();
    let root = node.mount("x");
    assert_eq!(names(&root.0), ["b", "d"]);
    assert_eq!(names(&root.0.join("d")), ["new"]);
}

#[test]
fn the_umask_of_the_agent_reaches_no_layer() {
    let node = Node::new("umask");
    let members = [Member::file("implied/world", b"").mode(0o666), Member::dir("open").mode(0o777), Member::fifo("f")];
    node.import(&oci(&[Image::new("x", &[tar(&members)])])).unwrap();
    let layer = &node.layers("x")[0];
    for (name, mode) in [("implied", 0o755), ("implied/world", 0o666), ("open", 0o777), ("f", 0o600)] {
        assert_eq!(std::fs::metadata(layer.join(name)).unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn a_layer_that_leads_out_is_refused_and_the_store_is_as_before() {
    let node = Node::new("escape");
    let outside = Scratch::new("it-escape-outside");
    let target = outside.0.to_str().unwrap();
    node.import(&oci(&[Image::new("good", &[tar(&[Member::file("a", b"")])])])).unwrap();
    let before = names(&node.scratch.0.join("images/l"));
    let cases = [
        vec![Member::file("ok", b""), Member::file("/evil", b"")],
        vec![Member::file("../../evil", b"")],
        vec![Member::symlink("out", target), Member::file("out/evil", b"")],
        vec![Member::symlink("out", "../../../../../.."), Member::dir("out/evil")],
        vec![Member::hard_link("shadow", "/etc/shadow")],
    ];
    for (n, members) in cases.iter().enumerate() {
        for blobs in [oci(&[Image::new("evil", &[tar(members)])]), docker(&[Image::new("evil", &[tar(members)])])] {
            let error = node.import(&blobs).unwrap_err();
            assert!(error.starts_with("image docker.io/library/evil:latest: layer 1 of 1 (sha256:"), "{n}: {error}");
            assert_eq!(names(&node.scratch.0.join("images/l")), before, "{n}");
            assert_eq!(names(&outside.0), [""; 0], "{n}");
            assert!(node.store.find("evil").unwrap().is_none(), "{n}");
        }
    }
}

#[test]
fn a_full_disk_is_named_leaves_nothing_and_the_next_try_succeeds() {
    let scratch = Scratch::new("it-full");
    let disk = scratch.0.join("disk");
    std::fs::create_dir(&disk).unwrap();
    mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
    let mounted = Mounted(disk.clone());
    let node = Node { store: Store::open(&disk.join("images")).unwrap(), scratch };
    // Declared after the directory that it is mounted in, so that it goes before it.
    let _mounted = mounted;
    node.import(&oci(&[Image::new("small", &[tar(&[Member::file("a", b"a")])])])).unwrap();
    let preload = node.scratch.0.join("preload");
    std::fs::create_dir(&preload).unwrap();
    let big = Image::new("big", &[tar(&[Member::file("b", b"b")]), tar(&[Member::file("big", &[7; 6 << 20])])]);
    std::fs::write(preload.join("big.tar"), oci(std::slice::from_ref(&big)).to_tar()).unwrap();
    let outcomes = preload::scan(&preload, &node.store, &me());
    let error = outcomes[0].result.clone().unwrap_err();
    assert!(error.contains("layer 2 of 2") && error.contains("big: cannot write: No space left"), "{error}");
    assert_eq!(names(&disk.join("images/l")).len(), 2, "small's layer and the empty one");
    assert!(node.store.find("small").unwrap().is_some());
    // A compressed archive needs room before a layer is even looked at.
    let packed = fixture::pack(Packing::Zstd, &docker(std::slice::from_ref(&big)).to_tar());
    let error = node.import_path(&node.scratch.write("big.tar.zst", &packed)).unwrap_err();
    assert!(error.starts_with("cannot write: No space left"), "{error}");
    assert_eq!(names(&disk.join("images/tmp")), [""; 0]);
    mount(None::<&str>, &disk, None::<&str>, MsFlags::MS_REMOUNT, Some("size=32m")).unwrap();
    node.import(&oci(&[big])).unwrap();
    assert!(node.store.find("big").unwrap().is_some());
}

/// A zstd frame of `blocks` blocks of 128 KiB of zeros, four bytes each.
fn zstd_bomb(window: u8, blocks: u32) -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    for n in 0..blocks {
        let last = u32::from(n + 1 == blocks);
        bytes.extend(&(last | (1 << 1) | ((128 << 10) << 3)).to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

#[test]
fn bytes_that_ask_for_too_much_memory_or_time_kill_the_child_and_nobody_else() {
    let scratch = Scratch::new("it-limits");
    std::fs::create_dir(scratch.0.join("layer")).unwrap();
    let try_within = |limits: Limits, bytes: &[u8]| {
        let input = File::open(scratch.write("layer.tar.zst", bytes)).unwrap();
        let request = Request::Layer(LayerRequest {
            layers_dir: scratch.0.clone(),
            name: "layer".into(),
            lower: Vec::new(),
            size: bytes.len() as u64,
            digest: Digest::of(bytes),
            diff_id: Digest::of(b"never reached"),
        });
        in_child_within(limits, &me(), input, &request)
    };
    // Windows of 256 KiB and 96 MiB.
    let (small, large) = (0x40, 0x84);
    let roomy = Limits { address_space_bytes: 256 << 20, cpu_seconds: 600 };
    let failure = try_within(roomy, &zstd_bomb(large, 800)).unwrap_err();
    assert!(matches!(&failure, UnpackFailure::Refused(text) if text.contains("the diff id is")), "{failure}");
    let failure = try_within(Limits { address_space_bytes: 128 << 20, ..roomy }, &zstd_bomb(large, 800)).unwrap_err();
    assert_eq!(failure.to_string(), "cannot be unpacked: memory");
    let failure = try_within(Limits { cpu_seconds: 1, ..roomy }, &zstd_bomb(small, 1 << 19)).unwrap_err();
    assert_eq!(failure.to_string(), "cannot be unpacked: time");
    assert!(failure.is_final());
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {arguments:?}: {words}");
}

#[test]
fn what_skopeo_writes_is_read_in_all_its_forms() {
    let node = Node::new("skopeo");
    let layers = [tar(&[Member::file("low", b"low")]), tar(&[Member::file("high", b"high")])];
    let image = Image::new("kalise/x:1", &layers);
    let source = node.scratch.write("source.tar", &docker(std::slice::from_ref(&image)).to_tar());
    let source = format!("docker-archive:{}", source.display());
    let at = |name: &str| node.scratch.0.join(name);
    let forms: [(&str, &[&str]); 5] = [
        ("oci:{}:docker.io/kalise/layout:1", &[]),
        ("oci:{}:kalise/zstd:1", &["--dest-compress-format", "zstd"]),
        ("oci-archive:{}:kalise/archive:1", &[]),
        ("docker-archive:{}:kalise/docker:1", &[]),
        ("oci-archive:{}:1.0", &[]),
    ];
    for (n, (to, options)) in forms.into_iter().enumerate() {
        let path = at(&format!("form{n}"));
        let to = to.replace("{}", path.to_str().unwrap());
        run("skopeo", &[&["copy", "-q", "--insecure-policy"], options, &[&source, &to]].concat());
        let imported = node.import_path(&path).unwrap();
        let name = to.rsplit_once(path.to_str().unwrap()).unwrap().1.trim_start_matches(':').to_owned();
        let name = if name == "1.0" { format!("form{n}:1.0") } else { name };
        assert_eq!(imported, [pinlet::image::reference::Reference::parse(&name).unwrap().to_string()]);
        let found = node.layers(&imported[0]);
        assert_eq!(std::fs::read(found[0].join("high")).unwrap(), b"high", "{to}");
        assert_eq!(std::fs::read(found[1].join("low")).unwrap(), b"low", "{to}");
    }
    assert_eq!(names(&node.scratch.0.join("images/l")).len(), 3, "two layers, shared by all, and the empty one");
}

#[test]
fn what_umoci_writes_is_read() {
    let node = Node::new("umoci");
    let layout = node.scratch.0.join("app");
    let (image, layout) = (format!("{}:latest", layout.display()), layout.to_str().unwrap().to_owned());
    let content = node.scratch.write("content", b"from umoci");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["insert", "--image", &image, content.to_str().unwrap(), "/srv/content"]);
    run(
        "umoci",
        &["config", "--image", &image, "--config.entrypoint", "/srv/content", "--config.stopsignal", "SIGINT"],
    );
    let names = node.import_path(Path::new(&layout)).unwrap();
    assert_eq!(names, ["docker.io/library/app:latest"]);
    let facts = node.store.find("app").unwrap().unwrap();
    assert_eq!(facts.config.entrypoint, ["/srv/content"]);
    assert_eq!(facts.config.stop_signal, "SIGINT");
    assert_eq!(std::fs::read(node.mount("app").0.join("srv/content")).unwrap(), b"from umoci");
}
