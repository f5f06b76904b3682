//! What must never happen, checked at the moment when it would. The back-off here is told anew, not the core's.

use super::world::{ProcState, SECOND, World};
use pinlet::model::id::{ContainerId, ContainerName, PodUid};
use pinlet::model::pod::{RestartPolicy, StaticPod};
use pinlet::model::time::Mono;
use pinlet::reconcile::action::Action;
use pinlet::reconcile::event::{AdoptedContainer, AdoptedState, Event};
use pinlet::reconcile::state::Phase;
use std::collections::{BTreeMap, BTreeSet};

/// The clock that the agent goes by.
type Instant = u64;

#[derive(Default)]
pub struct Checks {
    loops: BTreeMap<(PodUid, ContainerName), CrashLoop>,
    attempts: BTreeSet<(PodUid, ContainerName, u32)>,
    /// Pods that this agent was told not to run any longer, until they are removed.
    unwanted: BTreeMap<PodUid, u64>,
    /// Pods that were there when this agent saw the stop marker, until they start again.
    marked: BTreeMap<PodUid, u64>,
    pub starts: u64,
    pub removals: u64,
}

/// One container's crash loop, as the rule has it: at once, then 10, 20, 40, 80, 160, 300 s after the exit, and from
/// the beginning after ten minutes without a restart.
#[derive(Clone, Copy, Debug, Default)]
struct CrashLoop {
    delay: Option<u64>,
    last_restart: Instant,
    /// When the agent took note of the latest exit that nobody had asked for.
    crashed: Option<Instant>,
    /// That exit is final.
    done: bool,
}

impl Checks {
    pub fn rebooted(&mut self) {
        self.loops.clear();
        self.attempts.clear();
    }

    pub fn removed(&mut self, uid: &PodUid) {
        self.loops.retain(|(u, _), _| u != uid);
        self.attempts.retain(|(u, ..)| u != uid);
        self.unwanted.remove(uid);
        self.marked.remove(uid);
        self.removals += 1;
    }

    /// Nothing of this attempt is left, so its number may be used again.
    pub fn container_removed(&mut self, uid: &PodUid, container: &ContainerName, attempt: u32) {
        self.attempts.remove(&(uid.clone(), container.clone(), attempt));
    }

    pub fn agent_started(&mut self) {
        self.unwanted.clear();
        self.marked.clear();
    }

    /// The marker went: everything that waited starts at once.
    pub fn resumed(&mut self) {
        for crash_loop in self.loops.values_mut() {
            crash_loop.crashed = None;
        }
    }

    pub fn unwanted(&mut self, uids: impl Iterator<Item = PodUid>, time: u64) {
        for uid in uids {
            self.unwanted.entry(uid).or_insert(time);
        }
    }

    pub fn marked(&mut self, uids: impl Iterator<Item = PodUid>, time: u64) {
        for uid in uids {
            self.marked.entry(uid).or_insert(time);
        }
    }

    /// A new agent goes by what it was told of the old one's back-off.
    pub fn adopted(&mut self, uid: &PodUid, container: &AdoptedContainer, policy: RestartPolicy, now: Mono) {
        let mut crash_loop = CrashLoop::default();
        if let Some(memo) = container.backoff {
            crash_loop.delay = Some(memo.delay_ms / 1000);
            crash_loop.last_restart = memo.last_update.0;
        }
        match &container.state {
            AdoptedState::Terminated(t) => {
                crash_loop.crashed = Some(t.finished_mono.0);
                crash_loop.done = is_final(policy, t.status.code());
            }
            AdoptedState::Lost { .. } => {
                crash_loop.crashed = Some(now.0);
                crash_loop.done = policy == RestartPolicy::Never;
            }
            AdoptedState::None | AdoptedState::Running(_) | AdoptedState::Interrupted(_) => {}
        }
        self.loops.insert((uid.clone(), container.name.clone()), crash_loop);
    }
}

fn is_final(policy: RestartPolicy, code: i32) -> bool {
    match policy {
        RestartPolicy::Always => false,
        RestartPolicy::OnFailure => code == 0,
        RestartPolicy::Never => true,
    }
}

fn comes_up(phase: Phase) -> bool {
    matches!(phase, Phase::Preparing | Phase::Sandboxing | Phase::Running)
}

impl World {
    pub fn fail(&self, why: &str) -> ! {
        let from = self.trace.len().saturating_sub(150);
        panic!("{}\n{why}", self.trace[from..].join("\n"));
    }

    /// Called with each event before the core takes it in: notes the ends that count.
    pub fn check_event(&mut self, event: &Event) {
        let now = self.now().mono.0;
        let (uid, container, code) = match event {
            Event::Exited { uid, container, termination } => (uid, container, termination.status.code()),
            Event::Lost { uid, container, .. } => (uid, container, 137),
            Event::StartFailed { uid, container, failure, .. } if failure.reason.as_str() == "RunContainerError" => {
                (uid, container, 128)
            }
            _ => return,
        };
        let Some(pod) = self.agent.as_ref().and_then(|a| a.pod(uid)) else { return };
        let Some(state) = pod.container(container) else { return };
        let starting = |attempt: u32| state.is_live() && state.running().is_none() && state.next_attempt == attempt + 1;
        let runs = |id: &ContainerId| state.running().is_some_and(|r| r.id == *id);
        let concerns = match event {
            Event::Exited { termination: t, .. } => runs(&t.id) || starting(t.attempt),
            Event::Lost { id, attempt, .. } => runs(id) || starting(*attempt),
            Event::StartFailed { attempt, .. } => starting(*attempt),
            _ => false,
        };
        if !concerns {
            return;
        }
        let id = match event {
            Event::Exited { termination, .. } => &termination.id,
            Event::Lost { id, .. } | Event::StartFailed { id, .. } => id,
            _ => return,
        };
        let asked = self.procs.get(id).is_some_and(|p| p.signalled.is_some());
        let stopping = state.running().is_none() && !matches!(event, Event::Exited { .. }) && !comes_up(pod.phase);
        let policy = pod.pod.restart_policy;
        let crash_loop = self.checks.loops.entry((uid.clone(), container.clone())).or_default();
        crash_loop.crashed = (!asked && !stopping).then_some(now);
        crash_loop.done = !asked && !stopping && is_final(policy, code);
    }

