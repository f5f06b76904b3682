//! Every form in which images come, and what is refused of them.

#![cfg(test)]

use super::*;
use crate::error::chain;
use crate::image::archive::Opened;
use crate::image::fixture::{
    self, Blobs, CONTAINERD_NAME, Image, Member, Packing, REF_NAME, Scratch, digest, docker, named, oci, tar,
};
use serde_json::json;

fn layer(name: &str) -> Vec<u8> {
    tar(&[Member::file(name, name.as_bytes())])
}

/// Reads the files as an archive and as a directory, which must come to the same.
fn look(blobs: &Blobs) -> Result<Catalogue, String> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let scratch = Scratch::new(&format!("catalogue-{n}"));
    let file = scratch.write("app.tar", &blobs.to_tar());
    blobs.write_to(&scratch.0.join("app"));
    let [of_tar, of_dir] = [file, scratch.0.join("app")].map(|path| {
        let Ok(Opened::Archive(archive)) = Archive::open(&path) else { panic!("{}", path.display()) };
        read(&archive, "app", &Platform { architecture: Platform::host().architecture, level: 8 })
            .map_err(|error| chain(&error))
    });
    assert_eq!(format!("{of_tar:?}"), format!("{of_dir:?}"));
    of_tar
}

fn names(catalogue: &Catalogue) -> Vec<Vec<&str>> {
    catalogue.images.iter().map(|image| image.names.iter().map(String::as_str).collect()).collect()
}

fn refusals(catalogue: &Catalogue) -> Vec<String> {
    catalogue.refused.iter().map(|(name, error)| format!("{name}: {}", chain(error))).collect()
}

#[test]
fn an_oci_layout_gives_images_with_all_their_tags() {
    let mut image = Image::new("kalise/x:1", &[layer("a"), layer("b")]).packing(Packing::Gzip);
    image.names.push("quay.io/k/x".into());
    let other = Image::new("busybox", &[layer("c")]);
    let catalogue = look(&oci(&[image.clone(), other])).unwrap();
    let expected = [vec!["docker.io/kalise/x:1", "quay.io/k/x:latest"], vec!["docker.io/library/busybox:latest"]];
    assert_eq!(names(&catalogue), expected);
    let found = &catalogue.images[0];
    assert_eq!(found.config.digest.to_string(), digest(&image.config_bytes()));
    assert_eq!(found.digest, found.manifest.digest);
    let diff_ids: Vec<String> = found.layers.iter().map(|l| l.diff_id.to_string()).collect();
    assert_eq!(diff_ids, [digest(&image.layers[0]), digest(&image.layers[1])]);
    assert_ne!(found.layers[0].digest, found.layers[0].diff_id);
    let stored: usize = image.layers.iter().map(|l| fixture::pack(Packing::Gzip, l).len()).sum();
    assert_eq!(found.size() as usize, stored + found.manifest.bytes.len() + found.config.bytes.len());
}

#[test]
fn a_docker_archive_gets_a_manifest_made_whatever_its_layers_are_packed_with() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let mut image = Image::new("kalise/x:1", &[layer("a"), layer("b")]).packing(packing);
        image.names.push("kalise/x:2".into());
        let catalogue = look(&docker(&[image.clone()])).unwrap();
        assert_eq!(names(&catalogue), [["docker.io/kalise/x:1", "docker.io/kalise/x:2"]]);
        let found = &catalogue.images[0];
        assert_eq!(found.layers[1].digest.to_string(), digest(&fixture::pack(packing, &image.layers[1])));
        let manifest: serde_json::Value = serde_json::from_slice(&found.manifest.bytes).unwrap();
        assert_eq!(manifest["config"]["digest"], digest(&image.config_bytes()));
        assert_eq!(manifest["layers"][0]["size"], found.layers[0].size);
    }
}

#[test]
fn what_docker_save_writes_now_is_both_and_counts_once() {
    let image = Image::new("", &[layer("a")]);
    let mut blobs = Blobs::default();
    let descriptor = image.add_to(&mut blobs);
    let index = blobs.add_index(&[descriptor, attestation()]);
    let tagged = named(index.clone(), CONTAINERD_NAME, "docker.io/kalise/x:1");
    let mut blobs = blobs.layout(&[tagged]);
    let config = fixture::hex(&image.config_bytes());
    let entries = json!([{
        "Config": format!("blobs/sha256/{config}"),
        "RepoTags": ["kalise/x:1", "kalise/x:also"],
        "Layers": [format!("blobs/sha256/{}", fixture::hex(&image.layers[0]))],
        "LayerSources": {},
    }]);
    blobs.0.insert("manifest.json".into(), serde_json::to_vec(&entries).unwrap());
    let catalogue = look(&blobs).unwrap();
    assert_eq!(names(&catalogue), [["docker.io/kalise/x:1", "docker.io/kalise/x:also"]]);
    assert_eq!(catalogue.images[0].digest.to_string(), index["digest"]);
    assert_eq!(refusals(&catalogue), [""; 0]);
}

