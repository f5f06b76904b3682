//! Decides: from the state as it is to the actions that are due and the time of the next decision.
//!
//! An item is marked in flight when its action is emitted, so that reconciling again emits nothing.

use super::action::{Action, Plan};
use super::backoff::{Limits, STEP_RETRY};
use super::container::{ContainerState, Run, Stop};
use super::state::{Job, JobKind, NodeState, Phase, PodState, START_HANGS_AFTER, Sandbox, StopReason};
use super::timeline::StageName;
use crate::model::id::PodUid;
use crate::model::time::{Mono, Now};
use std::time::Duration;

/// Actions of one turn; the rest comes in the next, which is due at once. Keeps a turn of a full node short, so that
/// the loop answers queries and the watchdog between.
pub const MAX_ACTIONS: usize = 128;
/// Until an exit is seen, a container is killed again this often.
const KILL_RETRY: Duration = STEP_RETRY;
/// The disk is left to starts while they follow each other this closely, as at boot.
const START_QUIET: Duration = Duration::from_millis(200);
/// But no longer than this.
const KEEP_WITHIN: Duration = Duration::from_secs(2);

pub fn reconcile(state: &mut NodeState, now: Now) -> Plan {
    let mut turn = Turn {
        now,
        limits: state.limits(),
        marker: state.stop_marker,
        slots: Slots::new(state, now),
        quiet_at: state.pods.values().filter_map(PodState::last_start).max().map(|at| at + START_QUIET),
        actions: Vec::new(),
        wake_at: None,
    };
    let crowded = state.crowded();
    for (uid, pod) in &mut state.pods {
        advance(pod, turn.marker, now);
        if !(crowded.contains(uid) && pod.may_start()) {
            act(pod, &mut turn);
        }
        pod.settle(now);
    }
    state.pods.values_mut().for_each(|pod| persist(pod, &mut turn));
    Plan { actions: turn.actions, wake_at: turn.wake_at }
}

/// What one turn has to give, and what it has given so far.
struct Turn {
    now: Now,
    limits: Limits,
    marker: bool,
    slots: Slots,
    /// When the starts so far are a while ago.
    quiet_at: Option<Mono>,
    actions: Vec<Action>,
    wake_at: Option<Mono>,
}

/// How many more starts may be in flight, and when a start that hangs gives its place back.
struct Slots {
    free: usize,
    next_free_at: Option<Mono>,
}

impl Slots {
    fn new(state: &NodeState, now: Now) -> Slots {
        let held_until = |c: &ContainerState| match c.run {
            Run::Starting { since, .. } => Some(since.mono + START_HANGS_AFTER).filter(|at| *at > now.mono),
            _ => None,
        };
        let held: Vec<Mono> = state.pods.values().flat_map(|p| &p.containers).filter_map(held_until).collect();
        Slots {
            free: state.settings.max_starts.max(1).saturating_sub(held.len()),
            next_free_at: held.into_iter().min(),
        }
    }
}

impl Turn {
    /// Whether one more start may be in flight; if not, the next turn is due when a place may have become free.
    fn has_slot(&mut self) -> bool {
        if self.slots.free == 0 {
            self.wake(self.slots.next_free_at.unwrap_or(self.now.mono + START_HANGS_AFTER));
        }
        self.slots.free > 0
    }

    fn wake(&mut self, at: Mono) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }

    /// Whether `at` has come; if not, the next turn is due then.
    fn is_due(&mut self, at: Mono) -> bool {
        let due = at <= self.now.mono;
        if !due {
            self.wake(at);
        }
        due
    }

    /// Whether one more action may be emitted in this turn.
    fn has_room(&mut self) -> bool {
        let room = self.actions.len() < MAX_ACTIONS;
        if !room {
            self.wake(self.now.mono);
        }
        room
    }
}

/// Moves the pod to the phase that the facts call for; emits nothing.
fn advance(pod: &mut PodState, marker: bool, now: Now) {
    // Each step goes forward and the way around is four phases long.
    for _ in 0..8 {
        let next = match pod.phase {
            Phase::Preparing | Phase::Sandboxing | Phase::Running if marker => {
                pod.begin_stop(StopReason::Marker, now);
                continue;
            }
            Phase::Running if pod.all_done() => {
                pod.timeline.mark(StageName::Finished, None, now, Duration::ZERO);
                Phase::TakingDown { why: StopReason::Finished }
            }
            // Adopted without a sandbox: what runs goes on, what starts needs one.
            Phase::Running if pod.sandbox != Sandbox::Ready && wants_sandbox(pod) => Phase::Preparing,
            Phase::Stopping { why, since, grace, .. } if pod.is_quiet() => match why {
                StopReason::Deleted => {
                    pod.containers.iter_mut().for_each(ContainerState::discard);
                    Phase::Removing { since, grace }
                }
                StopReason::Marker | StopReason::Finished => Phase::TakingDown { why },
            },
            Phase::TakingDown { why } if pod.sandbox == Sandbox::Absent && pod.job.is_none() => {
                pod.timeline.mark(StageName::Stopped, None, now, Duration::ZERO);
                let why = if pod.all_done() { StopReason::Finished } else { why };
                Phase::Stopped { why }
            }
            Phase::Stopped { why: StopReason::Marker } if !marker => {
                pod.containers.iter_mut().for_each(ContainerState::resume);
                Phase::Preparing
            }
            Phase::Preparing
            | Phase::Sandboxing
            | Phase::Running
            | Phase::Stopping { .. }
            | Phase::TakingDown { .. }
            | Phase::Stopped { .. }
            | Phase::Removing { .. } => return,
        };
        pod.setback = None;
        pod.phase = next;
    }
}

