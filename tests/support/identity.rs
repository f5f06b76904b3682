//! What names a running pod from outside: all of it must be the same before and after an agent's death.

use super::view::PodView;
use super::{Node, host};

/// What must be the same before and after an agent's death.
#[derive(Debug, PartialEq)]
pub struct Identity {
    pub pid: i32,
    pub start: Option<u64>,
    pub uid: String,
    pub id: String,
    pub ip: String,
    pub restarts: u64,
    pub created: String,
}

pub fn identity(node: &Node, pod: &PodView) -> Identity {
    let pid = node.init_pid(pod, "c");
    Identity {
        pid,
        start: host::start_ticks(pid),
        uid: pod.uid(),
        id: pod.container_id("c"),
        ip: pod.ip(),
        restarts: pod.restarts("c"),
        created: pod.0["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned(),
    }
}

pub fn monitors(node: &Node) -> Vec<i32> {
    let cgroups = host::cgroups(&node.tag);
    let mut pids: Vec<i32> =
        cgroups.iter().filter(|c| c.ends_with("pinlet-monitors")).flat_map(|c| host::pids_of(c)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

pub const TICKER: &str = "n=0; trap 'exit 0' TERM; while :; do echo tick $n; n=$((n+1)); sleep 0.1; done";

/// The numbers of [`TICKER`] in a log: each exactly one more than the one before.
pub fn assert_no_tick_missing(log: &str) {
    let ticks: Vec<u64> =
        log.lines().filter_map(|l| l.strip_prefix("tick ")).map(|n| n.parse().expect("a number")).collect();
    assert!(ticks.len() > 1 && ticks.iter().enumerate().all(|(n, tick)| n as u64 == *tick), "{ticks:?}");
}
