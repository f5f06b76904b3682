//! All that the agent knows of its pods. The loop owns the one [`NodeState`]; only `apply` and `reconcile` change it,
//! everybody else reads it.

use super::backoff::Limits;
use super::container::{ContainerState, Run};
use super::event::AdoptedPod;
use super::place::Gone;
use super::timeline::{StageName, Timeline};
use crate::model::id::{BootId, ContainerName, PodKey, PodUid};
use crate::model::pod::StaticPod;
use crate::model::time::{Mono, Now, Wall};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A start takes some milliseconds. One that takes longer than this hangs, mostly on a file system: it neither holds
/// back the starts of others nor the durable records of its own pod.
pub(super) const START_HANGS_AFTER: Duration = Duration::from_secs(1);
/// What does not change while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `crashLoopBackOff.maxContainerRestartPeriod`; 300 s if it is not set.
    pub max_restart_period: Duration,
    /// Starts in flight at once: as many as there are cpus. Zero counts as one.
    pub max_starts: usize,
    /// `--max-pods`: further pods wait.
    pub max_pods: usize,
    /// Goes into what is kept durably, so that a later boot knows its clocks apart.
    pub boot: BootId,
}

#[derive(Clone, Debug)]
pub struct NodeState {
    pub(super) settings: Settings,
    pub(super) pods: BTreeMap<PodUid, PodState>,
    /// `None` before the first scan: until then nothing is terminated.
    pub(super) desired: Option<BTreeMap<PodUid, Wanted>>,
    pub(super) recent: VecDeque<Gone>,
    pub(super) stop_marker: bool,
    pub(super) node_address: Option<IpAddr>,
}

/// A pod that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub pod: Arc<StaticPod>,
    pub since: Now,
}

/// A pod that should run and has no place yet: an old UID of its name (or its own UID with other content) is still
/// there, or the node is full.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting<'a> {
    pub wanted: &'a Wanted,
    pub why: WaitingFor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// This UID must be gone first.
    Predecessor(PodUid),
    /// `--max-pods`.
    Room { max_pods: usize },
}

/// One pod from its acceptance to its removal.
#[derive(Clone, Debug)]
pub struct PodState {
    pub pod: Arc<StaticPod>,
    /// First acceptance: `metadata.creationTimestamp` and `kubernetes.io/config.seen`.
    pub created: Wall,
    /// `status.startTime`.
    pub started: Wall,
    pub phase: Phase,
    /// The pod's one action in flight.
    pub job: Option<Job>,
    /// The phase's action failed and will be tried again.
    pub setback: Option<Setback>,
    /// Its directories have been made in this run of the agent: records may be written.
    pub prepared: bool,
    pub sandbox: Sandbox,
    /// The address of the latest sandbox; stays in the status after it is gone.
    pub ip: Option<IpAddr>,
    /// In manifest order.
    pub containers: Vec<ContainerState>,
    pub conditions: Conditions,
    pub timeline: Timeline,
    /// What is kept durably has changed.
    pub(super) unsaved: bool,
}

/// Where a pod is on its way; it never goes back but to start anew after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Directories, volumes.
    Preparing,
    /// Namespaces, network.
    Sandboxing,
    /// Its containers run, start, or wait for their turn.
    Running,
    /// Its containers are told to stop; those that live at `deadline` are killed.
    Stopping { why: StopReason, since: Now, grace: Duration, deadline: Mono },
    /// Its containers are gone, its sandbox goes.
    TakingDown { why: StopReason },
    /// Nothing of it runs, and its directories stay.
    Stopped { why: StopReason },
    /// All of it goes.
    Removing { since: Now, grace: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Its file is gone, or has other content now.
    Deleted,
    /// stop-pods was called.
    Marker,
    /// All its containers ended and none will run again.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub kind: JobKind,
    pub since: Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Prepare,
    EnsureSandbox,
    StopSandbox,
    Remove,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    pub message: String,
    pub since: Now,
    pub retry_at: Mono,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Absent,
    /// Being made, or only half of it is there.
    Partial,
    Ready,
}

/// Conditions that change, with the time of their last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    pub ready_to_start: Flip,
    pub ready: Flip,
    /// Initialized and PodScheduled: true from the start.
    pub initialized: Wall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    pub value: bool,
    pub at: Wall,
}

impl Flip {
    fn set(&mut self, value: bool, now: Now) {
        if self.value != value {
            *self = Flip { value, at: now.wall };
        }
    }
}

