//! Deaths: of the agent, of a monitor, of a whole cgroup, of the run dir. The pods must not notice what is not theirs.

mod support;

use nix::sys::signal::Signal::SIGKILL;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::identity::{TICKER, assert_no_tick_missing, identity, monitors};
use support::wait::{expect, stays};
use support::{IDLE, Node, PATIENCE, Pod, PodView, Setup, binary, host, json, verb, wait_for};

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[test]
fn containers_do_not_notice_that_the_agent_is_killed_and_started_again() {
    let mut node = Node::start();
    node.put_pod(&Pod::new("own", TICKER).own_network());
    node.put_pod(&Pod::new("host", TICKER));
    let before = [node.wait_running("own"), node.wait_running("host")].map(|p| identity(&node, &p));
    for _ in 0..3 {
        node.crash_agent();
        node.start_agent();
        let after = [node.wait_running("own"), node.wait_running("host")].map(|p| identity(&node, &p));
        assert_eq!(before, after);
    }
    std::thread::sleep(Duration::from_millis(300));
    for name in ["own", "host"] {
        assert_no_tick_missing(&node.verb(&["logs", name]).ok().stdout);
    }
    node.verb(&["exec", "own", "--", "true"]).ok();
    assert_eq!(monitors(&node).len(), 2);
}

#[test]
fn a_stopped_agent_leaves_the_pods_running() {
    let mut node = Node::start();
    node.put_pod(&Pod::new("app", TICKER).own_network());
    let before = identity(&node, &node.wait_running("app"));
    assert_eq!(node.stop_agent(), 0);
    assert!(host::is_alive(before.pid));
    std::thread::sleep(Duration::from_secs(1));
    node.start_agent();
    let pod = node.wait_running("app");
    assert_eq!(identity(&node, &pod), before);
    assert_no_tick_missing(&node.verb(&["logs", "app"]).ok().stdout);
}

#[test]
fn no_process_of_a_pod_is_in_the_agents_cgroup_or_session() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let pod = node.wait_running("app");
    let agent = node.agent_pid();
    let session = |pid: i32| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
        stat.rsplit(')').next().and_then(|r| r.split_whitespace().nth(3)).and_then(|s| s.parse().ok()).expect("field 6")
    };
    for pid in host::processes(&node.tag) {
        assert_ne!(session(pid), session(agent), "{}", comm(pid));
        for line in fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive").lines() {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            assert!(path.starts_with(&format!("/{}/", node.tag)), "{} is in {line}", comm(pid));
        }
    }
    let inside = format!("pod{}/{}", pod.uid(), pod.container_id("c"));
    let init = fs::read_to_string(format!("/proc/{}/cgroup", node.init_pid(&pod, "c"))).expect("alive");
    let expected = format!("/{}/kubepods/besteffort/{inside}", node.tag);
    assert!(init.lines().all(|l| l.ends_with(&expected)), "{init}");
}

#[test]
fn a_crash_while_no_agent_runs_is_seen_afterwards() {
    let mut node = Node::start();
    node.put_pod(&Pod::new("app", "trap 'exit 0' TERM; while ! [ -e /tmp/die ]; do sleep 0.05; done; exit 9"));
    let once = Pod::new("once", "trap 'exit 0' TERM; while ! [ -e /tmp/die ]; do sleep 0.05; done; exit 4");
    node.put_pod(&once.restart("Never"));
    let pods = [node.wait_running("app"), node.wait_running("once")];
    let pids = pods.each_ref().map(|p| node.init_pid(p, "c"));
    node.crash_agent();
    for pid in pids {
        fs::write(format!("/proc/{pid}/root/tmp/die"), "").expect("a root file system");
    }
    wait_for("both end", PATIENCE, || expect(pids.iter().all(|p| !host::is_alive(*p)), || format!("{pids:?}")));
    wait_for("their monitors end", PATIENCE, || {
        expect(monitors(&node).is_empty(), || format!("{:?}", monitors(&node)))
    });
    node.start_agent();
    let app = node.wait_pod("app", "is restarted", |p| p.restarts("c") == 1 && p.is_running("c"));
    assert_eq!(app.terminated("c")["exitCode"], 9);
    let once = node.wait_pod("once", "has failed", |p| p.phase() == "Failed");
    assert_eq!((once.restarts("c"), &once.terminated("c")["exitCode"]), (0, &json!(4)));
}

