//! A node where nothing happens, in a network namespace of its own: the links that other tests make wake every agent.

mod support;

use std::fs;
use std::time::Duration;
use support::{Node, Pod, Setup, host};

/// Two rescans, and a bit.
const WINDOW: Duration = Duration::from_secs(11);
/// The machine may have news of its own (a tool that looks): one quiet window is proof.
const WINDOWS: usize = 4;

/// How often the process's threads have gone to sleep so far.
fn sleeps(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("alive");
    let of = |task: &std::path::Path| -> u64 {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    };
    tasks.flatten().map(|t| of(&t.path())).sum()
}

/// What it has written to disks so far.
fn written(pid: i32) -> String {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("alive");
    io.lines().find(|l| l.starts_with("write_bytes")).expect("a field").to_owned()
}

fn monitors(node: &Node) -> Vec<i32> {
    let is_ours = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with("pinlet"));
    host::processes(&node.tag).into_iter().filter(is_ours).collect()
}

#[test]
fn an_idle_agent_wakes_for_the_rescan_only_and_writes_nothing() {
    let shell = "exec unshare --net /bin/sh -c 'ip link set lo up; exec \"$@\"' sh \"$@\"";
    let setup = Setup { shell: Some(shell.to_owned()), ..Setup::default() };
    let node = setup.config("fileCheckFrequency: 5s").start();
    node.put_pod(&Pod::idle("own").own_network());
    node.put_pod(&Pod::idle("host"));
    node.wait_running("own");
    node.wait_running("host");
    // Durable records and the looks after a start come later than the start.
    std::thread::sleep(WINDOW);
    let (agent, monitors) = (node.agent_pid(), monitors(&node));
    assert_eq!(monitors.len(), 2);
    let look = || (sleeps(agent), written(agent), monitors.iter().map(|p| sleeps(*p)).collect::<Vec<_>>());
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let before = look();
        std::thread::sleep(WINDOW);
        let after = look();
        assert_eq!(before.2, after.2, "an idle monitor never wakes");
        let quiet = before.1 == after.1;
        seen.push((after.0 - before.0, quiet));
        // A rescan hands its looks to workers, and sleeps once or twice while it does.
        if after.0 - before.0 <= 6 && quiet {
            return;
        }
    }
    panic!("wake-ups, and whether nothing was written, in {WINDOWS} windows of {WINDOW:?}: {seen:?}");
}
