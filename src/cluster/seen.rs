//! What is remembered of a pod that the API server has bound to this node.

use super::request::key_of;
use crate::model::id::PodKey;
use k8s_openapi::api::core::v1;
use serde_json::Value;

/// kubelet: `ConfigMirrorAnnotationKey`.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const TERMINAL: [&str; 2] = ["Failed", "Succeeded"];

#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub key: PodKey,
    pub uid: String,
    /// Counts up with every change of any object. (Not promised by older servers, where zero means unknown.)
    pub version: u64,
    /// The hash that a mirror pod was made for; `None`: it is no mirror.
    pub mirror_of: Option<String>,
    /// The UIDs of all owners.
    pub owners: Vec<String>,
    /// Somebody has deleted it; it waits for its node.
    pub is_deleted: bool,
    pub status: Value,
}

impl Seen {
    pub fn of(pod: &v1::Pod) -> Seen {
        let meta = &pod.metadata;
        let annotations = meta.annotations.as_ref();
        Seen {
            key: key_of(pod),
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0),
            mirror_of: annotations.and_then(|a| a.get(MIRROR_ANNOTATION)).cloned(),
            owners: meta.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect(),
            is_deleted: meta.deletion_timestamp.is_some(),
            status: pod.status.as_ref().and_then(|s| serde_json::to_value(s).ok()).unwrap_or_default(),
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.status["phase"].as_str().is_some_and(|phase| TERMINAL.contains(&phase))
    }
}
