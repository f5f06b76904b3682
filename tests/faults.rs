//! Bad input and faults: the other pods are untouched, the reason is visible in `explain`, nothing is leaked.

mod support;

use std::fs;
use std::io::Write;
use std::time::Duration;
use support::image::{Image, Layer};
use support::loopfs::LoopFs;
use support::wait::{expect, stays};
use support::{Node, PATIENCE, Pod, Setup, dump, host, json, verb, wait_for};

/// A pod that must not notice any of it.
struct Bystander {
    pid: i32,
    id: String,
}

impl Bystander {
    fn start(node: &Node) -> Bystander {
        node.put_pod(&Pod::idle("bystander").own_network());
        let pod = node.wait_running("bystander");
        Bystander { pid: node.init_pid(&pod, "c"), id: pod.container_id("c") }
    }

    #[track_caller]
    fn assert_untouched(&self, node: &Node) {
        let pod = node.pod("bystander");
        assert!(pod.is_running("c") && host::is_alive(self.pid), "{:#}", pod.0["status"]);
        assert_eq!((pod.container_id("c"), pod.restarts("c")), (self.id.clone(), 0));
    }
}

/// Waits until `explain FILE` says `rejected` and contains `text`.
#[track_caller]
fn wait_rejected(node: &Node, file: &str, text: &str) -> String {
    wait_for(&format!("{file} is rejected: {text}"), PATIENCE * 2, || {
        let out = node.verb(&["explain", file]);
        expect(out.code == 1 && out.stdout.contains("rejected") && out.stdout.contains(text), || format!("{out:?}"))?;
        Ok(out.stdout)
    })
}

#[test]
fn files_that_are_no_manifests_are_rejected_with_their_place() {
    let node = Node::start();
    let bystander = Bystander::start(&node);
    node.put(
        "truncated.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n  - name: c\n    image: \"busy",
    );
    node.put("binary.yaml", fs::read("/bin/true").expect("a program"));
    node.put("empty.yaml", "");
    node.put("comment.yaml", "# nothing here\n");
    node.put("scalar.yaml", "just text\n");
    node.put("kind.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n");
    node.put("tabs.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: x\n");
    node.put("second.yaml", format!("{}---\n{}", Pod::idle("a").yaml(), Pod::idle("b").yaml()));
    node.put("nul.yaml", b"apiVersion: v1\nkind: Pod\0\n");
    wait_rejected(&node, "truncated.yaml", "truncated.yaml:8:");
    wait_rejected(&node, "binary.yaml", "binary.yaml:1:");
    wait_rejected(&node, "empty.yaml", "empty.yaml");
    wait_rejected(&node, "comment.yaml", "comment.yaml");
    wait_rejected(&node, "scalar.yaml", "scalar.yaml:1:1");
    wait_rejected(&node, "kind.yaml", "kind.yaml:2:7: kind");
    wait_rejected(&node, "tabs.yaml", "tabs.yaml:4:");
    wait_rejected(&node, "second.yaml", "second.yaml");
    wait_rejected(&node, "nul.yaml", "nul.yaml");
    let out = node.verb(&["get", "pods"]).ok();
    assert_eq!((out.stdout.lines().count(), out.stderr.lines().count()), (2, 9), "{out:?}");
    assert!(out.stderr.lines().all(|l| l.contains(" rejected: ")), "{out:?}");
    bystander.assert_untouched(&node);
}

