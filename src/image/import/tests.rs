//! What the store holds after an import, after a failed one, and after the agent died in the middle of one.

#![cfg(test)]

use super::*;
use crate::image::fixture::{self, Blobs, Image, Member, Packing, Scratch, docker, oci, tar};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

struct Node {
    scratch: Scratch,
    store: Store,
    /// Names of the layers that were unpacked.
    unpacked: RefCell<Vec<String>>,
}

impl Node {
    fn new(name: &str) -> Node {
        let scratch = Scratch::new(&format!("import-{name}"));
        let store = Store::open(&scratch.0.join("images")).unwrap();
        Node { scratch, store, unpacked: RefCell::default() }
    }

    fn import(&self, blobs: &Blobs) -> Result<Vec<String>, String> {
        self.import_bytes(&blobs.to_tar())
    }

    fn import_bytes(&self, bytes: &[u8]) -> Result<Vec<String>, String> {
        self.import_path(&self.scratch.write("archive.tar", bytes))
    }

    fn import_path(&self, path: &Path) -> Result<Vec<String>, String> {
        let unpack = |input: File, request: &Request| {
            if let Request::Layer(layer) = request {
                self.unpacked.borrow_mut().push(layer.name.clone());
            }
            unpack::in_process(input, request)
        };
        self.store.import_by(path, &unpack).map(|imported| imported.names).map_err(|error| chain(&error))
    }

    /// Every path below `images` that is not a directory of the store itself.
    fn files(&self) -> Vec<String> {
        let mut all = Vec::new();
        for dir in ["layers", "l", "blobs/sha256", "tmp", ""] {
            for entry in std::fs::read_dir(self.store.path(dir)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if !matches!(name.as_str(), "layers" | "l" | "blobs" | "tmp" | "lock") {
                    all.push(Path::new(dir).join(name).to_str().unwrap().to_owned());
                }
            }
        }
        all.sort();
        all
    }

    fn layers(&self, image: &str) -> Vec<PathBuf> {
        self.store.find(image).unwrap().unwrap().layers
    }
}

fn layer(name: &str) -> Vec<u8> {
    tar(&[Member::file(name, name.as_bytes())])
}

