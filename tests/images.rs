//! Images of every local kind, seen from the containers that run them.

mod support;

use std::process::Command;
use support::image::{Image, Layer};
use support::wait::expect;
use support::{Node, PATIENCE, Pod, Setup, json, verb, wait_for};

/// `skopeo copy`: how other people's tools write what we read.
#[track_caller]
fn skopeo(options: &[&str], from: &str, to: &str) {
    verb::run(Command::new("skopeo").arg("copy").args(options).args([from, to]), b"", PATIENCE).ok();
}

#[test]
fn archives_and_layouts_of_every_compression_run() {
    let node = Setup { no_images: true, ..Setup::default() }.stopped().start();
    let at = |name: &str| node.preload().join(name).display().to_string();
    let word = |name: &str| Layer::new().file("word", name.as_bytes(), 0o644);
    for name in ["docker", "oci", "gzip", "zstd"] {
        let image = Image::new(&format!("example/{name}:1")).layer(word(name));
        let plain = node.dir.join(format!("{name}.tar"));
        image.write_docker_archive(&plain);
        let plain = format!("docker-archive:{}", plain.display());
        match name {
            "docker" => image.write_docker_archive(&node.preload().join("docker.tar")),
            "oci" => image.write_oci_archive(&node.preload().join("oci.tar")),
            "gzip" => skopeo(&[], &plain, &format!("oci-archive:{}:example/gzip:1", at("gzip.tar"))),
            _ => skopeo(&["--dest-compress-format", "zstd"], &plain, &format!("oci:{}:example/zstd:1", at("zstd"))),
        }
    }
    let mut node = node;
    node.start_agent();
    for name in ["docker", "oci", "gzip", "zstd"] {
        let pod = Pod::new(name, "cat /word").image(&format!("docker.io/example/{name}:1"));
        assert_eq!(node.output_of(pod), name);
    }
}

#[test]
fn several_images_and_several_tags_of_one_archive_are_all_known() {
    let node = Setup::default().image(Image::new("example/a:1").tag("example/a:2").tag("registry.example/b")).start();
    for (name, image) in
        [("one", "example/a:1"), ("two", "docker.io/example/a:2"), ("three", "registry.example/b:latest")]
    {
        assert_eq!(node.output_of(Pod::new(name, "echo ok").image(image)), "ok\n");
    }
    let out = node.verb(&["get", "images"]).ok().stdout;
    assert_eq!(out.lines().count(), 5, "{out}");
}

#[test]
fn upper_layers_hide_remove_and_replace_what_lower_ones_hold() {
    let lower = Layer::new()
        .dir("data", 0o755, 0)
        .file("data/removed", b"lower", 0o644)
        .file("data/replaced", b"lower", 0o644)
        .file("data/kept", b"lower", 0o600)
        .dir("whole", 0o755, 0)
        .file("whole/old", b"lower", 0o644)
        .dir("opaque", 0o755, 0)
        .file("opaque/old", b"lower", 0o644)
        .file("turned", b"file", 0o644);
    let upper = Layer::new()
        .file("data/.wh.removed", b"", 0o644)
        .file("data/replaced", b"upper", 0o644)
        .file(".wh.whole", b"", 0o644)
        .dir("opaque", 0o711, 0)
        .file("opaque/.wh..wh..opq", b"", 0o644)
        .file("opaque/new", b"upper", 0o644)
        .file(".wh.turned", b"", 0o644)
        .dir("turned", 0o755, 0)
        .file("turned/inside", b"dir", 0o644);
    let node = Setup::default().image(Image::new("layers:1").layer(lower).layer(upper)).start();
    let script =
        "ls -A /data /opaque /turned; cat /data/replaced; ls /whole 2>/dev/null; stat -c %a /opaque /data/kept";
    assert_eq!(
        node.output_of(Pod::new("app", script).image("layers:1")),
        "/data:\nkept\nreplaced\n\n/opaque:\nnew\n\n/turned:\ninside\nupper711\n600\n"
    );
}

fn stacked(tag: &str, layers: usize) -> Image {
    let add =
        |image: Image, n: usize| image.layer(Layer::new().file(&format!("l{n}"), n.to_string().as_bytes(), 0o644));
    (1..layers).fold(Image::new(tag), add)
}