#[test]
fn huge_and_deep_documents_cost_nobody_anything() {
    let node = Node::start();
    let bystander = Bystander::start(&node);
    node.put("brackets.yaml", "[".repeat(10 << 20));
    node.put("flow.yaml", "[1,".repeat(3 << 20));
    node.put("dashes.yaml", "- ".repeat(5 << 20));
    node.put("deep.json", format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)));
    let laughs: String =
        (1..30).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))).collect();
    node.put("laughs.yaml", format!("a0: &a0 x\n{laughs}"));
    node.put("toobig.yaml", vec![b'#'; (10 << 20) + 1]);
    // A pod that comes while all that is being decoded is not kept waiting by it.
    node.put_pod(&Pod::idle("late"));
    node.wait_running("late");
    for file in ["brackets.yaml", "flow.yaml", "dashes.yaml", "deep.json", "laughs.yaml", "toobig.yaml"] {
        wait_rejected(&node, file, file);
    }
    bystander.assert_untouched(&node);
    let status = fs::read_to_string(format!("/proc/{}/status", node.agent_pid())).expect("alive");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a field").trim().trim_end_matches(" kB");
    let peak: u64 = peak.parse().expect("a number");
    assert!(peak < 120 << 10, "the agent itself grew to {peak} kB");
}

#[test]
fn a_large_manifest_within_the_limit_runs() {
    let node = Node::start();
    let padding = "# padding\n".repeat(500_000);
    node.put("app.yaml", format!("{padding}{}", Pod::idle("app").yaml()));
    node.wait_running("app");
}

#[test]
fn a_manifest_that_is_being_written_is_not_acted_on() {
    let node = Setup::default().config("fileCheckFrequency: 1s").start();
    let bystander = Bystander::start(&node);
    let yaml = Pod::idle("slow").yaml();
    let (first, second) = yaml.split_at(yaml.len() / 2);
    let path = node.manifests().join("slow.yaml");
    let mut file = fs::File::create(&path).expect("a fresh file");
    file.write_all(first.as_bytes()).expect("room");
    wait_for("explain says unsettled", PATIENCE, || {
        let out = node.verb(&["explain", "slow.yaml"]);
        expect(out.code == 1 && out.stdout.contains("unsettled"), || format!("{out:?}"))
    });
    stays("nothing is rejected or started", Duration::from_secs(3), || {
        let out = node.verb(&["explain"]);
        let line = out.stdout.lines().find(|l| l.contains("slow.yaml")).unwrap_or_default().to_owned();
        expect(line.contains("unsettled") && node.try_pod("slow").is_err(), || format!("{out:?}"))
    });
    file.write_all(second.as_bytes()).expect("room");
    drop(file);
    node.wait_running("slow");
    bystander.assert_untouched(&node);
}

#[test]
fn things_that_are_no_regular_files_are_ignored_and_never_opened() {
    let node = Setup::default().config("fileCheckFrequency: 1s").start();
    let bystander = Bystander::start(&node);
    let at = |name: &str| node.manifests().join(name);
    nix::unistd::mkfifo(&at("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("a fresh name");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket.yaml")).expect("a fresh name");
    fs::create_dir(at("dir.yaml")).expect("a fresh name");
    std::os::unix::fs::symlink("/no/such/target", at("dangling.yaml")).expect("a fresh name");
    std::os::unix::fs::symlink("loop.yaml", at("loop.yaml")).expect("a fresh name");
    std::os::unix::fs::symlink("/dev/zero", at("zero.yaml")).expect("a fresh name");
    std::os::unix::fs::symlink("fifo.yaml", at("tofifo.yaml")).expect("a fresh name");
    for name in [
        ".hidden.yaml",
        "app.yaml~",
        "#app.yaml#",
        ".app.yaml.swp",
        "app.yaml.bak",
        "app.yaml.orig",
        "app.yaml.tmp",
        "app.yaml.part",
        "app.yaml.dpkg-new",
        "app.yaml.dpkg-old",
        "app.yaml.rpmnew",
        "app.yaml.rpmsave",
        "x.swp",
    ] {
        fs::write(at(name), Pod::idle("leaving").yaml()).expect("a fresh file");
    }
    node.put("no-extension", Pod::idle("last").yaml());
    node.wait_running("last");
    wait_rejected(&node, "dangling.yaml", "dangling.yaml");
    wait_rejected(&node, "loop.yaml", "loop.yaml");
    for name in ["fifo.yaml", "socket.yaml", "app.yaml~", "app.yaml.dpkg-old"] {
        let out = node.verb(&["explain", name]);
        assert!(out.stdout.contains("ignored"), "{name}: {out:?}");
    }
    assert!(node.try_pod("leaving").is_err());
    bystander.assert_untouched(&node);
}

