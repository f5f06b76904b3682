//! What the loop sees and does, as the events of a kubelet: reasons and messages are its own, for people and tools that
//! know them.
//!
//! It only tells. A fact that is late or repeated changes nothing in the core and is no event either, so that each is
//! held against the state from before it is applied. Some follow from where a fact has brought a container, such as a
//! back-off: the kubelet tells it at each of its syncs, here it is told once for each wait that begins.

use super::run::Agent;
use crate::cluster::events::{Happening, Subject};
use crate::model::id::{ContainerName, PodUid};
use crate::model::observed::{ImageProblem, StartFailureReason};
use crate::model::pod::StaticPod;
use crate::model::time::Now;
use crate::reconcile::action::Action;
use crate::reconcile::container::{ContainerState, Run, TroubleKind};
use crate::reconcile::event::Event;
use crate::reconcile::state::{JobKind, NodeState, Phase, PodState, Sandbox};

/// What was known of an event before it was applied.
pub(super) struct Before {
    told: Vec<Happening>,
    /// The container that may begin to wait by it.
    container: Option<(PodUid, ContainerName)>,
}

impl Agent {
    /// The agent itself has begun.
    pub(super) fn tell_start(&mut self, now: Now) {
        let node = Subject::node(&self.node.name);
        self.events.record(Happening::normal(node, "Starting", "Starting kubelet."), now);
    }

    pub(super) fn tell(&mut self, happenings: Vec<Happening>, now: Now) {
        happenings.into_iter().for_each(|happening| self.events.record(happening, now));
    }
}

pub(super) fn before(event: &Event, core: &NodeState) -> Before {
    let mut before = Before { told: Vec::new(), container: None };
    match event {
        Event::ImageMissing { uid, container, .. } => before.watch(core, uid, container),
        Event::Started { uid, container, running } => {
            before.started(core, uid, container, running.attempt);
        }
        Event::StartFailed { uid, container, attempt, failure, .. } => {
            let Some((pod, _)) = starting(core, uid, container, *attempt) else { return before };
            let subject = || Subject::container(&pod.pod, container);
            if failure.reason == StartFailureReason::RunContainerError {
                before.told.push(Happening::normal(subject(), "Created", "Container created"));
            }
            before.told.push(Happening::warning(subject(), "Failed", format!("Error: {}", failure.message)));
            before.watch(core, uid, container);
        }
        Event::Exited { uid, container, termination } => {
            // Its exit may overtake the news of its start.
            before.started(core, uid, container, termination.attempt);
            before.watch(core, uid, container);
        }
        Event::Lost { uid, container, .. } => before.watch(core, uid, container),
        Event::PrepareFailed { uid, message } => {
            before.of_job(core, uid, JobKind::Prepare, "FailedMount", message.clone());
        }
        Event::SandboxFailed { uid, message } => {
            let message = format!("Failed to create pod sandbox: {message}");
            before.of_job(core, uid, JobKind::EnsureSandbox, "FailedCreatePodSandBox", message);
        }
        Event::SandboxStopFailed { uid, message } => {
            before.of_job(core, uid, JobKind::StopSandbox, "FailedKillPod", format!("error killing pod: {message}"));
        }
        Event::RemoveFailed { uid, message } => {
            before.of_job(core, uid, JobKind::Remove, "FailedKillPod", format!("error killing pod: {message}"));
        }
        Event::SandboxLost { uid } => {
            if let Some(pod) = core.pod(uid).filter(|pod| pod.sandbox == Sandbox::Ready) {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                before.told.push(Happening::normal(Subject::pod(&pod.pod), "SandboxChanged", message));
            }
        }
        Event::Desired(_)
        | Event::Adopted(_)
        | Event::StopMarker(_)
        | Event::NodeAddress(_)
        | Event::Prepared { .. }
        | Event::SandboxReady { .. }
        | Event::SandboxStopped { .. }
        | Event::Removed { .. }
        | Event::ImageFound { .. }
        | Event::ImagesChanged => {}
    }
    before
}

impl Before {
    /// All that happened, now that the event has been applied.
    pub(super) fn and_after(self, core: &NodeState) -> Vec<Happening> {
        let mut told = self.told;
        if let Some((uid, name)) = self.container
            && let Some(pod) = core.pod(&uid).filter(|pod| goes_on(pod))
            && let Some(container) = pod.container(&name)
        {
            told.extend(waits(&pod.pod, container));
        }
        told
    }