#[test]
fn images_of_up_to_127_layers_run_and_128_are_refused_by_name() {
    let setup = Setup::default().image(stacked("one:1", 1)).image(stacked("forty:1", 40));
    let node = setup.image(stacked("most:1", 127)).image(stacked("toomany:1", 128)).start();
    let count = "ls / | grep -c ^l[0-9]";
    for (name, expected) in [("one", "0\n"), ("forty", "39\n"), ("most", "126\n")] {
        let pod = Pod::new(name, count).image(&format!("{name}:1")).restart("Never");
        node.put_pod(&pod);
        node.wait_pod_for(PATIENCE * 2, name, "has ended", |p| matches!(p.phase().as_str(), "Succeeded" | "Failed"));
        assert_eq!(node.verb(&["logs", name]).ok().stdout, expected);
    }
    node.put_pod(&Pod::idle("toomany").image("toomany:1"));
    wait_for("explain names the layers", PATIENCE, || {
        let out = node.verb(&["explain", "toomany"]);
        expect(out.code == 1 && out.stdout.contains("128") && out.stdout.contains("127"), || format!("{out:?}"))
    });
}

#[test]
fn each_start_has_a_fresh_writable_layer_and_the_image_stays_as_it_was() {
    let node = Setup::default().restart_period(1).start();
    let script =
        "cat /www/index.html; [ -e /fresh ] && echo stale; touch /fresh; rm /www/index.html; echo x > /bin/new; exit 1";
    node.put_pod(&Pod::new("app", script));
    node.wait_pod("app", "ran thrice", |p| p.restarts("c") >= 2 && p.terminated("c").is_object());
    for previous in [&["logs", "app", "-p"][..], &["logs", "app"]] {
        let out = node.verb(previous).stdout;
        assert!(!out.contains("stale"), "{out}");
    }
    assert_eq!(node.output_of(Pod::new("other", "ls /bin/new 2>/dev/null; cat /www/index.html")), support::image::PAGE);
}

#[test]
fn an_image_survives_a_restart_of_the_agent_without_its_archive() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("first"));
    node.wait_running("first");
    node.stop_agent();
    std::fs::remove_file(node.preload().join("busybox.tar")).expect("still there");
    node.start_agent();
    node.put_pod(&Pod::idle("second"));
    node.wait_running("second");
    let images = node.verb(&["get", "images", "-o", "wide"]).ok().stdout;
    assert!(images.contains("docker.io/library/busybox"), "{images}");
}

#[test]
fn a_tag_that_moves_concerns_only_later_starts() {
    let node = Setup::default().restart_period(1).start();
    let first = Image::new("example/moving:1").layer(Layer::new().file("version", b"one", 0o644));
    let second = Image::new("example/moving:1").layer(Layer::new().file("version", b"two", 0o644));
    let archive = node.dir.join("moving.tar");
    first.write_docker_archive(&archive);
    node.verb(&["import", &archive.display().to_string()]).ok();
    let script = "cat /version; echo; while ! [ -e /tmp/die ]; do sleep 0.1; done; exit 1";
    node.put_pod(&Pod::new("app", script).image("example/moving:1"));
    let pod = node.wait_running("app");
    node.wait_log("app", "one");
    assert_eq!(pod.status("c")["imageID"], first.id().as_str());
    second.write_docker_archive(&archive);
    node.verb(&["import", &archive.display().to_string()]).ok();
    std::fs::write(format!("/proc/{}/root/tmp/die", node.init_pid(&pod, "c")), "").expect("a root file system");
    let pod = node.wait_pod("app", "runs the new image", |p| p.restarts("c") == 1 && p.is_running("c"));
    node.wait_log("app", "two");
    assert_eq!(pod.status("c")["imageID"], second.id().as_str());
}

#[test]
fn an_invalid_reference_is_a_problem_of_its_own() {
    let node = Node::start();
    node.put_pod(&Pod::idle("bad").image("UPPER/Case:tag"));
    wait_for("the reference is refused", PATIENCE, || {
        let out = node.verb(&["explain", "bad.yaml"]);
        let shown = node.try_pod("bad").map(|p| p.waiting("c")).unwrap_or_default();
        let rejected = out.stdout.contains("rejected") && out.stdout.contains("image");
        expect(shown == "InvalidImageName" || rejected, || format!("{out:?} {shown}"))
    });
    node.put_pod(&Pod::idle("good").with("imagePullPolicy", json!("Always")));
    node.wait_running("good");
}