#[test]
fn symlinked_manifests_follow_their_target() {
    let node = Setup::default().config("fileCheckFrequency: 1s").start();
    let out_of = |name: &str| node.dir.join("aside").join(name);
    fs::write(out_of("one"), Pod::idle("app").yaml()).expect("a fresh file");
    let second = Pod::idle("app").with("env", json!([{"name": "A", "value": "2"}]));
    fs::write(out_of("two"), second.yaml()).expect("a fresh file");
    std::os::unix::fs::symlink(out_of("one"), node.manifests().join("app.yaml")).expect("a fresh name");
    let before = node.wait_running("app");
    std::os::unix::fs::symlink(out_of("two"), out_of("switch")).expect("a fresh name");
    fs::rename(out_of("switch"), node.manifests().join("app.yaml")).expect("the same file system");
    node.wait_pod("app", "is replaced", |p| p.uid() != before.uid() && p.is_running("c"));
    // And a switch further down the path, which no watch sees.
    fs::rename(out_of("one"), out_of("two")).expect("the same file system");
    node.wait_pod("app", "is the first again", |p| p.uid() == before.uid() && p.is_running("c"));
}

#[test]
fn a_bad_edit_stops_nothing_and_its_mending_changes_nothing() {
    let mut node = Node::start();
    let good = Pod::idle("app").own_network().yaml();
    node.put("app.yaml", &good);
    let before = node.wait_running("app");
    node.put("app.yaml", good.replace("image:", "imagee:"));
    wait_rejected(&node, "app.yaml", "imagee: unknown field");
    let check = |node: &Node| {
        let now = node.pod("app");
        assert_eq!((now.uid(), now.container_id("c")), (before.uid(), before.container_id("c")));
        let out = node.verb(&["get", "pods"]).ok();
        assert!(out.stderr.contains("app.yaml rejected: "), "{out:?}");
    };
    check(&node);
    node.crash_agent();
    node.start_agent();
    node.wait_running("app");
    wait_rejected(&node, "app.yaml", "imagee: unknown field");
    check(&node);
    // The last good version goes on, also when its process dies.
    host::signal(node.init_pid(&node.pod("app"), "c"), nix::sys::signal::Signal::SIGKILL);
    let killed = node.wait_pod("app", "is back", |p| p.restarts("c") == 1 && p.is_running("c"));
    node.put("app.yaml", &good);
    wait_for("it is accepted again", PATIENCE, || {
        let out = node.verb(&["explain", "app.yaml"]);
        expect(out.code == 0, || format!("{out:?}"))
    });
    assert_eq!(node.pod("app").container_id("c"), killed.container_id("c"));
    node.put("app.yaml", "rubbish");
    wait_rejected(&node, "app.yaml", "app.yaml");
    node.remove("app.yaml");
    node.wait_gone("app");
    node.assert_no_pod_left();
}

#[test]
fn a_vanished_directory_stops_nothing() {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").start();
    let bystander = Bystander::start(&node);
    let (at, away) = (node.manifests(), node.dir.join("away"));
    fs::rename(&at, &away).expect("a fresh name");
    stays("the pod stays", Duration::from_secs(3), || {
        let pod = node.try_pod("bystander")?;
        expect(pod.is_running("c") && !pod.is_terminating(), || format!("{:#}", pod.0))
    });
    node.crash_agent();
    node.start_agent();
    node.wait_running("bystander");
    bystander.assert_untouched(&node);
    fs::create_dir(&at).expect("moved away");
    node.wait_gone("bystander");
    fs::remove_dir(&at).expect("it is empty");
    fs::rename(&away, &at).expect("moved away");
    node.wait_running("bystander");
    node.put_pod(&Pod::idle("added"));
    node.wait_running("added");
}

