//! The state: what the node shows, what the API server was seen to hold, and what became of each request.

use super::fact::{Change, Fact, Notice, Shown};
use super::node::{NodeAnswer, NodeFacts, NodeRequest, NodeSettings, NodeSync};
use super::reach::Reach;
use super::request::{Answer, Refusal, RefusalKind, Request};
use super::seen::Seen;
use super::status_patch::owned_part;
use crate::model::id::PodKey;
use crate::model::time::{Mono, Now};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A request that was refused for what it asks is tried again after this, each time twice as late.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_MAX: Duration = Duration::from_secs(300);
/// Between the end of a watch and the next; one that fails sooner than this says that the server is away.
const WATCH_SHORT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Cluster {
    pub(super) reach: Reach,
    pub(super) watch: Watch,
    pub(super) node: NodeSync,
    pub(super) facts: Option<Box<NodeFacts>>,
    /// Planned, and to be sent before anything else.
    pub(super) node_requests: VecDeque<NodeRequest>,
    pub(super) shown: BTreeMap<PodKey, Shown>,
    pub(super) seen: BTreeMap<PodKey, Seen>,
    pub(super) mirrors: BTreeMap<PodKey, Memory>,
    pub(super) rejections: BTreeMap<String, Rejection>,
    pub(super) in_flight: Option<Flight>,
    notices: Vec<Notice>,
    dice: u64,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Where to go on; `None`: a list comes first.
    pub version: Option<String>,
    /// A list has been taken in: what is not seen is not there.
    pub synced: bool,
    /// Something does not add up: list again.
    pub stale: bool,
    pub began: Option<Mono>,
    pub retry_at: Option<Mono>,
}

/// The one request that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub since: Mono,
    /// The status that a patch is made for.
    pub status: Option<Value>,
}

/// What is remembered of a mirror beyond the pod itself.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub sent: Option<Sent>,
    pub patched_at: Option<Mono>,
    pub refused: Option<Refused>,
    /// The server refuses the status as a successor of the one that it has.
    pub status_is_invalid: bool,
}

/// A status as it was sent and as the server took it: it may know fewer fields.
#[derive(Debug)]
pub(super) struct Sent {
    pub uid: String,
    pub ours: Value,
    pub accepted: Value,
}

#[derive(Debug)]
pub(super) struct Refused {
    pub message: String,
    pub wait: Duration,
    pub retry_at: Mono,
}

/// How often pods of one owner were rejected lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rejection {
    pub wait: Duration,
    pub last: Mono,
}

impl Cluster {
    /// `dice` is random: nodes that were started together must not act together.
    pub fn new(settings: NodeSettings, dice: u64) -> Cluster {
        Cluster {
            reach: Reach::default(),
            watch: Watch::default(),
            node: NodeSync::new(settings),
            facts: None,
            node_requests: VecDeque::new(),
            shown: BTreeMap::new(),
            seen: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            rejections: BTreeMap::new(),
            in_flight: None,
            notices: Vec::new(),
            dice: dice | 1,
        }
    }

    pub fn apply(&mut self, fact: Fact, now: Now) {
        match fact {
            Fact::Shown(pods) => self.show(pods),
            Fact::Node(facts) => self.facts = Some(facts),
            Fact::Answered { request, outcome } => self.answered(&request, outcome, now),
            Fact::Watched(changes) => {
                self.is_back(now);
                changes.into_iter().for_each(|change| self.change(change, now));
            }
            Fact::WatchEnded(refusal) => self.watch_ended(refusal, now),
        }
    }