#[test]
fn a_manifest_that_changed_while_no_agent_ran_is_acted_on_afterwards() {
    let mut node = Node::start();
    for name in ["edited", "removed", "kept"] {
        node.put_pod(&Pod::idle(name).own_network());
    }
    let before = ["edited", "removed", "kept"].map(|name| node.wait_running(name));
    node.crash_agent();
    node.put_pod(&Pod::idle("edited").own_network().with("env", json!([{"name": "A", "value": "1"}])));
    node.remove("removed.yaml");
    node.put_pod(&Pod::idle("added").own_network());
    node.start_agent();
    node.wait_running("added");
    node.wait_pod("edited", "is replaced", |p| p.uid() != before[0].uid() && p.is_running("c"));
    node.wait_gone("removed");
    assert_eq!(node.agent_log().matches("removed.yaml: accepted").count(), 1, "by the first agent only");
    let kept = node.wait_running("kept");
    assert_eq!((kept.uid(), kept.container_id("c")), (before[2].uid(), before[2].container_id("c")));
}

#[test]
fn a_new_binary_takes_over_what_the_old_one_runs() {
    let mut node = Setup::default().stopped().start();
    let program = node.dir.join("pinlet");
    fs::copy(binary(), &program).expect("room for a copy");
    node.setup.program = Some(program.clone());
    node.start_agent();
    node.put_pod(&Pod::new("app", TICKER).own_network());
    let before = identity(&node, &node.wait_running("app"));
    // As a package does it: another inode under the same name, then a restart.
    let aside = node.dir.join("pinlet.new");
    fs::copy(binary(), &aside).expect("room for a copy");
    fs::rename(&aside, &program).expect("the same directory");
    let exec = node.verb(&["exec", "app", "--", "echo", "between"]).ok();
    assert_eq!(exec.stdout, "between\n");
    node.stop_agent();
    node.start_agent();
    let pod = node.wait_running("app");
    assert_eq!(identity(&node, &pod), before);
    assert_eq!(node.verb(&["exec", "app", "--", "echo", "after"]).ok().stdout, "after\n");
    host::signal(before.pid, SIGKILL);
    node.wait_pod("app", "is restarted by the new one", |p| p.restarts("c") == 1 && p.is_running("c"));
}

#[test]
fn a_killed_monitor_costs_its_own_container_only() {
    let node = Node::start();
    node.put_pod(&Pod::idle("one").own_network());
    node.put_pod(&Pod::idle("two").own_network());
    let one = node.wait_running("one");
    let two = identity(&node, &node.wait_running("two"));
    let init = node.init_pid(&one, "c");
    let status = fs::read_to_string(format!("/proc/{init}/status")).expect("alive");
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).and_then(|p| p.trim().parse().ok());
    let monitor: i32 = parent.expect("a parent");
    assert!(monitors(&node).contains(&monitor), "init's parent {monitor} is {}", comm(monitor));
    host::signal(monitor, SIGKILL);
    let after = node.wait_pod("one", "runs again", |p| p.restarts("c") == 1 && p.is_running("c"));
    let last = after.terminated("c");
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(137), &json!("ContainerStatusUnknown")), "{last:#}");
    assert!(!host::is_alive(init), "the old container lives on beside the new one");
    assert_eq!(identity(&node, &node.pod("two")), two);
    node.remove("one.yaml");
    node.remove("two.yaml");
    node.wait_gone("one");
    node.wait_gone("two");
    node.assert_no_pod_left();
}

#[test]
fn a_container_whose_whole_cgroup_is_killed_is_restarted() {
    let node = Node::start();
    node.put_pod(&Pod::new("app", &format!("sleep 1000000 & sleep 1000001 & {IDLE}")));
    let pod = node.wait_running("app");
    let id = pod.container_id("c");
    let pids: Vec<i32> =
        host::cgroups(&node.tag).iter().filter(|c| c.ends_with(&id)).flat_map(|c| host::pids_of(c)).collect();
    assert!(pids.len() >= 4, "{pids:?}");
    for pid in &pids {
        host::signal(*pid, SIGKILL);
    }
    let after = node.wait_pod("app", "runs again", |p| p.restarts("c") == 1 && p.is_running("c"));
    assert_eq!(after.terminated("c")["exitCode"], 137);
    assert!(pids.iter().all(|pid| !host::is_alive(*pid)));
}

