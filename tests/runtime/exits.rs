//! How containers end, and that nothing of them is left.

use crate::host::{Host, until};
use pinlet::model::observed::ExitStatus;
use pinlet::model::time::Wall;
use pinlet::sys;

#[test]
fn the_exit_code_of_the_program_is_recorded() {
    let host = Host::new();
    let mut container = host.sh("echo hello; exit 7").started();
    let exit = container.wait();
    assert_eq!((exit.status, exit.oom_killed, exit.failure), (ExitStatus::Code(7), false, None));
    assert!(exit.started_at > Wall::EPOCH && exit.finished_at >= exit.started_at);
    assert!(container.log().ends_with(" stdout F hello\n"), "{}", container.log());
    container.assert_gone();
}

#[test]
fn death_by_a_signal_is_recorded_as_such() {
    let host = Host::new();
    let mut container = host.sh("sleep 1000").started();
    let pidfd = sys::poll::pidfd_open(container.init().0).unwrap();
    sys::spawn::signal(&pidfd, sys::spawn::SIGKILL).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Signal(9));
    container.assert_gone();
}

#[test]
fn a_program_that_handles_its_stop_signal_ends_with_its_own_code() {
    let host = Host::new();
    let mut container = host.sh("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done").started();
    container.wait_log("ready");
    let pidfd = sys::poll::pidfd_open(container.init().0).unwrap();
    sys::spawn::signal(&pidfd, 15).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Code(3));
    assert!(container.log().ends_with(" stdout F bye\n"), "{}", container.log());
}

#[test]
fn a_container_that_wants_more_memory_than_it_may_have_is_oom_killed() {
    let host = Host::new();
    let script = "cat /dev/zero | head -c 200000000 | tail -n 1 > /dev/null; echo survived $?";
    let setup = host.container(&["/bin/sh", "-c", script]);
    let finished = setup.with(|l, _| l.cgroup.limits.memory_limit_bytes = Some(16 << 20)).run();
    assert!(finished.exit.oom_killed, "{:?} {}", finished.exit, finished.log);
}

#[test]
fn what_an_init_without_a_pid_namespace_leaves_behind_is_killed_before_the_exit_is_recorded() {
    let host = Host::new();
    let without_pid_namespace = |_: &mut _, spec: &mut serde_json::Value| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    };
    let mut container = host.sh("setsid sleep 1000 & setsid sleep 1000 & exit 0").with(without_pid_namespace).started();
    assert_eq!(container.wait().status, ExitStatus::Code(0));
    container.assert_gone();
}

#[test]
fn twenty_containers_at_once_all_run_and_end() {
    let host = Host::new();
    let mut all: Vec<_> = (0..20).map(|n| host.sh(&format!("exit {n}")).spawn()).collect();
    for container in &all {
        pinlet::runtime::spawn::send_go(&container.spawned.handshake).unwrap();
    }
    for (n, container) in all.iter_mut().enumerate() {
        assert_eq!(container.wait().status, ExitStatus::Code(i32::try_from(n).unwrap()));
        container.assert_gone();
    }
}

#[test]
fn the_monitor_has_no_zombies_and_nothing_open_but_its_own() {
    let host = Host::new();
    let container = host.sh("sleep 1000").started();
    let monitor = container.spawned.process.pid.0;
    let children = || std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    until("the creator to be reaped", || (children().trim() == container.init().0.to_string()).then_some(()));
    let open = || {
        let fds = std::fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
        // One that is closed meanwhile is not open.
        let targets = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        let mut names: Vec<String> =
            targets.map(|to| to.to_string_lossy().split(':').next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let log = container.launch.log.path.to_string_lossy().into_owned();
    let expected = ["/dev/null", "/dev/null", "/dev/null", &log, "anon_inode", "pipe", "pipe"];
    // Once it has settled: it reads its own mappings before it begins to wait.
    until("the monitor to have nothing else open", || (open() == expected).then_some(()));
    let comm = std::fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap();
    assert_eq!(comm.trim(), "pinlet-monitor");
    let place = std::fs::read_to_string(format!("/proc/{monitor}/cgroup")).unwrap();
    let leaf = format!("/{}/pinlet-monitors", host.cgroup_root.display());
    assert!(place.lines().all(|l| l.ends_with(&leaf)), "{place}");
}
