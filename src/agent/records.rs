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
    #[derive(Deserialize)]
    struct Versions {
        version: u32,
        memo: MemoVersion,
    }
    #[derive(Deserialize)]
    struct MemoVersion {
        version: u32,
    }
    let path = node.paths.pod_record(uid);
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