#[test]
fn a_manifest_that_may_not_be_read_is_rejected() {
    let node = Node::start();
    let bystander = Bystander::start(&node);
    // A regular file that even root may only write.
    let closed = "/proc/sys/vm/drop_caches";
    std::os::unix::fs::symlink(closed, node.manifests().join("closed.yaml")).expect("a fresh name");
    wait_rejected(&node, "closed.yaml", "ermission denied");
    bystander.assert_untouched(&node);
}

#[test]
fn the_file_that_owns_a_name_keeps_it() {
    let mut node = Node::start();
    node.put("m.yaml", Pod::idle("app").yaml());
    let before = node.wait_running("app");
    node.put("a.yaml", Pod::idle("app").with("env", json!([{"name": "A", "value": "b"}])).yaml());
    let reason = wait_rejected(&node, "a.yaml", "m.yaml");
    assert!(reason.contains("a.yaml"), "{reason}");
    assert_eq!(node.pod("app").uid(), before.uid());
    node.crash_agent();
    node.start_agent();
    wait_rejected(&node, "a.yaml", "m.yaml");
    assert_eq!(node.wait_running("app").container_id("c"), before.container_id("c"));
    node.remove("m.yaml");
    node.wait_pod("app", "belongs to the other now", |p| p.uid() != before.uid() && p.is_running("c"));
}

#[test]
fn of_two_files_seen_together_the_first_in_byte_order_wins() {
    let mut node = Setup::default().stopped().start();
    for file in ["b.yaml", "B.yaml", "a.yaml"] {
        node.put(file, Pod::idle("app").yaml());
    }
    node.start_agent();
    node.wait_running("app");
    assert!(node.verb(&["explain", "B.yaml"]).ok().stdout.contains("accepted"));
    for loser in ["a.yaml", "b.yaml"] {
        wait_rejected(&node, loser, "B.yaml");
    }
}

#[test]
fn a_uid_in_use_is_refused_like_a_name_in_use() {
    let node = Node::start();
    node.put_pod(&Pod::idle("one").metadata("uid", json!("fixed-uid-1")));
    assert_eq!(node.wait_running("one").uid(), "fixed-uid-1");
    node.put_pod(&Pod::idle("two").metadata("uid", json!("fixed-uid-1")));
    wait_rejected(&node, "two.yaml", "one.yaml");
    // An edit under a uid of one's own still replaces the pod.
    let before = node.pod("one").container_id("c");
    node.put_pod(
        &Pod::idle("one").metadata("uid", json!("fixed-uid-1")).with("env", json!([{"name": "A", "value": "b"}])),
    );
    node.wait_pod("one", "is replaced", |p| p.is_running("c") && p.container_id("c") != before && p.restarts("c") == 0);
}

#[test]
fn lenient_validation_only_warns() {
    let node = Setup::default().flag("--field-validation=warn").start();
    node.put("app.yaml", Pod::idle("app").with("imagePullPolcy", json!("Always")).yaml());
    node.wait_running("app");
    let out = node.verb(&["explain", "app.yaml"]).ok();
    assert!(out.stdout.contains("accepted") && out.stdout.contains("imagePullPolcy"), "{out:?}");
}

