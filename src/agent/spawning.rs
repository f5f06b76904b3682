//! The loop's side of monitors: telling one to go, hearing its report, and noticing its end.

use super::exits;
use super::monitors::{Monitor, REPORT_DEADLINE, Stage};
use super::node;
use super::outcome::Outcome;
use super::run::{Agent, Token};
use super::start::PreparedStart;
use super::worker::Lane;
use crate::error::chain;
use crate::model::id::ContainerId;
use crate::model::observed::{RunningContainer, StartFailure, StartFailureReason};
use crate::model::time::Now;
use crate::reconcile::event::Event;
use crate::runtime::exec_files::ExecFiles;
use crate::runtime::record::{self, Intent};
use crate::runtime::spawn::{self, Report, Spawned};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
enum GoError {
    #[error("cannot write the intent record of {id}")]
    Intent { id: ContainerId, source: io::Error },
    #[error("cannot watch the monitor of {id}")]
    Watch { id: ContainerId, source: io::Error },
}

impl Agent {
    /// Lets a monitor begin. The pod may have begun to stop while its start was being prepared: the core waits for an
    /// answer all the same. INVARIANT: the record names the monitor before that is told to go.
    pub(super) fn go(&mut self, start: PreparedStart, now: Now) {
        let PreparedStart { dir, mut intent, monitor } = start;
        intent.monitor = Some(monitor.process);
        let written = record::write_intent(&dir, &intent);
        let named = written.map_err(|source| GoError::Intent { id: intent.id.clone(), source });
        if let Err(error) = named.and_then(|()| self.watch_new(&monitor, &intent)) {
            log::error!("{}/{} container {}: {}", intent.namespace, intent.pod_name, intent.container, chain(&error));
            self.facts.push(start_failed(&intent, StartFailureReason::CreateContainerError, chain(&error)));
            self.workers.submit(Lane::Pod(intent.pod_uid), "dismiss", now.mono, move || {
                monitor.dismiss();
                Outcome::Nothing
            });
            return;
        }
        // A monitor that is gone already is heard of by its pidfd.
        if let Err(error) = spawn::send_go(&monitor.handshake) {
            log::warn!("container {}: its monitor does not listen: {error}", intent.id);
        }
        let Spawned { process: _, pidfd, handshake } = monitor;
        let stage = Stage::Starting { deadline: now.mono + REPORT_DEADLINE };
        let exec_files = ExecFiles::default();
        self.monitors.insert(Monitor { intent, dir, pidfd, handshake: Some(handshake), stage, exec_files });
    }

    /// For the slot that the monitor will be put into.
    fn watch_new(&self, monitor: &Spawned, intent: &Intent) -> Result<(), GoError> {
        let slot = self.monitors.next_slot();
        let ended = self.poller.add(&monitor.pidfd, Token::Ended(slot).pack());
        let watched = ended.and_then(|()| self.poller.add(&monitor.handshake, Token::Handshake(slot).pack()));
        watched.map_err(|source| {
            // The first of the two may be watched; where it is not, there is nothing to be done either.
            let _ = self.poller.remove(&monitor.pidfd);
            GoError::Watch { id: intent.id.clone(), source }
        })
    }

    /// An earlier agent's monitor goes on under this one.
    pub(super) fn adopt_monitor(&mut self, monitor: Monitor) -> io::Result<()> {
        let slot = self.monitors.insert(monitor);
        match self.monitors.get(slot) {
            Some(monitor) => self.poller.add(&monitor.pidfd, Token::Ended(slot).pack()),
            None => Ok(()),
        }
    }

