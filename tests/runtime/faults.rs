//! What is left when somebody dies in the middle, and how it is taken away.

use crate::host::{Container, Host, PATIENCE, until};
use pinlet::model::observed::ExitStatus;
use pinlet::runtime::record::{self, FailedStage};
use pinlet::runtime::spawn::{Report, send_go};
use pinlet::sys::spawn::{SIGKILL, signal};
use std::fs;
use std::path::PathBuf;

/// What the agent does about a container whose monitor is gone.
fn take_away(container: &Container<'_>) {
    container.host.hierarchies.clear(&container.leaf(), PATIENCE).unwrap();
    container.assert_gone();
}

/// Makes the container's cgroup beforehand, frozen: whoever enters it stops there.
fn freeze(container: &Container<'_>) {
    let states = container.host.hierarchies.all().iter().map(|h| h.mount.join(container.leaf()));
    for leaf in states {
        fs::create_dir_all(&leaf).unwrap();
        if leaf.join("freezer.state").exists() {
            fs::write(leaf.join("freezer.state"), "FROZEN").unwrap();
        } else if container.host.hierarchies.is_pure_v2() {
            fs::write(leaf.join("cgroup.freeze"), "1").unwrap();
        }
    }
}

fn kill_monitor(container: &mut Container<'_>) {
    signal(&container.spawned.pidfd, SIGKILL).unwrap();
    container.wait_monitor();
}

#[test]
fn a_monitor_whose_agent_dies_before_the_word_creates_nothing() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000").spawn();
    let (ours, _theirs) = pinlet::sys::socket::pair().unwrap();
    drop(std::mem::replace(&mut container.spawned.handshake, ours));
    container.wait_monitor();
    assert_eq!(record::read_exit(&container.launch.dir).unwrap(), None);
    container.assert_gone();
}

/// The word may be long in coming, and by then the agent's service may have been stopped with all that is in it.
#[test]
fn a_monitor_is_in_its_cgroups_before_the_word() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000").spawn();
    let root = container.launch.cgroup.root.join("pinlet-monitors");
    let place = format!("/proc/{}/cgroup", container.spawned.process.pid.0);
    until("a place in every hierarchy", || {
        let place = fs::read_to_string(&place).unwrap();
        let at_home = |line: &str| line.rsplit(':').next().is_some_and(|path| path.ends_with(root.to_str().unwrap()));
        let mounted = host.hierarchies.all().len();
        (place.lines().filter(|line| at_home(line)).count() == mounted).then_some(())
    });
    kill_monitor(&mut container);
}

#[test]
fn a_monitor_whose_agent_dies_after_the_word_goes_on_and_leaves_its_records() {
    let host = Host::new();
    let mut container = host.sh("echo alone; exit 4").spawn();
    send_go(&container.spawned.handshake).unwrap();
    let (ours, _theirs) = pinlet::sys::socket::pair().unwrap();
    drop(std::mem::replace(&mut container.spawned.handshake, ours));
    assert_eq!(container.wait().status, ExitStatus::Code(4));
    assert!(record::read_started(&container.launch.dir).unwrap().is_some());
    assert!(container.log().ends_with("alone\n"));
    container.assert_gone();
}

#[test]
fn a_container_outlives_its_monitor_and_is_killed_by_its_cgroup() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000 & sleep 1000").started();
    kill_monitor(&mut container);
    assert!(host.hierarchies.populated(&container.leaf()));
    assert_eq!(record::read_exit(&container.launch.dir).unwrap(), None);
    take_away(&container);
}

#[test]
fn a_creator_that_is_killed_is_a_failed_start() {
    let host = Host::new();
    let mut container = host.sh("true").spawn();
    freeze(&container);
    send_go(&container.spawned.handshake).unwrap();
    until("a frozen creator", || host.hierarchies.populated(&container.leaf()).then_some(()));
    host.hierarchies.kill(&container.leaf()).unwrap();
    let Report::Failed { stage, message } = container.report() else { panic!("it started") };
    assert_eq!(stage, FailedStage::Create);
    assert_eq!(message, "the container could not be created: it was killed by signal 9");
    assert!(container.wait().failure.is_some());
    container.assert_gone();
}

