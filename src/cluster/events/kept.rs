//! One event as it is kept, and the v1 object that it is shown and posted as.

use super::happening::{Happening, Severity, Subject};
use super::posting::{EventId, Remote};
use crate::model::id::{NodeName, PodKey, PodUid};
use crate::model::time::{Now, Wall};
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::borrow::Cow;

/// The API server refuses longer messages.
pub(super) const MESSAGE_MAX: usize = 1024;
/// The namespace of events about what has none.
pub(super) const NODE_NAMESPACE: &str = "default";
/// Who says it: what tools and people look for.
const COMPONENT: &str = "kubelet";

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub id: EventId,
    pub subject: Subject,
    pub severity: Severity,
    pub reason: &'static str,
    pub message: Cow<'static, str>,
    /// Several that differ by their message; shown is the latest.
    pub combined: bool,
    pub count: i32,
    pub first: Wall,
    pub last: Now,
    /// Unique on this node: the end of the name.
    pub stamp: i64,
    pub remote: Remote,
}

impl Kept {
    /// The same event again.
    pub fn is(&self, happening: &Happening, combined: bool) -> bool {
        let same_kind = self.combined == combined
            && self.reason == happening.reason
            && self.severity == happening.severity
            && self.subject.object() == happening.subject.object();
        same_kind && (combined || (self.message == happening.message && self.subject == happening.subject))
    }

    /// As the agent shows it.
    pub fn shown(&self, node: &NodeName) -> v1::Event {
        let mut event = self.object(node);
        event.metadata.creation_timestamp = Some(self.first.to_time());
        event.metadata.resource_version = self.remote.resource_version().map(str::to_owned);
        event
    }

    /// As it is posted. An event of a pod whose namespace does not exist is told of the node, and names the pod.
    pub fn object(&self, node: &NodeName) -> v1::Event {
        let subject = if self.remote.on_node() { &Subject::node(node) } else { &self.subject };
        let (namespace, name) = place(subject);
        v1::Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", self.stamp)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: reference(subject),
            reason: Some(self.reason.to_owned()),
            message: Some(self.posted_message()),
            source: Some(v1::EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(node.as_str().to_owned()),
            }),
            first_timestamp: Some(self.first.to_time()),
            last_timestamp: Some(self.last.wall.to_time()),
            count: Some(self.count),
            type_: Some(self.severity.as_str().to_owned()),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(node.as_str().to_owned()),
            ..v1::Event::default()
        }
    }

    /// What has changed of it since it was posted, as client-go patches it.
    pub fn patch(&self) -> serde_json::Value {
        serde_json::json!({
            "count": self.count,
            "lastTimestamp": self.last.wall.to_time(),
            "message": self.posted_message(),
        })
    }

    fn posted_message(&self) -> String {
        match &self.subject {
            Subject::Pod { key, .. } | Subject::Container { key, .. } if self.remote.on_node() => {
                cut(Cow::Owned(format!("pod {key}: {}", self.message))).into_owned()
            }
            Subject::Pod { .. } | Subject::Container { .. } | Subject::Node { .. } => self.message.clone().into_owned(),
        }
    }
}

fn place(subject: &Subject) -> (&str, &str) {
    match subject {
        Subject::Pod { key, .. } | Subject::Container { key, .. } => (&key.namespace, &key.name),
        Subject::Node { name } => (NODE_NAMESPACE, name.as_str()),
    }
}

/// `kubectl describe node` looks for events by the node's name in the place of the UID.
fn reference(subject: &Subject) -> v1::ObjectReference {
    let of_pod = |key: &PodKey, uid: &PodUid| v1::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: Some(uid.as_str().to_owned()),
        ..v1::ObjectReference::default()
    };
    match subject {
        Subject::Pod { key, uid } => of_pod(key, uid),
        Subject::Container { key, uid, container } => {
            v1::ObjectReference { field_path: Some(format!("spec.containers{{{container}}}")), ..of_pod(key, uid) }
        }
        Subject::Node { name } => v1::ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.as_str().to_owned()),
            uid: Some(name.as_str().to_owned()),
            ..v1::ObjectReference::default()
        },
    }
}

/// Cut to what the API server takes, between characters.
pub(super) fn cut(message: Cow<'static, str>) -> Cow<'static, str> {
    if message.len() <= MESSAGE_MAX {
        return message;
    }
    let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(message[..end].to_owned())
}
