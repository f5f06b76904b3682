//! What stays while nothing happens: memory, wake-ups, and bytes written to disk.

use crate::support::node::{Node, Setup};
use crate::support::{host, wait_for};
use crate::workload::Workload;
use crate::{Row, row};
use std::time::Duration;

/// How long an idle node is watched; PINLET_BENCH_IDLE_SECONDS=600 is the long run.
const IDLE_SECONDS: u64 = 60;
const PODS: usize = 20;

pub fn measure(workload: &Workload, rows: &mut Vec<Row>) {
    let node = Setup::default().image(workload.image()).memory_run_dir().start();
    let before = available_kilobytes();
    place(&node, workload, 0..1);
    memory(&node, "1 container", before, rows);
    place(&node, workload, 1..PODS);
    memory(&node, &format!("{PODS} containers"), before, rows);
    idle(&node, rows);
}

fn place(node: &Node, workload: &Workload, numbers: std::ops::Range<usize>) {
    for n in numbers.clone() {
        node.put_pod(&workload.pod(&format!("resident-{n}")));
    }
    for n in numbers {
        node.wait_running(&format!("resident-{n}"));
    }
    // What starting needed is given back a little later.
    std::thread::sleep(Duration::from_secs(6));
}

/// The agent and the monitors: everything of ours that is not a workload.
fn ours(node: &Node) -> Vec<i32> {
    let monitors = host::cgroups(&node.tag).into_iter().filter(|path| path.ends_with("pinlet-monitors"));
    let mut pids: Vec<i32> = monitors.flat_map(|path| host::pids_of(&path)).collect();
    pids.push(node.agent_pid());
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn memory(node: &Node, what: &str, before: i64, rows: &mut Vec<Row>) {
    let pids = ours(node);
    let sum =
        |field: &str| -> i64 { pids.iter().map(|pid| kilobytes(&format!("/proc/{pid}/smaps_rollup"), field)).sum() };
    let fall = before - available_kilobytes();
    let monitors = pids.len() - 1;
    rows.push(row(
        &format!("memory (PSS) of agent and {monitors} monitors, {what}"),
        format!("{:.1} MiB", sum("Pss:") as f64 / 1024.0),
        format!("anonymous {} kB; MemAvailable fell by {fall} kB, workloads and kernel in it", sum("Anonymous:")),
    ));
}

fn idle(node: &Node, rows: &mut Vec<Row>) {
    let seconds =
        std::env::var("PINLET_BENCH_IDLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(IDLE_SECONDS);
    wait_for("a quiet node", Duration::from_secs(60), || {
        let before = wake_ups(node);
        std::thread::sleep(Duration::from_secs(3));
        let after = wake_ups(node);
        if after.0 - before.0 <= 3 && after.1 == before.1 { Ok(()) } else { Err(format!("{before:?} {after:?}")) }
    });
    let (before, written) = (wake_ups(node), written_bytes(node));
    std::thread::sleep(Duration::from_secs(seconds));
    let after = wake_ups(node);
    rows.push(row(
        &format!("wake-ups in {seconds} s, nothing happening"),
        format!("monitors {}, loop {}, workers {}", after.1 - before.1, after.0 - before.0, after.2 - before.2),
        "a rescan each 20 s: one turn of the loop, its looks by workers",
    ));
    rows.push(row(
        &format!("bytes written to disk in {seconds} s, nothing happening"),
        (written_bytes(node) - written).to_string(),
        "",
    ));
}

/// Times that a thread went to sleep by itself: the agent's loop, all monitors, the agent's other threads.
fn wake_ups(node: &Node) -> (i64, i64, i64) {
    let agent = node.agent_pid();
    let (mut in_loop, mut monitors, mut workers) = (0, 0, 0);
    for pid in ours(node) {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let count = kilobytes(&task.path().join("status").display().to_string(), "voluntary_ctxt_switches:");
            let main_thread = task.file_name().to_string_lossy() == pid.to_string();
            match (pid == agent, main_thread) {
                (false, _) => monitors += count,
                (true, true) => in_loop += count,
                (true, false) => workers += count,
            }
        }
    }
    (in_loop, monitors, workers)
}

fn written_bytes(node: &Node) -> i64 {
    ours(node).iter().map(|pid| kilobytes(&format!("/proc/{pid}/io"), "write_bytes:")).sum()
}

fn available_kilobytes() -> i64 {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// The number of a `name: number` line.
fn kilobytes(file: &str, field: &str) -> i64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0)
}
