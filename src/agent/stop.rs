//! Leaving, and the stop marker: what makes pods stop without their files being gone.

use super::run::Agent;
use crate::model::time::{Mono, Now};
use crate::reconcile::event::Event;
use crate::reconcile::state::Sandbox;
use crate::runtime::record;
use crate::runtime::sandbox::{self, SandboxRecord};
use crate::sys::file;
use std::time::Duration;

/// Beyond the longest grace period (contract 2, stop-pods).
const STOP_SLACK: Duration = Duration::from_secs(5);

/// The agent has been told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// With `--stop-pods-on-exit`: when it leaves whatever still runs.
    pub deadline: Mono,
    pub stop_pods: bool,
}

impl Agent {
    /// SIGTERM or SIGINT: at once, or after the pods with `--stop-pods-on-exit`.
    pub(super) fn begin_leaving(&mut self, now: Now) {
        let stop_pods = self.node.config.stop_pods_on_exit && self.leaving.is_none();
        if stop_pods {
            log::info!("leaving once all pods have stopped");
            let marker = self.node.paths.stop_marker();
            if let Err(error) = file::write_atomic(&marker, b"", 0o600) {
                log::error!("cannot write {}: {error}", marker.display());
            }
            self.facts.push(Event::StopMarker(true));
            let grace = self.core.pods().map(|p| p.pod.grace).max().unwrap_or_default();
            self.leaving = Some(Leaving { deadline: now.mono + grace + STOP_SLACK, stop_pods });
        } else {
            log::info!("leaving; pods go on");
            self.leaving = Some(Leaving { deadline: now.mono, stop_pods: false });
        }
        self.notifier.send("STOPPING=1");
    }

    pub(super) fn is_done(&self, now: Now) -> bool {
        match self.leaving {
            None => false,
            Some(Leaving { stop_pods: false, .. }) => true,
            Some(Leaving { deadline, stop_pods: true }) => {
                let stopped = self.core.stop_marker() && self.core.all_stopped();
                if !stopped && deadline <= now.mono {
                    log::error!("leaving though pods still run: their grace periods are over");
                }
                stopped || deadline <= now.mono
            }
        }
    }

    /// The marker may have come, and whatever else was in the run dir may be gone.
    pub(super) fn look_at_run_dir(&mut self, _now: Now) {
        let there = self.node.paths.stop_marker().exists();
        if there != self.core.stop_marker() {
            log::info!("{}", if there { "stop-pods: stopping all pods" } else { "the stop marker is gone" });
            self.facts.push(Event::StopMarker(there));
        }
        if !self.server.is_bound() || !self.ownership.holds_run_dir(&self.node.paths) || !self.records_are_there() {
            self.mend_run_dir();
        }
    }

    /// Stats on a tmpfs, a few for each container and sandbox.
    fn records_are_there(&self) -> bool {
        let mut monitors = self.monitors.iter().map(|(_, monitor)| monitor);
        let mut sandboxes = self.settled_sandboxes().map(|record| self.node.paths.run_pod(&record.uid));
        monitors.all(|m| record::has_intent(&m.dir) && m.exec_files.are_in(&m.dir))
            && sandboxes.all(|dir| sandbox::is_recorded(&dir))
    }

    /// Without those that a worker is making or taking away.
    fn settled_sandboxes(&self) -> impl Iterator<Item = &SandboxRecord> {
        self.sandboxes.values().filter(|record| {
            self.core.pod(&record.uid).is_some_and(|pod| pod.job.is_none() && pod.sandbox == Sandbox::Ready)
        })
    }

    /// Somebody wiped the run dir while pods run (contract 4): what is there of them goes on, and their records come
    /// back as they were.
    fn mend_run_dir(&mut self) {
        log::warn!("{} has been wiped; its socket and records are written again", self.node.paths.run.display());
        if let Err(error) = super::startup::make_run_dir(&self.node.paths) {
            log::error!("{}", crate::error::chain(&error));
            return;
        }
        if let Err(error) = self.ownership.retake_run_dir(&self.node.paths) {
            log::error!("{}", crate::error::chain(&error));
        }
        if !self.server.is_bound()
            && let Err(error) = self.server.rebind()
        {
            log::error!("cannot bind {} again: {error}", self.node.paths.socket().display());
        }
        for (_, monitor) in self.monitors.iter() {
            let mended = std::fs::create_dir_all(&monitor.dir)
                .and_then(|()| crate::runtime::record::write_intent(&monitor.dir, &monitor.intent))
                .and_then(|()| self.mend_started(monitor))
                .and_then(|()| monitor.exec_files.restore(&monitor.dir));
            if let Err(error) = mended {
                log::error!("cannot write the records of {} again: {error}", monitor.intent.id);
            }
        }
        let mut lost = Vec::new();
        for record in self.settled_sandboxes() {
            let dir = self.node.paths.run_pod(&record.uid);
            let whole = sandbox::is_whole(record, &dir, &self.node.boot).unwrap_or(false);
            match sandbox::write_record(&dir, record) {
                Ok(()) if whole => {}
                // What runs in it goes on; the next start gets a new one.
                Ok(()) => lost.push(Event::SandboxLost { uid: record.uid.clone() }),
                Err(error) => log::error!("{}", crate::error::chain(&error)),
            }
        }
        self.facts.extend(lost);
    }

    fn mend_started(&self, monitor: &super::monitors::Monitor) -> std::io::Result<()> {
        let running =
            self.core.pod(monitor.uid()).and_then(|p| p.container(monitor.container())).and_then(|c| c.running());
        match (&monitor.stage, running) {
            (super::monitors::Stage::Running { init }, Some(running)) => crate::runtime::record::write_started(
                &monitor.dir,
                &crate::runtime::record::Started {
                    version: crate::runtime::record::VERSION,
                    boot_id: self.node.boot.clone(),
                    init: *init,
                    started_at: running.started_at,
                    warnings: Vec::new(),
                    user: running.user.clone(),
                },
            ),
            _ => Ok(()),
        }
    }
}