    pub(super) fn hear_monitor(&mut self, slot: u32, _now: Now) {
        let Some(monitor) = self.monitors.get_mut(slot) else { return };
        let Some(handshake) = &monitor.handshake else { return };
        let report = match spawn::read_report(handshake) {
            Ok(None) => return,
            Ok(Some(report)) => report,
            Err(error) => {
                log::warn!("container {}: no report can be read: {error}", monitor.intent.id);
                Report::Gone
            }
        };
        // Removed from the poller before it is closed: a copy lives on in the monitor's children for a moment.
        if let Some(handshake) = monitor.handshake.take()
            && let Err(error) = self.poller.remove(&handshake)
        {
            log::warn!("container {}: {error}", monitor.intent.id);
        }
        let intent = &monitor.intent;
        match report {
            Report::Started { init, started_at, warnings, user } => {
                for warning in warnings {
                    log::warn!("{}/{} container {}: {warning}", intent.namespace, intent.pod_name, intent.container);
                }
                monitor.stage = Stage::Running { init };
                monitor.exec_files = ExecFiles::open(&monitor.dir);
                let running = running_container(&monitor.intent, init, started_at, user);
                self.facts.push(Event::Started {
                    uid: monitor.uid().clone(),
                    container: monitor.container().clone(),
                    running,
                });
            }
            // The exit record says the same, and by then nothing is left of the container.
            Report::Failed { .. } | Report::Gone => monitor.stage = Stage::Ending,
        }
    }

    pub(super) fn monitor_ended(&mut self, slot: u32, now: Now) {
        // A last report may wait beside the end.
        self.hear_monitor(slot, now);
        let Some(monitor) = self.monitors.remove(slot) else { return };
        if let Err(error) = self.poller.remove(&monitor.pidfd) {
            log::warn!("container {}: {error}", monitor.intent.id);
        }
        if let Some(handshake) = &monitor.handshake
            && let Err(error) = self.poller.remove(handshake)
        {
            log::warn!("container {}: {error}", monitor.intent.id);
        }
        // An adopted monitor is nobody's child here and needs no reaping.
        if let Err(error) = crate::sys::spawn::try_wait(&monitor.pidfd)
            && error.raw_os_error() != Some(crate::sys::spawn::NO_CHILD)
        {
            log::warn!("container {}: {error}", monitor.intent.id);
        }
        let Some(state) = self.core.pod(monitor.uid()) else { return };
        let (node, pod) = (Arc::clone(&self.node), Arc::clone(&state.pod));
        let ran = exits::had_run(&monitor);
        let (intent, dir, uid) = (monitor.intent, monitor.dir, pod.uid.clone());
        self.workers.submit(Lane::Pod(uid), "exit", now.mono, move || exits::collect(&node, &pod, &intent, &dir, ran));
    }

    /// No report in time: all of it is killed; its end is then noticed as any other.
    pub(super) fn give_up_start(&mut self, slot: u32) {
        let Some(monitor) = self.monitors.get_mut(slot) else { return };
        log::error!(
            "{}/{} container {}: no word from its monitor for {} s; it is killed",
            monitor.intent.namespace,
            monitor.intent.pod_name,
            monitor.intent.container,
            REPORT_DEADLINE.as_secs()
        );
        monitor.stage = Stage::Ending;
        if let Err(error) = self.node.hierarchies.kill(&monitor.intent.cgroup_path()) {
            log::error!("container {}: {}", monitor.intent.id, chain(&error));
        }
        if let Err(error) = crate::sys::spawn::signal(&monitor.pidfd, crate::sys::spawn::SIGKILL) {
            log::error!("container {}: its monitor cannot be killed: {error}", monitor.intent.id);
        }
    }
}

pub(super) fn running_container(
    intent: &Intent,
    init: crate::model::id::ProcessRef,
    started_at: crate::model::time::Wall,
    user: Option<crate::model::observed::LinuxUser>,
) -> RunningContainer {
    RunningContainer {
        id: intent.id.clone(),
        attempt: intent.attempt,
        init,
        started_at,
        started_mono: node::now().mono,
        image: intent.image.clone(),
        image_id: intent.image_id.clone(),
        stop_signal: intent.stop_signal,
        user,
    }
}

fn start_failed(intent: &Intent, reason: StartFailureReason, message: String) -> Event {
    Event::StartFailed {
        uid: intent.pod_uid.clone(),
        container: intent.container.clone(),
        id: intent.id.clone(),
        attempt: intent.attempt,
        failure: StartFailure { reason, message },
    }
}

/// Where a container says that pinlet asked it to stop: an exit after that is not final (contract 5).
pub(super) fn asked_marker(dir: &std::path::Path) -> PathBuf {
    dir.join("asked")
}