impl NodeState {
    pub fn new(settings: Settings) -> NodeState {
        NodeState {
            settings,
            pods: BTreeMap::new(),
            desired: None,
            recent: VecDeque::new(),
            stop_marker: false,
            node_address: None,
        }
    }

    /// By UID. Of one namespace/name there is at most one.
    pub fn pods(&self) -> impl Iterator<Item = &PodState> {
        self.pods.values()
    }

    pub fn pod(&self, uid: &PodUid) -> Option<&PodState> {
        self.pods.get(uid)
    }

    pub fn pod_by_key(&self, key: &PodKey) -> Option<&PodState> {
        self.pods.values().find(|p| p.pod.key == *key)
    }

    pub fn stop_marker(&self) -> bool {
        self.stop_marker
    }

    pub fn node_address(&self) -> Option<IpAddr> {
        self.node_address
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The addresses of all sandboxes that are there or being made: not to be given again.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.pods.values().filter(|p| p.sandbox != Sandbox::Absent).filter_map(|p| p.ip)
    }

    /// Nothing of any pod runs: what stop-pods waits for.
    pub fn all_stopped(&self) -> bool {
        self.pods.values().all(PodState::is_stopped)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::new(self.settings.max_restart_period)
    }
}

impl PodState {
    pub(super) fn accepted(pod: Arc<StaticPod>, since: Now, now: Now) -> PodState {
        let mut timeline = Timeline::default();
        timeline.mark(StageName::Accepted, None, since, Duration::ZERO);
        PodState {
            created: since.wall,
            started: now.wall,
            phase: Phase::Preparing,
            job: None,
            setback: None,
            prepared: false,
            sandbox: Sandbox::Absent,
            ip: None,
            containers: pod.containers.iter().map(|c| ContainerState::new(c.name.clone())).collect(),
            conditions: Conditions {
                ready_to_start: Flip { value: false, at: now.wall },
                ready: Flip { value: false, at: now.wall },
                initialized: now.wall,
            },
            timeline,
            unsaved: true,
            pod,
        }
    }

    /// What an earlier agent left. Containers that nothing is told of are new.
    pub(super) fn adopted(adopted: AdoptedPod, limits: Limits, now: Now) -> PodState {
        let mut state = PodState::accepted(adopted.pod, Now { mono: now.mono, wall: adopted.created }, now);
        state.timeline = Timeline::default();
        state.timeline.mark(StageName::Adopted, None, now, Duration::ZERO);
        state.started = adopted.started.unwrap_or(now.wall);
        let policy = state.pod.restart_policy;
        for found in adopted.containers {
            let image = state.pod.container(&found.name).map(|c| c.image.clone()).unwrap_or_default();
            if let Some(place) = state.containers.iter_mut().find(|c| c.name == found.name) {
                *place = ContainerState::adopt(found, policy, &image, limits, now);
            }
        }
        let finished = state.all_done();
        let runs = state.containers.iter().any(ContainerState::is_live);
        // One that is to run again gets another, and has none until then.
        state.ip = adopted.ip.filter(|_| finished);
        if let Some(sandbox) = adopted.sandbox {
            state.prepared = true;
            state.sandbox = Sandbox::Ready;
            state.ip = sandbox.ip;
        }
        // A finished pod had its directories made, so its record may be written.
        state.prepared |= finished || runs;
        state.phase = match (state.sandbox, finished) {
            (Sandbox::Ready, true) => Phase::TakingDown { why: StopReason::Finished },
            (Sandbox::Absent | Sandbox::Partial, true) => Phase::Stopped { why: StopReason::Finished },
            (Sandbox::Ready, false) => Phase::Running,
            (Sandbox::Absent | Sandbox::Partial, false) if runs => Phase::Running,
            (Sandbox::Absent | Sandbox::Partial, false) => Phase::Preparing,
        };
        state.conditions.initialized = state.started;
        state.conditions.ready_to_start = Flip { value: state.sandbox == Sandbox::Ready, at: state.started };
        let ready_since = state.containers.iter().filter_map(|c| c.running()).map(|r| r.started_at).max();
        let ready = state.all_ready();
        state.conditions.ready = Flip { value: ready, at: ready_since.filter(|_| ready).unwrap_or(now.wall) };
        state
    }

    /// Same UID and same content.
    pub fn is(&self, pod: &StaticPod) -> bool {
        self.pod.uid == pod.uid && self.pod.hash == pod.hash
    }

