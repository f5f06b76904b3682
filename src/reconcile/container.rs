//! One container's states and how facts move it between them.
//!
//! Whether the pod may start anything is not known here: `plan` asks. Every method takes a fact that may be stale
//! or repeated and ignores it then.

use super::backoff::{self, Limits, STEP_RETRY};
use super::event::{AdoptedContainer, AdoptedState, BackoffMemo};
use crate::model::id::{ContainerId, ContainerName};
use crate::model::image::ImageFacts;
use crate::model::observed::{
    ExitStatus, ImageProblem, LinuxUser, RunningContainer, StartFailure, StartFailureReason, TerminatedReason,
    Termination,
};
use crate::model::pod::RestartPolicy;
use crate::model::time::{Mono, Now, Wall};

/// kubelet: what a container that vanished is shown with.
const LOST_EXIT_CODE: i32 = 137;
const LOST_MESSAGE: &str = "The container could not be located when the pod was terminated";
/// What a start that failed inside libcontainer is shown with (containerd: `StartError`).
const START_ERROR_EXIT_CODE: i32 = 128;

#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// Wants to run; the next step is to look for its image.
    Idle,
    /// The store is asked. `stale`: images came in since, so a "missing" asks again at once.
    Resolving {
        since: Now,
        stale: bool,
    },
    /// The image is missing.
    ImageWait {
        retry_at: Mono,
    },
    /// The image is at hand; waits for the sandbox and for a start slot.
    Ready {
        image: Box<ImageFacts>,
    },
    /// A start is in flight: a process may already live.
    Starting {
        attempt: u32,
        image: Box<ImageFacts>,
        since: Now,
    },
    /// A start failed before libcontainer.
    StartWait {
        retry_at: Mono,
    },
    Running {
        running: RunningContainer,
        stop: Stop,
    },
    /// Crash loop: not before `until`.
    BackOff {
        until: Mono,
    },
    /// Ended by itself, and its policy does not start it again.
    Done,
    /// Ended because it was told to: runs again when the pod does.
    Interrupted,
}

/// How far stopping a running container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    No,
    Signalled,
    /// Killed; killed again at `again_at` if no exit came.
    Killed {
        again_at: Mono,
    },
}

/// The latest container that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub termination: Termination,
    /// pinlet asked for it: not final, and not a crash.
    pub asked: bool,
}

/// Why the container waits (kubelet: `reason_cache.go`): kept until a container starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub kind: TroubleKind,
    pub since: Mono,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    Image(ImageProblem),
    Start(StartFailure),
}

/// What the pod makes of an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub policy: RestartPolicy,
    /// The pod stops: a start that fails now proves nothing about the container.
    pub stopping: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerState {
    pub name: ContainerName,
    pub run: Run,
    pub last: Option<Ended>,
    /// The one before `last`: shown as `lastState` while `last` is the state.
    pub previous: Option<Termination>,
    pub trouble: Option<Trouble>,
    /// Never used twice, so it may name files.
    pub next_attempt: u32,
    /// Containers created so far.
    pub created: u32,
    pub backoff: Option<BackoffMemo>,
    /// Failures in a row to find the image.
    pub image_tries: u32,
    pub user: Option<LinuxUser>,
    /// Dead containers whose leavings are no longer wanted.
    pub(super) garbage: Vec<ContainerId>,
}

impl ContainerState {
    pub(super) fn new(name: ContainerName) -> ContainerState {
        ContainerState {
            name,
            run: Run::Idle,
            last: None,
            previous: None,
            trouble: None,
            next_attempt: 0,
            created: 0,
            backoff: None,
            image_tries: 0,
            user: None,
            garbage: Vec::new(),
        }
    }

