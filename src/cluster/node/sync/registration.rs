//! The Node's track: looked for, created, mended, reported.

use super::NodeSettings;
use crate::cluster::node::facts::NodeFacts;
use crate::cluster::node::object;
use crate::cluster::node::ours;
use crate::cluster::node::patch::{self, Change};
use crate::cluster::node::request::{NodeAnswer, NodeNews, NodeRequest, NodeRequestKind};
use crate::cluster::node::timing::{Backoff, spread};
use crate::model::time::{Mono, Now};
use k8s_openapi::api::core::v1::Node;
use std::time::Duration;

/// kubelet: registration is tried again after 100 ms, doubling to 7 s.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
/// What the server will not have is unlikely to please it soon.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// Once deleted it is back soon; a Node that is deleted again and again: somebody means it.
const DELETED: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// A Node that lived for so long was not deleted because it came back.
const SETTLED: Duration = Duration::from_secs(600);
/// Urgent changes are collected for that long, and hints that the Node changed too.
const BETWEEN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
enum Presence {
    /// Not asked yet, or what was known is in doubt.
    #[default]
    Unknown,
    Missing,
    There(Box<Node>),
}

/// What the facts come to beside the Node that was last seen; kept, for most turns of the loop bring nothing new.
#[derive(Debug)]
struct Judged {
    facts: NodeFacts,
    metadata_differs: bool,
    change: Change,
}

#[derive(Debug)]
pub struct Registration {
    presence: Presence,
    under_way: Option<(NodeRequestKind, Mono)>,
    judged: Option<Judged>,
    retry: Backoff,
    metadata_refused: Backoff,
    status_refused: Backoff,
    deleted: Backoff,
    /// When the Node that is there was first seen.
    since: Option<Mono>,
    looked_at: Option<Mono>,
    look_again: bool,
    /// When the status was last sent, and how long that is good for.
    reported: Option<(Mono, Duration)>,
    problem: Option<String>,
}

impl Default for Registration {
    fn default() -> Registration {
        Registration {
            presence: Presence::default(),
            under_way: None,
            judged: None,
            retry: RETRY,
            metadata_refused: REFUSED,
            status_refused: REFUSED,
            deleted: DELETED,
            since: None,
            looked_at: None,
            look_again: false,
            reported: None,
            problem: None,
        }
    }
}

/// One track's part of the plan.
#[derive(Debug, Default)]
pub struct Due {
    pub request: Option<NodeRequest>,
    pub wake_at: Option<Mono>,
}

impl Due {
    pub fn later(at: Mono) -> Due {
        Due { request: None, wake_at: Some(at) }
    }

    /// `request` once `at` has come.
    pub fn at(at: Mono, now: Mono, request: impl FnOnce() -> NodeRequest) -> Due {
        if at > now { Due::later(at) } else { Due { request: Some(request()), wake_at: None } }
    }
}

impl Registration {
    pub fn node(&self) -> Option<&Node> {
        match &self.presence {
            Presence::There(node) => Some(node),
            Presence::Unknown | Presence::Missing => None,
        }
    }

    pub fn uid(&self) -> Option<&str> {
        self.node().and_then(|node| node.metadata.uid.as_deref())
    }

    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub fn look_again(&mut self, now: Mono) {
        // A look that began now or later answers the hint; one that is under way may have been served before it.
        self.look_again |= self.node().is_some() && self.looked_at.is_none_or(|looked| looked <= now);
    }

    pub fn plan(&mut self, settings: &NodeSettings, facts: &NodeFacts, now: Now) -> Due {
        if self.under_way.is_some() {
            return Due::default();
        }
        let due = match self.retry.waits(now.mono) {
            Some(until) => Due::later(until),
            None => self.due(settings, facts, now),
        };
        if let Some(request) = &due.request {
            self.begin(settings, request.kind(), now.mono);
        }
        due
    }

    fn due(&mut self, settings: &NodeSettings, facts: &NodeFacts, now: Now) -> Due {
        let mono = now.mono;
        match &self.presence {
            Presence::Unknown => Due { request: Some(NodeRequest::GetNode), wake_at: None },
            Presence::Missing if settings.register => Due::at(self.deleted.waits(mono).unwrap_or(mono), mono, || {
                NodeRequest::CreateNode(Box::new(object::node(facts, settings.max_images, now.wall)))
            }),
            // Whoever makes it is waited for.
            Presence::Missing => {
                let next = self.looked_at.map_or(mono, |looked| looked + settings.update_every);
                Due::at(next, mono, || NodeRequest::GetNode)
            }
            Presence::There(_) if self.look_again => {
                let next = self.looked_at.map_or(mono, |looked| looked + BETWEEN);
                Due::at(next, mono, || NodeRequest::GetNode)
            }
            Presence::There(_) => self.due_of_one_that_is_there(settings, facts, now),
        }
    }

    fn due_of_one_that_is_there(&mut self, settings: &NodeSettings, facts: &NodeFacts, now: Now) -> Due {
        self.judge(settings, facts);
        let (Presence::There(node), Some(judged)) = (&self.presence, &self.judged) else { return Due::default() };
        let metadata_waits = self.metadata_refused.waits(now.mono);
        if let Some(patch) = ours::metadata_patch(facts, node).filter(|_| judged.metadata_differs)
            && metadata_waits.is_none()
        {
            return Due { request: Some(NodeRequest::PatchNode(patch)), wake_at: None };
        }
        let wait = match judged.change {
            Change::Urgent => BETWEEN,
            Change::Slow => settings.update_every,
            Change::None => Duration::MAX,
        };
        let next = match self.reported {
            Some((at, good_for)) => at + wait.min(good_for),
            // What was never reported by us may have any age.
            None => now.mono,
        };
        let next = self.status_refused.waits(now.mono).map_or(next, |until| next.max(until));
        let mut due = Due::at(next, now.mono, || {
            NodeRequest::PatchNodeStatus(patch::status_patch(facts, settings.max_images, node, now.wall))
        });
        if judged.metadata_differs {
            due.wake_at = [due.wake_at, metadata_waits].into_iter().flatten().min();
        }
        due
    }