#[test]
fn a_creator_whose_monitor_is_killed_is_found_by_its_cgroup() {
    let host = Host::new();
    let mut container = host.sh("true").spawn();
    freeze(&container);
    send_go(&container.spawned.handshake).unwrap();
    until("a frozen creator", || host.hierarchies.populated(&container.leaf()).then_some(()));
    kill_monitor(&mut container);
    take_away(&container);
}

/// An init that nobody starts waits for ever, under a name of libcontainer's.
#[test]
fn an_init_whose_monitor_and_creator_are_killed_is_found_by_its_cgroup() {
    let host = Host::new();
    for _ in 0..5 {
        let mut container = host.sh("sleep 1000").spawn();
        send_go(&container.spawned.handshake).unwrap();
        let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let leaf = container.leaf();
        until("an init", || {
            let inside = host.hierarchies.pids(&leaf);
            inside.iter().any(|pid| comm(pid.0).starts_with("youki:[2") || comm(pid.0) == "sleep\n").then_some(())
        });
        let creator = host.hierarchies.pids(&leaf).into_iter().find(|pid| comm(pid.0).starts_with("pinlet-creator"));
        if let Some(pidfd) = creator.and_then(|pid| pinlet::sys::poll::pidfd_open(pid.0).ok()) {
            let _ = signal(pidfd, SIGKILL);
        }
        kill_monitor(&mut container);
        take_away(&container);
    }
}

#[test]
fn a_whole_cgroup_that_is_killed_is_an_exit_by_signal() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000 & sleep 1000").started();
    host.hierarchies.kill(&container.leaf()).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Signal(9));
    container.assert_gone();
}

#[test]
fn a_frozen_container_can_be_killed() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000").started();
    freeze(&container);
    host.hierarchies.kill(&container.leaf()).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Signal(9));
}

#[test]
fn cgroups_that_somebody_made_inside_go_too_with_who_is_in_them() {
    let host = Host::new();
    let without_pid_namespace = |_: &mut _, spec: &mut serde_json::Value| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    };
    let setup = host.sh("sleep 1000 & echo $! $$; wait").with(without_pid_namespace);
    let mut container = setup.started();
    until("the pids", || container.log().contains(" F ").then_some(()));
    let pids = container.log();
    let child = pids.split(" F ").nth(1).unwrap().split(' ').next().unwrap();
    let inner: Vec<PathBuf> =
        host.hierarchies.all().iter().map(|h| h.mount.join(container.leaf()).join("a/b")).collect();
    for dir in &inner {
        fs::create_dir_all(dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            for step in [dir.parent().unwrap(), dir].iter().filter(|d| d.join(file).exists()) {
                let value = fs::read_to_string(step.parent().unwrap().join(file)).unwrap();
                let _ = fs::write(step.join(file), value);
            }
        }
        fs::write(dir.join("cgroup.procs"), child).unwrap();
    }
    let init = pinlet::sys::poll::pidfd_open(container.init().0).unwrap();
    signal(init, SIGKILL).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Signal(9));
    container.assert_gone();
}

#[test]
fn a_wiped_run_dir_still_gets_the_exit_record() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000").started();
    let init = pinlet::sys::poll::pidfd_open(container.init().0).unwrap();
    fs::remove_dir_all(host.dir.join("run")).unwrap();
    signal(init, 15).unwrap();
    signal(pinlet::sys::poll::pidfd_open(container.spawned.process.pid.0).unwrap(), 15).unwrap();
    host.hierarchies.kill(&container.leaf()).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Signal(9));
    container.assert_gone();
}

#[test]
fn a_pod_and_its_parents_go_when_they_are_empty_and_not_before() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000").started();
    let (root, pod) = (&host.cgroup_root, &container.launch.cgroup.pod.clone());
    assert!(host.hierarchies.remove_pod(root, pod).is_err());
    let present: Vec<String> = host.hierarchies.pods_present(root).iter().map(|(uid, _)| uid.to_string()).collect();
    assert_eq!(present, ["testpod"]);
    assert_eq!(host.hierarchies.monitors(root), [container.spawned.process.pid]);
    host.hierarchies.kill(&container.leaf()).unwrap();
    container.wait();
    host.hierarchies.remove_pod(root, pod).unwrap();
    for hierarchy in host.hierarchies.all() {
        assert!(!hierarchy.mount.join(root).join("kubepods").exists());
        assert!(hierarchy.mount.join(root).join("pinlet-monitors").exists());
    }
}