    /// What an earlier agent, or an earlier boot, left of this container.
    pub(super) fn adopt(
        adopted: AdoptedContainer,
        policy: RestartPolicy,
        image: &str,
        limits: Limits,
        now: Now,
    ) -> ContainerState {
        let mut state = ContainerState::new(adopted.name);
        state.next_attempt = adopted.next_attempt;
        state.created = adopted.created;
        state.backoff = adopted.backoff.map(|memo| backoff::capped(memo, limits));
        state.last = adopted.last.map(|termination| Ended { termination, asked: false });
        match adopted.state {
            AdoptedState::None => {}
            AdoptedState::Running(running) => {
                state.user = running.user.clone();
                state.run = Run::Running { running, stop: Stop::No };
            }
            AdoptedState::Terminated(termination) => state.end(termination, false, policy),
            AdoptedState::Interrupted(termination) => {
                state.end(termination, true, policy);
                state.run = Run::Idle;
            }
            AdoptedState::Lost { id, attempt } => {
                let lost = lost_termination(id, attempt, image.to_owned(), String::new(), now.wall, now);
                state.end(lost, false, policy);
            }
        }
        state
    }

    /// `status.containerStatuses[].restartCount`.
    pub fn restart_count(&self) -> u32 {
        self.created.saturating_sub(1)
    }

    /// A process may live.
    pub fn is_live(&self) -> bool {
        matches!(self.run, Run::Running { .. } | Run::Starting { .. })
    }

    pub fn running(&self) -> Option<&RunningContainer> {
        match &self.run {
            Run::Running { running, .. } => Some(running),
            _ => None,
        }
    }

    /// It will not run again while the pod is what it is.
    pub fn is_done(&self) -> bool {
        matches!(self.run, Run::Done)
    }

    /// The latest container that was created, running or dead: what the status shows.
    pub fn latest_id(&self) -> Option<&ContainerId> {
        self.running().map(|r| &r.id).or(self.last.as_ref().map(|e| &e.termination.id))
    }

    pub(super) fn image_found(&mut self, image: Box<ImageFacts>) -> Option<Now> {
        let Run::Resolving { since, .. } = self.run else { return None };
        self.image_tries = 0;
        if matches!(&self.trouble, Some(Trouble { kind: TroubleKind::Image(_), .. })) {
            self.trouble = None;
        }
        self.run = Run::Ready { image };
        Some(since)
    }

    pub(super) fn image_missing(&mut self, problem: ImageProblem, now: Now) {
        let Run::Resolving { stale, .. } = self.run else { return };
        self.trouble = Some(Trouble { kind: TroubleKind::Image(problem), since: now.mono });
        if stale {
            self.run = Run::Idle;
            return;
        }
        self.image_tries = self.image_tries.saturating_add(1);
        self.run = Run::ImageWait { retry_at: now.mono + backoff::image_delay(self.image_tries) };
    }

    pub(super) fn images_changed(&mut self) {
        match &mut self.run {
            Run::Resolving { stale, .. } => *stale = true,
            Run::ImageWait { .. } => self.run = Run::Idle,
            Run::Idle
            | Run::Ready { .. }
            | Run::Starting { .. }
            | Run::StartWait { .. }
            | Run::Running { .. }
            | Run::BackOff { .. }
            | Run::Done
            | Run::Interrupted => {}
        }
    }

    /// Takes the next attempt and goes to `Starting`; a restart after a crash arms the back-off.
    pub(super) fn begin_start(&mut self, image: Box<ImageFacts>, limits: Limits, now: Now) -> u32 {
        let attempt = self.next_attempt;
        self.next_attempt = self.next_attempt.saturating_add(1);
        if self.last.as_ref().is_some_and(|last| !last.asked) {
            self.backoff = Some(backoff::armed(self.backoff, now.mono, limits));
        }
        self.run = Run::Starting { attempt, image, since: now };
        attempt
    }

    pub(super) fn started(&mut self, running: RunningContainer) -> Option<Now> {
        let Run::Starting { attempt, since, .. } = self.run else { return None };
        if attempt != running.attempt {
            return None;
        }
        self.created = self.created.saturating_add(1);
        self.trouble = None;
        self.user = running.user.clone();
        self.run = Run::Running { running, stop: Stop::No };
        Some(since)
    }