/// Some container will start, now or after a wait.
fn wants_sandbox(pod: &PodState) -> bool {
    let rests = |c: &ContainerState| c.is_live() || matches!(c.run, Run::Done | Run::Interrupted);
    !pod.containers.iter().all(rests)
}

/// Emits what is due for one pod.
fn act(pod: &mut PodState, turn: &mut Turn) {
    match pod.phase {
        Phase::Preparing => {
            begin_job(pod, JobKind::Prepare, turn);
            look_and_start(pod, turn);
        }
        Phase::Sandboxing => {
            if begin_job(pod, JobKind::EnsureSandbox, turn) {
                pod.sandbox = Sandbox::Partial;
            }
            look_and_start(pod, turn);
        }
        Phase::Running => look_and_start(pod, turn),
        Phase::Stopping { deadline, .. } => {
            let PodState { pod: spec, containers, .. } = pod;
            for container in containers {
                stop_container(&spec.uid, container, deadline, turn);
            }
        }
        Phase::TakingDown { .. } => {
            begin_job(pod, JobKind::StopSandbox, turn);
        }
        Phase::Stopped { .. } | Phase::Removing { .. } => {}
    }
    collect_garbage(pod, turn);
    if matches!(pod.phase, Phase::Removing { .. }) {
        begin_job(pod, JobKind::Remove, turn);
    }
}

/// Durable records come last, and not while the pod is on its way to a start. Of a first start there is little to keep:
/// the record from before it says nearly the same, so that it waits for other pods' starts too.
fn persist(pod: &mut PodState, turn: &mut Turn) {
    if !pod.unsaved || !pod.prepared || pod.is_terminating() || pod.is_hurrying(turn.now) {
        return;
    }
    let due_at = match (pod.first_start(), turn.quiet_at) {
        (Some(at), Some(quiet_at)) => quiet_at.min(at + KEEP_WITHIN),
        (Some(_) | None, _) => turn.now.mono,
    };
    if turn.is_due(due_at) && turn.has_room() {
        pod.unsaved = false;
        turn.actions.push(Action::Persist { uid: pod.pod.uid.clone() });
    }
}

/// Emits the phase's action unless one is in flight or its retry is not due.
fn begin_job(pod: &mut PodState, kind: JobKind, turn: &mut Turn) -> bool {
    if pod.job.is_some() {
        return false;
    }
    if let Some(setback) = &pod.setback
        && !turn.is_due(setback.retry_at)
    {
        return false;
    }
    if !turn.has_room() {
        return false;
    }
    let uid = pod.pod.uid.clone();
    turn.actions.push(match kind {
        JobKind::Prepare => Action::Prepare { uid },
        JobKind::EnsureSandbox => Action::EnsureSandbox { uid },
        JobKind::StopSandbox => Action::StopSandbox { uid },
        JobKind::Remove => Action::Remove { uid },
    });
    pod.job = Some(Job { kind, since: turn.now });
    true
}

/// Images are looked for while the pod is still being prepared, so that nothing waits for them later.
fn look_and_start(pod: &mut PodState, turn: &mut Turn) {
    let PodState { pod: spec, containers, phase, sandbox, unsaved, .. } = pod;
    let may_start = *phase == Phase::Running && *sandbox == Sandbox::Ready;
    for container in containers {
        if let Run::ImageWait { retry_at: at } | Run::StartWait { retry_at: at } | Run::BackOff { until: at } =
            container.run
            && turn.is_due(at)
        {
            container.run = Run::Idle;
        }
        if container.run == Run::Idle && turn.has_room() {
            let (uid, name) = (spec.uid.clone(), container.name.clone());
            turn.actions.push(Action::ResolveImage { uid, container: name });
            container.run = Run::Resolving { since: turn.now, stale: false };
        }
        if let Run::Ready { image } = &container.run
            && may_start
            && turn.has_slot()
            && turn.has_room()
        {
            turn.slots.free -= 1;
            let image = image.clone();
            let attempt = container.begin_start(image.clone(), turn.limits, turn.now);
            *unsaved = true;
            let (uid, name) = (spec.uid.clone(), container.name.clone());
            turn.actions.push(Action::Start { uid, container: name, attempt, image });
        }
    }
}

/// Asks once, kills at the deadline, and goes on killing until the exit is seen.
fn stop_container(uid: &PodUid, container: &mut ContainerState, deadline: Mono, turn: &mut Turn) {
    let Run::Running { running, stop } = &mut container.run else { return };
    let uid = uid.clone();
    let (name, id) = (container.name.clone(), running.id.clone());
    let kill_at = match *stop {
        Stop::No | Stop::Signalled => deadline,
        Stop::Killed { again_at } => again_at,
    };
    if turn.is_due(kill_at) {
        if turn.has_room() {
            *stop = Stop::Killed { again_at: turn.now.mono + KILL_RETRY };
            turn.wake(turn.now.mono + KILL_RETRY);
            turn.actions.push(Action::Kill { uid, container: name, id });
        }
    } else if *stop == Stop::No && turn.has_room() {
        *stop = Stop::Signalled;
        turn.actions.push(Action::Signal { uid, container: name, id, signal: running.stop_signal });
    }
}

/// Of the dead containers of a name only the latest is kept (kubelet: container garbage collection).
fn collect_garbage(pod: &mut PodState, turn: &mut Turn) {
    let PodState { pod: spec, containers, .. } = pod;
    for container in containers {
        while !container.garbage.is_empty() && turn.has_room() {
            let id = container.garbage.remove(0);
            let (uid, name) = (spec.uid.clone(), container.name.clone());
            turn.actions.push(Action::RemoveContainer { uid, container: name, id });
        }
    }
}
