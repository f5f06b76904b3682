//! What a later agent must know of a pod's sandbox: `<run-dir>/pods/<uid>/sandbox.json`, written by rename.

use super::sandbox::SandboxError;
use crate::model::id::{BootId, PodKey, PodUid};
use crate::model::pod::{StaticPod, VolumeSource};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

pub const VERSION: u32 = 1;
pub const RECORD: &str = "sandbox.json";
/// Of a sandbox's directory.
pub(super) const DIR_MODE: u32 = 0o711;

/// Of one boot only; fields that a reader does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub version: u32,
    pub boot_id: BootId,
    pub uid: PodUid,
    pub key: PodKey,
    /// The mounts that a whole sandbox has, by their names in its directory.
    pub mounts: Vec<String>,
    /// The pod's own network namespace is one of them.
    pub pod_network: bool,
    /// Of the pod network; `None` for hostNetwork, and before the network is attached.
    pub ip: Option<IpAddr>,
    pub link: Option<LinkRecord>,
}

/// The host's end of the pod's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    pub bridge: String,
    pub veth: String,
    /// Of the pod's end.
    pub mac: String,
}

impl SandboxRecord {
    pub(super) fn of(pod: &StaticPod, boot_id: &BootId) -> SandboxRecord {
        let mut mounts = Vec::new();
        if !pod.host_network {
            mounts.extend(["net".to_owned(), "uts".to_owned()]);
        }
        if !pod.host_ipc {
            mounts.extend(["ipc".to_owned(), "shm".to_owned()]);
        }
        let memory = pod.volumes.iter().filter(|volume| matches!(volume.source, VolumeSource::MemoryDir { .. }));
        mounts.extend(memory.map(|volume| format!("mem-{}", volume.name)));
        SandboxRecord {
            version: VERSION,
            boot_id: boot_id.clone(),
            uid: pod.uid.clone(),
            key: pod.key.clone(),
            mounts,
            pod_network: !pod.host_network,
            ip: None,
            link: None,
        }
    }
}

/// `sandbox` is `<run-dir>/pods/<uid>`. A record that makes no sense is none: its sandbox is made anew. Only one of a
/// newer version is an error, unless all that this version needs is in it.
pub fn read(sandbox: &Path) -> Result<Option<SandboxRecord>, SandboxError> {
    let path = sandbox.join(RECORD);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SandboxError::Read { path, source }),
    };
    if let Ok(record) = serde_json::from_slice(&bytes) {
        return Ok(Some(record));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Version { version }) if version > VERSION => Err(SandboxError::Newer { path, version }),
        _ => Ok(None),
    }
}

/// What every version of a record has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Whether the record is still there; only a stat.
pub fn is_recorded(sandbox: &Path) -> bool {
    sandbox.join(RECORD).exists()
}

pub fn write_record(sandbox: &Path, record: &SandboxRecord) -> Result<(), SandboxError> {
    let path = sandbox.join(RECORD);
    let written = serde_json::to_vec(record).map_err(io::Error::other).and_then(|bytes| {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(sandbox)?;
        crate::sys::file::write_atomic(&path, &bytes, 0o600)
    });
    written.map_err(|source| SandboxError::Write { path, source })
}