#[test]
fn an_image_is_found_with_its_config_and_its_layers_topmost_first() {
    for (case, docker_form) in [("found-oci", false), ("found-docker", true)] {
        let node = Node::new(case);
        let mut image = Image::new("kalise/x:1", &[layer("low"), layer("high")]).packing(Packing::Gzip);
        image.config = serde_json::json!({
            "User": "app:50", "Env": ["A=b"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w", "StopSignal": "9"
        });
        let one = std::slice::from_ref(&image);
        let blobs = if docker_form { docker(one) } else { oci(one) };
        assert_eq!(node.import(&blobs).unwrap(), ["docker.io/kalise/x:1"]);
        let facts = node.store.find("kalise/x:1").unwrap().unwrap();
        let id = fixture::digest(&image.config_bytes());
        assert_eq!((facts.reference.as_str(), &facts.image_id), ("docker.io/kalise/x:1", &id));
        assert_eq!((facts.config.user.as_str(), facts.config.stop_signal.as_str()), ("app:50", "9"));
        assert_eq!((facts.config.entrypoint, facts.config.cmd), (vec!["/e".into()], vec!["c".into()]));
        let tops: Vec<bool> = facts.layers.iter().map(|path| path.join("high").exists()).collect();
        assert_eq!(tops, [true, false]);
        assert_eq!(std::fs::read(facts.layers[1].join("low")).unwrap(), b"low");
        assert!(node.store.find("kalise/x").unwrap().is_none());
        let listed = node.store.list().unwrap();
        assert_eq!((listed.len(), &listed[0].config_digest, listed[0].pinned), (1, &id, false));
        // By id, and by the digest of what the name points to.
        let digest = listed[0].digest.clone().unwrap();
        for name in [id.as_str(), &format!("kalise/x@{digest}"), &format!("kalise/x:other@{digest}")] {
            assert_eq!(node.store.find(name).unwrap().unwrap().image_id, id, "{name}");
        }
        assert!(node.store.find(&format!("kalise/y@{digest}")).unwrap().is_none());
    }
}

#[test]
fn a_layer_is_unpacked_once_and_shared_by_all_images_that_have_it_at_that_place() {
    let node = Node::new("shared");
    let one = Image::new("one", &[layer("base"), layer("a")]);
    let two = Image::new("two", &[layer("base"), layer("b")]).packing(Packing::Zstd);
    let other_place = Image::new("three", &[layer("b"), layer("base")]);
    node.import(&oci(&[one.clone(), two])).unwrap();
    assert_eq!(node.unpacked.borrow().len(), 3);
    node.import(&docker(&[one])).unwrap();
    assert_eq!(node.unpacked.borrow().len(), 3);
    assert_eq!(node.layers("one")[1], node.layers("two")[1]);
    node.import(&oci(&[other_place])).unwrap();
    assert_eq!(node.unpacked.borrow().len(), 5);
}

#[test]
fn a_tag_moves_and_what_ran_from_the_old_image_keeps_its_layers() {
    let node = Node::new("moves");
    node.import(&oci(&[Image::new("x", &[layer("old")])])).unwrap();
    let old = node.layers("x");
    node.import(&oci(&[Image::new("x", &[layer("new")])])).unwrap();
    assert_ne!(node.layers("x"), old);
    assert!(old[0].join("old").exists());
    assert_eq!(node.store.list().unwrap().len(), 1);
}

#[test]
fn images_of_one_and_of_127_layers_are_taken_and_one_of_128_is_refused_by_name() {
    let node = Node::new("many");
    let image = |n: usize| Image::new(&format!("x:{n}"), &(0..n).map(|i| layer(&i.to_string())).collect::<Vec<_>>());
    let error = node.import(&oci(&[image(1), image(40), image(127), image(128)])).unwrap_err();
    assert_eq!(
        error,
        "image docker.io/library/x:128: it has 128 layers, and at most 127 are supported; imported all the same: \
         docker.io/library/x:1, docker.io/library/x:127, docker.io/library/x:40"
    );
    for n in [1, 40, 127] {
        let layers = node.layers(&format!("x:{n}"));
        assert_eq!(layers.len(), n);
        assert!(layers[0].join((n - 1).to_string()).exists());
    }
    // As overlayfs gets them, relative to their directory, they fit in one page of options with room for the rest.
    let options: usize = node.layers("x:127").iter().map(|l| l.file_name().unwrap().len() + 1).sum();
    assert!(options < 2000, "{options}");
    assert!(node.store.find("x:128").unwrap().is_none());
}

#[test]
fn an_image_without_layers_has_one_empty_directory() {
    let node = Node::new("empty");
    node.import(&oci(&[Image::new("scratch", &[])])).unwrap();
    let layers = node.layers("scratch");
    assert_eq!(layers.len(), 1);
    assert_eq!(std::fs::read_dir(&layers[0]).unwrap().count(), 0);
    node.import(&oci(&[Image::new("other", &[layer("a")])])).unwrap();
    assert_eq!(node.layers("scratch"), layers);
}

#[test]
fn a_compressed_archive_is_an_archive() {
    for (case, packing) in [("gz", Packing::Gzip), ("zst", Packing::Zstd)] {
        let node = Node::new(case);
        let bytes = fixture::pack(packing, &docker(&[Image::new("x", &[layer("a")])]).to_tar());
        assert_eq!(node.import_bytes(&bytes).unwrap(), ["docker.io/library/x:latest"]);
        let cut = node.import_bytes(&bytes[..bytes.len() / 2]).unwrap_err();
        assert!(cut.starts_with("cannot be decompressed"), "{cut}");
        assert!(node.import_bytes(&fixture::pack(packing, b"text")).is_err());
        assert_eq!(std::fs::read_dir(node.store.path("tmp")).unwrap().count(), 0, "{case}");
    }
}

#[test]
fn a_layer_that_is_refused_leaves_nothing_behind_and_its_siblings_are_taken() {
    let node = Node::new("refused");
    let evil = tar(&[Member::file("good", b"good"), Member::file("../evil", b"evil")]);
    let images = [Image::new("evil", &[layer("base"), evil.clone()]), Image::new("good", &[layer("g")])];
    let error = node.import(&oci(&images)).unwrap_err();
    let expected = format!(
        "image docker.io/library/evil:latest: layer 2 of 2 ({}): ../evil: the name leads out of the layer by ..; \
         imported all the same: docker.io/library/good:latest",
        fixture::digest(&evil)
    );
    assert_eq!(error, expected);
    assert!(node.store.find("evil").unwrap().is_none());
    let left = std::fs::read_dir(node.store.layers_dir()).unwrap().count();
    assert_eq!(left, 2, "the good layer and the empty one");
}

#[test]
fn contents_that_are_not_what_their_digests_say_are_refused() {
    let mut image = Image::new("x", &[layer("a")]);
    let stored =
        |image: &Image| format!("blobs/sha256/{}", fixture::hex(&fixture::pack(image.packing, &image.layers[0])));
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let node = Node::new(&format!("digest-{packing:?}"));
        image.packing = packing;
        let mut blobs = oci(&[image.clone()]);
        let other = fixture::pack(packing, &layer("b"));
        blobs.0.insert(stored(&image), other);
        let error = node.import(&blobs).unwrap_err();
        assert!(error.contains("the digest is sha256:") || error.contains("bytes of it"), "{error}");
        assert_eq!(node.files(), [""; 0], "{packing:?}");
    }
    // Right bytes, but a config that promises others.
    let node = Node::new("diff-id");
    let mut blobs = Blobs::default();
    let config = Image::new("", &[layer("b")]).config_bytes();
    let config = blobs.add(&config, "application/vnd.oci.image.config.v1+json");
    let packed = fixture::pack(Packing::Gzip, &layer("a"));
    let layer = blobs.add(&packed, "application/vnd.oci.image.layer.v1.tar+gzip");
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let descriptor = blobs.add(&serde_json::to_vec(&manifest).unwrap(), fixture::MANIFEST);
    let error = node.import(&blobs.layout(&[fixture::named(descriptor, fixture::REF_NAME, "x")])).unwrap_err();
    assert!(error.contains("the diff id is sha256:"), "{error}");
    assert_eq!(node.files(), [""; 0]);
}