#[test]
fn what_is_not_built_yet_is_refused_by_its_path() {
    let node = Node::start();
    let probe = json!({"httpGet": {"port": 80}});
    for (name, pod, path) in [
        (
            "init",
            Pod::idle("init").spec_field("initContainers", json!([{"name": "i", "image": "busybox:1"}])),
            "spec.initContainers",
        ),
        ("probe", Pod::idle("probe").with("livenessProbe", probe), "spec.containers[0].livenessProbe"),
        ("share", Pod::idle("share").spec_field("shareProcessNamespace", json!(true)), "spec.shareProcessNamespace"),
        (
            "config",
            Pod::idle("config").volume("v", json!({"projected": {"sources": []}}), "/v"),
            "spec.volumes[0].projected",
        ),
    ] {
        node.put_pod(&pod);
        let reason = wait_rejected(&node, &format!("{name}.yaml"), path);
        assert!(reason.contains("not supported yet"), "{reason}");
    }
}

#[test]
fn a_file_system_that_hangs_under_one_pod_holds_up_no_other() {
    let mut node = Setup::default().stopped().start();
    let frozen = LoopFs::new(&node.dir, "frozen", 16);
    node.start_agent();
    let bystander = Bystander::start(&node);
    frozen.freeze();
    // Making the directory hangs until the file system thaws.
    let source =
        json!({"hostPath": {"path": frozen.mount.join("new").display().to_string(), "type": "DirectoryOrCreate"}});
    node.put_pod(&Pod::idle("stuck").volume("v", source, "/v"));
    for n in 0..6 {
        node.put_pod(&Pod::idle(&format!("free{n}")).own_network());
    }
    for n in 0..6 {
        node.wait_running(&format!("free{n}"));
    }
    bystander.assert_untouched(&node);
    let stuck = node.pod("stuck");
    assert_eq!((stuck.phase().as_str(), stuck.waiting("c").as_str()), ("Pending", "ContainerCreating"));
    node.verb(&["explain", "stuck"]).code(1);
    frozen.thaw();
    node.wait_running("stuck");
    for name in ["stuck", "bystander", "free0", "free1", "free2", "free3", "free4", "free5"] {
        node.remove(&format!("{name}.yaml"));
    }
    wait_for("all are gone", PATIENCE, || expect(node.try_pods()?.is_empty(), String::new));
    node.assert_no_pod_left();
}

#[test]
fn five_hanging_volumes_of_one_pod_hold_up_no_other_and_the_watchdog_is_fed() {
    let mut node = Setup::default().stopped().start();
    let frozen = LoopFs::new(&node.dir, "frozen", 16);
    let notify = node.dir.join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&notify).expect("a fresh name");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    node.setup.env.push(("NOTIFY_SOCKET".to_owned(), notify.display().to_string()));
    node.setup.env.push(("WATCHDOG_USEC".to_owned(), "2000000".to_owned()));
    node.start_agent();
    let hear = |word: &str| {
        let mut buffer = [0; 4096];
        for _ in 0..200 {
            let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no {word}: {e}"));
            if String::from_utf8_lossy(&buffer[..length]).contains(word) {
                return;
            }
        }
        panic!("200 messages without {word}");
    };
    hear("READY=1");
    frozen.freeze();
    let mut pod = Pod::idle("stuck");
    for n in 0..5 {
        let path = frozen.mount.join(n.to_string()).display().to_string();
        let source = json!({"hostPath": {"path": path, "type": "DirectoryOrCreate"}});
        pod = pod.volume(&format!("v{n}"), source, &format!("/v{n}"));
    }
    node.put_pod(&pod);
    node.put_pod(&Pod::idle("free"));
    node.wait_running("free");
    for _ in 0..4 {
        hear("WATCHDOG=1");
    }
    frozen.thaw();
    node.wait_running("stuck");
}

#[test]
fn a_frozen_manifest_directory_keeps_the_pods_and_the_verbs_alive() {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").stopped().start();
    let frozen = LoopFs::new(&node.dir, "etc", 16);
    node.setup.flags.push(format!("--pod-manifest-path={}", frozen.mount.display()));
    fs::write(frozen.mount.join("app.yaml"), Pod::idle("app").yaml()).expect("room");
    node.start_agent();
    let pod = node.wait_running("app");
    frozen.freeze();
    std::thread::sleep(Duration::from_secs(3));
    host::signal(node.init_pid(&pod, "c"), nix::sys::signal::Signal::SIGKILL);
    node.wait_pod("app", "is restarted meanwhile", |p| p.restarts("c") == 1 && p.is_running("c"));
    frozen.thaw();
    fs::remove_file(frozen.mount.join("app.yaml")).expect("still there");
    node.wait_gone("app");
    node.stop_agent();
}

