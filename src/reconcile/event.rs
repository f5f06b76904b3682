//! Facts that the loop folds into the state, as one closed enum.
//!
//! An event says what was seen, never what to do. Events are level-like: a lost one is made good by the next rescan
//! or adoption, and one that speaks of a pod or container that is no longer known is ignored.

use crate::model::id::{ContainerId, ContainerName, PodUid};
use crate::model::image::ImageFacts;
use crate::model::observed::{ImageProblem, RunningContainer, StartFailure, Termination};
use crate::model::pod::StaticPod;
use crate::model::time::{Mono, Wall};
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The whole set of pods that should run, after a scan. A known pod that is absent is to be terminated.
    Desired(Vec<Arc<StaticPod>>),
    /// Something of an earlier run of the agent, found at start, before the first `Desired`.
    Adopted(Box<AdoptedPod>),
    /// Whether `<run-dir>/stopped` is there: while it is, every pod is stopped and nothing is started.
    StopMarker(bool),
    /// The node's address, which is the pod IP of hostNetwork pods.
    NodeAddress(Option<IpAddr>),
    /// The pod's directories, kept manifest, volumes, hosts and resolv.conf are there.
    Prepared {
        uid: PodUid,
    },
    PrepareFailed {
        uid: PodUid,
        message: String,
    },
    /// Namespaces, shared memory and network are there; `ip` is `None` for hostNetwork.
    SandboxReady {
        uid: PodUid,
        ip: Option<IpAddr>,
    },
    SandboxFailed {
        uid: PodUid,
        message: String,
    },
    /// Pins, mounts or link of a sandbox are gone though nobody took them away (the run dir was wiped). What runs goes
    /// on; the next start gets a new one.
    SandboxLost {
        uid: PodUid,
    },
    ImageFound {
        uid: PodUid,
        container: ContainerName,
        image: Box<ImageFacts>,
    },
    ImageMissing {
        uid: PodUid,
        container: ContainerName,
        problem: ImageProblem,
    },
    /// The store gained images: whoever waits for one asks again at once.
    ImagesChanged,
    Started {
        uid: PodUid,
        container: ContainerName,
        running: RunningContainer,
    },
    /// `id` and `attempt` are those that the failed start used.
    StartFailed {
        uid: PodUid,
        container: ContainerName,
        id: ContainerId,
        attempt: u32,
        failure: StartFailure,
    },
    Exited {
        uid: PodUid,
        container: ContainerName,
        termination: Termination,
    },
    /// The monitor is gone and left no exit record; the container's cgroup has been killed and emptied. Also the answer
    /// to a `Start` whose monitor died before it told how the start went.
    Lost {
        uid: PodUid,
        container: ContainerName,
        id: ContainerId,
        attempt: u32,
    },
    /// Sandbox and its network are gone; directories and logs are still there (finished pod, stop-pods).
    SandboxStopped {
        uid: PodUid,
    },
    SandboxStopFailed {
        uid: PodUid,
        message: String,
    },
    /// Nothing of the pod is left: processes, cgroup, mounts, network, directories. No event of its containers comes
    /// after it: the next pod of this UID may start with the same attempt numbers.
    Removed {
        uid: PodUid,
    },
    RemoveFailed {
        uid: PodUid,
        message: String,
    },
}

/// What the records and `/proc` tell of a pod that an earlier agent ran.
#[derive(Clone, Debug, PartialEq)]
pub struct AdoptedPod {
    pub pod: Arc<StaticPod>,
    /// First acceptance, from the durable record.
    pub created: Wall,
    /// `status.startTime`.
    pub started: Option<Wall>,
    /// The address that it had last, from the durable record.
    pub ip: Option<IpAddr>,
    /// A sandbox of this boot that is whole: pins, mounts, link.
    pub sandbox: Option<AdoptedSandbox>,
    pub containers: Vec<AdoptedContainer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedSandbox {
    pub ip: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdoptedContainer {
    pub name: ContainerName,
    pub state: AdoptedState,
    /// The one before, for `lastState`.
    pub last: Option<Termination>,
    /// Durable counter: starts tried so far, across boots; names the next log file and writable layer.
    pub next_attempt: u32,
    /// Durable counter: containers created so far, across boots; `restartCount` is one less. A start that failed
    /// before libcontainer used up an attempt, but created no container.
    pub created: u32,
    /// Crash-loop back-off as it stood: the delay that the next restart waits, and when it was last used.
    pub backoff: Option<BackoffMemo>,
}

impl AdoptedContainer {
    /// Whether what the container with this id left is needed or will be taken away: it is the latest or the one before.
    pub fn names(&self, id: &ContainerId) -> bool {
        let latest = match &self.state {
            AdoptedState::None => None,
            AdoptedState::Running(running) => Some(&running.id),
            AdoptedState::Terminated(termination) | AdoptedState::Interrupted(termination) => Some(&termination.id),
            AdoptedState::Lost { id, .. } => Some(id),
        };
        let before = self.last.as_ref().map(|termination| &termination.id);
        latest == Some(id) || before == Some(id)
    }
}

/// The memory of one container's crash-loop back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BackoffMemo {
    pub delay_ms: u64,
    pub last_update: Mono,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AdoptedState {
    /// Never started, or nothing is known but the counter.
    None,
    Running(RunningContainer),
    /// It ended by itself: final for `Never`, and for `OnFailure` with exit code 0.
    Terminated(Termination),
    /// It ended because pinlet, a shutdown or a power cut ended it: runs again under every policy, without back-off.
    Interrupted(Termination),
    /// It ran in this boot, and nobody saw how it ended: restarts by policy, and `Never` makes it Failed.
    Lost {
        id: ContainerId,
        attempt: u32,
    },
}
