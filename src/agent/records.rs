//! What is kept of a pod on disk, beside its directories: the manifest as it was, and the record of its life.
//!
//! Written aside, synced and renamed, on a worker of its own lane, never on the way to a start (contract 4).

use super::node::Node;
use crate::error::chain;
use crate::model::id::PodUid;
use crate::model::pod::StaticPod;
use crate::reconcile::memo::DurableMemo;
use crate::sys::file;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;

/// The layout of the file around the core's memo, which has a version of its own.
const VERSION: u32 = 1;

/// `<root-dir>/pods/<uid>/record.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    pub version: u32,
    /// The manifest's file: the kept manifest is decoded as if it lay there still.
    pub source: PathBuf,
    pub memo: DurableMemo,
    /// The pod as it was admitted: what runs goes on as this where another version of pinlet refuses the manifest.
    #[serde(default)]
    pub pod: Option<Box<StaticPod>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a record")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{path} was written by a newer pinlet (version {version})")]
    Newer { path: PathBuf, version: u32 },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

impl PodRecord {
    pub fn new(pod: &StaticPod, memo: DurableMemo) -> PodRecord {
        PodRecord { version: VERSION, source: pod.source.clone(), memo, pod: Some(Box::new(pod.clone())) }
    }

    fn bytes(&self) -> Vec<u8> {
        // Nothing in it can fail to be written as JSON: no maps with keys that are not text.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Worker: writes record and manifest so that they survive a power cut. A disk that refuses is said once per try; the
/// pod runs on.
pub fn keep(node: &Node, uid: &PodUid, record: &PodRecord, manifest: Option<&[u8]>) {
    // A pod that has been removed meanwhile must not get a directory again.
    if !node.paths.root_pod(uid).is_dir() {
        return;
    }
    let kept = (node.paths.kept_manifest(uid), manifest.map(<[u8]>::to_vec));
    for (path, bytes) in [kept, (node.paths.pod_record(uid), Some(record.bytes()))] {
        let Some(bytes) = bytes else { continue };
        // What is there already is only made to last: an agent that starts anew writes nothing.
        let written = match fs::read(&path) {
            Ok(there) if there == bytes => file::make_durable(&path),
            Ok(_) | Err(_) => file::write_durable(&path, &bytes, 0o600),
        };
        if let Err(source) = written {
            log::error!("{}", chain(&RecordError::Write { path, source }));
        }
    }
}

/// Worker: the same without waiting for the disk, before the first start of a pod: survives `kill -9`.
pub fn note(node: &Node, uid: &PodUid, record: &PodRecord, manifest: Option<&[u8]>) -> Result<(), RecordError> {
    let write = |path: PathBuf, bytes: &[u8]| {
        file::write_atomic(&path, bytes, 0o600).map_err(|source| RecordError::Write { path, source })
    };
    if let Some(bytes) = manifest {
        write(node.paths.kept_manifest(uid), bytes)?;
    }
    // One that is there is newer: what came to pass since is kept by `keep`, which this may overtake or follow.
    let path = node.paths.pod_record(uid);
    if path.exists() { Ok(()) } else { write(path, &record.bytes()) }
}

/// `None`: there is none.
pub fn read(node: &Node, uid: &PodUid) -> Result<Option<PodRecord>, RecordError> {
    read_file(node.paths.pod_record(uid))
}

fn read_file(path: PathBuf) -> Result<Option<PodRecord>, RecordError> {
    #[derive(Deserialize)]
    struct Versions {
        version: u32,
        memo: MemoVersion,
    }
    #[derive(Deserialize)]
    struct MemoVersion {
        version: u32,
    }
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let parse = |source| RecordError::Parse { path: path.clone(), source };
    let versions: Versions = serde_json::from_slice(&bytes).map_err(parse)?;
    if versions.version > VERSION || versions.memo.version > crate::reconcile::memo::VERSION {
        let version = versions.version.max(versions.memo.version);
        return Err(RecordError::Newer { path: path.clone(), version });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{Dice, damaged};
    use crate::manifest::decode::{self, DecodeRequest, Decoded, FieldValidation};
    use crate::model::id::{BootId, ContainerId, Pid, ProcessRef};
    use crate::model::observed::{ExitStatus, LinuxUser, RunningContainer, TerminatedReason, Termination};
    use crate::model::time::{Mono, Now, Wall};
    use crate::reconcile::event::BackoffMemo;
    use crate::reconcile::memo::{self, ContainerMemo, Found, MemoState};

    const NOW: Now = Now { mono: Mono(5_000_000_000), wall: Wall(1_700_000_100_000_000_000) };
    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec:\n  containers:\n\
        \x20 - {name: c, image: x:1, command: [sh], env: [{name: A, value: é}], ports: [{containerPort: 80}]}\n\
        \x20 - {name: d, image: y:2, resources: {limits: {cpu: 100m, memory: 64Mi}}}\n\
        \x20 volumes: [{name: data, hostPath: {path: /srv}}, {name: shm, emptyDir: {medium: Memory}}]\n";

    fn boot() -> BootId {
        BootId::new("this")
    }

    fn termination(attempt: u32) -> Termination {
        Termination {
            id: ContainerId::from_bytes([9; 32]),
            attempt,
            status: ExitStatus::Code(3),
            reason: TerminatedReason::Error,
            message: "no such file".to_owned(),
            started_at: Wall(1_700_000_000_000_000_000),
            finished_at: Wall(1_700_000_001_000_000_000),
            finished_mono: Mono(4_000_000_000),
            image: "docker.io/library/y:2".to_owned(),
            image_id: "sha256:abc".to_owned(),
        }
    }

    fn running() -> RunningContainer {
        RunningContainer {
            id: ContainerId::from_bytes([7; 32]),
            attempt: 4,
            init: ProcessRef { pid: Pid(77), start_ticks: 88 },
            started_at: Wall(1_700_000_002_000_000_000),
            started_mono: Mono(4_500_000_000),
            image: "docker.io/library/x:1".to_owned(),
            image_id: "sha256:def".to_owned(),
            stop_signal: 15,
            user: Some(LinuxUser { uid: 1, gid: 2, groups: vec![2, 3] }),
        }
    }

    fn record() -> PodRecord {
        let request = DecodeRequest {
            path: PathBuf::from("/etc/kubernetes/manifests/web.yaml"),
            node_name: "n1".to_owned(),
            field_validation: FieldValidation::Strict,
        };
        let decoded = decode::in_process(&request, MANIFEST.as_bytes());
        let Decoded::Accepted { pod, .. } = decoded else { panic!("{decoded:?}") };
        let container = |at: usize, state, last| ContainerMemo {
            name: pod.containers[at].name.clone(),
            next_attempt: 5,
            created: 5,
            backoff: Some(BackoffMemo { delay_ms: 10_000, last_update: Mono(4_000_000_000) }),
            state,
            last,
            user: None,
        };
        let memo = DurableMemo {
            version: memo::VERSION,
            boot: boot(),
            hash: pod.hash.clone(),
            created: Wall(1_700_000_000_000_000_000),
            started: Wall(1_700_000_000_000_000_000),
            ip: Some([10, 85, 0, 7].into()),
            containers: vec![
                container(0, MemoState::Running(running()), Some(termination(3))),
                container(1, MemoState::Ended(termination(4)), None),
            ],
        };
        PodRecord::new(&pod, memo)
    }

    /// What the next agent makes of a record, with and without anything in the run dir.
    fn adopt(record: &PodRecord) {
        for kept in &record.memo.containers {
            for found in [vec![], vec![Found::Running(running())], vec![Found::Exited(termination(u32::MAX))]] {
                for boot in [boot(), BootId::new("other")] {
                    memo::adopt_container(&kept.name, Some((&record.memo, kept)), found.clone(), &boot, NOW);
                }
            }
        }
    }

    #[test]
    fn a_pod_record_that_was_cut_or_damaged_is_a_record_or_an_error() {
        let path = std::env::temp_dir().join(format!("pinlet-pod-record-{}.json", std::process::id()));
        let whole = record().bytes();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            let read = read_file(path.clone());
            if let Err(error) = &read {
                assert!(chain(error).contains(path.to_str().expect("text")), "{error}");
            }
            read.map(|found| found.expect("it is there"))
        };
        assert_eq!(read(&whole).expect("undamaged"), record());
        for cut in 0..whole.len() {
            assert!(matches!(read(&whole[..cut]), Err(RecordError::Parse { .. })), "{cut} bytes");
        }
        let (mut read_well, mut refused) = (0, 0);
        for seed in 0..4000 {
            let bytes = damaged(&whole, &mut Dice::new(seed));
            match read(&bytes) {
                Ok(record) => {
                    adopt(&record);
                    assert_eq!(read(&record.bytes()).expect("written by us"), record, "seed {seed}");
                    read_well += 1;
                }
                Err(_) => refused += 1,
            }
        }
        fs::remove_file(&path).expect("it is there");
        assert!(read_well > 400 && refused > 400, "{read_well} read, {refused} refused");
    }
}
