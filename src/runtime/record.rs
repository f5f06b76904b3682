//! What outlives the agent: the intent (agent), the start and the exit (monitor), one file each in
//! `<run-dir>/containers/<id>`.
//!
//! They survive `kill -9`, not a reboot: each names its boot. Readers accept every released version and ignore fields
//! they do not know; a newer version is reported as such, and whoever meets it adopts the container and leaves it alone.

use crate::model::id::{BootId, ContainerId, ContainerName, PodUid, ProcessRef};
use crate::model::observed::{ExitStatus, LinuxUser};
use crate::model::time::{Mono, Now, Wall};
use crate::sys::file::write_atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const VERSION: u32 = 1;
const INTENT: &str = "intent.json";
const STARTED: &str = "started.json";
const EXIT: &str = "exit.json";

/// Written before the monitor is spawned, and again with [`Intent::monitor`] before it is told to go on. So an intent
/// without a monitor never became a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub version: u32,
    pub boot_id: BootId,
    pub id: ContainerId,
    pub pod_uid: PodUid,
    pub namespace: String,
    pub pod_name: String,
    pub container: ContainerName,
    pub attempt: u32,
    /// `--cgroup-root`, the pod's path below it; the leaf is the id.
    pub cgroup_root: PathBuf,
    pub cgroup_pod: PathBuf,
    pub monitor: Option<ProcessRef>,
    pub image: String,
    pub image_id: String,
    pub stop_signal: i32,
    /// `terminationGracePeriodSeconds`, for a stop without the agent.
    #[serde(default = "default_grace_seconds")]
    pub grace_seconds: u64,
    pub created: Now,
    pub log: PathBuf,
}

/// Kubernetes' default.
fn default_grace_seconds() -> u64 {
    30
}

impl Intent {
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    pub fn cgroup_path(&self) -> PathBuf {
        self.cgroup_root.join(&self.cgroup_pod).join(self.id.as_str())
    }
}

/// The container's program runs: written by the monitor before it reports so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub version: u32,
    pub boot_id: BootId,
    pub init: ProcessRef,
    pub started_at: Wall,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Who its program began as.
    #[serde(default)]
    pub user: Option<LinuxUser>,
}

/// The container is over: its cgroup is empty and gone, its mounts too, its output is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub version: u32,
    pub boot_id: BootId,
    pub status: ExitStatus,
    pub oom_killed: bool,
    /// The epoch if the program never ran.
    pub started_at: Wall,
    pub finished_at: Wall,
    /// The same instant on the clock that back-off is counted by.
    #[serde(default)]
    pub finished_mono: Option<Mono>,
    /// Why the program never ran.
    pub failure: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub stage: FailedStage,
    pub message: String,
}

/// How far a start came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailedStage {
    /// User, environment or other configuration: `CreateContainerConfigError`.
    Config,
    /// Our own steps before libcontainer (cgroup, root file system, volumes): `CreateContainerError`.
    Create,
    /// libcontainer's build() or start(), or exec itself: `RunContainerError`.
    Run,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a record")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{path} was written by a newer pinlet (version {version})")]
    Newer { path: PathBuf, version: u32 },
}

pub fn write_intent(dir: &Path, record: &Intent) -> io::Result<()> {
    write(&dir.join(INTENT), record)
}

/// Whether the intent is still there; only a stat.
pub fn has_intent(dir: &Path) -> bool {
    dir.join(INTENT).exists()
}

pub fn write_started(dir: &Path, record: &Started) -> io::Result<()> {
    write(&dir.join(STARTED), record)
}

pub fn write_exit(dir: &Path, record: &ExitRecord) -> io::Result<()> {
    write(&dir.join(EXIT), record)
}

/// `None`: there is no such record.
pub fn read_intent(dir: &Path) -> Result<Option<Intent>, RecordError> {
    read(dir.join(INTENT))
}

pub fn read_started(dir: &Path) -> Result<Option<Started>, RecordError> {
    read(dir.join(STARTED))
}

pub fn read_exit(dir: &Path) -> Result<Option<ExitRecord>, RecordError> {
    read(dir.join(EXIT))
}

fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec(record).map_err(io::Error::other)?, 0o600)
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Result<Option<T>, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    match serde_json::from_slice::<Versioned>(&bytes) {
        Ok(found) if found.version > VERSION => return Err(RecordError::Newer { path, version: found.version }),
        Ok(_) => {}
        Err(source) => return Err(RecordError::Parse { path, source }),
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|source| RecordError::Parse { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("pinlet-record-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn an_exit_record_of_version_1_with_an_unknown_field_is_read() {
        let dir = temp_dir("v1");
        let text = r#"{"version":1,"boot_id":"b","status":{"Code":3},"oom_killed":false,"started_at":5,
            "finished_at":6,"failure":null,"colour":"green"}"#;
        std::fs::write(dir.join(EXIT), text).unwrap();
        let record = read_exit(&dir).unwrap().unwrap();
        assert_eq!((record.status, record.finished_at), (ExitStatus::Code(3), Wall(6)));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_newer_version_is_said_to_be_newer_whatever_its_fields_are() {
        let dir = temp_dir("v2");
        std::fs::write(dir.join(EXIT), r#"{"version":2,"verdict":"good"}"#).unwrap();
        assert!(matches!(read_exit(&dir), Err(RecordError::Newer { version: 2, .. })));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn half_a_record_is_an_error_and_a_missing_one_is_none() {
        let dir = temp_dir("half");
        std::fs::write(dir.join(INTENT), r#"{"version":1,"boot"#).unwrap();
        assert!(matches!(read_intent(&dir), Err(RecordError::Parse { .. })));
        assert_eq!(read_started(&dir).unwrap(), None);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
