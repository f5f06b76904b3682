//! What is asked of the API server about Node and lease, and what it can answer.
//!
//! Vocabulary only: paths, verbs and status codes belong to whoever carries the requests.

use crate::model::id::NodeName;
use crate::model::time::Mono;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;
use std::time::Duration;

/// Every one may be sent twice: UIDs and resource versions in them keep a late one from doing harm.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeRequest {
    GetNode,
    CreateNode(Box<Node>),
    /// A strategic merge patch of labels and annotations.
    PatchNode(Value),
    /// A strategic merge patch on `/status`.
    PatchNodeStatus(Value),
    GetLease,
    CreateLease(Box<Lease>),
    UpdateLease(Box<Lease>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRequestKind {
    GetNode,
    CreateNode,
    PatchNode,
    PatchNodeStatus,
    GetLease,
    CreateLease,
    UpdateLease,
}

impl NodeRequest {
    pub fn kind(&self) -> NodeRequestKind {
        match self {
            NodeRequest::GetNode => NodeRequestKind::GetNode,
            NodeRequest::CreateNode(_) => NodeRequestKind::CreateNode,
            NodeRequest::PatchNode(_) => NodeRequestKind::PatchNode,
            NodeRequest::PatchNodeStatus(_) => NodeRequestKind::PatchNodeStatus,
            NodeRequest::GetLease => NodeRequestKind::GetLease,
            NodeRequest::CreateLease(_) => NodeRequestKind::CreateLease,
            NodeRequest::UpdateLease(_) => NodeRequestKind::UpdateLease,
        }
    }
}

impl NodeRequestKind {
    /// About the lease, not the Node: goes first in any queue.
    pub fn is_lease(self) -> bool {
        match self {
            NodeRequestKind::GetLease | NodeRequestKind::CreateLease | NodeRequestKind::UpdateLease => true,
            NodeRequestKind::GetNode
            | NodeRequestKind::CreateNode
            | NodeRequestKind::PatchNode
            | NodeRequestKind::PatchNodeStatus => false,
        }
    }
}

/// How a request ended. Each one that was planned is answered exactly once; what was never sent is `Unavailable`.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeAnswer {
    /// The object after the request.
    Node(Box<Node>),
    Lease(Box<Lease>),
    /// 404
    Missing,
    /// 409: of a creation that the object exists, else that it is not the one that was meant.
    Conflict,
    /// The server will not have this, and says why: 400, 401, 403, 422.
    Refused {
        message: String,
    },
    /// No answer, or one that says nothing about the request: 429, 5xx, garbage.
    Unavailable {
        message: String,
        retry_after: Option<Duration>,
    },
}

/// What is due now, and when to ask again. Answers and new facts are reasons to ask earlier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePlan {
    /// At most one about the lease, which comes first, and one about the Node.
    pub requests: Vec<NodeRequest>,
    /// `None`: only an answer or a fact changes anything.
    pub wake_at: Option<Mono>,
}

/// What happened to the Node, for events and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeNews {
    /// A Node with this UID is there: created by us, found, or made anew by somebody.
    There { uid: String, created: bool },
    /// Somebody deleted it.
    Deleted,
    /// Pods may be scheduled here that will not be run; the command mends it.
    LacksTaint { command: String },
    /// A condition's status is now the one that `reason` names.
    Condition { reason: &'static str },
}

impl NodeNews {
    /// The message of a condition's event, in the kubelet's words.
    pub fn condition_message(name: &NodeName, reason: &str) -> String {
        format!("Node {name} status is now: {reason}")
    }
}