    /// The container does not wait yet: if it does afterwards, that has begun with this event.
    fn watch(&mut self, core: &NodeState, uid: &PodUid, container: &ContainerName) {
        let state = core.pod(uid).and_then(|pod| pod.container(container));
        if state.is_some_and(|c| !matches!(c.run, Run::BackOff { .. } | Run::ImageWait { .. })) {
            self.container = Some((uid.clone(), container.clone()));
        }
    }

    fn started(&mut self, core: &NodeState, uid: &PodUid, container: &ContainerName, attempt: u32) {
        if let Some((pod, _)) = starting(core, uid, container, attempt) {
            let subject = Subject::container(&pod.pod, container);
            self.told.push(Happening::normal(subject.clone(), "Created", "Container created"));
            self.told.push(Happening::normal(subject, "Started", "Container started"));
        }
    }

    /// A step of the pod as a whole failed, if it was under way.
    fn of_job(&mut self, core: &NodeState, uid: &PodUid, kind: JobKind, reason: &'static str, message: String) {
        if let Some(pod) = core.pod(uid).filter(|pod| pod.job.is_some_and(|job| job.kind == kind)) {
            self.told.push(Happening::warning(Subject::pod(&pod.pod), reason, message));
        }
    }
}

/// What an action that is about to be carried out tells.
pub(super) fn of_action(action: &Action, core: &NodeState) -> Option<Happening> {
    match action {
        Action::Start { uid, container, .. } => {
            let pod = &core.pod(uid)?.pod;
            let image = image_of(pod, container);
            let message =
                format!("Container image {image:?} already present on machine and can be accessed by the pod");
            Some(Happening::normal(Subject::container(pod, container), "Pulled", message))
        }
        Action::Signal { uid, container, .. } => {
            let subject = Subject::container(&core.pod(uid)?.pod, container);
            Some(Happening::normal(subject, "Killing", format!("Stopping container {container}")))
        }
        Action::Kill { .. }
        | Action::Prepare { .. }
        | Action::EnsureSandbox { .. }
        | Action::ResolveImage { .. }
        | Action::RemoveContainer { .. }
        | Action::Persist { .. }
        | Action::StopSandbox { .. }
        | Action::Remove { .. } => None,
    }
}

/// The container, if it is this start of it that is under way.
fn starting<'a>(
    core: &'a NodeState,
    uid: &PodUid,
    container: &ContainerName,
    attempt: u32,
) -> Option<(&'a PodState, &'a ContainerState)> {
    let pod = core.pod(uid)?;
    let state = pod.container(container)?;
    matches!(state.run, Run::Starting { attempt: expected, .. } if expected == attempt).then_some((pod, state))
}

/// It is not on its way out: a container that ended will start again.
fn goes_on(pod: &PodState) -> bool {
    matches!(pod.phase, Phase::Preparing | Phase::Sandboxing | Phase::Running)
}

/// What is told of a wait that has just begun (kubelet: `doBackOff`, `image_manager.go`).
fn waits(pod: &StaticPod, container: &ContainerState) -> Vec<Happening> {
    let subject = || Subject::container(pod, &container.name);
    let failed = |message: String| Happening::warning(subject(), "Failed", message);
    match (&container.run, container.trouble.as_ref().map(|trouble| &trouble.kind)) {
        (Run::BackOff { .. }, _) => {
            let (name, key, uid) = (&container.name, &pod.key, &pod.uid);
            let message =
                format!("Back-off restarting failed container {name} in pod {}_{}({uid})", key.name, key.namespace);
            vec![Happening::warning(subject(), "BackOff", message)]
        }
        (Run::ImageWait { .. }, Some(TroubleKind::Image(problem))) => {
            let image = image_of(pod, &container.name);
            match problem {
                ImageProblem::ErrImageNeverPull { message } => vec![
                    Happening::warning(subject(), "ErrImageNeverPull", message.clone()),
                    failed("Error: ErrImageNeverPull".to_owned()),
                ],
                ImageProblem::ErrImagePull { message } => vec![
                    failed(format!("Failed to pull image {image:?}: {message}")),
                    failed("Error: ErrImagePull".to_owned()),
                    Happening::normal(subject(), "BackOff", format!("Back-off pulling image {image:?}")),
                    failed("Error: ImagePullBackOff".to_owned()),
                ],
                ImageProblem::InvalidImageName { message } => vec![
                    Happening::warning(subject(), "InspectFailed", message.clone()),
                    failed("Error: InvalidImageName".to_owned()),
                ],
            }
        }
        _ => Vec::new(),
    }
}

/// As the manifest has it.
fn image_of<'a>(pod: &'a StaticPod, container: &ContainerName) -> &'a str {
    pod.container(container).map(|c| c.image.as_str()).unwrap_or_default()
}
