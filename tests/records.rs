//! Records that an agent finds otherwise than it would have written them, while what they tell of runs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::identity::{Identity, TICKER, assert_no_tick_missing, identity, monitors};
use support::wait::{expect, stays};
use support::{IDLE, Node, PATIENCE, Pod, PodView, Setup, host, json, wait_for};

/// Makes a record one of version 99, as a newer pinlet would write it; the bytes that were there.
fn make_newer(record: &Path) -> Vec<u8> {
    let before = fs::read(record).expect("a record");
    let mut value: serde_json::Value = serde_json::from_slice(&before).expect("a record is JSON");
    assert!(value["version"].is_u64(), "records carry a version");
    value["version"] = json!(99);
    if record.ends_with("sandbox.json") {
        // Of these, one that still has all that is needed is simply used.
        value["mounts"] = json!({"kept": "otherwise"});
    }
    fs::write(record, value.to_string()).expect("a record");
    before
}

/// With the record of one of two pods made newer: it goes on untouched and undoubled, and is adopted once it can be.
fn assert_left_alone(record_of: impl Fn(&Node, &Identity) -> PathBuf) {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").start();
    node.put_pod(&Pod::new("app", TICKER).own_network().container("second", IDLE));
    node.put_pod(&Pod::idle("other").own_network());
    let before = identity(&node, &node.wait_running("app"));
    let second = node.init_pid(&node.pod("app"), "second");
    let other = identity(&node, &node.wait_running("other"));
    let record = record_of(&node, &before);
    // What the agent has yet to write of the pod's start.
    wait_for("the record is there", PATIENCE, || expect(record.exists(), || record.display().to_string()));
    std::thread::sleep(Duration::from_millis(500));
    let all = monitors(&node);
    assert_eq!(all.len(), 3);
    node.crash_agent();
    let bytes = make_newer(&record);
    node.start_agent();
    assert_eq!(identity(&node, &node.wait_running("other")), other, "the other pod is adopted");
    stays("it goes on untouched", Duration::from_secs(4), || {
        let alive =
            host::is_alive(before.pid) && host::is_alive(second) && host::start_ticks(before.pid) == before.start;
        expect(alive, || node.agent_log())?;
        expect(monitors(&node) == all, || format!("{:?} were {all:?}", monitors(&node)))
    });
    let out = node.verb(&["explain"]).ok();
    assert!(out.stderr.contains(&before.uid) && out.stderr.contains("version 99"), "{out:?}");
    assert_eq!(node.verb(&["explain", "app.yaml"]).code, 1);
    node.crash_agent();
    fs::write(&record, bytes).expect("a record");
    node.start_agent();
    assert_eq!(identity(&node, &node.wait_running("app")), before);
    assert_eq!(monitors(&node), all);
    assert_no_tick_missing(&node.verb(&["logs", "app", "-c", "c"]).ok().stdout);
    node.remove("app.yaml");
    node.remove("other.yaml");
    node.wait_gone("app");
    node.wait_gone("other");
    node.assert_no_pod_left();
}

#[test]
fn a_container_that_a_newer_pinlet_started_goes_on_untouched() {
    assert_left_alone(|node, app| node.run_dir().join("containers").join(&app.id).join("intent.json"));
}

#[test]
fn a_pod_that_a_newer_pinlet_keeps_goes_on_untouched() {
    assert_left_alone(|node, app| node.root().join("pods").join(&app.uid).join("record.json"));
}

#[test]
fn a_pod_whose_sandbox_a_newer_pinlet_made_goes_on_untouched() {
    assert_left_alone(|node, app| node.run_dir().join("pods").join(&app.uid).join("sandbox.json"));
}

