//! What is kept of a pod durably (`<root-dir>/pods/<uid>/record.json`), and how it is read back together with what
//! the run dir still tells.
//!
//! Pure: the agent reads and writes the file. Fields are only ever added; a reader ignores those it does not know.

use super::container::{ContainerState, Run, lost_termination};
use super::event::{AdoptedContainer, AdoptedState, BackoffMemo};
use super::state::PodState;
use crate::model::id::{BootId, ContainerId, ContainerName};
use crate::model::observed::{LinuxUser, RunningContainer, Termination};
use crate::model::time::{Mono, Now, Wall};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Raised when an older pinlet could misread what this one writes.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DurableMemo {
    pub version: u32,
    /// The boot that wrote it: monotonic times of another boot mean nothing.
    pub boot: BootId,
    /// Counters and final states belong to UID and hash.
    pub hash: String,
    pub created: Wall,
    pub started: Wall,
    /// The address of the latest sandbox, shown of a finished pod when that is long gone.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    pub containers: Vec<ContainerMemo>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerMemo {
    pub name: ContainerName,
    pub next_attempt: u32,
    pub created: u32,
    #[serde(default)]
    pub backoff: Option<BackoffMemo>,
    pub state: MemoState,
    /// The one before, for `lastState`.
    #[serde(default)]
    pub last: Option<Termination>,
    #[serde(default)]
    pub user: Option<LinuxUser>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemoState {
    /// Never started, or nothing is known but the counters.
    None,
    Running(RunningContainer),
    /// It ended by itself.
    Ended(Termination),
    /// It ended because pinlet asked for it.
    Interrupted(Termination),
}

/// What the run dir and `/proc` of this boot tell of one container.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It runs.
    Running(RunningContainer),
    /// Its exit record, and nobody had asked it to stop as far as the run dir tells.
    Exited(Termination),
    /// Its exit record, and pinlet or a shutdown had asked it to stop.
    Interrupted(Termination),
    /// An intent without an exit record and without a living monitor.
    Lost { id: ContainerId, attempt: u32 },
    /// An intent that never became a container, or a start that failed before libcontainer: its attempt is used up.
    NotCreated { attempt: u32 },
}

impl Found {
    fn attempt(&self) -> u32 {
        match self {
            Found::NotCreated { attempt } => *attempt,
            Found::Running(running) => running.attempt,
            Found::Exited(termination) | Found::Interrupted(termination) => termination.attempt,
            Found::Lost { attempt, .. } => *attempt,
        }
    }
}

impl PodState {
    pub fn memo(&self, boot: &BootId) -> DurableMemo {
        DurableMemo {
            version: VERSION,
            boot: boot.clone(),
            hash: self.pod.hash.clone(),
            created: self.created,
            started: self.started,
            ip: self.ip,
            containers: self.containers.iter().map(container_memo).collect(),
        }
    }
}

fn container_memo(container: &ContainerState) -> ContainerMemo {
    let last = container.last.clone();
    let (state, last) = match (&container.run, last) {
        (Run::Running { running, .. }, last) => (MemoState::Running(running.clone()), last.map(|e| e.termination)),
        (_, Some(ended)) if ended.asked => (MemoState::Interrupted(ended.termination), container.previous.clone()),
        (_, Some(ended)) => (MemoState::Ended(ended.termination), container.previous.clone()),
        (_, None) => (MemoState::None, None),
    };
    ContainerMemo {
        name: container.name.clone(),
        next_attempt: container.next_attempt,
        created: container.created,
        backoff: container.backoff,
        state,
        last,
        user: container.user.clone(),
    }
}

/// Joins the durable memory of one container (`None`: there is none, or it is of other content) with what this boot's
/// run dir tells, in any order. The newest attempt is the state, the one before it `last`.
pub fn adopt_container(
    name: &ContainerName,
    memo: Option<(&DurableMemo, &ContainerMemo)>,
    mut found: Vec<Found>,
    boot: &BootId,
    now: Now,
) -> AdoptedContainer {
    let same_boot = memo.is_some_and(|(pod, _)| pod.boot == *boot);
    let kept = memo.map(|(_, container)| container);
    let (known_attempts, known_created) = kept.map_or((0, 0), |k| (k.next_attempt, k.created));
    // Saturating: a damaged record may give any number.
    let used = found.iter().map(|f| f.attempt().saturating_add(1)).max().unwrap_or(0);
    let unseen = |f: &&Found| matches!(f, Found::NotCreated { .. }) && f.attempt() >= known_attempts;
    let not_created = u32::try_from(found.iter().filter(unseen).count()).unwrap_or(0);
    found.retain(|f| !matches!(f, Found::NotCreated { .. }));
    found.sort_by_key(Found::attempt);
    let (remembered, before) = match kept {
        None => (AdoptedState::None, None),
        Some(kept) => (remembered(kept, same_boot, now), kept.last.clone()),
    };
    // What ran when its records were wiped was killed as nobody's: that is no crash, and waits for nothing.
    let wiped = match &remembered {
        AdoptedState::Lost { attempt, .. } => found.iter().all(|f| f.attempt() < *attempt),
        _ => false,
    };
    let (state, last) = newest(found, remembered, before, now);
    let next_attempt = known_attempts.max(used);
    AdoptedContainer {
        name: name.clone(),
        last: last.map(|t| on_this_clock(t, same_boot, now)),
        state,
        next_attempt,
        // Every attempt after the memory was last written made a container, but for those that are known not to.
        created: known_created.saturating_add((next_attempt - known_attempts).saturating_sub(not_created)),
        backoff: kept.and_then(|k| k.backoff).filter(|_| same_boot && !wiped),
    }
}

