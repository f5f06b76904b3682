//! What becomes known: of this node's pods, and of the API server.

use super::node::{NodeFacts, NodeNews};
use super::request::{Answer, Refusal, Request};
use crate::model::id::{PodKey, PodUid};
use k8s_openapi::api::core::v1;
use serde_json::Value;
use std::sync::Arc;

/// A pod of this node as its mirror is to show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: PodKey,
    /// The static UID, which the API server does not know.
    pub uid: PodUid,
    /// `kubernetes.io/config.hash`.
    pub hash: String,
    /// As admitted. What is local to this node's list (creation and deletion times, status) is not in it.
    pub object: Arc<v1::Pod>,
    pub status: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// All pods of the node, one per namespace/name. One that is being terminated is among them until nothing of it is
    /// left.
    Shown(Vec<Shown>),
    /// What the Node object is to say.
    Node(Box<NodeFacts>),
    Answered {
        request: Box<Request>,
        outcome: Result<Answer, Refusal>,
    },
    Watched(Vec<Change>),
    /// The watch is over, in good order or not.
    WatchEnded(Option<Refusal>),
}

/// One event of the watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Is(Box<v1::Pod>),
    Gone(Box<v1::Pod>),
    /// Nothing but a version to go on from.
    Bookmark(String),
}

/// Worth a line in the log and an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The API server does not want the mirror pod of a static pod.
    MirrorRefused {
        key: PodKey,
        uid: PodUid,
        namespace_missing: bool,
        message: String,
    },
    /// A pod that the API server bound to this node will not be run.
    PodRejected {
        key: PodKey,
        uid: String,
        message: String,
    },
    /// The API server is away (once per outage), and is back.
    Away {
        message: String,
    },
    Back,
    Node(NodeNews),
}
