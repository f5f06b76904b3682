//! All that a monitor needs to run one container, as one file: `<dir>/launch.json`.
//!
//! The agent writes it and starts the monitor; only that monitor, which is the same build, ever reads it. What must
//! be understood by later versions is in `record`.

use super::cgroup::Hierarchies;
use crate::model::id::{ContainerId, ContainerName, PodUid};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

pub const VERSION: u32 = 1;
pub(super) const FILE: &str = "launch.json";

/// One start of one container. The OCI spec lies beside it as `<dir>/config.json`: without `linux.resources`, with
/// `root.path` = `rootfs` and `process.user` left 0:0, which the creator resolves from [`Launch::user`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub version: u32,
    pub id: ContainerId,
    pub pod_uid: PodUid,
    pub namespace: String,
    pub pod_name: String,
    pub container: ContainerName,
    pub attempt: u32,
    /// `<run-dir>/containers/<id>`: bundle, records, libcontainer's state.
    pub dir: PathBuf,
    /// Unpacked image layers, top layer first.
    pub layers: Vec<PathBuf>,
    /// Overlay's upper and work directory; made if missing. Empty at each start.
    pub upper: PathBuf,
    pub work: PathBuf,
    pub volumes: Vec<LaunchVolume>,
    /// `user[:group]`, by name or number, looked up inside the container's root; empty is root.
    pub user: String,
    pub cgroup: CgroupPlan,
    pub oom_score_adj: i32,
    pub log: LogTarget,
}

/// A tree that is cloned from the host's mount namespace and moved to `staging`, from where the spec binds it:
/// so that the spec's propagation works in both directions and nothing else leaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchVolume {
    pub source: PathBuf,
    /// `<dir>/v/<n>`, made by the creator as the kind of file that the source is.
    pub staging: PathBuf,
}

/// Where the container lives in every hierarchy, and what it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// `--cgroup-root`, relative to the mount of each hierarchy.
    pub root: PathBuf,
    /// Below `root`, such as `kubepods/burstable/pod<uid>`.
    pub pod: PathBuf,
    /// The container id.
    pub leaf: String,
    pub limits: Limits,
    pub pod_limits: Limits,
}

impl CgroupPlan {
    pub fn pod_path(&self) -> PathBuf {
        self.root.join(&self.pod)
    }

    pub fn leaf_path(&self) -> PathBuf {
        self.pod_path().join(&self.leaf)
    }
}

/// `None`: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// 2..=262144, as cgroup v1 counts them.
    pub cpu_shares: Option<u64>,
    pub cpu_quota_us: Option<u64>,
    /// 100000 where a quota is given without a period.
    pub cpu_period_us: Option<u64>,
    /// Swap is limited so that memory and swap together are no more than this.
    pub memory_limit_bytes: Option<u64>,
    pub pids_max: Option<u64>,
}

/// The CRI log file and its rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    pub path: PathBuf,
    pub max_bytes: u64,
    /// Including the live file; at least 2.
    pub max_files: u32,
}

/// The file's content: the launch, and the hierarchies as the agent found them, so that no monitor looks again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LaunchFile {
    pub launch: Launch,
    pub hierarchies: Hierarchies,
}

impl LaunchFile {
    pub fn write(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        crate::sys::file::write_atomic(&self.launch.dir.join(FILE), &bytes, 0o600)
    }

    pub fn read(dir: &Path) -> io::Result<LaunchFile> {
        let bytes = std::fs::read(dir.join(FILE))?;
        let file: LaunchFile = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
        if file.launch.version == VERSION {
            Ok(file)
        } else {
            Err(io::Error::other(format!("launch.json has version {}, not {VERSION}", file.launch.version)))
        }
    }
}