#[test]
fn no_truncation_of_an_archive_panics_and_none_leaves_anything_but_a_whole_image() {
    let images = [Image::new("x", &[layer("a"), layer("b")]).packing(Packing::Gzip)];
    for (case, bytes) in [("cut-oci", oci(&images).to_tar()), ("cut-docker", docker(&images).to_tar())] {
        let node = Node::new(case);
        for cut in (0..bytes.len() - 1024).step_by(331) {
            match node.import_bytes(&bytes[..cut]) {
                Ok(_) => {
                    assert_eq!(node.layers("x").len(), 2, "{case} {cut}");
                    return;
                }
                Err(_) => assert_eq!(node.files(), [""; 0], "{case} {cut}"),
            }
        }
    }
}

#[test]
fn what_a_dead_import_left_is_removed_and_never_counted() {
    let node = Node::new("dead");
    let image = Image::new("x", &[layer("a")]);
    let id = Digest::of(&image.layers[0]);
    // As after kill -9: a directory with half a layer in it, a spool file, and no marker.
    let name = node.store.make_layer(&id).unwrap();
    std::fs::write(node.store.layers_dir().join(&name).join("half"), "").unwrap();
    std::fs::write(node.store.path("tmp").join("archive"), "half").unwrap();
    assert_eq!(node.store.layer(&id).unwrap(), None);
    node.import(&oci(&[image])).unwrap();
    let layers = node.layers("x");
    assert!(!layers[0].join("half").exists() && layers[0].join("a").exists());
    assert_eq!(std::fs::read_dir(node.store.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_layer_or_config_that_is_gone_is_told_and_an_import_mends_it() {
    let node = Node::new("mend");
    let blobs = oci(&[Image::new("x", &[layer("a")])]);
    node.import(&blobs).unwrap();
    std::fs::remove_dir_all(&node.layers("x")[0]).unwrap();
    let error = chain(&node.store.find("x").unwrap_err());
    assert!(error.starts_with("image docker.io/library/x:latest is not whole: layer sha256:"), "{error}");
    node.import(&blobs).unwrap();
    assert!(node.layers("x")[0].join("a").exists());
    for entry in std::fs::read_dir(node.store.path("blobs/sha256")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{}").unwrap();
    }
    assert!(chain(&node.store.find("x").unwrap_err()).contains("config"));
    node.import(&blobs).unwrap();
    assert!(node.store.find("x").unwrap().is_some());
}

#[test]
fn layers_whose_ids_begin_alike_get_longer_names() {
    let node = Node::new("alike");
    let id = |last: char| Digest::from_hex(&("a".repeat(63) + &last.to_string())).unwrap();
    assert_eq!(node.store.make_layer(&id('0')).unwrap().len(), 12);
    assert_eq!(node.store.make_layer(&id('1')).unwrap().len(), 13);
}

#[test]
fn a_damaged_index_is_put_aside_and_a_newer_one_is_left_alone() {
    let node = Node::new("index");
    node.import(&oci(&[Image::new("x", &[layer("a")])])).unwrap();
    let index = node.store.path("index.json");
    let good = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, "{").unwrap();
    let store = Store::open(&node.scratch.0.join("images")).unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(std::fs::read_to_string(node.store.path("index.json.damaged")).unwrap(), "{");
    std::fs::write(&index, good.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let store = Store::open(&node.scratch.0.join("images")).unwrap();
    assert!(chain(&store.list().unwrap_err()).ends_with("is of version 2, written by a newer pinlet"));
    assert!(node.import(&oci(&[Image::new("y", &[layer("a")])])).is_err());
}

#[test]
fn nobody_but_root_can_reach_the_setuid_programs_of_layers() {
    let node = Node::new("private");
    let mode = std::fs::metadata(node.scratch.0.join("images")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn readers_go_on_while_an_import_writes() {
    let node = Node::new("readers");
    node.import(&oci(&[Image::new("x", &[layer("a")])])).unwrap();
    let store = &node.store;
    let failures: BTreeMap<usize, String> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    (0..300)
                        .filter_map(|n| match store.find("x") {
                            Ok(Some(facts)) if facts.layers[0].is_dir() => None,
                            other => Some((n, format!("{other:?}"))),
                        })
                        .collect::<BTreeMap<_, _>>()
                })
            })
            .collect();
        for n in 0..6 {
            let blobs = oci(&[Image::new("x", &[layer(&format!("v{n}"))])]);
            node.import(&blobs).unwrap();
        }
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    assert_eq!(failures, BTreeMap::new());
}
