//! What is asked of an API server, and how it may refuse. Carried out by the agent's API workers.

use super::events::{EventAnswer, EventPost};
use super::node::{NodeAnswer, NodeRequest};
use crate::model::id::PodKey;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1;
use serde_json::Value;
use std::time::Duration;

/// One call. Each may be made twice without harm: an answer that was lost is asked for again.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// About the Node or its lease.
    Node(NodeRequest),
    /// Told about something that happened; comes after everything else.
    Event(Box<EventPost>),
    /// All pods that are bound to this node, from the server's cache.
    ListPods,
    CreatePod(Box<v1::Pod>),
    /// With grace 0, and of this UID only.
    DeletePod {
        key: PodKey,
        uid: String,
    },
    /// Strategic merge on `/status`; the patch names the UID.
    PatchPodStatus {
        key: PodKey,
        patch: Value,
    },
}

impl Request {
    /// The pod that it is about.
    pub fn pod(&self) -> Option<PodKey> {
        match self {
            Request::Node(_) | Request::Event(_) | Request::ListPods => None,
            Request::CreatePod(pod) => Some(key_of(pod)),
            Request::DeletePod { key, .. } | Request::PatchPodStatus { key, .. } => Some(key.clone()),
        }
    }
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Pods {
        pods: Vec<v1::Pod>,
        version: String,
    },
    Pod(Box<v1::Pod>),
    Node(Box<v1::Node>),
    Lease(Box<Lease>),
    Event(Box<v1::Event>),
    /// Granted, and nothing to be learnt from it.
    Done,
}

/// An object without a namespace is in `default`, as everywhere in Kubernetes.
pub fn key_of(pod: &v1::Pod) -> PodKey {
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    PodKey { namespace, name: pod.metadata.name.clone().unwrap_or_default() }
}

/// Why a request was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// For people; names the operation.
    pub message: String,
    /// The server's wish.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// No answer that can be used: no connection, 5xx, 429, an answer that is none of an API server's.
    Away,
    /// The credentials are not accepted: nothing works until they are.
    Unauthorized,
    Forbidden,
    NotFound,
    /// Another object than the one that was meant.
    Conflict,
    AlreadyExists,
    /// The version that a watch was to go on from is forgotten.
    Gone,
    Invalid,
}

impl Refusal {
    /// What it means to a request about the Node.
    pub fn of_node(&self) -> NodeAnswer {
        let message = self.message.clone();
        match self.kind {
            RefusalKind::Away => NodeAnswer::Unavailable { message, retry_after: self.retry_after },
            RefusalKind::NotFound => NodeAnswer::Missing,
            RefusalKind::Conflict | RefusalKind::AlreadyExists => NodeAnswer::Conflict,
            RefusalKind::Unauthorized | RefusalKind::Forbidden | RefusalKind::Gone | RefusalKind::Invalid => {
                NodeAnswer::Refused { message }
            }
        }
    }
}

/// What an answer means to the event that was posted.
pub fn of_event(outcome: &Result<Answer, Refusal>) -> EventAnswer {
    match outcome {
        Ok(Answer::Event(event)) => {
            EventAnswer::Posted { resource_version: event.metadata.resource_version.clone().unwrap_or_default() }
        }
        Ok(_) => EventAnswer::Failed,
        Err(refusal) => match refusal.kind {
            RefusalKind::Away | RefusalKind::Unauthorized => EventAnswer::Failed,
            RefusalKind::NotFound => EventAnswer::NotFound,
            RefusalKind::Forbidden
            | RefusalKind::Conflict
            | RefusalKind::AlreadyExists
            | RefusalKind::Gone
            | RefusalKind::Invalid => EventAnswer::Refused,
        },
    }
}

impl RefusalKind {
    /// Concerns the server, not the request: everything else would fare the same.
    pub fn concerns_all(self) -> bool {
        matches!(self, RefusalKind::Away | RefusalKind::Unauthorized)
    }
}
