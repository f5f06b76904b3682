//! Decides: which request is due, whether to watch, and when to look again.
//!
//! One request is under way at a time; what comes first is decided anew for each, so that nothing waits behind a queue
//! that is out of date.

use super::fact::{Notice, Shown};
use super::request::Request;
use super::seen::{MIRROR_ANNOTATION, Seen};
use super::status_patch::{owned_part, status_patch};
use super::sync::{Cluster, Flight, Rejection, Sent};
use crate::model::id::PodKey;
use crate::model::time::{Mono, Now};
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// Of one pod's status no more than this many patches: what changes faster is coalesced.
const PATCH_GAP: Duration = Duration::from_secs(1);
/// Between rejections of pods of one owner, at first and at last; forgotten after a while without any.
const REJECT_FIRST: Duration = Duration::from_secs(1);
const REJECT_MAX: Duration = Duration::from_secs(300);
const REJECT_FORGOTTEN: Duration = Duration::from_secs(1800);
/// What a pod that the API server bound to this node is told.
const REJECT_REASON: &str = "StaticPodsOnly";
const REJECT_MESSAGE: &str = "Pod was rejected: this node runs static pods only";

/// What is due now.
#[derive(Debug, Default)]
pub struct Plan {
    pub request: Option<Request>,
    /// A watch is to be begun from this version.
    pub watch: Option<String>,
    pub wake_at: Option<Mono>,
}

/// What one pod wants.
enum Step {
    Nothing,
    Later(Mono),
    Do(Request),
}

impl Cluster {
    /// `node` is the name of this node.
    pub fn plan(&mut self, node: &str, now: Now) -> Plan {
        let mut plan = Plan::default();
        if let Some(facts) = &self.facts {
            let due = self.node.plan(facts, now);
            self.node_requests.extend(due.requests);
            due.wake_at.into_iter().for_each(|at| wake(&mut plan, at));
        }
        if let Some(at) = self.reach.wait_to_ask(now.mono) {
            // Nothing can be asked before.
            plan.wake_at = Some(at);
            return plan;
        }
        if self.in_flight.is_none() {
            self.choose(node, now, &mut plan);
        }
        if self.watch.synced && self.watch.began.is_none() && !self.watch.stale {
            match self.watch.retry_at.filter(|at| *at > now.mono) {
                Some(at) => wake(&mut plan, at),
                None => {
                    self.watch.began = Some(now.mono);
                    plan.watch = self.watch.version.clone();
                }
            }
        }
        plan
    }

    /// Whether a request may be made that this core did not plan: nothing is due, nothing is under way, and the server
    /// was there when it was last asked. It is under way then.
    pub fn take_turn(&mut self, now: Now) -> bool {
        let free = self.in_flight.is_none() && self.reach.problem().is_none() && self.watch.synced;
        if free {
            self.in_flight = Some(Flight { since: now.mono, status: None });
        }
        free
    }

    /// There was nothing to ask after all.
    pub fn give_turn_back(&mut self) {
        self.in_flight = None;
    }

    fn choose(&mut self, node: &str, now: Now, plan: &mut Plan) {
        let request = if let Some(request) = self.node_requests.pop_front() {
            Some(Request::Node(request))
        } else if !self.watch.synced || self.watch.stale {
            match self.watch.retry_at.filter(|at| *at > now.mono) {
                Some(at) => return wake(plan, at),
                None => Some(Request::ListPods),
            }
        } else {
            self.pod_request(node, now, plan)
        };
        let Some(request) = request else { return };
        let status = match &request {
            Request::PatchPodStatus { key, .. } => self.shown.get(key).map(|shown| shown.status.clone()),
            Request::Node(_)
            | Request::Event(_)
            | Request::ListPods
            | Request::CreatePod(_)
            | Request::DeletePod { .. } => None,
        };
        if request.pod().is_some() {
            self.reach.wrote(now.mono);
        }
        self.in_flight = Some(Flight { since: now.mono, status });
        plan.request = Some(request);
    }

    fn pod_request(&mut self, node: &str, now: Now, plan: &mut Plan) -> Option<Request> {
        if let Some(at) = self.reach.wait_to_write(now.mono) {
            wake(plan, at);
            return None;
        }
        let keys: BTreeSet<PodKey> = self.seen.keys().chain(self.shown.keys()).cloned().collect();
        for key in keys {
            let refused = self.mirrors.get(&key).and_then(|memory| memory.refused.as_ref());
            if let Some(at) = refused.map(|refused| refused.retry_at).filter(|at| *at > now.mono) {
                wake(plan, at);
                continue;
            }
            match self.step(&key, node, now) {
                Step::Nothing => {}
                Step::Later(at) => wake(plan, at),
                Step::Do(request) => return Some(request),
            }
        }
        None
    }

