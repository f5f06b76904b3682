//! What the loop is asked to do, as one closed enum. Each is answered by exactly one event (named beside it), and
//! `reconcile` marks the item in flight when it emits the action, so that reconciling again emits nothing.

use crate::model::id::{ContainerId, ContainerName, PodUid};
use crate::model::image::ImageFacts;
use crate::model::time::Mono;

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Directories, kept manifest, volumes, hosts, resolv.conf -> `Prepared` or `PrepareFailed`.
    Prepare { uid: PodUid },
    /// Namespaces, shared memory, network -> `SandboxReady` or `SandboxFailed`.
    EnsureSandbox { uid: PodUid },
    /// Looks into the local store -> `ImageFound` or `ImageMissing`.
    ResolveImage { uid: PodUid, container: ContainerName },
    /// -> `Started`, `StartFailed` or `Lost`; after `Started`, later `Exited` or `Lost`.
    Start { uid: PodUid, container: ContainerName, attempt: u32, image: Box<ImageFacts> },
    /// Sends `signal` to the container's init; no answer but the exit.
    Signal { uid: PodUid, container: ContainerName, id: ContainerId, signal: i32 },
    /// Kills everything in the container's cgroup; no answer but the exit.
    Kill { uid: PodUid, container: ContainerName, id: ContainerId },
    /// Removes what a dead container left: bundle, records, writable layer, old logs. No answer.
    RemoveContainer { uid: PodUid, container: ContainerName, id: ContainerId },
    /// Writes the pod's counters and final states durably, later and coalesced. No answer.
    Persist { uid: PodUid },
    /// Takes sandbox and network away, keeps directories -> `SandboxStopped` or `SandboxStopFailed`.
    StopSandbox { uid: PodUid },
    /// Takes away all that is left of the pod -> `Removed` or `RemoveFailed`.
    Remove { uid: PodUid },
}

/// The outcome of one reconcile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to reconcile again though no event came; `None`: only on an event.
    pub wake_at: Option<Mono>,
}
