//! A pod to begin with, and a bench that feeds the core and steps through its ordinary answers.

use crate::model::id::{BootId, ContainerId, ContainerName, NodeName, Pid, PodKey, PodUid, ProcessRef};
use crate::model::image::{ImageConfig, ImageFacts};
use crate::model::observed::{ExitStatus, RunningContainer, TerminatedReason, Termination};
use crate::model::pod::{
    Container, DnsPolicy, PullPolicy, QosClass, Resources, RestartPolicy, StaticPod, TerminationMessagePolicy,
};
use crate::model::time::{Mono, Now, Wall};
use crate::reconcile::action::Action;
use crate::reconcile::event::Event;
use crate::reconcile::state::{NodeState, PodState, Settings};
use crate::reconcile::{apply, reconcile, status};
use k8s_openapi::api::core::v1;
use std::sync::Arc;
use std::time::Duration;

pub const SECOND: u64 = 1_000_000_000;

pub fn uid(text: &str) -> PodUid {
    PodUid::new(text).expect("a valid uid")
}

pub fn name(text: &str) -> ContainerName {
    ContainerName::new(text).expect("a valid container name")
}

/// The id of a container's start, as a test can write it down.
pub fn id(container: &str, attempt: u32) -> ContainerId {
    let mut bytes = [0_u8; 32];
    bytes[..container.len()].copy_from_slice(container.as_bytes());
    bytes[31] = u8::try_from(attempt).expect("few attempts");
    ContainerId::from_bytes(bytes)
}

pub fn container(text: &str) -> Container {
    Container {
        name: name(text),
        image: "localhost/busybox:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        resources: Resources::default(),
        mounts: Vec::new(),
        termination_message_path: "/dev/termination-log".to_owned(),
        termination_message_policy: TerminationMessagePolicy::File,
    }
}

/// `web`, with one container `c`, always restarted, 30 s of grace.
pub fn base_pod() -> StaticPod {
    with_containers(&["c"])
}

pub fn with_containers(names: &[&str]) -> StaticPod {
    let mut pod = StaticPod {
        uid: uid("one"),
        key: PodKey { namespace: "default".to_owned(), name: "web-vm".to_owned() },
        manifest_name: "web".to_owned(),
        node_name: NodeName::new("vm").expect("a name"),
        source: "/etc/kubernetes/manifests/web.yaml".into(),
        hash: "one".to_owned(),
        restart_policy: RestartPolicy::Always,
        grace: Duration::from_secs(30),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        hostname: "web-vm".to_owned(),
        host_aliases: Vec::new(),
        dns_policy: DnsPolicy::ClusterFirst,
        qos: QosClass::BestEffort,
        containers: names.iter().map(|n| container(n)).collect(),
        volumes: Vec::new(),
        object: v1::Pod::default(),
    };
    let spec = |c: &Container| v1::Container {
        name: c.name.as_str().to_owned(),
        image: Some(c.image.clone()),
        ..Default::default()
    };
    pod.object.spec = Some(v1::PodSpec { containers: pod.containers.iter().map(spec).collect(), ..Default::default() });
    pod
}

/// The same file with other content.
pub fn edited(pod: &StaticPod, uid_and_hash: &str) -> StaticPod {
    StaticPod { uid: uid(uid_and_hash), hash: uid_and_hash.to_owned(), ..pod.clone() }
}

pub fn image() -> Box<ImageFacts> {
    Box::new(ImageFacts {
        reference: "localhost/busybox:1".to_owned(),
        image_id: "sha256:09d6".to_owned(),
        layers: Vec::new(),
        config: ImageConfig::default(),
    })
}

pub fn running(container: &str, attempt: u32, now: Now) -> RunningContainer {
    RunningContainer {
        id: id(container, attempt),
        attempt,
        init: ProcessRef { pid: Pid(100), start_ticks: 7 },
        started_at: now.wall,
        started_mono: now.mono,
        image: "localhost/busybox:1".to_owned(),
        image_id: "sha256:09d6".to_owned(),
        stop_signal: 15,
        user: None,
    }
}

pub fn termination(container: &str, attempt: u32, code: i32, now: Now) -> Termination {
    Termination {
        id: id(container, attempt),
        attempt,
        status: ExitStatus::Code(code),
        reason: if code == 0 { TerminatedReason::Completed } else { TerminatedReason::Error },
        message: String::new(),
        started_at: now.wall,
        finished_at: now.wall,
        finished_mono: now.mono,
        image: "localhost/busybox:1".to_owned(),
        image_id: "sha256:09d6".to_owned(),
    }
}

/// An action as a test writes it down: `Start c 0`, `Signal c 0 15`.
pub fn brief(action: &Action) -> String {
    let of = |id: &ContainerId| {
        let text = id.as_str();
        let hex = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        let name: String = (0..31).map(|i| hex(2 * i)).take_while(|b| *b != 0).map(char::from).collect();
        format!("{name} {}", hex(62))
    };
    match action {
        Action::Prepare { uid } => format!("Prepare {uid}"),
        Action::EnsureSandbox { uid } => format!("EnsureSandbox {uid}"),
        Action::ResolveImage { container, .. } => format!("ResolveImage {container}"),
        Action::Start { container, attempt, .. } => format!("Start {container} {attempt}"),
        Action::Signal { id, signal, .. } => format!("Signal {} {signal}", of(id)),
        Action::Kill { id, .. } => format!("Kill {}", of(id)),
        Action::RemoveContainer { id, .. } => format!("RemoveContainer {}", of(id)),
        Action::Persist { uid } => format!("Persist {uid}"),
        Action::StopSandbox { uid } => format!("StopSandbox {uid}"),
        Action::Remove { uid } => format!("Remove {uid}"),
    }
}

