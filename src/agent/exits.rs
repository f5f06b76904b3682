//! A monitor has ended: what became of its container, from the records and, for the message, from the disk.

use super::adopt::CLEAR_PATIENCE;
use super::monitors::Monitor;
use super::node::{Node, now};
use super::outcome::Outcome;
use crate::model::observed::{ExitStatus, StartFailure, StartFailureReason, TerminatedReason, Termination};
use crate::model::pod::StaticPod;
use crate::reconcile::event::Event;
use crate::runtime::record::{self, ExitRecord, FailedStage, Intent};
use crate::runtime::termination;
use std::path::Path;
use std::sync::Arc;

/// Worker: tells how a container ended. Without a record nobody knows; then all that is left of it is killed first.
pub fn collect(node: &Node, pod: &Arc<StaticPod>, intent: &Intent, dir: &Path, ran: bool) -> Outcome {
    match record::read_exit(dir) {
        Ok(Some(exit)) => Outcome::Facts(vec![told(node, pod, intent, &exit)]),
        Ok(None) => Outcome::Facts(vec![untold(node, intent, ran)]),
        Err(error) => {
            log::error!("{} container {}: {}", pod.key, intent.container, crate::error::chain(&error));
            Outcome::Facts(vec![untold(node, intent, ran)])
        }
    }
}

fn told(node: &Node, pod: &StaticPod, intent: &Intent, exit: &ExitRecord) -> Event {
    if let Some(failure) = &exit.failure {
        return Event::StartFailed {
            uid: intent.pod_uid.clone(),
            container: intent.container.clone(),
            id: intent.id.clone(),
            attempt: intent.attempt,
            failure: StartFailure { reason: reason_of(failure.stage), message: failure.message.clone() },
        };
    }
    let message = message(node, pod, intent, exit.status);
    Event::Exited {
        uid: intent.pod_uid.clone(),
        container: intent.container.clone(),
        termination: termination_of(intent, exit, message),
    }
}

/// The record as the core keeps it.
pub fn termination_of(intent: &Intent, exit: &ExitRecord, message: String) -> Termination {
    let reason = match exit.status {
        _ if exit.oom_killed => TerminatedReason::OomKilled,
        ExitStatus::Code(0) => TerminatedReason::Completed,
        ExitStatus::Code(_) | ExitStatus::Signal(_) => TerminatedReason::Error,
    };
    Termination {
        id: intent.id.clone(),
        attempt: intent.attempt,
        status: exit.status,
        reason,
        message,
        started_at: exit.started_at,
        finished_at: exit.finished_at,
        // A record of an earlier pinlet does not say.
        finished_mono: exit.finished_mono.unwrap_or_else(|| now().mono),
        image: intent.image.clone(),
        image_id: intent.image_id.clone(),
    }
}

/// The termination message of a container that has ended; reads the disk.
pub fn message(node: &Node, pod: &StaticPod, intent: &Intent, status: ExitStatus) -> String {
    let Some(container) = pod.container(&intent.container) else { return String::new() };
    let file = node.pod_paths(&pod.uid).termination_message(&container.name, &intent.id);
    termination::message(container, &file, &intent.log, status, pod.containers.len())
}

/// The monitor ended without a word: whatever lives in the container's cgroup is killed before anything is restarted.
fn untold(node: &Node, intent: &Intent, ran: bool) -> Event {
    let cgroup = intent.cgroup_path();
    if let Err(error) = node.hierarchies.clear(&cgroup, CLEAR_PATIENCE) {
        log::warn!("{}: {}", cgroup.display(), crate::error::chain(&error));
    }
    let (uid, container, id) = (intent.pod_uid.clone(), intent.container.clone(), intent.id.clone());
    if ran {
        return Event::Lost { uid, container, id, attempt: intent.attempt };
    }
    let failure = StartFailure {
        reason: StartFailureReason::CreateContainerError,
        message: "the container's monitor ended before the container ran".to_owned(),
    };
    Event::StartFailed { uid, container, id, attempt: intent.attempt, failure }
}

fn reason_of(stage: FailedStage) -> StartFailureReason {
    match stage {
        FailedStage::Config => StartFailureReason::CreateContainerConfigError,
        FailedStage::Create => StartFailureReason::CreateContainerError,
        FailedStage::Run => StartFailureReason::RunContainerError,
    }
}

/// Whether the container's program had begun to run, as far as the agent was told.
pub fn had_run(monitor: &Monitor) -> bool {
    match monitor.stage {
        super::monitors::Stage::Running { .. } => true,
        super::monitors::Stage::Starting { .. } | super::monitors::Stage::Ending => {
            // The report may have been lost with the monitor; its record was written first.
            matches!(record::read_started(&monitor.dir), Ok(Some(_)))
        }
    }
}
