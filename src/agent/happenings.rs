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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::decode::{self, DecodeRequest, Decoded, FieldValidation};
    use crate::model::id::{BootId, ContainerId, Pid, ProcessRef};
    use crate::model::image::{ImageConfig, ImageFacts};
    use crate::model::observed::{ExitStatus, RunningContainer, StartFailure, TerminatedReason, Termination};
    use crate::model::time::{Mono, Wall};
    use crate::reconcile::state::Settings;
    use crate::reconcile::{apply, reconcile};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    const PULLED: &str = "Pulled: Container image \"x:1\" already present on machine and can be accessed by the pod";
    const STARTED: [&str; 2] = ["Created: Container created", "Started: Container started"];

    /// A core with one pod, `web` with a container `c`, and what it tells of each fact.
    struct Bench {
        core: NodeState,
        pod: Arc<StaticPod>,
        now: Now,
    }

    impl Bench {
        fn new() -> Bench {
            let manifest =
                "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'x:1'}]}";
            let request = DecodeRequest {
                path: PathBuf::from("/m/web.yaml"),
                node_name: "n".to_owned(),
                field_validation: FieldValidation::Strict,
            };
            let decoded = decode::in_process(&request, manifest.as_bytes());
            let Decoded::Accepted { pod, .. } = decoded else { panic!("{decoded:?}") };
            let settings = Settings {
                max_restart_period: Duration::from_secs(300),
                max_starts: 8,
                max_pods: 110,
                boot: BootId::new("this"),
            };
            let now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_700_000_000_000_000_000) };
            let mut bench = Bench { core: NodeState::new(settings), pod: Arc::from(pod), now };
            assert_eq!(bench.tell(Event::Desired(vec![Arc::clone(&bench.pod)])), [] as [String; 0]);
            bench
        }

        /// In its sandbox, its image being looked for.
        fn prepared() -> Bench {
            let mut bench = Bench::new();
            let uid = bench.uid();
            assert_eq!(bench.tell(Event::Prepared { uid: uid.clone() }), [] as [String; 0]);
            assert_eq!(bench.tell(Event::SandboxReady { uid, ip: None }), [] as [String; 0]);
            bench
        }

        fn running() -> Bench {
            let mut bench = Bench::prepared();
            assert_eq!(bench.found(), [PULLED]);
            assert_eq!(bench.started(0), STARTED);
            bench
        }

        fn uid(&self) -> PodUid {
            self.pod.uid.clone()
        }

        fn container(&self) -> ContainerName {
            self.pod.containers[0].name.clone()
        }

        /// As the loop does it.
        fn tell(&mut self, event: Event) -> Vec<String> {
            let before = before(&event, &self.core);
            apply(&mut self.core, event, self.now);
            let mut told = before.and_after(&self.core);
            let plan = reconcile(&mut self.core, self.now);
            told.extend(plan.actions.iter().filter_map(|action| of_action(action, &self.core)));
            told.iter().map(|happening| format!("{}: {}", happening.reason, happening.message)).collect()
        }

        fn found(&mut self) -> Vec<String> {
            let image = ImageFacts {
                reference: "docker.io/library/x:1".to_owned(),
                image_id: String::new(),
                layers: Vec::new(),
                config: ImageConfig::default(),
            };
            self.tell(Event::ImageFound { uid: self.uid(), container: self.container(), image: Box::new(image) })
        }

        fn started(&mut self, attempt: u32) -> Vec<String> {
            let running = RunningContainer {
                id: id(attempt),
                attempt,
                init: ProcessRef { pid: Pid(7), start_ticks: 8 },
                started_at: self.now.wall,
                started_mono: self.now.mono,
                image: String::new(),
                image_id: String::new(),
                stop_signal: 15,
                user: None,
            };
            self.tell(Event::Started { uid: self.uid(), container: self.container(), running })
        }

        fn exited(&mut self, attempt: u32) -> Vec<String> {
            let termination = Termination {
                id: id(attempt),
                attempt,
                status: ExitStatus::Code(3),
                reason: TerminatedReason::Error,
                message: String::new(),
                started_at: self.now.wall,
                finished_at: self.now.wall,
                finished_mono: self.now.mono,
                image: String::new(),
                image_id: String::new(),
            };
            self.tell(Event::Exited { uid: self.uid(), container: self.container(), termination })
        }

        fn failed(&mut self, attempt: u32, reason: StartFailureReason) -> Vec<String> {
            let failure = StartFailure { reason, message: "no".to_owned() };
            let (uid, container) = (self.uid(), self.container());
            self.tell(Event::StartFailed { uid, container, id: id(attempt), attempt, failure })
        }

        fn missing(&mut self, problem: ImageProblem) -> Vec<String> {
            self.tell(Event::ImageMissing { uid: self.uid(), container: self.container(), problem })
        }

        fn back_off(&self) -> String {
            format!("BackOff: Back-off restarting failed container c in pod web-n_default({})", self.pod.uid)
        }
    }

    fn id(attempt: u32) -> ContainerId {
        ContainerId::from_bytes([u8::try_from(attempt).expect("few"); 32])
    }

    #[test]
    fn a_crash_loop_backs_off_from_its_second_end_on_and_stale_facts_tell_nothing() {
        let mut bench = Bench::running();
        assert_eq!(bench.started(0), [] as [String; 0], "a second time");
        assert_eq!(bench.exited(0), [] as [String; 0], "the first restart is at once");
        assert_eq!(bench.exited(0), [] as [String; 0]);
        assert_eq!(bench.found(), [PULLED]);
        assert_eq!(bench.started(7), [] as [String; 0], "of another start");
        let [created, started] = STARTED.map(str::to_owned);
        assert_eq!(bench.exited(1), [created, started, bench.back_off()], "its exit overtook the news of its start");
        assert_eq!(bench.exited(1), [] as [String; 0], "one wait, one event");
        bench.now.mono = bench.now.mono + Duration::from_secs(11);
        assert_eq!(bench.tell(Event::StopMarker(false)), [] as [String; 0]);
        assert_eq!(bench.found(), [PULLED]);
        assert_eq!(bench.started(2), STARTED);
        assert_eq!(bench.exited(2), [bench.back_off()]);
    }

    #[test]
    fn a_start_that_fails_says_how_far_it_came() {
        let mut bench = Bench::prepared();
        bench.found();
        let created = ["Created: Container created", "Failed: Error: no"];
        assert_eq!(bench.failed(0, StartFailureReason::RunContainerError), created);
        assert_eq!(bench.failed(0, StartFailureReason::RunContainerError), [] as [String; 0]);
        bench.found();
        assert_eq!(bench.failed(1, StartFailureReason::CreateContainerError), ["Failed: Error: no"]);
    }

    #[test]
    fn a_missing_image_is_told_once_for_each_look() {
        let never = || ImageProblem::ErrImageNeverPull { message: "m".to_owned() };
        let mut bench = Bench::new();
        assert_eq!(bench.missing(never()), ["ErrImageNeverPull: m", "Failed: Error: ErrImageNeverPull"]);
        assert_eq!(bench.missing(never()), [] as [String; 0], "nobody asked");
        bench.tell(Event::ImagesChanged);
        let wrong = ImageProblem::InvalidImageName { message: "m".to_owned() };
        assert_eq!(bench.missing(wrong), ["InspectFailed: m", "Failed: Error: InvalidImageName"]);
        bench.tell(Event::ImagesChanged);
        let pull = [
            "Failed: Failed to pull image \"x:1\": m",
            "Failed: Error: ErrImagePull",
            "BackOff: Back-off pulling image \"x:1\"",
            "Failed: Error: ImagePullBackOff",
        ];
        assert_eq!(bench.missing(ImageProblem::ErrImagePull { message: "m".to_owned() }), pull);
    }

    #[test]
    fn a_pod_that_goes_tells_each_container_once_and_no_back_off() {
        let mut bench = Bench::running();
        bench.exited(0);
        bench.found();
        bench.started(1);
        assert_eq!(bench.tell(Event::Desired(Vec::new())), ["Killing: Stopping container c"]);
        bench.now.mono = bench.now.mono + Duration::from_secs(60);
        assert_eq!(bench.tell(Event::StopMarker(false)), [] as [String; 0], "it is killed, and has been told");
        assert_eq!(bench.exited(1), [] as [String; 0]);
        let failure = Event::RemoveFailed { uid: bench.uid(), message: "busy".to_owned() };
        assert_eq!(bench.tell(failure.clone()), ["FailedKillPod: error killing pod: busy"]);
        assert_eq!(bench.tell(failure), [] as [String; 0], "no removal is under way");
    }

    #[test]
    fn steps_of_the_pod_that_fail_are_its_own_events() {
        let mut bench = Bench::new();
        let failed = |uid| Event::PrepareFailed { uid, message: "no space".to_owned() };
        assert_eq!(bench.tell(failed(bench.uid())), ["FailedMount: no space"]);
        assert_eq!(bench.tell(failed(bench.uid())), [] as [String; 0]);
        bench.now.mono = bench.now.mono + Duration::from_secs(11);
        bench.tell(Event::StopMarker(false));
        bench.tell(Event::Prepared { uid: bench.uid() });
        let failed = Event::SandboxFailed { uid: bench.uid(), message: "no bridge".to_owned() };
        assert_eq!(bench.tell(failed), ["FailedCreatePodSandBox: Failed to create pod sandbox: no bridge"]);
        let mut bench = Bench::running();
        let changed = ["SandboxChanged: Pod sandbox changed, it will be killed and re-created."];
        assert_eq!(bench.tell(Event::SandboxLost { uid: bench.uid() }), changed);
        assert_eq!(bench.tell(Event::SandboxLost { uid: bench.uid() }), [] as [String; 0]);
    }
}
