//! What was seen to happen to a container: facts only, no judgement about what to do next.

use super::id::{ContainerId, ProcessRef};
use super::time::{Mono, Wall};
use serde::{Deserialize, Serialize};

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    Code(i32),
    /// Shown as exit code 128 + number.
    Signal(i32),
}

impl ExitStatus {
    /// As Kubernetes shows it.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            // A damaged record may name any number.
            ExitStatus::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// Why a container is in its terminated state: `state.terminated.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminatedReason {
    Completed,
    Error,
    OomKilled,
    /// libcontainer's create or start failed; the program never ran. Exit code 128, startedAt the epoch.
    StartError,
    /// Nobody saw how it ended. Exit code 137.
    ContainerStatusUnknown,
}

impl TerminatedReason {
    pub fn as_str(self) -> &'static str {
        match self {
            TerminatedReason::Completed => "Completed",
            TerminatedReason::Error => "Error",
            TerminatedReason::OomKilled => "OOMKilled",
            TerminatedReason::StartError => "StartError",
            TerminatedReason::ContainerStatusUnknown => "ContainerStatusUnknown",
        }
    }
}

/// A container that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    pub id: ContainerId,
    /// Number of this start, from 0: names the log file and is the restartCount while it is the latest.
    pub attempt: u32,
    pub status: ExitStatus,
    pub reason: TerminatedReason,
    /// The termination message, already cut to Kubernetes' limits; empty for none.
    pub message: String,
    pub started_at: Wall,
    pub finished_at: Wall,
    /// When the agent took note of the exit: what back-off counts from. Not kept across boots.
    pub finished_mono: Mono,
    /// `image_id` and normalised reference it ran from, for the status.
    pub image: String,
    pub image_id: String,
}

/// Who the container's first process is: `status.containerStatuses[].user.linux`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxUser {
    pub uid: u32,
    pub gid: u32,
    /// As the kernel has them, the primary group included.
    pub groups: Vec<u32>,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningContainer {
    pub id: ContainerId,
    pub attempt: u32,
    /// The container's init, in the host's pid namespace.
    pub init: ProcessRef,
    pub started_at: Wall,
    pub started_mono: Mono,
    pub image: String,
    pub image_id: String,
    /// The signal that asks it to stop: the image's STOPSIGNAL, else SIGTERM (15).
    pub stop_signal: i32,
    /// `None` where nobody could tell.
    #[serde(default)]
    pub user: Option<LinuxUser>,
}

/// Why a container could not be started: `state.waiting.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailureReason {
    /// user, env or other configuration that can not be made into a spec
    CreateContainerConfigError,
    /// our own steps before libcontainer: root file system, volumes, cgroup
    CreateContainerError,
    /// inside libcontainer's build() or start(): also leaves a terminated state `StartError`
    RunContainerError,
}

impl StartFailureReason {
    pub fn as_str(self) -> &'static str {
        match self {
            StartFailureReason::CreateContainerConfigError => "CreateContainerConfigError",
            StartFailureReason::CreateContainerError => "CreateContainerError",
            StartFailureReason::RunContainerError => "RunContainerError",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    pub reason: StartFailureReason,
    pub message: String,
}

/// Why an image is not at hand: `state.waiting.reason` and message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageProblem {
    /// `Never`, and it is not there.
    ErrImageNeverPull {
        message: String,
    },
    /// It would have to be pulled; shown as ErrImagePull, then ImagePullBackOff.
    ErrImagePull {
        message: String,
    },
    InvalidImageName {
        message: String,
    },
}
