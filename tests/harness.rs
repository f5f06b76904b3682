//! The tests' own tools: a node that is taken away by force is gone, and the images made on the spot are images.

mod support;

use std::path::Path;
use std::process::Command;
use support::image::Image;
use support::loopfs::LoopFs;
use support::{host, verb};

#[test]
fn purging_takes_processes_cgroups_links_tables_and_even_a_frozen_file_system_away() {
    // Numbered so that no node of this process has it; swept by the next test program should this one be killed.
    let tag = format!("pt{}-999", std::process::id());
    let dir = Path::new(support::node::BASE).join(&tag);
    std::fs::create_dir_all(&dir).expect("a fresh directory");
    let mut sleeper = Command::new("sleep").arg("1000000").spawn().expect("a process");
    for hierarchy in host::hierarchies() {
        let leaf = hierarchy.join(&tag).join("kubepods/podx/y");
        std::fs::create_dir_all(&leaf).expect("a cgroup");
        // A cpuset without cpus takes nobody; all other hierarchies do.
        let _ = std::fs::write(leaf.join("cgroup.procs"), sleeper.id().to_string());
    }
    let peer = format!("v{}", std::process::id());
    verb::tool(&["ip", "link", "add", &tag, "type", "bridge"]);
    verb::tool(&["ip", "link", "add", &peer, "type", "veth", "peer", "name", &format!("w{}", std::process::id())]);
    verb::tool(&["ip", "link", "set", &peer, "master", &tag]);
    verb::tool(&["nft", "add", "table", "inet", &format!("pinlet-{tag}")]);
    let frozen = LoopFs::new(&dir, "frozen", 8);
    frozen.freeze();
    let seen = (host::processes(&tag), host::mounts_below(&dir), host::ports_of(&tag));
    let left = host::purge(&tag, &dir);
    let status = sleeper.wait().expect("our own child");
    assert_eq!(seen, (vec![sleeper.id().cast_signed()], vec![frozen.mount.clone()], vec![peer.clone()]));
    assert_eq!((left, verb::code(status)), (vec![], 137));
    assert!(!host::links().iter().any(|l| *l == tag || *l == peer));
    assert!(!host::nft_tables().iter().any(|t| t.contains(&tag)));
}

#[test]
fn both_kinds_of_archive_are_what_other_tools_take_for_an_image() {
    let dir = Path::new(support::node::BASE).join(format!("pt{}-998", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a fresh directory");
    let image = Image::new("example/app:v1").config("User", support::json!("app"));
    image.write_docker_archive(&dir.join("docker.tar"));
    image.write_oci_archive(&dir.join("oci.tar"));
    let inspect = |kind: &str| {
        let name = format!("{kind}:{}", dir.join(kind.replace("-archive", ".tar")).display());
        verb::try_run(Command::new("skopeo").args(["inspect", "--config", &name]), b"", support::PATIENCE)
    };
    let seen = ["docker-archive", "oci-archive"].map(inspect);
    std::fs::remove_dir_all(&dir).expect("just made");
    for out in seen {
        let out = out.expect("skopeo ends").ok();
        assert!(out.stdout.contains("\"User\":\"app\"") || out.stdout.contains("\"User\": \"app\""), "{out:?}");
    }
}
