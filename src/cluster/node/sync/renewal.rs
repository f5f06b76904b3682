//! The lease's track: looked for, created, renewed. It begins when the Node is there, for the lease names its UID.

use super::NodeSettings;
use super::registration::Due;
use crate::cluster::node::lease;
use crate::cluster::node::request::{NodeAnswer, NodeRequest, NodeRequestKind};
use crate::cluster::node::timing::Backoff;
use crate::model::time::{Mono, Now};
use k8s_openapi::api::coordination::v1::Lease;
use std::time::Duration;

/// kubelet: 200 ms, doubling to 7 s.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Missing,
    There(Box<Lease>),
}

#[derive(Debug)]
pub struct Renewal {
    known: Known,
    under_way: Option<(NodeRequestKind, Mono)>,
    /// When the last renewal that succeeded was asked for.
    renewed: Option<Mono>,
    /// Of which Node it was the lease then.
    owner: Option<String>,
    retry: Backoff,
    problem: Option<String>,
}

impl Default for Renewal {
    fn default() -> Renewal {
        Renewal { known: Known::default(), under_way: None, renewed: None, owner: None, retry: RETRY, problem: None }
    }
}

impl Renewal {
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub fn plan(&mut self, settings: &NodeSettings, uid: Option<&str>, now: Now) -> Due {
        let (None, Some(uid)) = (&self.under_way, uid) else { return Due::default() };
        if let Some(until) = self.retry.waits(now.mono) {
            return Due::later(until);
        }
        if self.owner.as_deref() != Some(uid) {
            // A new Node: renewed at once, for the garbage collector takes what belongs to the old one. That nothing
            // was renewed while there was no Node is no outage.
            self.renewed = None;
        }
        let (name, duration) = (&settings.name, settings.lease_duration);
        let due = match &self.known {
            Known::Nothing => Due { request: Some(NodeRequest::GetLease), wake_at: None },
            Known::Missing => {
                let lease = lease::new(name, uid, duration, now.wall);
                Due { request: Some(NodeRequest::CreateLease(Box::new(lease))), wake_at: None }
            }
            Known::There(seen) => {
                let next = self.renewed.map_or(now.mono, |at| at + lease::renew_every(duration));
                Due::at(next, now.mono, || {
                    let seen = Lease::clone(seen);
                    NodeRequest::UpdateLease(Box::new(lease::renewed(seen, name, uid, duration, now.wall)))
                })
            }
        };
        if let Some(request) = &due.request {
            self.under_way = Some((request.kind(), now.mono));
            if request.kind() != NodeRequestKind::GetLease {
                self.owner = Some(uid.to_owned());
            }
        }
        due
    }

    /// True where the Node should be looked at: it may be gone with its lease, or have been declared `Unknown`.
    pub fn answer(&mut self, settings: &NodeSettings, kind: NodeRequestKind, answer: NodeAnswer, now: Mono) -> bool {
        let Some((_, asked)) = self.under_way.take_if(|(under_way, _)| *under_way == kind) else { return false };
        match answer {
            NodeAnswer::Lease(lease) => {
                self.known = Known::There(lease);
                self.retry.reset();
                self.problem = None;
                if kind == NodeRequestKind::GetLease {
                    return false;
                }
                let last = self.renewed.replace(asked);
                last.is_some_and(|last| now.since(last) > settings.lease_duration)
            }
            NodeAnswer::Missing if kind == NodeRequestKind::CreateLease => {
                self.failed(format!("namespace {} is missing", lease::NAMESPACE), None, now)
            }
            NodeAnswer::Missing => {
                let vanished = matches!(self.known, Known::There(_));
                self.known = Known::Missing;
                vanished
            }
            NodeAnswer::Conflict => {
                // Somebody else wrote it: what is there now is read, and renewed at once.
                self.known = Known::Nothing;
                self.owner = None;
                self.failed("the lease was written by somebody else".to_owned(), None, now)
            }
            NodeAnswer::Refused { message } => self.failed(message, None, now),
            NodeAnswer::Unavailable { message, retry_after } => self.failed(message, retry_after, now),
            NodeAnswer::Node(_) => self.failed("the answer is no Lease".to_owned(), None, now),
        }
    }

    fn failed(&mut self, message: String, retry_after: Option<Duration>, now: Mono) -> bool {
        self.problem = Some(message);
        self.retry.failed(now, retry_after);
        false
    }
}