fn attestation() -> serde_json::Value {
    json!({
        "mediaType": fixture::MANIFEST, "size": 1, "digest": digest(b"attestation"),
        "platform": { "os": "unknown", "architecture": "unknown" },
    })
}

#[test]
fn the_platform_is_chosen_among_descriptors_and_indexes_of_any_depth() {
    let ours = Image::new("", &[layer("ours")]);
    let better = Image { variant: "v8".into(), ..Image::new("", &[layer("better")]) };
    let theirs = Image::new("", &[layer("theirs")]).foreign();
    let mut blobs = Blobs::default();
    let [a, b, c] = [&theirs, &ours, &better].map(|image| image.add_to(&mut blobs));
    let inner = blobs.add_index(&[a.clone(), attestation(), b, c]);
    let outer = blobs.add_index(&[inner]);
    let catalogue = look(&blobs.clone().layout(&[named(outer.clone(), REF_NAME, "x")])).unwrap();
    let found = &catalogue.images[0];
    assert_eq!(found.config.digest.to_string(), digest(&better.config_bytes()));
    assert_eq!(found.digest.to_string(), outer["digest"]);

    let catalogue = look(&blobs.layout(&[named(a, REF_NAME, "theirs")])).unwrap();
    let host = Platform::host();
    assert_eq!(
        refusals(&catalogue),
        [format!("docker.io/library/theirs:latest: it is for linux/s390x, and this machine is {host}")]
    );
}

#[test]
fn platforms_that_the_archive_lists_but_does_not_hold_are_passed_over() {
    let ours = Image::new("", &[layer("ours")]);
    let mut blobs = Blobs::default();
    let here = ours.add_to(&mut blobs);
    let absent = json!({ "mediaType": fixture::MANIFEST, "size": 9, "digest": digest(b"absent") });
    let index = blobs.add_index(&[absent.clone(), here]);
    let catalogue = look(&blobs.clone().layout(&[named(index, REF_NAME, "x")])).unwrap();
    assert_eq!(names(&catalogue), [["docker.io/library/x:latest"]]);
    let catalogue = look(&blobs.layout(&[named(absent, REF_NAME, "x")])).unwrap();
    let missing = format!("blobs/sha256/{} is not in the archive", fixture::hex(b"absent"));
    assert_eq!(refusals(&catalogue), [format!("docker.io/library/x:latest: {missing}")]);
}

#[test]
fn indexes_may_not_be_nested_for_ever() {
    let mut blobs = Blobs::default();
    let mut at = Image::new("", &[layer("a")]).add_to(&mut blobs);
    for _ in 0..6 {
        at = blobs.add_index(&[at]);
    }
    let refused = refusals(&look(&blobs.layout(&[named(at, REF_NAME, "x")])).unwrap());
    assert!(refused[0].ends_with("indexes are nested too deep"), "{refused:?}");
}

