//! Something that happened, as the recorder is told of it: about what, how bad, and in which words.

use crate::model::id::{ContainerName, NodeName, PodKey, PodUid};
use crate::model::pod::StaticPod;
use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    pub subject: Subject,
    pub severity: Severity,
    /// In CamelCase, for machines: `Started`.
    pub reason: &'static str,
    pub message: Cow<'static, str>,
}

/// What an event is about. The UID is the static pod's own, not the mirror's: `kubectl describe` looks for it too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Pod { key: PodKey, uid: PodUid },
    Container { key: PodKey, uid: PodUid, container: ContainerName },
    Node { name: NodeName },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Happening {
    pub fn normal(subject: Subject, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Happening {
        Happening { subject, severity: Severity::Normal, reason, message: message.into() }
    }

    pub fn warning(subject: Subject, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Happening {
        Happening { subject, severity: Severity::Warning, reason, message: message.into() }
    }
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

impl Subject {
    pub fn pod(pod: &StaticPod) -> Subject {
        Subject::Pod { key: pod.key.clone(), uid: pod.uid.clone() }
    }

    pub fn container(pod: &StaticPod, container: &ContainerName) -> Subject {
        Subject::Container { key: pod.key.clone(), uid: pod.uid.clone(), container: container.clone() }
    }

    pub fn node(name: &NodeName) -> Subject {
        Subject::Node { name: name.clone() }
    }

    /// The object without the part of it: what events are combined and limited by.
    pub(super) fn object(&self) -> Object<'_> {
        match self {
            Subject::Pod { key, uid } | Subject::Container { key, uid, .. } => Object::Pod(key, uid),
            Subject::Node { name } => Object::Node(name),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Object<'a> {
    Pod(&'a PodKey, &'a PodUid),
    Node(&'a NodeName),
}