#[test]
fn a_full_disk_while_unpacking_is_named_and_mends() {
    let mut node = Setup { no_images: true, ..Setup::default() }.stopped().start();
    let small = LoopFs::new(&node.dir, "small", 12);
    let preload = node.dir.join("preload");
    fs::create_dir(&preload).expect("a fresh directory");
    let bytes = fs::read("/bin/busybox").expect("a program");
    let big = (0..12).fold(Layer::new(), |layer, n| layer.file(&format!("fill{n}"), &bytes, 0o644));
    Image::new("busybox:1").write_docker_archive(&preload.join("a.tar"));
    Image::new("big:1").layer(big).write_docker_archive(&preload.join("b.tar"));
    node.setup.flags.push(format!("--root-dir={}", small.mount.display()));
    node.setup.flags.push(format!("--preload-images-dir={}", preload.display()));
    node.start_agent();
    node.put_pod(&Pod::idle("fits"));
    node.put_pod(&Pod::idle("big").image("big:1"));
    node.wait_running("fits");
    let report = wait_for("explain names the disk", PATIENCE, || {
        let out = node.verb(&["explain", "big"]);
        expect(out.stdout.contains("No space left on device"), || format!("{out:?}"))?;
        Ok(out)
    });
    assert!(report.code == 1 && report.stdout.contains("b.tar"), "{report:?}");
    assert!(node.pod("fits").is_running("c"));
    // What was unpacked of it is gone again: the archive as a smaller image fits.
    let before = fs::read_dir(small.mount.join("images")).expect("the store").count();
    assert!(before > 0);
    Image::new("big:1").write_docker_archive(&preload.join("b.tar"));
    node.wait_pod_for(PATIENCE * 3, "big", "runs", |p| p.is_running("c"));
    node.stop_agent();
    support::host::purge(&node.tag, &node.dir.join("none"));
}

#[test]
fn a_full_disk_while_logging_does_not_block_the_container_and_the_loss_is_told() {
    let mut node = Setup::default().config("containerLogMaxSize: 100Mi").stopped().start();
    let small = LoopFs::new(&node.dir, "logfs", 4);
    node.setup.flags.push(format!("--pod-logs-dir={}", small.mount.join("pods").display()));
    node.start_agent();
    let script = "i=0; while [ $i -lt 200 ]; do head -c 100000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; \
                  touch /tmp/through; until [ -e /tmp/room ]; do sleep 0.1; done; echo room again; trap 'exit 0' TERM; sleep 1000000 & wait";
    node.put_pod(&Pod::new("loud", script));
    let pod = node.wait_running("loud");
    let pid = node.init_pid(&pod, "c");
    let inside = format!("/proc/{pid}/root/tmp");
    wait_for("the container has written 20 MB into 4", PATIENCE * 2, || {
        expect(std::path::Path::new(&format!("{inside}/through")).exists(), || {
            format!("{:#}", node.pod("loud").0["status"])
        })
    });
    node.put_pod(&Pod::idle("other"));
    node.wait_pod("other", "is known", |_| true);
    // Room comes back when an old file of the same disk goes.
    let dir = small.mount.join("pods").join(format!("default_{}_{}/c", node.full_name("loud"), pod.uid()));
    fs::OpenOptions::new().write(true).open(dir.join("0.log")).and_then(|f| f.set_len(0)).expect("its log");
    fs::write(format!("{inside}/room"), "").expect("a root file system");
    let log = wait_for("the loss is told", PATIENCE, || {
        let text = String::from_utf8_lossy(&fs::read(dir.join("0.log")).unwrap_or_default()).into_owned();
        let text = text.trim_start_matches('\0').to_owned();
        expect(text.contains("room again"), || dump::tail(&text, 3).chars().take(500).collect())?;
        Ok(text)
    });
    let told = log.lines().any(|l| l.len() < 400 && (l.contains("lost") || l.contains("dropped")));
    assert!(told, "no word of what was lost");
    assert_eq!(node.init_pid(&node.pod("loud"), "c"), pid);
    node.remove("loud.yaml");
    node.remove("other.yaml");
    node.wait_gone("loud");
    node.stop_agent();
}

