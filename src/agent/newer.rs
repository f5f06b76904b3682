//! Pods that a newer pinlet runs: after a downgrade they go on and are not touched, since what their records mean is
//! not known here (design 2). They are neither listed nor started a second time; `explain` says why.
//!
//! Of their records only what names things is read, leniently.

use super::node::Node;
use super::records;
use crate::error::chain;
use crate::model::id::{ContainerId, Pid, PodKey, PodUid};
use crate::runtime::record::{self, RecordError};
use crate::runtime::sandbox::{self, SandboxError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[derive(Debug, Default)]
pub struct LeftAlone {
    /// Why, in one line each.
    pub pods: BTreeMap<PodUid, String>,
    /// Where the records told: the name must not be given to another file's pod meanwhile.
    pub keys: BTreeSet<PodKey>,
    containers: BTreeSet<ContainerId>,
}

impl LeftAlone {
    pub fn find(node: &Node) -> LeftAlone {
        let mut left = LeftAlone::default();
        for entry in fs::read_dir(node.paths.run_containers()).into_iter().flatten().flatten() {
            left.look_at_container(&entry.path());
        }
        for entry in fs::read_dir(node.paths.root_pods()).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_str().and_then(PodUid::new);
            if let Some(uid) = uid
                && let Err(error) = records::read(node, &uid)
                // Half a record says nothing, and is cleared away; one that cannot be read today may be read tomorrow.
                && !matches!(error, records::RecordError::Parse { .. })
            {
                let record = json(&node.paths.pod_record(&uid));
                left.keys.extend(key_of(&record["pod"]["key"]));
                left.pods.insert(uid, chain(&error));
            }
        }
        for entry in fs::read_dir(node.paths.run_pods()).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_str().and_then(PodUid::new);
            if let (Some(uid), Err(error @ SandboxError::Newer { .. })) = (uid, sandbox::read(&entry.path())) {
                left.keys.extend(key_of(&json(&entry.path().join(sandbox::RECORD))["key"]));
                left.pods.insert(uid, chain(&error));
            }
        }
        left.take_siblings(node);
        for (uid, why) in &left.pods {
            log::error!("pod {uid} is left alone: {why}");
        }
        left
    }

    fn look_at_container(&mut self, dir: &Path) {
        let newer = [record::read_intent(dir).err(), record::read_started(dir).err(), record::read_exit(dir).err()];
        let Some(error) = newer.into_iter().flatten().find(|e| matches!(e, RecordError::Newer { .. })) else { return };
        self.containers.extend(dir.file_name().and_then(|n| n.to_str()).and_then(ContainerId::new));
        let intent = json(&dir.join("intent.json"));
        if let Some(uid) = intent["pod_uid"].as_str().and_then(PodUid::new) {
            self.pods.insert(uid, chain(&error));
        }
        if let (Some(namespace), Some(name)) = (intent["namespace"].as_str(), intent["pod_name"].as_str()) {
            self.keys.insert(PodKey { namespace: namespace.to_owned(), name: name.to_owned() });
        }
    }

    /// A pod is left alone as a whole, whichever of its records is the newer one.
    fn take_siblings(&mut self, node: &Node) {
        for entry in fs::read_dir(node.paths.run_containers()).into_iter().flatten().flatten() {
            let owner = json(&entry.path().join("intent.json"))["pod_uid"].as_str().and_then(PodUid::new);
            if owner.is_some_and(|uid| self.has_pod(&uid)) {
                self.containers.extend(entry.file_name().to_str().and_then(ContainerId::new));
            }
        }
    }

    pub fn has_pod(&self, uid: &PodUid) -> bool {
        self.pods.contains_key(uid)
    }

    pub fn has_container(&self, id: &ContainerId) -> bool {
        self.containers.contains(id)
    }

    /// A monitor is called with its container's directory, in every version.
    pub fn has_monitor(&self, pid: Pid, node: &Node) -> bool {
        let command = fs::read(format!("/proc/{}/cmdline", pid.0)).unwrap_or_default();
        let words = command.split(|b| *b == 0);
        let dirs: Vec<_> = self.containers.iter().map(|id| node.paths.run_container(id)).collect();
        words.into_iter().any(|word| dirs.iter().any(|dir| dir.as_os_str().as_bytes() == word))
    }
}

fn json(path: &Path) -> Value {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn key_of(value: &Value) -> Option<PodKey> {
    serde_json::from_value(value.clone()).ok()
}