#[test]
fn what_a_container_leaves_running_dies_with_its_first_process() {
    let node = Setup::default().restart_period(1).start();
    let pod = Pod::new("app", "setsid sleep 1000002 & sleep 1; exit 1").restart("Never");
    node.put_pod(&pod.spec_field("hostPID", json!(true)));
    node.wait_pod("app", "has failed", |p| p.phase() == "Failed");
    assert_eq!(host::processes(&node.tag), [] as [i32; 0]);
}

/// The run dir of a machine whose /run was emptied under a living agent.
fn wipe(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            wipe(&path);
            let _ = fs::remove_dir(&path);
        } else {
            // Busy pins stay, as with rm -rf.
            let _ = fs::remove_file(&path);
        }
    }
}

#[test]
fn a_living_agent_outlives_the_wiping_of_its_run_dir() {
    let mut node = Setup::default().config("fileCheckFrequency: 2s").start();
    node.put_pod(&Pod::new("own", TICKER).own_network());
    node.put_pod(&Pod::new("host", TICKER));
    let before = [node.wait_running("own"), node.wait_running("host")].map(|p| identity(&node, &p));
    wipe(&node.run_dir());
    node.wait_until_it_answers();
    let after = [node.wait_running("own"), node.wait_running("host")].map(|p| identity(&node, &p));
    assert_eq!(before, after);
    stays("no pod is touched", Duration::from_secs(5), || {
        let pids = before.each_ref().map(|b| b.pid);
        expect(pids.iter().all(|p| host::is_alive(*p)), || format!("{pids:?}"))
    });
    assert_eq!(monitors(&node).len(), 2, "nothing doubles");
    let echo = |pod: &str| node.verb(&["exec", pod, "--", "echo", "still here"]).ok().stdout;
    wait_for("exec finds its files again", PATIENCE, || {
        let outcome = node.verb(&["exec", "own", "--", "true"]);
        expect(outcome.code == 0, || format!("{outcome:?}"))
    });
    assert_eq!([echo("own"), echo("host")], ["still here\n"; 2]);
    node.crash_agent();
    node.start_agent();
    assert_eq!(node.verb(&["exec", "own", "--", "echo", "still here"]).ok().stdout, "still here\n");
    let after = [node.wait_running("own"), node.wait_running("host")].map(|p| identity(&node, &p));
    assert_eq!(before, after, "the rewritten records are enough for the next agent");
    node.remove("own.yaml");
    node.remove("host.yaml");
    node.wait_gone("own");
    node.wait_gone("host");
    node.assert_no_pod_left();
}

#[test]
fn pods_whose_records_were_wiped_while_no_agent_ran_start_afresh_without_doubles() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("always").own_network());
    node.put_pod(&Pod::idle("never").restart("Never"));
    // It has crashed once, and the next crash would make it wait.
    let crashes_once = "[ -e /kept/crashed ] || { touch /kept/crashed; exit 1; }";
    let crashed = Pod::new("crashed", &format!("{crashes_once}; {IDLE}"));
    node.put_pod(&crashed.volume("kept", json!({"emptyDir": {}}), "/kept"));
    let before = [node.wait_running("always"), node.wait_running("never"), node.wait_running("crashed")];
    let pids = before.each_ref().map(|p| node.init_pid(p, "c"));
    // A first start is kept on disk a moment later; before that, only the run dir knows of it.
    for pod in &before {
        let record = node.root().join("pods").join(pod.uid()).join("record.json");
        wait_for("the start is kept", PATIENCE, || {
            let text = fs::read_to_string(&record).map_err(|e| e.to_string())?;
            expect(text.contains("\"Running\""), || text.clone())
        });
    }
    node.crash_agent();
    wipe(&node.run_dir());
    node.start_agent();
    let always = node.wait_pod("always", "runs again", |p| p.is_running("c") && p.restarts("c") == 1);
    assert_eq!(always.uid(), before[0].uid());
    let never = node.wait_pod("never", "has failed", |p| p.phase() == "Failed");
    let last = never.terminated("c");
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(137), &json!("ContainerStatusUnknown")), "{last:#}");
    node.wait_pod("crashed", "runs again", |p| {
        assert_ne!(p.waiting("c"), "CrashLoopBackOff", "it was killed as nobody's: that is no crash");
        p.is_running("c") && p.restarts("c") == 2
    });
    assert!(pids.iter().all(|p| !host::is_alive(*p)), "the old processes are killed first");
    assert_eq!(monitors(&node).len(), 2);
    node.remove("always.yaml");
    node.remove("crashed.yaml");
    node.wait_gone("crashed");
    node.remove("never.yaml");
    node.wait_gone("always");
    node.wait_gone("never");
    node.assert_no_pod_left();
}

