//! `stop-pods` beside a dead agent: every container that a record names is asked to stop, and killed when its grace is
//! over; its monitor, which outlives the agent, writes how it ended.
//!
//! The caller holds the lock on the stop marker, so no agent starts anything meanwhile.

use super::super::spawning::asked_marker;
use crate::error::chain;
use crate::model::id::{BootId, ProcessRef};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::record::{self, Intent};
use crate::runtime::sandbox;
use crate::sys::{clock, poll, spawn};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Beyond the longest grace period (contract 2).
const SLACK: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("cannot read the boot id")]
    Boot(#[source] std::io::Error),
    #[error(transparent)]
    Cgroup(#[from] crate::runtime::cgroup::CgroupError),
    #[error("still running after their time: {}", .left.join(", "))]
    NotStopped { left: Vec<String> },
}

struct Target {
    intent: Intent,
    dir: PathBuf,
    /// Of the monitor, while it lives.
    monitor: Option<OwnedFd>,
    deadline: Instant,
    killed: bool,
}

/// Stops all pods of `run_dir` and takes their sandboxes away. `timeout`: the largest grace period and 5 s if `None`.
pub fn stop_pods(run_dir: &Path, timeout: Option<Duration>) -> Result<(), StopError> {
    let boot = BootId::new(&clock::boot_id().map_err(StopError::Boot)?);
    let hierarchies = Hierarchies::detect()?;
    let begun = Instant::now();
    let mut targets = find(run_dir, &boot, begun);
    let largest = targets.iter().map(|t| t.intent.grace()).max().unwrap_or_default();
    let limit = begun + timeout.unwrap_or(largest + SLACK);
    for target in &targets {
        ask(target);
    }
    while !targets.is_empty() {
        targets.retain(|target| !has_ended(target));
        for target in &mut targets {
            if Instant::now() >= target.deadline && !target.killed {
                target.killed = true;
                kill(target, &hierarchies);
            }
        }
        // A time-out ends the waiting, never a grace period.
        if Instant::now() >= limit {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    take_sandboxes_away(run_dir, &targets);
    if targets.is_empty() {
        return Ok(());
    }
    let name = |t: &Target| format!("{}/{} container {}", t.intent.namespace, t.intent.pod_name, t.intent.container);
    Err(StopError::NotStopped { left: targets.iter().map(name).collect() })
}

fn find(run_dir: &Path, boot: &BootId, begun: Instant) -> Vec<Target> {
    let entries = fs::read_dir(run_dir.join("containers")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| {
        let dir = entry.path();
        let intent = record::read_intent(&dir).ok().flatten().filter(|i| i.boot_id == *boot)?;
        let over = matches!(record::read_exit(&dir), Ok(Some(_)));
        let monitor = intent.monitor.and_then(open);
        let deadline = begun + intent.grace();
        (!over).then_some(Target { intent, dir, monitor, deadline, killed: false })
    });
    targets.collect()
}

fn open(process: ProcessRef) -> Option<OwnedFd> {
    let pidfd = poll::pidfd_open(process.pid.0).ok()?;
    (spawn::start_ticks(process.pid.0).ok()? == process.start_ticks).then_some(pidfd)
}

fn ask(target: &Target) {
    if let Err(error) = fs::write(asked_marker(&target.dir), b"") {
        eprintln!("cannot write {}: {error}", asked_marker(&target.dir).display());
    }
    let init = record::read_started(&target.dir).ok().flatten().map(|started| started.init);
    if let Some(pidfd) = init.and_then(open)
        && let Err(error) = spawn::signal(&pidfd, target.intent.stop_signal)
    {
        eprintln!("container {} is not signalled: {error}", target.intent.id);
    }
}

/// Its record is written, or nobody is left who could write one and its processes are gone.
fn has_ended(target: &Target) -> bool {
    if matches!(record::read_exit(&target.dir), Ok(Some(_))) {
        return true;
    }
    let monitor_lives = target.monitor.is_some() && target.intent.monitor.and_then(open).is_some();
    let init = record::read_started(&target.dir).ok().flatten().map(|started| started.init);
    !monitor_lives && (init.and_then(open).is_none() || target.killed)
}

fn kill(target: &Target, hierarchies: &Hierarchies) {
    if let Err(error) = hierarchies.kill(&target.intent.cgroup_path()) {
        eprintln!("container {}: {}", target.intent.id, chain(&error));
    }
}

/// Pods of which nothing runs any more leave the kernel; what is left over is the next agent's.
fn take_sandboxes_away(run_dir: &Path, left: &[Target]) {
    for entry in fs::read_dir(run_dir.join("pods")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if left.iter().any(|t| t.intent.pod_uid.as_str() == name.to_string_lossy()) {
            continue;
        }
        if let Err(error) = sandbox::remove(&entry.path()) {
            eprintln!("{}", chain(&error));
        }
    }
}
