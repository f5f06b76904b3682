//! A node where nothing happens, in a network namespace of its own: the links that other tests make wake every agent.

mod support;

use std::fs;
use std::time::Duration;
use support::wait::expect;
use support::{Node, PATIENCE, Pod, Setup, host, wait_for};

/// How often the node looks again at everything.
const RESCAN: Duration = Duration::from_secs(4);
/// From right after one rescan: two more, and as far from the third as can be.
const WINDOW: Duration = Duration::from_secs(10);
/// The machine may have news of its own (a tool that looks): one quiet window is proof.
const WINDOWS: usize = 5;

/// How often the process's first thread has gone to sleep so far: in the agent that is the loop.
fn sleeps(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{pid}/status")).expect("alive");
    let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|n| n.trim().parse().ok()).expect("a number")
}

fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("alive").count()
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
fn an_idle_loop_wakes_once_per_rescan_and_nothing_is_written() {
    let shell = "exec unshare --net /bin/sh -c 'ip link set lo up; exec \"$@\"' sh \"$@\"";
    let setup = Setup { shell: Some(shell.to_owned()), ..Setup::default() };
    let node = setup.config(&format!("fileCheckFrequency: {}s", RESCAN.as_secs())).start();
    node.put_pod(&Pod::idle("own").own_network());
    node.put_pod(&Pod::idle("host"));
    node.wait_running("own");
    node.wait_running("host");
    // Durable records and the looks after a start come later than the start.
    std::thread::sleep(WINDOW);
    let (agent, monitors) = (node.agent_pid(), monitors(&node));
    assert_eq!(monitors.len(), 2);
    let look = || (sleeps(agent), written(agent), monitors.iter().map(|p| sleeps(*p)).collect::<Vec<_>>());
    let resident = threads(agent);
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let asleep = sleeps(agent);
        wait_for("a rescan", PATIENCE, || expect(sleeps(agent) > asleep, || format!("{asleep} sleeps")));
        // Its jobs are done by now, and what it needed is given back.
        std::thread::sleep(Duration::from_secs(1));
        let before = look();
        std::thread::sleep(WINDOW);
        let after = look();
        assert_eq!(before.2, after.2, "an idle monitor never wakes");
        let (turns, quiet) = (after.0 - before.0, before.1 == after.1);
        assert!(turns >= 2, "two rescans in {WINDOW:?}, and the loop woke {turns} times");
        seen.push((turns, quiet));
        if turns == 2 && quiet {
            assert!(threads(agent) <= resident, "the rescans' threads have ended");
            return;
        }
    }
    panic!("wake-ups of the loop, and whether nothing was written, in {WINDOWS} windows of {WINDOW:?}: {seen:?}");
}