/// The newest attempt that is found or remembered, and the end before it.
fn newest(
    mut found: Vec<Found>,
    remembered: AdoptedState,
    before: Option<Termination>,
    now: Now,
) -> (AdoptedState, Option<Termination>) {
    let known = attempt_of(&remembered);
    let Some(newest) = found.pop() else { return (remembered, before) };
    let second = found.pop().and_then(termination_of);
    match known {
        Some(known) if known > newest.attempt() => (remembered, before),
        Some(known) if known == newest.attempt() => (joined(newest, &remembered), second.or(before)),
        Some(_) | None => {
            let last = second.or_else(|| state_termination(&remembered, now));
            (fresh(newest), last)
        }
    }
}

/// What the memory alone says.
fn remembered(kept: &ContainerMemo, same_boot: bool, now: Now) -> AdoptedState {
    match &kept.state {
        MemoState::None => AdoptedState::None,
        MemoState::Ended(t) => AdoptedState::Terminated(on_this_clock(t.clone(), same_boot, now)),
        MemoState::Interrupted(t) => AdoptedState::Interrupted(on_this_clock(t.clone(), same_boot, now)),
        MemoState::Running(running) if same_boot => {
            AdoptedState::Lost { id: running.id.clone(), attempt: running.attempt }
        }
        // A shutdown or a power cut ended it.
        MemoState::Running(running) => AdoptedState::Interrupted(ended_unseen(running, now)),
    }
}

fn ended_unseen(running: &RunningContainer, now: Now) -> Termination {
    let (image, image_id) = (running.image.clone(), running.image_id.clone());
    lost_termination(running.id.clone(), running.attempt, image, image_id, running.started_at, now)
}

/// The same attempt, in the memory and in the run dir: only the memory knows that pinlet had asked.
fn joined(found: Found, remembered: &AdoptedState) -> AdoptedState {
    match (found, remembered) {
        (Found::Exited(t), AdoptedState::Interrupted(_)) => AdoptedState::Interrupted(t),
        (Found::Lost { .. }, AdoptedState::Interrupted(t)) => AdoptedState::Interrupted(t.clone()),
        (Found::Lost { .. }, AdoptedState::Terminated(t)) => AdoptedState::Terminated(t.clone()),
        (found, _) => fresh(found),
    }
}

fn fresh(found: Found) -> AdoptedState {
    match found {
        Found::Running(running) => AdoptedState::Running(running),
        Found::Exited(t) => AdoptedState::Terminated(t),
        Found::Interrupted(t) => AdoptedState::Interrupted(t),
        Found::Lost { id, attempt } => AdoptedState::Lost { id, attempt },
        Found::NotCreated { .. } => AdoptedState::None,
    }
}

fn attempt_of(state: &AdoptedState) -> Option<u32> {
    match state {
        AdoptedState::None => None,
        AdoptedState::Running(running) => Some(running.attempt),
        AdoptedState::Terminated(t) | AdoptedState::Interrupted(t) => Some(t.attempt),
        AdoptedState::Lost { attempt, .. } => Some(*attempt),
    }
}

fn termination_of(found: Found) -> Option<Termination> {
    match found {
        Found::Exited(t) | Found::Interrupted(t) => Some(t),
        Found::Running(_) | Found::Lost { .. } | Found::NotCreated { .. } => None,
    }
}

fn state_termination(state: &AdoptedState, now: Now) -> Option<Termination> {
    match state {
        AdoptedState::Terminated(t) | AdoptedState::Interrupted(t) => Some(t.clone()),
        AdoptedState::Running(running) => Some(ended_unseen(running, now)),
        AdoptedState::None | AdoptedState::Lost { .. } => None,
    }
}

/// Monotonic times of another boot are replaced by the present.
fn on_this_clock(mut termination: Termination, same_boot: bool, now: Now) -> Termination {
    if !same_boot || termination.finished_mono > now.mono {
        termination.finished_mono = Mono(now.mono.0);
    }
    termination
}