    fn judge(&mut self, settings: &NodeSettings, facts: &NodeFacts) {
        let Presence::There(node) = &self.presence else { return };
        if self.judged.as_ref().is_some_and(|judged| judged.facts == *facts) {
            return;
        }
        self.judged = Some(Judged {
            metadata_differs: ours::metadata_patch(facts, node).is_some(),
            change: patch::change(facts, settings.max_images, node),
            facts: facts.clone(),
        });
    }

    fn begin(&mut self, settings: &NodeSettings, kind: NodeRequestKind, now: Mono) {
        self.under_way = Some((kind, now));
        match kind {
            NodeRequestKind::GetNode => {
                self.looked_at = Some(now);
                self.look_again = false;
            }
            NodeRequestKind::CreateNode => self.reported = Some((now, spread(settings.report_every, &settings.name))),
            NodeRequestKind::PatchNodeStatus => {
                let changed = self.judged.as_ref().is_none_or(|judged| judged.change != Change::None);
                let good_for =
                    if changed { spread(settings.report_every, &settings.name) } else { settings.report_every };
                self.reported = Some((now, good_for));
            }
            NodeRequestKind::PatchNode
            | NodeRequestKind::GetLease
            | NodeRequestKind::CreateLease
            | NodeRequestKind::UpdateLease => {}
        }
    }

    pub fn answer(&mut self, kind: NodeRequestKind, answer: NodeAnswer, now: Mono) -> Vec<NodeNews> {
        if self.under_way.take_if(|(under_way, _)| *under_way == kind).is_none() {
            return Vec::new();
        }
        match answer {
            NodeAnswer::Node(node) => self.found(node, kind, now),
            NodeAnswer::Missing => self.missing(kind, now),
            // Of a creation: somebody has made it meanwhile. Of a patch: it is not the Node that we knew.
            NodeAnswer::Conflict => {
                self.look_again(now);
                if kind == NodeRequestKind::CreateNode {
                    self.presence = Presence::Unknown;
                }
                self.not_reported(kind);
                // Two that work against each other do so slowly.
                self.retry.failed(now, None);
                Vec::new()
            }
            NodeAnswer::Refused { message } => {
                match kind {
                    NodeRequestKind::PatchNode => self.metadata_refused.failed(now, None),
                    NodeRequestKind::PatchNodeStatus => self.status_refused.failed(now, None),
                    _ => self.retry.failed(now, None),
                }
                self.failed(kind, message);
                Vec::new()
            }
            NodeAnswer::Unavailable { message, retry_after } => {
                self.retry.failed(now, retry_after);
                self.failed(kind, message);
                Vec::new()
            }
            NodeAnswer::Lease(_) => {
                self.retry.failed(now, None);
                self.failed(kind, "the answer is no Node".to_owned());
                Vec::new()
            }
        }
    }

    fn failed(&mut self, kind: NodeRequestKind, message: String) {
        self.problem = Some(message);
        self.not_reported(kind);
    }

    /// A report that did not arrive is due at once, as soon as the back-off allows.
    fn not_reported(&mut self, kind: NodeRequestKind) {
        if matches!(kind, NodeRequestKind::PatchNodeStatus | NodeRequestKind::CreateNode) {
            self.reported = None;
        }
    }

    fn found(&mut self, mut node: Box<Node>, kind: NodeRequestKind, now: Mono) -> Vec<NodeNews> {
        // Never looked at, and often most of the object.
        node.metadata.managed_fields = None;
        let uid = node.metadata.uid.clone().unwrap_or_default();
        let known = self.uid() == Some(uid.as_str());
        self.presence = Presence::There(node);
        self.judged = None;
        self.retry.reset();
        match kind {
            NodeRequestKind::PatchNode => self.metadata_refused.reset(),
            NodeRequestKind::PatchNodeStatus => self.status_refused.reset(),
            _ => {}
        }
        // While patches are refused, that others work is no comfort.
        if self.metadata_refused.waits(now).is_none() && self.status_refused.waits(now).is_none() {
            self.problem = None;
        }
        if known {
            return Vec::new();
        }
        self.since = Some(now);
        let created = kind == NodeRequestKind::CreateNode;
        if !created {
            // One that was here before us says what another one had to say.
            self.reported = None;
        }
        vec![NodeNews::There { uid, created }]
    }

    fn missing(&mut self, kind: NodeRequestKind, now: Mono) -> Vec<NodeNews> {
        if kind == NodeRequestKind::CreateNode {
            self.retry.failed(now, None);
            self.failed(kind, "the API server knows no Nodes".to_owned());
            return Vec::new();
        }
        let was_there = self.node().is_some();
        self.presence = Presence::Missing;
        self.judged = None;
        self.look_again = false;
        self.retry.reset();
        if !was_there {
            return Vec::new();
        }
        if self.since.take().is_some_and(|since| now.since(since) >= SETTLED) {
            self.deleted.reset();
        }
        self.deleted.failed(now, None);
        vec![NodeNews::Deleted]
    }
}
