//! The files and directories of one pod that the runtime makes, relative to the two directories it is given.
//!
//! Pure. The agent says where the two are; nobody else joins these names.

use crate::model::id::{ContainerId, ContainerName};
use crate::model::pod::{Volume, VolumeSource};
use std::path::PathBuf;

/// Where one pod's things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPaths {
    /// `<root-dir>/pods/<uid>`: on disk, survives a boot.
    pub root: PathBuf,
    /// `<run-dir>/pods/<uid>`: pins and per-pod mounts, of this boot.
    pub sandbox: PathBuf,
}

impl PodPaths {
    pub fn hosts(&self) -> PathBuf {
        self.root.join("etc-hosts")
    }

    pub fn hostname(&self) -> PathBuf {
        self.root.join("hostname")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("resolv.conf")
    }

    pub fn net(&self) -> PathBuf {
        self.sandbox.join("net")
    }

    pub fn ipc(&self) -> PathBuf {
        self.sandbox.join("ipc")
    }

    pub fn uts(&self) -> PathBuf {
        self.sandbox.join("uts")
    }

    pub fn shm(&self) -> PathBuf {
        self.sandbox.join("shm")
    }

    /// The tmpfs of an emptyDir with medium Memory. Volume names are DNS labels.
    pub fn memory_dir(&self, volume: &str) -> PathBuf {
        self.sandbox.join(format!("mem-{volume}"))
    }

    /// An emptyDir on disk, where the kubelet has it.
    pub fn empty_dir(&self, volume: &str) -> PathBuf {
        self.root.join("volumes").join("kubernetes.io~empty-dir").join(volume)
    }

    /// The termination message of one start of a container.
    pub fn termination_message(&self, container: &ContainerName, id: &ContainerId) -> PathBuf {
        let digits = id.as_str().get(..8).unwrap_or_default();
        self.root.join("containers").join(container.as_str()).join(format!("termination-{digits}"))
    }

    /// What a mount of `volume` shows.
    pub fn volume_source(&self, volume: &Volume) -> PathBuf {
        match &volume.source {
            VolumeSource::HostPath { path, .. } => path.clone(),
            VolumeSource::EmptyDir { .. } => self.empty_dir(&volume.name),
            VolumeSource::MemoryDir { .. } => self.memory_dir(&volume.name),
        }
    }
}