    pub fn check_action(&mut self, action: &Action) {
        match action {
            Action::Start { uid, container, attempt, .. } => self.check_start(uid, container, *attempt),
            Action::Prepare { .. } | Action::EnsureSandbox { .. } | Action::ResolveImage { .. } => {
                if self.agent_sees_marker() {
                    self.fail("the stop marker is there, and something is being started");
                }
            }
            Action::Signal { uid, .. } => self.check_may_stop(uid),
            Action::Kill { uid, .. } => {
                self.check_may_stop(uid);
                self.check_grace(uid);
            }
            Action::RemoveContainer { id, .. } => self.check_dead(id),
            Action::StopSandbox { uid } | Action::Remove { uid } => self.check_no_process(uid),
            Action::Persist { uid } => self.check_has_dir(uid),
        }
    }

    fn agent_sees_marker(&self) -> bool {
        self.agent.as_ref().is_some_and(|a| a.stop_marker())
    }

    fn check_start(&mut self, uid: &PodUid, container: &ContainerName, attempt: u32) {
        self.checks.starts += 1;
        if self.agent_sees_marker() {
            self.fail("the stop marker is there, and a container is started");
        }
        if !self.dirs.contains_key(uid) || !self.sandboxes.contains(uid) {
            self.fail("a container is started without directories or sandbox");
        }
        self.check_single(uid, container);
        if !self.checks.attempts.insert((uid.clone(), container.clone(), attempt)) {
            self.fail("an attempt is used twice");
        }
        let in_flight = self.procs.values().filter(|p| matches!(p.state, ProcState::Intent)).count();
        let most = self.agent.as_ref().map_or(0, |a| a.settings().max_starts);
        if in_flight >= most {
            self.fail("too many starts are in flight");
        }
        self.check_back_off(uid, container);
        self.checks.marked.remove(uid);
    }

    fn check_back_off(&mut self, uid: &PodUid, container: &ContainerName) {
        let now = self.now().mono.0;
        let crash_loop = self.checks.loops.entry((uid.clone(), container.clone())).or_default();
        let before = *crash_loop;
        let Some(crashed) = crash_loop.crashed.take() else { return };
        if crashed.saturating_sub(crash_loop.last_restart) > 600 * SECOND {
            crash_loop.delay = None;
        }
        let early = crash_loop.delay.is_some_and(|delay| now < crashed + delay * SECOND);
        crash_loop.delay = Some(crash_loop.delay.map_or(10, |d| (2 * d).min(300)));
        crash_loop.last_restart = now;
        if before.done {
            self.fail("a container whose end was final is started");
        }
        if early {
            self.fail(&format!("a container is started within its back-off: {before:?} at {now}"));
        }
    }

    /// At most one process, living or about to, per container.
    pub fn check_single(&self, uid: &PodUid, container: &ContainerName) {
        let of = self.procs.values().filter(|p| p.uid == *uid && p.name == *container);
        let live = of.filter(|p| matches!(p.state, ProcState::Alive)).count();
        if live > 1 {
            self.fail("two processes of one container live");
        }
    }

    /// A new UID of a name has no place before the old one is gone, and neither has other content under a UID.
    pub fn check_place(&self, pod: &StaticPod) {
        let rival = self.dirs.values().find(|d| d.pod.key == pod.key && d.pod.uid != pod.uid);
        if rival.is_some() {
            self.fail("two pods of one name");
        }
        if self.dirs.get(&pod.uid).is_some_and(|d| d.pod.hash != pod.hash) {
            self.fail("other content under a UID whose old pod is still there");
        }
    }

    pub fn check_has_dir(&self, uid: &PodUid) {
        if !self.dirs.contains_key(uid) {
            self.fail("the pod has no directories");
        }
    }

    pub fn check_no_process(&self, uid: &PodUid) {
        if self.procs.values().any(|p| p.uid == *uid && matches!(p.state, ProcState::Alive)) {
            self.fail("something is taken away under a living process");
        }
    }

    pub fn check_dead(&self, id: &ContainerId) {
        if self.procs.get(id).is_some_and(|p| matches!(p.state, ProcState::Alive)) {
            self.fail("the leavings of a living container are removed");
        }
    }

    /// Since when the pod is to stop.
    fn stop_asked(&self, uid: &PodUid) -> Option<u64> {
        let times = [self.checks.unwanted.get(uid), self.checks.marked.get(uid)];
        times.into_iter().flatten().min().copied()
    }

    /// Nothing that should run is ever stopped.
    fn check_may_stop(&self, uid: &PodUid) {
        if self.stop_asked(uid).is_none() {
            self.fail("a pod that should run is stopped");
        }
    }

    /// The grace period counts from the decision, so that a start that was in flight does not lengthen it.
    fn check_grace(&self, uid: &PodUid) {
        let grace = self.dirs.get(uid).map_or(0, |d| d.pod.grace.as_secs());
        if self.stop_asked(uid).is_some_and(|asked| self.time < asked + grace * SECOND) {
            self.fail("a container is killed within its grace period");
        }
    }
}