pub struct Bench {
    pub state: NodeState,
    pub now: Now,
    /// What the latest reconcile asked to be woken for, in seconds from then.
    pub wake_in: Option<Duration>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut settings = Settings {
            max_restart_period: Duration::from_secs(300),
            max_starts: 8,
            max_pods: 110,
            boot: BootId::new("this-boot"),
        };
        change(&mut settings);
        let now = Now { mono: Mono(1000 * SECOND), wall: Wall(1_700_000_000_000_000_000) };
        Bench { state: NodeState::new(settings), now, wake_in: None }
    }

    pub fn pass(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).expect("a short time");
        self.now.mono.0 += nanos;
        self.now.wall.0 += i64::try_from(nanos).expect("a short time");
    }

    pub fn pass_seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    pub fn apply(&mut self, event: Event) {
        apply(&mut self.state, event, self.now);
    }

    /// Reconciles twice: the second time must yield nothing.
    pub fn plan(&mut self) -> Vec<String> {
        let plan = reconcile(&mut self.state, self.now);
        let again = reconcile(&mut self.state, self.now);
        assert_eq!(again.actions, [], "reconciling again without a new fact");
        self.wake_in = again.wake_at.map(|at| at.since(self.now.mono));
        plan.actions.iter().map(brief).collect()
    }

    pub fn after(&mut self, event: Event) -> Vec<String> {
        self.apply(event);
        self.plan()
    }

    pub fn desire(&mut self, pods: &[&StaticPod]) -> Vec<String> {
        let pods = pods.iter().map(|p| Arc::new((*p).clone())).collect();
        self.after(Event::Desired(pods))
    }

    pub fn found(&mut self, pod: &StaticPod, container: &str) -> Vec<String> {
        self.after(Event::ImageFound { uid: pod.uid.clone(), container: name(container), image: image() })
    }

    pub fn started(&mut self, pod: &StaticPod, container: &str, attempt: u32) -> Vec<String> {
        let running = running(container, attempt, self.now);
        self.after(Event::Started { uid: pod.uid.clone(), container: name(container), running })
    }

    pub fn exited(&mut self, pod: &StaticPod, container: &str, attempt: u32, code: i32) -> Vec<String> {
        let termination = termination(container, attempt, code, self.now);
        self.after(Event::Exited { uid: pod.uid.clone(), container: name(container), termination })
    }

    /// Directories and sandbox are made.
    pub fn make_sandbox(&mut self, pod: &StaticPod) {
        self.after(Event::Prepared { uid: pod.uid.clone() });
        let ip = (!pod.host_network).then(|| "10.85.0.2".parse().expect("an address"));
        self.after(Event::SandboxReady { uid: pod.uid.clone(), ip });
    }

    /// Takes a pod from nothing to all its containers running, in their first attempt.
    pub fn run(&mut self, pod: &StaticPod) {
        self.desire(&[pod]);
        self.make_sandbox(pod);
        self.start_all(pod, 0);
    }

    pub fn start_all(&mut self, pod: &StaticPod, attempt: u32) {
        for container in &pod.containers {
            self.found(pod, container.name.as_str());
        }
        for container in &pod.containers {
            self.started(pod, container.name.as_str(), attempt);
        }
    }

    /// A restart of `c`, from the moment when it is due to running.
    pub fn restart(&mut self, pod: &StaticPod, attempt: u32) {
        assert_eq!(self.plan(), ["ResolveImage c"]);
        assert_eq!(self.found(pod, "c"), [format!("Start c {attempt}")]);
        self.started(pod, "c", attempt);
    }

    pub fn pod(&self, pod: &StaticPod) -> &PodState {
        self.state.pod(&pod.uid).expect("a known pod")
    }

    pub fn status(&self, pod: &StaticPod) -> v1::PodStatus {
        status::pod_status(self.pod(pod), &self.state, self.now)
    }

    pub fn container_status(&self, pod: &StaticPod, container: &str) -> v1::ContainerStatus {
        let statuses = self.status(pod).container_statuses.expect("statuses");
        statuses.into_iter().find(|s| s.name == container).expect("a status")
    }

    /// `Running`, `Terminated Error 3`, `Waiting CrashLoopBackOff`.
    pub fn container_state(&self, pod: &StaticPod, container: &str) -> String {
        let state = self.container_status(pod, container).state.expect("a state");
        match (state.running, state.terminated, state.waiting) {
            (Some(_), None, None) => "Running".to_owned(),
            (None, Some(t), None) => format!("Terminated {} {}", t.reason.unwrap_or_default(), t.exit_code),
            (None, None, Some(w)) => format!("Waiting {}", w.reason.unwrap_or_default()),
            other => panic!("not exactly one state: {other:?}"),
        }
    }

    pub fn restarts(&self, pod: &StaticPod) -> i32 {
        self.container_status(pod, "c").restart_count
    }

    pub fn phase(&self, pod: &StaticPod) -> String {
        self.status(pod).phase.expect("a phase")
    }
}