    pub fn container(&self, name: &ContainerName) -> Option<&ContainerState> {
        self.containers.iter().find(|c| c.name == *name)
    }

    pub(super) fn container_mut(&mut self, name: &ContainerName) -> Option<&mut ContainerState> {
        self.containers.iter_mut().find(|c| c.name == *name)
    }

    /// It is on its way out: `deletionTimestamp` is set, and it stays listed until nothing of it is left.
    pub fn is_terminating(&self) -> bool {
        self.deletion().is_some()
    }

    /// When it was asked to go, and its grace period.
    pub fn deletion(&self) -> Option<(Now, Duration)> {
        match self.phase {
            Phase::Stopping { why: StopReason::Deleted, since, grace, .. } => Some((since, grace)),
            Phase::Removing { since, grace } => Some((since, grace)),
            Phase::Preparing
            | Phase::Sandboxing
            | Phase::Running
            | Phase::Stopping { why: StopReason::Marker | StopReason::Finished, .. }
            | Phase::TakingDown { .. }
            | Phase::Stopped { .. } => None,
        }
    }

    /// No process and no sandbox of it is left, and none is being made.
    pub fn is_stopped(&self) -> bool {
        self.is_quiet() && self.sandbox == Sandbox::Absent
    }

    /// All its containers ended and none will run again.
    pub fn is_finished(&self) -> bool {
        matches!(
            self.phase,
            Phase::TakingDown { why: StopReason::Finished } | Phase::Stopped { why: StopReason::Finished }
        )
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.job.is_none() && !self.containers.iter().any(ContainerState::is_live)
    }

    pub(super) fn all_done(&self) -> bool {
        self.containers.iter().all(ContainerState::is_done)
    }

    pub(super) fn all_ready(&self) -> bool {
        self.containers.iter().all(|c| c.running().is_some())
    }

    /// The pod may look for images and, once it has its sandbox, start containers.
    pub(super) fn may_start(&self) -> bool {
        matches!(self.phase, Phase::Preparing | Phase::Sandboxing | Phase::Running)
    }

    /// Something is on its way to a start: durable writes wait, so that they never delay it.
    pub(super) fn is_hurrying(&self, now: Now) -> bool {
        let young = |since: Now| now.mono.since(since.mono) < START_HANGS_AFTER;
        let on_its_way = |c: &ContainerState| match c.run {
            Run::Idle | Run::Ready { .. } => true,
            Run::Resolving { since, .. } | Run::Starting { since, .. } => young(since),
            Run::ImageWait { .. }
            | Run::StartWait { .. }
            | Run::Running { .. }
            | Run::BackOff { .. }
            | Run::Done
            | Run::Interrupted => false,
        };
        let hurries = match self.job {
            Some(job) => young(job.since),
            None => self.containers.iter().any(on_its_way),
        };
        self.may_start() && self.setback.is_none() && hurries
    }

    /// When the latest of its containers started.
    pub(super) fn last_start(&self) -> Option<Mono> {
        self.containers.iter().filter_map(|c| Some(c.running()?.started_mono)).max()
    }

    /// When the first of its containers started, if all of them run for the first time.
    pub(super) fn first_start(&self) -> Option<Mono> {
        // A pod that stops has more to tell.
        if !self.may_start() {
            return None;
        }
        let first = |c: &ContainerState| c.running().filter(|r| r.attempt == 0).map(|r| r.started_mono);
        self.containers.iter().map(first).min().flatten()
    }

    /// The file is gone, or stop-pods was called. The grace period only ever shrinks.
    pub(super) fn begin_stop(&mut self, why: StopReason, now: Now) {
        let grace = self.pod.grace;
        let deadline = match self.phase {
            Phase::Removing { .. } | Phase::Stopping { why: StopReason::Deleted, .. } => return,
            Phase::Stopping { deadline, .. } => deadline.min(now.mono + grace),
            Phase::Preparing
            | Phase::Sandboxing
            | Phase::Running
            | Phase::TakingDown { .. }
            | Phase::Stopped { .. } => now.mono + grace,
        };
        self.setback = None;
        self.timeline.mark(StageName::Stopping, None, now, Duration::ZERO);
        self.phase = Phase::Stopping { why, since: now, grace, deadline };
    }

    /// Notes the time of changed conditions; called after everything that may change one.
    pub(super) fn settle(&mut self, now: Now) {
        let ready = self.all_ready();
        self.conditions.ready.set(ready, now);
        self.conditions.ready_to_start.set(self.sandbox == Sandbox::Ready, now);
    }
}