#[test]
fn a_layer_that_tries_to_escape_leaves_nothing_behind() {
    let node = Node::start();
    let outside = node.dir.join("outside");
    fs::create_dir(&outside).expect("a fresh directory");
    let target = outside.display().to_string();
    let bad = Image::new("bad:1").layer(Layer::new().symlink("door", &target).file("door/entered", b"x", 0o644));
    let archive = node.dir.join("bad.tar");
    bad.write_docker_archive(&archive);
    let out = node.verb(&["import", &archive.display().to_string()]);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0, "{out:?}");
}

#[test]
fn a_damaged_archive_is_named_and_the_rest_is_loaded() {
    let node = Setup { no_images: true, ..Setup::default() }.stopped().start();
    let whole = node.dir.join("whole.tar");
    Image::new("broken:1").write_docker_archive(&whole);
    let bytes = fs::read(&whole).expect("an archive");
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(node.preload().join("a-flipped.tar"), flipped).expect("room");
    fs::write(node.preload().join("b-truncated.tar"), &bytes[..bytes.len() / 3]).expect("room");
    fs::write(node.preload().join("c-noise.tar"), b"this is no archive").expect("room");
    Image::new("busybox:1").write_oci_archive(&node.preload().join("d-good.tar"));
    let mut node = node;
    node.start_agent();
    node.put_pod(&Pod::idle("good"));
    node.put_pod(&Pod::idle("broken").image("broken:1"));
    node.wait_running("good");
    let out = wait_for("explain names the archives", PATIENCE, || {
        let out = node.verb(&["explain", "broken"]);
        let all = ["a-flipped.tar", "b-truncated.tar", "c-noise.tar"];
        expect(all.iter().all(|name| out.stdout.contains(name)), || format!("{out:?}"))?;
        Ok(out)
    });
    assert_eq!(out.code, 1);
}

#[test]
fn an_overlapping_route_keeps_new_pods_waiting_by_name_and_leaves_the_rest_alone() {
    let mut node = Setup::default().stopped().start();
    // A link of the test's own, named so that the node's purge would not mind it.
    let link = format!("d{}", node.tag.trim_start_matches("pt"));
    verb::tool(&["ip", "link", "add", &link, "type", "veth", "peer", "name", &format!("e{}", &link[1..])]);
    verb::tool(&["ip", "link", "set", &link, "up"]);
    let cidr = node.flags().iter().find_map(|f| f.strip_prefix("--pod-cidr=").map(str::to_owned)).expect("a flag");
    verb::tool(&["ip", "route", "add", &cidr, "dev", &link]);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        node.start_agent();
        node.put_pod(&Pod::idle("host"));
        node.put_pod(&Pod::idle("own").own_network());
        node.wait_running("host");
        wait_for("explain names the route", PATIENCE, || {
            let out = node.verb(&["explain", "own"]);
            expect(out.code == 1 && out.stdout.contains(&cidr) && out.stdout.contains(&link), || format!("{out:?}"))
        });
        verb::tool(&["ip", "link", "delete", &link]);
        node.wait_pod_for(PATIENCE * 2, "own", "runs", |p| p.is_running("c"));
    }));
    verb::tool_quiet(&["ip", "link", "delete", &link]);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