    pub(super) fn start_failed(
        &mut self,
        id: ContainerId,
        attempt: u32,
        failure: StartFailure,
        fate: Fate,
        now: Now,
    ) -> Option<Now> {
        let Run::Starting { attempt: expected, image, since } = &self.run else { return None };
        if *expected != attempt {
            return None;
        }
        let (image, since) = (image.clone(), *since);
        let reason = failure.reason;
        let message = failure.message.clone();
        self.trouble = Some(Trouble { kind: TroubleKind::Start(failure), since: now.mono });
        match reason {
            StartFailureReason::CreateContainerConfigError | StartFailureReason::CreateContainerError => {
                self.garbage.push(id);
                self.run = Run::StartWait { retry_at: now.mono + STEP_RETRY };
            }
            StartFailureReason::RunContainerError => {
                self.created = self.created.saturating_add(1);
                let termination = Termination {
                    id,
                    attempt,
                    status: ExitStatus::Code(START_ERROR_EXIT_CODE),
                    reason: TerminatedReason::StartError,
                    message,
                    started_at: Wall::EPOCH,
                    finished_at: now.wall,
                    finished_mono: now.mono,
                    image: image.reference,
                    image_id: image.image_id,
                };
                self.end(termination, fate.stopping, fate.policy);
            }
        }
        Some(since)
    }

    pub(super) fn exited(&mut self, termination: Termination, policy: RestartPolicy) -> bool {
        let asked = match &self.run {
            Run::Running { running, stop } if running.id == termination.id => *stop != Stop::No,
            // Its exit overtook the news of its start.
            Run::Starting { attempt, .. } if *attempt == termination.attempt => {
                self.created = self.created.saturating_add(1);
                self.trouble = None;
                false
            }
            _ => return false,
        };
        self.end(termination, asked, policy);
        true
    }

    pub(super) fn lost(&mut self, id: &ContainerId, attempt: u32, fate: Fate, now: Now) -> bool {
        let (asked, image, image_id, started_at) = match &self.run {
            Run::Running { running, stop } if running.id == *id => {
                (*stop != Stop::No, running.image.clone(), running.image_id.clone(), running.started_at)
            }
            // The monitor died before it told how the start went: the program may have run.
            Run::Starting { attempt: expected, image, since } if *expected == attempt => {
                self.created = self.created.saturating_add(1);
                (fate.stopping, image.reference.clone(), image.image_id.clone(), since.wall)
            }
            _ => return false,
        };
        let lost = lost_termination(id.clone(), attempt, image, image_id, started_at, now);
        self.end(lost, asked, fate.policy);
        true
    }

    fn end(&mut self, termination: Termination, asked: bool, policy: RestartPolicy) {
        let finished = termination.finished_mono;
        let code = termination.status.code();
        if let Some(before) = self.last.replace(Ended { termination, asked }) {
            self.garbage.push(before.termination.id.clone());
            self.previous = Some(before.termination);
        }
        self.backoff = backoff::remembered(self.backoff, finished);
        self.run = match (asked, restarts(policy, code), backoff::delay(self.backoff)) {
            (true, _, _) => Run::Interrupted,
            (false, false, _) => Run::Done,
            (false, true, None) => Run::Idle,
            (false, true, Some(delay)) => Run::BackOff { until: finished + delay },
        };
    }

    /// The pod goes, and its dead containers with it.
    pub(super) fn discard(&mut self) {
        self.garbage.extend(self.last.iter().map(|last| last.termination.id.clone()));
    }

    /// The pod runs again after it was stopped: whatever is not final starts at once.
    pub(super) fn resume(&mut self) {
        match self.run {
            Run::Interrupted | Run::BackOff { .. } | Run::ImageWait { .. } | Run::StartWait { .. } => {
                self.run = Run::Idle;
            }
            // An image found before the pod stopped may be gone since.
            Run::Ready { .. } => self.run = Run::Idle,
            Run::Idle | Run::Resolving { .. } | Run::Starting { .. } | Run::Running { .. } | Run::Done => {}
        }
    }
}

fn restarts(policy: RestartPolicy, exit_code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Nobody saw how it ended.
pub(super) fn lost_termination(
    id: ContainerId,
    attempt: u32,
    image: String,
    image_id: String,
    started_at: Wall,
    now: Now,
) -> Termination {
    Termination {
        id,
        attempt,
        status: ExitStatus::Code(LOST_EXIT_CODE),
        reason: TerminatedReason::ContainerStatusUnknown,
        message: LOST_MESSAGE.to_owned(),
        started_at,
        finished_at: now.wall,
        finished_mono: now.mono,
        image,
        image_id,
    }
}