#[test]
fn names_are_whole_or_only_tags_or_missing() {
    let table = [
        ("kalise/x", "docker.io/kalise/x:latest"),
        ("localhost/x:1", "localhost/x:1"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("latest", "docker.io/library/app:latest"),
        ("1.0", "docker.io/library/app:1.0"),
        ("v2", "docker.io/library/app:v2"),
        ("vim", "docker.io/library/vim:latest"),
    ];
    for (given, name) in table {
        assert_eq!(names(&look(&oci(&[Image::new(given, &[layer("a")])])).unwrap()), [[name]], "{given}");
    }
    let error = look(&oci(&[Image::new("", &[layer("a")])])).unwrap_err();
    assert!(error.starts_with("no image in it has a name"), "{error}");
    let error = look(&docker(&[Image::new("", &[layer("a")]), Image::new("<none>:<none>", &[layer("b")])]));
    assert!(error.unwrap_err().starts_with("no image in it has a name"));
    let catalogue = look(&oci(&[Image::new("Bad", &[layer("a")]), Image::new("good", &[layer("b")])])).unwrap();
    assert_eq!(names(&catalogue), [["docker.io/library/good:latest"]]);
    assert!(refusals(&catalogue)[0].starts_with("Bad: couldn't parse image name \"Bad\""));
}

#[test]
fn a_name_by_digest_must_be_the_digest_that_it_names() {
    let mut blobs = Blobs::default();
    let descriptor = Image::new("", &[layer("a")]).add_to(&mut blobs);
    let right = format!("docker.io/kalise/x@{}", descriptor["digest"].as_str().unwrap());
    let wrong = format!("docker.io/kalise/x@{}", digest(b"other"));
    let manifests = [named(descriptor.clone(), CONTAINERD_NAME, &right), named(descriptor, CONTAINERD_NAME, &wrong)];
    let catalogue = look(&blobs.layout(&manifests)).unwrap();
    assert_eq!(names(&catalogue), [[right.as_str()]]);
    assert_eq!(catalogue.refused.len(), 1);
}

#[test]
fn layers_are_counted_and_of_a_kind_that_is_known() {
    let many = |n: usize| vec![layer("same"); n];
    let images = [Image::new("ok:127", &many(127)), Image::new("much:128", &many(128)), Image::new("none:0", &[])];
    for blobs in [oci(&images), docker(&images)] {
        let catalogue = look(&blobs).unwrap();
        let mut found: Vec<(&str, usize)> =
            catalogue.images.iter().map(|i| (i.names.first().unwrap().as_str(), i.layers.len())).collect();
        found.sort();
        assert_eq!(found, [("docker.io/library/none:0", 0), ("docker.io/library/ok:127", 127)]);
        assert_eq!(
            refusals(&catalogue),
            ["docker.io/library/much:128: it has 128 layers, and at most 127 are supported"]
        );
    }
    let odd = |media_type: &str| {
        let image = Image { layer_type: Some(media_type.into()), ..Image::new("x", &[layer("a")]) };
        refusals(&look(&oci(&[image])).unwrap()).join(";")
    };
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    assert!(odd(foreign).ends_with(&format!("layer 1 ({foreign}) is kept elsewhere and may not be distributed")));
    assert!(odd("application/vnd.oci.image.layer.nondistributable.v1.tar").contains("may not be distributed"));
    assert!(odd("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").contains("which is no file system"));
    assert_eq!(odd("application/vnd.docker.image.rootfs.diff.tar.gzip"), "");
}

#[test]
fn documents_are_compared_with_their_digests() {
    let image = Image::new("x", &[layer("a")]);
    let one = std::slice::from_ref(&image);
    for (blobs, member) in [
        (oci(one), format!("blobs/sha256/{}", fixture::hex(&image.config_bytes()))),
        (docker(one), format!("{}.json", fixture::hex(&image.config_bytes()))),
    ] {
        let mut changed = blobs;
        changed.0.get_mut(&member).unwrap().push(b' ');
        let refused = refusals(&look(&changed).unwrap());
        assert!(refused[0].starts_with(&format!("docker.io/library/x:latest: {member} has the digest")), "{refused:?}");
    }
}

#[test]
fn configs_that_do_not_fit_their_manifest_are_refused() {
    let image = Image::new("x", &[layer("a"), layer("b")]);
    let mut blobs = docker(std::slice::from_ref(&image));
    let config = format!("{}.json", fixture::hex(&image.config_bytes()));
    let entries = json!([{ "Config": config, "RepoTags": ["x"], "Layers": [format!("{}/layer.tar", fixture::hex(&image.layers[0]))] }]);
    blobs.0.insert("manifest.json".into(), serde_json::to_vec(&entries).unwrap());
    assert_eq!(
        refusals(&look(&blobs).unwrap()),
        ["docker.io/library/x:latest: its manifest has 1 layers, its config 2"]
    );
    let entries = json!([{ "Config": config, "RepoTags": ["x"], "Layers": ["a", "none"] }]);
    blobs.0.insert("manifest.json".into(), serde_json::to_vec(&entries).unwrap());
    assert_eq!(refusals(&look(&blobs).unwrap()), ["docker.io/library/x:latest: a is not in the archive"]);
}

#[test]
fn what_holds_no_image_says_so() {
    let mut blobs = Blobs::default();
    blobs.0.insert("readme".into(), b"hello".to_vec());
    assert_eq!(look(&blobs).unwrap_err(), "no image archive: neither index.json nor manifest.json is in it");
    blobs.0.insert("repositories".into(), b"{}".to_vec());
    assert!(look(&blobs).is_err());
    assert_eq!(look(&Blobs::default().layout(&[])).unwrap_err(), "there is no image for this machine in it");
    blobs.0.insert("manifest.json".into(), b"[{]".to_vec());
    assert!(look(&blobs).unwrap_err().starts_with("manifest.json cannot be understood: "));
    blobs.0.insert("manifest.json".into(), b"{}".repeat(3_000_000));
    assert!(look(&blobs).unwrap_err().ends_with("has 6000000 bytes, more than 4194304"));
}