    fn step(&mut self, key: &PodKey, node: &str, now: Now) -> Step {
        match (self.seen.get(key), self.shown.get(key)) {
            (None, None) => Step::Nothing,
            (Some(seen), _) if seen.mirror_of.is_none() => self.reject(key, now),
            (Some(seen), Some(shown)) if self.is_mirror_of(seen, shown) => self.status_step(key, now),
            (Some(seen), _) => Step::Do(Request::DeletePod { key: key.clone(), uid: seen.uid.clone() }),
            // Without its Node a mirror would be collected as garbage.
            (None, Some(shown)) => match self.node.uid() {
                Some(uid) => Step::Do(Request::CreatePod(Box::new(mirror(shown, node, uid)))),
                None => Step::Nothing,
            },
        }
    }

    /// kubelet: `IsMirrorPodOf`, and that nobody has deleted it. What a webhook added is not looked at.
    fn is_mirror_of(&self, seen: &Seen, shown: &Shown) -> bool {
        let owned = self.node.uid().is_none_or(|uid| seen.owners.iter().eq([uid]));
        seen.mirror_of.as_ref() == Some(&shown.hash) && owned && !seen.is_deleted
    }

    fn status_step(&mut self, key: &PodKey, now: Now) -> Step {
        let (Some(seen), Some(shown)) = (self.seen.get(key), self.shown.get(key)) else { return Step::Nothing };
        let memory = self.mirrors.entry(key.clone()).or_default();
        let theirs = owned_part(&seen.status, &shown.status);
        if memory.sent.as_ref().is_some_and(|s| s.uid == seen.uid && s.ours == shown.status && s.accepted == theirs) {
            return Step::Nothing;
        }
        let Some(patch) = status_patch(&seen.uid, &seen.status, &shown.status) else {
            memory.sent = Some(Sent { uid: seen.uid.clone(), ours: shown.status.clone(), accepted: theirs });
            return Step::Nothing;
        };
        if memory.status_is_invalid {
            return Step::Do(Request::DeletePod { key: key.clone(), uid: seen.uid.clone() });
        }
        match memory.patched_at.map(|at| at + PATCH_GAP).filter(|at| *at > now.mono) {
            Some(at) => Step::Later(at),
            None => Step::Do(Request::PatchPodStatus { key: key.clone(), patch }),
        }
    }

    /// A pod that is no mirror is never run. It is told so, and let go when somebody deletes it.
    fn reject(&mut self, key: &PodKey, now: Now) -> Step {
        let Some(seen) = self.seen.get(key) else { return Step::Nothing };
        if seen.is_deleted {
            return Step::Do(Request::DeletePod { key: key.clone(), uid: seen.uid.clone() });
        }
        if seen.is_terminal() {
            return Step::Nothing;
        }
        self.rejections.retain(|_, rejection| now.mono.since(rejection.last) < REJECT_FORGOTTEN);
        let owner = seen.owners.first().unwrap_or(&seen.uid).clone();
        let wait = match self.rejections.get(&owner) {
            Some(rejection) => match rejection.last + rejection.wait {
                at if at > now.mono => return Step::Later(at),
                _ => (rejection.wait * 2).min(REJECT_MAX),
            },
            None => REJECT_FIRST,
        };
        self.rejections.insert(owner, Rejection { wait, last: now.mono });
        let (key, uid) = (key.clone(), seen.uid.clone());
        let status = json!({ "phase": "Failed", "reason": REJECT_REASON, "message": REJECT_MESSAGE });
        let patch = json!({ "metadata": { "uid": uid }, "status": status });
        self.notice(Notice::PodRejected { key: key.clone(), uid, message: REJECT_MESSAGE.to_owned() });
        Step::Do(Request::PatchPodStatus { key, patch })
    }
}

/// kubelet: `mirror_client.go`. The UID that is sent is the static one; the server gives its own.
fn mirror(shown: &Shown, node: &str, node_uid: &str) -> v1::Pod {
    let mut pod = (*shown.object).clone();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR_ANNOTATION.to_owned(), shown.hash.clone());
    pod.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    pod.status = Some(v1::PodStatus { phase: Some("Pending".to_owned()), ..v1::PodStatus::default() });
    pod
}

fn wake(plan: &mut Plan, at: Mono) {
    plan.wake_at = Some(plan.wake_at.map_or(at, |before| before.min(at)));
}
