//! The monitors that this agent started or adopted: what each was told to run, and how to hear from it.
//!
//! A monitor speaks twice: once over its handshake (the start worked or failed) and once by ending, which its pidfd
//! shows. What happened is always read from the records, which the monitor writes first.

use crate::model::id::{ContainerId, ContainerName, PodUid, ProcessRef};
use crate::model::time::Mono;
use crate::runtime::exec_files::ExecFiles;
use crate::runtime::record::Intent;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// A start takes milliseconds; one that has not reported by then is given up, and whatever there is of it is killed.
/// (kubelet: runtimeRequestTimeout, 2 m)
pub const REPORT_DEADLINE: Duration = Duration::from_secs(120);

/// How far a monitor has come, as far as the agent knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Told to go; no report yet.
    Starting { deadline: Mono },
    /// The container's program runs, as this process.
    Running { init: ProcessRef },
    /// The start failed or was given up: only its end is awaited.
    Ending,
}

#[derive(Debug)]
pub struct Monitor {
    pub intent: Intent,
    /// `<run-dir>/containers/<id>`.
    pub dir: PathBuf,
    /// Of the monitor, not of the container.
    pub pidfd: OwnedFd,
    /// Gone after the report, and never there for an adopted monitor.
    pub handshake: Option<OwnedFd>,
    pub stage: Stage,
    /// Of a container that runs.
    pub exec_files: ExecFiles,
}

impl Monitor {
    pub fn uid(&self) -> &PodUid {
        &self.intent.pod_uid
    }

    pub fn container(&self) -> &ContainerName {
        &self.intent.container
    }
}

/// All monitors, by a slot number that is never used twice in one run of the agent: a late wake-up finds nothing.
#[derive(Debug, Default)]
pub struct MonitorSet {
    slots: BTreeMap<u32, Monitor>,
    next: u32,
}

impl MonitorSet {
    /// Where the next monitor will be.
    pub fn next_slot(&self) -> u32 {
        self.next + 1
    }

    pub fn insert(&mut self, monitor: Monitor) -> u32 {
        self.next = self.next_slot();
        self.slots.insert(self.next, monitor);
        self.next
    }

    pub fn get(&self, slot: u32) -> Option<&Monitor> {
        self.slots.get(&slot)
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Monitor> {
        self.slots.get_mut(&slot)
    }

    pub fn remove(&mut self, slot: u32) -> Option<Monitor> {
        self.slots.remove(&slot)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Monitor)> {
        self.slots.iter().map(|(slot, monitor)| (*slot, monitor))
    }

    pub fn by_id(&self, id: &ContainerId) -> Option<&Monitor> {
        self.slots.values().find(|m| &m.intent.id == id)
    }

    /// The earliest instant at which a start is given up.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.slots
            .values()
            .filter_map(|m| match m.stage {
                Stage::Starting { deadline } => Some(deadline),
                Stage::Running { .. } | Stage::Ending => None,
            })
            .min()
    }

    /// The starts whose time is up.
    pub fn overdue(&self, now: Mono) -> Vec<u32> {
        self.slots
            .iter()
            .filter(|(_, m)| matches!(m.stage, Stage::Starting { deadline } if deadline <= now))
            .map(|(slot, _)| *slot)
            .collect()
    }
}
