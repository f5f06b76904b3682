//! cgroup v2 alone: processes are born in their cgroups, and nobody moves. On a hybrid machine its v2 hierarchy stands
//! for it; limits need a machine that has the controllers there.

use crate::host::Host;
use pinlet::model::observed::ExitStatus;
use pinlet::runtime::exec::{ExecOutcome, ExecRequest, spawn_exec};
use pinlet::runtime::record;
use pinlet::sys::spawn::{SIGKILL, signal};

fn place(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn monitor_and_container_are_born_where_they_belong_and_leave_nothing() {
    let host = Host::on_v2_alone();
    let mut container = host.sh("sleep 1000 & sleep 1000").started();
    assert_eq!(place(container.spawned.process.pid.0), format!("/{}/pinlet-monitors", host.cgroup_root.display()));
    assert_eq!(place(container.init().0), format!("/{}", container.leaf().display()));
    host.hierarchies.kill(&container.leaf()).unwrap();
    assert_eq!(container.wait().status, ExitStatus::Signal(9));
    container.assert_gone();
}

#[test]
fn an_exec_joins_the_containers_cgroup() {
    let host = Host::on_v2_alone();
    let container = host.sh("sleep 1000").started();
    let request = ExecRequest {
        version: record::VERSION,
        container_dir: container.launch.dir.clone(),
        monitor: container.spawned.process,
        argv: ["sh", "-c", "exit 8"].map(str::to_owned).to_vec(),
        stdin: false,
        tty: false,
        size: None,
    };
    let mut child = spawn_exec(&request).unwrap();
    assert_eq!(child.wait(), ExecOutcome::Exited(ExitStatus::Code(8)));
}

#[test]
fn a_monitor_that_is_killed_leaves_a_cgroup_that_can_be_emptied() {
    let host = Host::on_v2_alone();
    let mut container = host.sh("sleep 1000").started();
    signal(&container.spawned.pidfd, SIGKILL).unwrap();
    container.wait_monitor();
    assert!(host.hierarchies.populated(&container.leaf()));
    host.hierarchies.kill(&container.leaf()).unwrap();
    crate::host::until("an empty cgroup", || (!host.hierarchies.populated(&container.leaf())).then_some(()));
    host.hierarchies.remove(&container.leaf()).unwrap();
    container.assert_gone();
}