/// Rewrites every JSON record of the run dir that has `field`.
fn edit_records(dir: &Path, field: &str, change: &dyn Fn(&mut serde_json::Value)) -> usize {
    let mut changed = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            changed += edit_records(&path, field, change);
            continue;
        }
        let Ok(mut record) = fs::read(&path).map_err(drop).and_then(|b| serde_json::from_slice(&b).map_err(drop))
        else {
            continue;
        };
        if visit(&mut record, field, change) {
            fs::write(&path, record.to_string()).expect("a record");
            changed += 1;
        }
    }
    changed
}

fn visit(value: &mut serde_json::Value, field: &str, change: &dyn Fn(&mut serde_json::Value)) -> bool {
    let mut hit = false;
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if name == field {
                    change(value);
                    hit = true;
                } else {
                    hit |= visit(value, field, change);
                }
            }
        }
        serde_json::Value::Array(list) => {
            for item in list {
                hit |= visit(item, field, change);
            }
        }
        _ => {}
    }
    hit
}

/// Kills everything in the node's cgroups and waits until they are empty: what a power cut does to processes.
fn kill_everything(node: &Node) {
    wait_for("all processes are dead", PATIENCE, || {
        let pids = host::processes(&node.tag);
        for pid in &pids {
            host::signal(*pid, SIGKILL);
        }
        expect(pids.is_empty(), || format!("{pids:?}"))
    });
}

#[test]
fn records_of_another_boot_are_not_believed() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app").own_network());
    let before = node.wait_running("app");
    node.crash_agent();
    kill_everything(&node);
    let other = json!("00000000-1111-2222-3333-444444444444");
    assert!(edit_records(&node.run_dir(), "boot_id", &|id| *id = other.clone()) > 0, "records carry the boot id");
    node.start_agent();
    let after = node.wait_pod("app", "runs", |p| p.is_running("c"));
    assert_eq!(after.uid(), before.uid());
    assert_ne!(after.container_id("c"), before.container_id("c"));
    node.remove("app.yaml");
    node.wait_gone("app");
    node.assert_no_pod_left();
}

#[test]
fn a_pid_that_now_belongs_to_somebody_else_is_not_touched() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
    node.crash_agent();
    kill_everything(&node);
    // The bystander has the recorded pid, so to speak: the records are made to name it, with another start time.
    let mut bystander = std::process::Command::new("sleep").arg("1000003").spawn().expect("a process");
    let pid = bystander.id();
    let changed = edit_records(&node.run_dir(), "pid", &|value| *value = json!(pid));
    node.start_agent();
    let after = node.wait_pod("app", "runs again", |p| p.is_running("c") && p.restarts("c") == 1);
    let untouched = bystander.try_wait().expect("our own child").is_none();
    assert!(after.is_running("c"));
    node.remove("app.yaml");
    node.wait_gone("app");
    let still = bystander.try_wait().expect("our own child").is_none();
    bystander.kill().expect("our own child");
    bystander.wait().expect("our own child");
    assert!(changed > 0, "records carry pids");
    assert!(untouched && still, "a process that is not ours was killed");
}