#[test]
fn the_address_of_a_pod_that_is_left_alone_is_given_to_no_other() {
    let mut node = Setup::default().stopped().start();
    let cidr = node.flags().iter().find_map(|f| f.strip_prefix("--pod-cidr=").map(str::to_owned)).expect("a flag");
    // Room for the gateway and five pods.
    let small = cidr.replace("/24", "/29");
    node.setup.flags.push(format!("--pod-cidr={small}"));
    node.start_agent();
    node.put_pod(&Pod::idle("app").own_network());
    let app = identity(&node, &node.wait_running("app"));
    node.crash_agent();
    make_newer(&node.run_dir().join("containers").join(&app.id).join("intent.json"));
    node.start_agent();
    for n in 0..5 {
        node.put_pod(&Pod::idle(&format!("p{n}")).own_network());
    }
    wait_for("four run, and the fifth is told that no address is left", PATIENCE, || {
        let running = node.try_pods()?.iter().filter(|p| p.is_running("c")).count();
        let out = node.verb(&["get", "pods", "-o", "wide"]);
        let told = (0..5).filter(|n| node.verb(&["explain", &format!("p{n}")]).stdout.contains(&small)).count();
        expect((running, told) == (4, 1), || format!("{running} run, {told} are told: {out:?}"))
    });
    let mut ips: Vec<String> = node.pods().iter().map(PodView::ip).filter(|ip| !ip.is_empty()).collect();
    ips.push(app.ip.clone());
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 5, "{ips:?} with {}", app.ip);
    assert!(host::is_alive(app.pid));
}

#[test]
fn records_that_were_lost_singly_are_written_again() {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").start();
    for name in ["one", "two", "three"] {
        node.put_pod(&Pod::new(name, TICKER).own_network());
    }
    let all = |node: &Node| ["one", "two", "three"].map(|name| identity(node, &node.wait_running(name)));
    let before = all(&node);
    let intent = node.run_dir().join("containers").join(&before[0].id).join("intent.json");
    let sandbox = node.run_dir().join("pods").join(&before[1].uid).join("sandbox.json");
    let socket = node.run_dir().join("pinlet.sock");
    for lost in [&intent, &sandbox, &socket] {
        fs::remove_file(lost).expect("a file of the run dir");
        wait_for("it is there again", PATIENCE, || expect(lost.exists(), || format!("no {}", lost.display())));
    }
    node.wait_until_it_answers();
    assert_eq!(all(&node), before);
    node.crash_agent();
    node.start_agent();
    assert_eq!(all(&node), before, "they are enough for the next agent");
    assert_eq!(monitors(&node).len(), 3);
    for name in ["one", "two", "three"] {
        node.remove(&format!("{name}.yaml"));
        node.wait_gone(name);
    }
    node.assert_no_pod_left();
}

#[test]
fn a_pod_whose_record_is_garbage_and_whose_file_is_gone_leaves_nothing() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app").own_network());
    let uid = node.wait_running("app").uid();
    let record = node.dir.join("root/pods").join(uid).join("record.json");
    wait_for("the record is there", PATIENCE, || expect(record.exists(), || record.display().to_string()));
    std::thread::sleep(Duration::from_millis(500));
    node.crash_agent();
    fs::write(&record, "{\"version\": 1, \"sour").expect("a record");
    node.remove("app.yaml");
    node.start_agent();
    node.wait_gone("app");
    wait_for("nothing is left", PATIENCE, || expect(host::processes(&node.tag).is_empty(), || node.agent_log()));
    node.assert_no_pod_left();
}

#[test]
fn what_a_lost_run_left_goes_with_its_pod_also_where_the_agent_died_before_it_kept_the_loss() {
    let mut node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::idle("app"));
    let app = identity(&node, &node.wait_running("app"));
    let record = node.root().join("pods").join(&app.uid).join("record.json");
    let knows_it = || fs::read_to_string(&record).is_ok_and(|text| text.contains(&app.id));
    wait_for("the run is on record", PATIENCE, || expect(knows_it(), || record.display().to_string()));
    let before = fs::read(&record).expect("a record");
    for monitor in monitors(&node) {
        host::signal(monitor, nix::sys::signal::Signal::SIGKILL);
    }
    node.wait_pod("app", "runs again", |p| p.restarts("c") == 1 && p.is_running("c"));
    node.crash_agent();
    fs::write(&record, before).expect("a record");
    node.start_agent();
    node.wait_running("app");
    node.remove("app.yaml");
    node.wait_gone("app");
    node.assert_no_pod_left();
}