    /// What came to pass since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.extend(self.node.take_news().into_iter().map(Notice::Node));
        std::mem::take(&mut self.notices)
    }

    /// The Node and its lease.
    pub fn node(&self) -> &NodeSync {
        &self.node
    }

    /// Why the pod's mirror is not as it should be.
    pub fn problem_of(&self, key: &PodKey) -> Option<&str> {
        self.mirrors.get(key)?.refused.as_ref().map(|refused| refused.message.as_str())
    }

    /// Why the API server is not asked.
    pub fn problem(&self) -> Option<&str> {
        self.reach.problem()
    }

    fn show(&mut self, pods: Vec<Shown>) {
        self.shown = pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect();
        let (shown, seen) = (&self.shown, &self.seen);
        self.mirrors.retain(|key, _| shown.contains_key(key) || seen.contains_key(key));
    }

    fn change(&mut self, change: Change, now: Now) {
        let version = match &change {
            Change::Is(pod) | Change::Gone(pod) => pod.metadata.resource_version.clone(),
            Change::Bookmark(version) => Some(version.clone()),
        };
        if version.is_some() {
            self.watch.version = version;
        }
        match change {
            Change::Is(pod) => self.see(Seen::of(&pod)),
            Change::Gone(pod) => {
                let gone = Seen::of(&pod);
                if self.seen.get(&gone.key).is_some_and(|pod| pod.uid == gone.uid) && gone.mirror_of.is_some() {
                    // Not by us. It may have gone with its Node, of which nobody tells.
                    self.node.look_again(now.mono);
                }
                self.lose(&gone.key, &gone.uid);
            }
            Change::Bookmark(_) => {}
        }
    }

    /// An older version than the one that is known comes late, and is no news.
    fn see(&mut self, pod: Seen) {
        let known = self.seen.get(&pod.key);
        if known.is_some_and(|known| known.uid != pod.uid) {
            // What was remembered is of another pod.
            self.mirrors.remove(&pod.key);
        }
        if pod.version == 0 || known.is_none_or(|known| pod.version >= known.version) {
            self.seen.insert(pod.key.clone(), pod);
        }
    }

    fn lose(&mut self, key: &PodKey, uid: &str) {
        if self.seen.get(key).is_some_and(|pod| pod.uid == uid) {
            self.seen.remove(key);
        }
    }

    fn watch_ended(&mut self, refusal: Option<Refusal>, now: Now) {
        let lasted = self.watch.began.take().map(|at| now.mono.since(at));
        self.watch.retry_at = Some(now.mono + WATCH_SHORT);
        match refusal {
            // One that was cut says little of the server: the next one, or the next request, will.
            Some(refusal) if refusal.kind.concerns_all() && lasted.is_none_or(|lasted| lasted < WATCH_SHORT) => {
                self.is_away(&refusal, now);
            }
            Some(refusal) if refusal.kind.concerns_all() => {}
            // From where it was to go on, it cannot: the server says what there is now.
            Some(_) => self.watch.stale = true,
            None => {}
        }
    }

    fn answered(&mut self, request: &Request, outcome: Result<Answer, Refusal>, now: Now) {
        let flight = self.in_flight.take();
        if let Request::Node(asked) = request {
            let answer = match &outcome {
                Ok(Answer::Node(node)) => NodeAnswer::Node(node.clone()),
                Ok(Answer::Lease(lease)) => NodeAnswer::Lease(lease.clone()),
                Ok(_) => {
                    NodeAnswer::Unavailable { message: "the answer fits no request".to_owned(), retry_after: None }
                }
                Err(refusal) => refusal.of_node(),
            };
            self.node.answer(asked.kind(), answer, now.mono);
        }
        let refusal = match outcome {
            Ok(answer) => {
                self.is_back(now);
                return self.granted(request, answer, flight);
            }
            Err(refusal) => refusal,
        };
        if refusal.kind.concerns_all() {
            return self.is_away(&refusal, now);
        }
        self.is_back(now);
        match request {
            Request::Node(_) | Request::Event(_) => {}
            Request::ListPods => self.watch.retry_at = Some(now.mono + REFUSED_FIRST),
            Request::CreatePod(_) => {
                // It is there, or another node's: the list tells.
                self.watch.stale |= refusal.kind == RefusalKind::AlreadyExists;
                self.refuse(request, &refusal, now);
            }
            Request::DeletePod { key, uid } => match refusal.kind {
                RefusalKind::NotFound | RefusalKind::Conflict => {
                    self.lose(key, uid);
                    self.watch.stale = true;
                }
                _ => self.refuse(request, &refusal, now),
            },
            Request::PatchPodStatus { key, patch } => match refusal.kind {
                RefusalKind::NotFound | RefusalKind::Conflict => {
                    self.lose(key, patch["metadata"]["uid"].as_str().unwrap_or_default());
                    self.watch.stale = true;
                }
                // Another pod's UID is called immutable; a container may not come back under `Never`. The list, then a
                // new mirror, are the way on.
                RefusalKind::Invalid => {
                    self.watch.stale = true;
                    self.refuse(request, &refusal, now);
                    if let Some(memory) = self.mirrors.get_mut(key) {
                        memory.status_is_invalid = true;
                    }
                }
                _ => self.refuse(request, &refusal, now),
            },
        }
    }

    fn granted(&mut self, request: &Request, answer: Answer, flight: Option<Flight>) {
        match (request, answer) {
            (Request::ListPods, Answer::Pods { pods, version }) => self.listed(pods.iter().map(Seen::of), version),
            (Request::CreatePod(_), Answer::Pod(pod)) => {
                let pod = Seen::of(&pod);
                self.mirrors.remove(&pod.key);
                self.see(pod);
            }
            (Request::DeletePod { key, uid }, _) => {
                self.lose(key, uid);
                self.mirrors.remove(key);
            }
            (Request::PatchPodStatus { key, .. }, Answer::Pod(pod)) => {
                let pod = Seen::of(&pod);
                let memory = self.mirrors.entry(key.clone()).or_default();
                memory.refused = None;
                if let Some(Flight { since, status: Some(ours) }) = flight {
                    memory.patched_at = Some(since);
                    let accepted = owned_part(&pod.status, &ours);
                    memory.sent = Some(Sent { uid: pod.uid.clone(), ours, accepted });
                }
                self.see(pod);
            }
            (Request::Node(_) | Request::Event(_), _) => {}
            // An answer that does not fit: the next list tells what there is.
            _ => self.watch.stale = true,
        }
    }

    /// What the watch has brought since the list was made is newer.
    fn listed(&mut self, pods: impl Iterator<Item = Seen>, version: String) {
        let at: u64 = version.parse().unwrap_or(0);
        let listed: BTreeMap<PodKey, Seen> = pods.map(|pod| (pod.key.clone(), pod)).collect();
        self.seen.retain(|key, known| listed.contains_key(key) || (at > 0 && known.version > at));
        for pod in listed.into_values() {
            self.see(pod);
        }
        if self.watch.began.is_none() || self.watch.version.is_none() {
            self.watch.version = Some(version);
        }
        self.watch.synced = true;
        self.watch.stale = false;
    }

    fn refuse(&mut self, request: &Request, refusal: &Refusal, now: Now) {
        let Some(key) = request.pod() else { return };
        // The Node may be gone, or another.
        self.node.look_again(now.mono);
        let memory = self.mirrors.entry(key.clone()).or_default();
        let wait = memory.refused.as_ref().map_or(REFUSED_FIRST, |old| (old.wait * 2).min(REFUSED_MAX));
        let news = memory.refused.as_ref().is_none_or(|old| old.message != refusal.message);
        let retry_at = now.mono + wait;
        memory.refused = Some(Refused { message: refusal.message.clone(), wait, retry_at });
        if let (true, Some(shown)) = (news, self.shown.get(&key)) {
            let namespace_missing = refusal.kind == RefusalKind::NotFound;
            let (uid, message) = (shown.uid.clone(), refusal.message.clone());
            self.notices.push(Notice::MirrorRefused { key, uid, namespace_missing, message });
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    fn is_away(&mut self, refusal: &Refusal, now: Now) {
        if self.reach.problem().is_none() {
            self.notices.push(Notice::Away { message: refusal.message.clone() });
        }
        let chance = self.roll();
        self.reach.failed(refusal, chance, now.mono);
    }

    fn is_back(&mut self, now: Now) {
        if self.reach.problem().is_some() {
            self.notices.push(Notice::Back);
        }
        self.reach.answered(now.mono);
    }

    /// xorshift64: no secret, only different from node to node.
    fn roll(&mut self) -> u32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        u32::try_from(self.dice >> 32).unwrap_or_default()
    }
}