#[test]
fn damaged_records_cost_one_restart_at_most() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app").own_network());
    node.put_pod(&Pod::idle("other").own_network());
    node.wait_running("app");
    let other = identity(&node, &node.wait_running("other"));
    let id = node.pod("app").container_id("c");
    node.crash_agent();
    for entry in fs::read_dir(node.run_dir().join("containers").join(&id)).expect("a bundle").flatten() {
        if entry.path().extension().is_some_and(|e| e == "json") {
            fs::write(entry.path(), "{\"version\": 1, \"pod").expect("a record");
        }
    }
    node.start_agent();
    node.wait_pod("app", "runs", |p| p.is_running("c"));
    assert_eq!(identity(&node, &node.wait_running("other")), other);
    assert_eq!(monitors(&node).len(), 2, "nothing doubles");
}

#[test]
fn counters_and_final_states_survive_a_power_cut() {
    let mut node = Node::start();
    node.put_pod(&Pod::new("once", "echo done; exit 0").restart("Never").own_network());
    node.put_pod(&Pod::idle("app").own_network());
    let ended = node.wait_pod("once", "has ended", |p| p.phase() == "Succeeded");
    let before = node.wait_running("app");
    host::signal(node.init_pid(&before, "c"), SIGKILL);
    let before = node.wait_pod("app", "is restarted", |p| p.restarts("c") == 1 && p.is_running("c"));
    // What must be durable is written by a worker, off the way to the start.
    std::thread::sleep(Duration::from_secs(2));
    node.crash_agent();
    kill_everything(&node);
    reboot(&node);
    node.start_agent();
    let after = node.wait_pod("app", "runs", |p| p.is_running("c"));
    assert_eq!(after.uid(), before.uid());
    let once = node.wait_pod("once", "is still done", |p| p.phase() == "Succeeded");
    assert_eq!(once.restarts("c"), 0);
    assert_eq!((once.ip(), once.ip().is_empty()), (ended.ip(), false), "the address that it had");
    stays("the one-shot does not run again", Duration::from_secs(3), || {
        let pod = node.try_pod("once")?;
        expect(pod.phase() == "Succeeded" && pod.restarts("c") == 0, || format!("{:#}", pod.0["status"]))
    });
    assert_eq!(
        before.0["metadata"]["creationTimestamp"], after.0["metadata"]["creationTimestamp"],
        "first acceptance is kept across a boot"
    );
}

/// A boot, as far as one machine that stays up can play it: the run dir is empty, and so are cgroups and mounts.
fn reboot(node: &Node) {
    let run = node.run_dir();
    for mount in host::mounts_below(&node.dir) {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).expect("a mount of ours");
    }
    fs::remove_dir_all(&run).expect("no mounts are left");
    fs::create_dir(&run).expect("just removed");
    for link in host::ports_of(&node.tag).iter().chain([&node.tag]) {
        verb::tool_quiet(&["ip", "link", "delete", link]);
    }
    for cgroup in host::cgroups(&node.tag) {
        let _ = fs::remove_dir(cgroup);
    }
}

#[test]
fn a_reboot_brings_the_pods_back() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("own").own_network());
    node.put_pod(&Pod::idle("host"));
    let before = [node.wait_running("own"), node.wait_running("host")];
    node.crash_agent();
    kill_everything(&node);
    reboot(&node);
    node.start_agent();
    let after = [node.wait_running("own"), node.wait_running("host")];
    assert_eq!(before.each_ref().map(PodView::uid), after.each_ref().map(PodView::uid));
    assert_eq!(before[0].ip(), after[0].ip(), "the address comes from the name");
}

#[test]
fn a_second_agent_on_the_same_directories_is_refused_by_name() {
    let node = Node::start();
    let pid = node.agent_pid().to_string();
    let mut command = std::process::Command::new(node.program());
    let out = verb::run(command.args(node.flags()), b"", PATIENCE).code(1);
    assert!(out.stderr.contains("lock") && out.stderr.contains(&pid), "{out:?}");
    let elsewhere = node.dir.join("run2");
    let mut command = std::process::Command::new(node.program());
    command.args(node.flags()).arg(format!("--run-dir={}", elsewhere.display()));
    let out = verb::run(&mut command, b"", PATIENCE).code(1);
    let lock = node.root().join("lock").display().to_string();
    assert!(out.stderr.contains(&lock) && out.stderr.contains(&pid), "{out:?}");
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
}

#[test]
fn two_agents_run_side_by_side() {
    let (one, mut two) = (Node::start(), Node::start());
    one.put_pod(&Pod::idle("app").own_network());
    two.put_pod(&Pod::idle("app").own_network());
    let before = identity(&one, &one.wait_running("app"));
    assert_ne!(two.wait_running("app").ip(), before.ip);
    two.crash_agent();
    two.start_agent();
    two.wait_running("app");
    two.remove("app.yaml");
    two.wait_gone("app");
    two.assert_no_pod_left();
    two.stop_agent();
    assert_eq!(identity(&one, &one.pod("app")), before);
}

#[test]
fn stop_pods_stops_all_and_nothing_starts_until_the_agent_is_started_again() {
    let mut node = Node::start();
    let out = node.dir.join("out");
    fs::create_dir(&out).expect("a fresh directory");
    let source = json!({"hostPath": {"path": out.display().to_string()}});
    let script = "trap 'echo bye > /out/term; exit 0' TERM; sleep 1000000 & wait";
    node.put_pod(&Pod::new("app", script).grace(20).volume("out", source, "/out"));
    node.put_pod(&Pod::idle("net").own_network());
    node.wait_running("app");
    node.wait_running("net");
    node.verb(&["stop-pods"]).ok();
    assert_eq!(host::processes(&node.tag), [] as [i32; 0], "stop-pods returns when all is stopped");
    assert_eq!(fs::read_to_string(out.join("term")).expect("the handler ran"), "bye\n");
    assert!(node.run_dir().join("stopped").exists());
    node.put_pod(&Pod::idle("late"));
    stays("nothing starts", Duration::from_secs(3), || {
        let pids = host::processes(&node.tag);
        expect(pids.is_empty(), || format!("{pids:?}"))
    });
    let report = node.verb(&["explain", "app"]);
    assert!(report.stdout.contains("stop"), "{report:?}");
    node.stop_agent();
    node.start_agent();
    for name in ["app", "net", "late"] {
        node.wait_running(name);
    }
    assert!(!node.run_dir().join("stopped").exists());
}

#[test]
fn stop_pods_works_without_an_agent() {
    let mut node = Node::start();
    let out = node.dir.join("out");
    fs::create_dir(&out).expect("a fresh directory");
    let source = json!({"hostPath": {"path": out.display().to_string()}});
    let script = "trap 'echo bye > /out/term; exit 0' TERM; sleep 1000000 & wait";
    node.put_pod(&Pod::new("app", script).grace(20).volume("out", source, "/out"));
    node.put_pod(&Pod::new("deaf", "trap '' TERM; while :; do sleep 0.2; done").grace(2));
    node.put_pod(&Pod::idle("net").own_network());
    for name in ["app", "deaf", "net"] {
        node.wait_running(name);
    }
    node.crash_agent();
    node.verb(&["stop-pods"]).ok();
    assert_eq!(host::processes(&node.tag), [] as [i32; 0]);
    assert_eq!(fs::read_to_string(out.join("term")).expect("the handler ran"), "bye\n");
    node.start_agent();
    for name in ["app", "deaf", "net"] {
        node.wait_running(name);
    }
}

#[test]
fn an_agent_told_so_stops_its_pods_when_it_is_stopped() {
    let mut node = Setup::default().flag("--stop-pods-on-exit").start();
    node.put_pod(&Pod::idle("app").own_network());
    node.wait_running("app");
    assert_eq!(node.stop_agent(), 0);
    assert_eq!(host::processes(&node.tag), [] as [i32; 0]);
    node.start_agent();
    node.wait_running("app");
}

#[test]
fn the_nodes_name_is_kept_and_a_flag_wins() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let before = node.wait_running("app");
    node.crash_agent();
    node.setup.flags.push("--hostname-override=Other-Name".to_owned());
    node.start_agent();
    wait_for("the pod carries the new name", PATIENCE, || {
        let pods = node.try_pods()?;
        expect(pods.len() == 1 && pods[0].name() == "app-other-name" && pods[0].is_running("c"), || format!("{pods:?}"))
    });
    assert_ne!(node.pods()[0].uid(), before.uid());
}
