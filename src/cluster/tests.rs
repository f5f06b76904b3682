//! Tables on the core, and a small server that keeps pods as an API server does and fails as one.

use super::fact::{Change, Fact, Notice, Shown};
use super::node::tests::fixture;
use super::node::{NodeRequest, NodeSettings};
use super::request::{Answer, Refusal, RefusalKind, Request, key_of};
use super::seen::MIRROR_ANNOTATION;
use super::{Cluster, Plan};
use crate::model::id::{PodKey, PodUid};
use crate::model::time::{Mono, Now, Wall};
use k8s_openapi::api::core::v1;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NODE: &str = "vm";

struct Desk {
    cluster: Cluster,
    now: Now,
    pods: BTreeMap<PodKey, v1::Pod>,
    version: u64,
    watching: bool,
    asked: Vec<String>,
    /// All requests, those about the Node among them.
    requests: usize,
    notices: Vec<Notice>,
    /// What every request is refused with.
    refusing: Option<(RefusalKind, &'static str)>,
    wake_at: Option<Mono>,
    /// The UID of the Node object; `None`: it is not there.
    node: Option<String>,
}

fn settings(register: bool) -> NodeSettings {
    NodeSettings {
        name: fixture::facts().name,
        register,
        lease_duration: Duration::from_secs(40),
        update_every: Duration::from_secs(10),
        report_every: Duration::from_secs(300),
        max_images: Some(50),
    }
}

fn key(name: &str) -> PodKey {
    PodKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn shown(name: &str, hash: &str, phase: &str) -> Shown {
    let object = json!({
        "metadata": { "name": name, "namespace": "default", "annotations": { "kubernetes.io/config.hash": hash } },
        "spec": { "nodeName": NODE, "containers": [] },
    });
    Shown {
        key: key(name),
        uid: PodUid::new(hash).expect("a uid"),
        hash: hash.to_owned(),
        object: Arc::new(serde_json::from_value(object).expect("a pod")),
        status: json!({ "phase": phase, "conditions": [{ "type": "Ready", "status": "True" }] }),
    }
}

impl Desk {
    fn new() -> Desk {
        let mut desk = Desk {
            cluster: Cluster::new(settings(true), 7),
            now: Now { mono: Mono(1_000_000_000_000), wall: Wall(0) },
            pods: BTreeMap::new(),
            version: 1,
            watching: false,
            asked: Vec::new(),
            requests: 0,
            notices: Vec::new(),
            refusing: None,
            wake_at: None,
            node: Some("node-uid".to_owned()),
        };
        desk.begin(true, 7);
        desk
    }

    /// An agent that begins.
    fn begin(&mut self, register: bool, dice: u64) {
        self.cluster = Cluster::new(settings(register), dice);
        self.cluster.apply(Fact::Node(Box::new(fixture::facts())), self.now);
    }

    fn answer_of_node(&mut self, request: &NodeRequest) -> Result<Answer, Refusal> {
        let missing = Refusal { kind: RefusalKind::NotFound, message: "no".to_owned(), retry_after: None };
        match request {
            NodeRequest::CreateNode(_) => self.node = Some(format!("node-uid-{}", self.version)),
            NodeRequest::GetLease => return Err(missing),
            NodeRequest::CreateLease(lease) | NodeRequest::UpdateLease(lease) => {
                return Ok(Answer::Lease(lease.clone()));
            }
            NodeRequest::GetNode | NodeRequest::PatchNode(_) | NodeRequest::PatchNodeStatus(_) => {}
        }
        let uid = self.node.clone().ok_or(missing)?;
        let mut node = fixture::registered(&fixture::facts());
        node.metadata.uid = Some(uid);
        Ok(Answer::Node(Box::new(node)))
    }

    fn show(&mut self, pods: &[Shown]) -> &mut Desk {
        self.cluster.apply(Fact::Shown(pods.to_vec()), self.now);
        self
    }

    fn pass(&mut self, time: Duration) -> &mut Desk {
        self.now.mono = self.now.mono + time;
        self
    }

    /// Puts a pod there as the server's users may, and tells the watch.
    fn put(&mut self, mut pod: v1::Pod) -> v1::Pod {
        self.version += 1;
        pod.metadata.resource_version = Some(self.version.to_string());
        pod.metadata.uid.get_or_insert_with(|| format!("uid-{}", self.version));
        self.pods.insert(key_of(&pod), pod.clone());
        self.tell(Change::Is(Box::new(pod.clone())));
        pod
    }

    fn remove(&mut self, key: &PodKey) {
        self.version += 1;
        if let Some(mut pod) = self.pods.remove(key) {
            pod.metadata.resource_version = Some(self.version.to_string());
            self.tell(Change::Gone(Box::new(pod)));
        }
    }

    fn tell(&mut self, change: Change) {
        if self.watching {
            self.cluster.apply(Fact::Watched(vec![change]), self.now);
        }
    }

    fn foreign(name: &str, owner: &str) -> v1::Pod {
        let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": owner });
        let metadata = json!({ "name": name, "namespace": "default", "ownerReferences": [owner] });
        let spec = json!({ "nodeName": NODE, "containers": [] });
        let pod = json!({ "metadata": metadata, "spec": spec, "status": { "phase": "Pending" } });
        serde_json::from_value(pod).expect("a pod")
    }

    fn answer(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let of_node = matches!(request, Request::Node(_));
        if let Some((kind, message)) = self.refusing.filter(|(kind, _)| kind.concerns_all() || !of_node) {
            return Err(Refusal { kind, message: message.to_owned(), retry_after: None });
        }
        let refusal = |kind| Err(Refusal { kind, message: "no".to_owned(), retry_after: None });
        match request {
            Request::Node(request) => self.answer_of_node(request),
            Request::Event(_) => Ok(Answer::Done),
            Request::ListPods => {
                let pods = self.pods.values().cloned().collect();
                Ok(Answer::Pods { pods, version: self.version.to_string() })
            }
            Request::CreatePod(pod) if self.pods.contains_key(&key_of(pod)) => refusal(RefusalKind::AlreadyExists),
            Request::CreatePod(pod) => {
                let mut pod = (**pod).clone();
                pod.metadata.uid = None;
                Ok(Answer::Pod(Box::new(self.put(pod))))
            }
            Request::DeletePod { key, uid } => match self.pods.get(key) {
                None => refusal(RefusalKind::NotFound),
                Some(pod) if pod.metadata.uid.as_ref() != Some(uid) => refusal(RefusalKind::Conflict),
                Some(_) => {
                    self.remove(key);
                    Ok(Answer::Done)
                }
            },
            Request::PatchPodStatus { key, patch } => match self.pods.get(key) {
                None => refusal(RefusalKind::NotFound),
                Some(pod) if patch["metadata"]["uid"] != json!(pod.metadata.uid) => refusal(RefusalKind::Conflict),
                Some(pod) => {
                    let mut pod = pod.clone();
                    let mut status = serde_json::to_value(&pod.status).expect("a status");
                    merge(&mut status, &patch["status"]);
                    pod.status = serde_json::from_value(status).expect("a status");
                    Ok(Answer::Pod(Box::new(self.put(pod))))
                }
            },
        }
    }

    /// One turn: whether anything was asked.
    fn turn(&mut self) -> bool {
        let Plan { request, watch, wake_at } = self.cluster.plan(NODE, self.now);
        self.wake_at = wake_at;
        if watch.is_some() {
            self.watching = true;
            self.asked.push("watch".to_owned());
        }
        let asked = request.is_some();
        self.requests += usize::from(asked);
        if let Some(request) = request {
            if !matches!(request, Request::Node(_)) {
                self.asked.push(brief(&request));
            }
            let outcome = self.answer(&request);
            self.cluster.apply(Fact::Answered { request: Box::new(request), outcome }, self.now);
        }
        let notices = self.cluster.take_notices().into_iter();
        self.notices.extend(notices.filter(|notice| !matches!(notice, Notice::Node(_))));
        asked || watch.is_some()
    }

    /// Everything that is due now, in the order in which it was asked for.
    fn settle(&mut self) -> Vec<String> {
        for _ in 0..100 {
            if !self.turn() {
                return std::mem::take(&mut self.asked);
            }
        }
        panic!("it never rests: {:?}", self.asked)
    }

    fn status(&self, name: &str) -> Value {
        serde_json::to_value(&self.pods[&key(name)].status).expect("a status")
    }
}

fn brief(request: &Request) -> String {
    match request {
        Request::Node(_) => "node".to_owned(),
        Request::Event(_) => "event".to_owned(),
        Request::ListPods => "list".to_owned(),
        Request::CreatePod(pod) => format!("create {}", key_of(pod).name),
        Request::DeletePod { key, .. } => format!("delete {}", key.name),
        Request::PatchPodStatus { key, .. } => format!("patch {}", key.name),
    }
}

/// Enough of a strategic merge for statuses of one condition.
fn merge(into: &mut Value, patch: &Value) {
    for (field, value) in patch.as_object().expect("an object") {
        if value.is_null() {
            into.as_object_mut().expect("an object").remove(field);
        } else if !field.starts_with('$') {
            into[field] = value.clone();
        }
    }
}

#[test]
fn a_static_pod_gets_its_mirror_and_the_mirror_its_status() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Running")]);
    assert_eq!(desk.settle(), ["list", "watch", "create web", "patch web"]);
    let pod = &desk.pods[&key("web")];
    assert_eq!(pod.metadata.annotations.as_ref().expect("some")[MIRROR_ANNOTATION], "h1");
    let owner = &pod.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("Node", "node-uid", Some(true)));
    assert_eq!(desk.status("web")["phase"], "Running");
    assert_eq!(desk.settle(), [""; 0], "nothing happens, nothing is asked");
}

#[test]
fn without_a_node_there_are_no_mirrors_and_a_new_node_gets_new_ones() {
    let mut desk = Desk::new();
    desk.node = None;
    desk.begin(false, 7);
    desk.show(&[shown("web", "h1", "Running")]);
    assert_eq!(desk.settle(), ["list", "watch"]);
    desk.node = Some("first".to_owned());
    desk.pass(Duration::from_secs(60));
    assert_eq!(desk.settle(), ["create web", "patch web"]);
    desk.node = Some("second".to_owned());
    desk.pass(Duration::from_secs(301));
    assert_eq!(desk.settle(), ["delete web", "create web", "patch web"]);
}

#[test]
fn an_edited_pod_keeps_its_mirror_until_the_new_one_takes_its_place() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Running")]).settle();
    desk.show(&[shown("web", "h2", "Pending")]);
    assert_eq!(desk.settle(), ["delete web", "create web", "patch web"]);
    desk.show(&[]);
    assert_eq!(desk.settle(), ["delete web"]);
}

#[test]
fn what_users_delete_is_back_at_once() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Running")]).settle();
    let mut pod = desk.pods[&key("web")].clone();
    pod.metadata.deletion_timestamp = Some(Wall(0).to_time());
    desk.put(pod);
    assert_eq!(desk.settle(), ["delete web", "create web", "patch web"]);
    desk.remove(&key("web"));
    assert_eq!(desk.settle(), ["create web", "patch web"]);
}

#[test]
fn orphans_of_earlier_runs_go() {
    let mut desk = Desk::new();
    let mut orphan = Desk::foreign("old", "node-uid");
    orphan.metadata.annotations = Some([(MIRROR_ANNOTATION.to_owned(), "h0".to_owned())].into());
    desk.put(orphan);
    assert_eq!(desk.settle(), ["list", "watch", "delete old"]);
}

#[test]
fn drift_is_repaired_and_what_a_webhook_adds_stays() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Running")]).settle();
    let mut pod = desk.pods[&key("web")].clone();
    pod.metadata.labels = Some([("added".to_owned(), "by-a-webhook".to_owned())].into());
    desk.put(pod.clone());
    assert_eq!(desk.settle(), [""; 0]);
    pod.status.as_mut().expect("a status").phase = Some("Failed".to_owned());
    desk.put(pod);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.settle(), ["patch web"]);
    assert_eq!(desk.status("web")["phase"], "Running");
}

#[test]
fn a_field_that_the_server_does_not_take_is_not_sent_for_ever() {
    let mut desk = Desk::new();
    let mut pod = shown("web", "h1", "Running");
    pod.status["noSuchField"] = json!("x");
    desk.show(&[pod]);
    assert_eq!(desk.settle(), ["list", "watch", "create web", "patch web"]);
    desk.pass(Duration::from_secs(3600));
    assert_eq!(desk.settle(), [""; 0]);
}

#[test]
fn a_status_that_changes_all_the_time_is_patched_once_a_second() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Pending")]).settle();
    desk.pass(Duration::from_secs(1));
    let mut patches = 0;
    for turn in 0..50 {
        desk.show(&[shown("web", "h1", if turn % 2 == 0 { "Running" } else { "Pending" })]);
        patches += desk.settle().len();
        desk.pass(Duration::from_millis(100));
    }
    assert_eq!(patches, 5);
}

#[test]
fn a_mirror_that_is_refused_is_told_once_and_retried_slowly() {
    let mut desk = Desk::new();
    desk.settle();
    desk.refusing = Some((RefusalKind::NotFound, "namespaces \"x\" not found"));
    desk.show(&[shown("web", "h1", "Running")]);
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert_eq!(desk.settle(), ["create web"]);
        desk.pass(Duration::from_millis(wait * 1000 - 1));
        assert_eq!(desk.settle(), [""; 0]);
        assert!(desk.wake_at.is_some_and(|at| at <= desk.now.mono + Duration::from_millis(1)));
        desk.pass(Duration::from_millis(1));
    }
    let told = "namespaces \"x\" not found".to_owned();
    assert_eq!(desk.cluster.problem_of(&key("web")), Some(told.as_str()));
    let uid = PodUid::new("h1").expect("a uid");
    let notice = Notice::MirrorRefused { key: key("web"), uid, namespace_missing: true, message: told };
    assert_eq!(desk.notices, [notice]);
    desk.refusing = None;
    desk.pass(Duration::from_secs(300));
    assert_eq!(desk.settle(), ["create web", "patch web"]);
    assert_eq!(desk.cluster.problem_of(&key("web")), None);
}

#[test]
fn a_server_that_is_away_is_asked_ever_less_often_and_told_of_once() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Running")]).settle();
    desk.refusing = Some((RefusalKind::Away, "no route to host"));
    desk.show(&[shown("web", "h1", "Pending")]);
    let before = desk.requests;
    for _ in 0..36_000 {
        desk.pass(Duration::from_millis(100)).settle();
    }
    let asked = desk.requests - before;
    assert!((60..200).contains(&asked), "{asked} in an hour");
    assert_eq!(desk.cluster.problem(), Some("no route to host"));
    desk.refusing = None;
    desk.pass(Duration::from_secs(60));
    assert_eq!(desk.settle(), ["patch web"]);
    assert_eq!(desk.notices, [Notice::Away { message: "no route to host".to_owned() }, Notice::Back]);
}

#[test]
fn a_foreign_pod_is_rejected_and_let_go_when_it_is_deleted() {
    let mut desk = Desk::new();
    desk.settle();
    let pod = desk.put(Desk::foreign("ds-1", "set"));
    assert_eq!(desk.settle(), ["patch ds-1"]);
    let status = desk.status("ds-1");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("StaticPodsOnly")));
    assert!(matches!(&desk.notices[..], [Notice::PodRejected { .. }]));
    let mut pod = v1::Pod { status: desk.pods[&key("ds-1")].status.clone(), ..pod };
    pod.metadata.deletion_timestamp = Some(Wall(0).to_time());
    desk.put(pod);
    assert_eq!(desk.settle(), ["delete ds-1"]);
}

#[test]
fn a_controller_that_keeps_trying_costs_little() {
    let mut desk = Desk::new();
    desk.settle();
    let mut patches = 0;
    for n in 0..3600 {
        desk.remove(&key(&format!("ds-{}", n - 1)));
        desk.put(Desk::foreign(&format!("ds-{n}"), "set"));
        patches += desk.settle().len();
        desk.pass(Duration::from_secs(1));
    }
    assert!(patches < 25, "{patches} in an hour");
}

#[test]
fn a_watch_that_cannot_go_on_begins_with_a_list() {
    let mut desk = Desk::new();
    desk.show(&[shown("web", "h1", "Running")]).settle();
    desk.watching = false;
    desk.remove(&key("web"));
    let gone = Refusal { kind: RefusalKind::Gone, message: "too old".to_owned(), retry_after: None };
    desk.cluster.apply(Fact::WatchEnded(Some(gone)), desk.now);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.settle(), ["list", "watch", "create web", "patch web"]);
}

/// The server fails at random, its users delete at random, the watch breaks at random: once all is well, it takes a
/// minute at most (the longest wait of a server that is away) until the mirrors are as they should be.
#[test]
fn mirrors_converge_whatever_happened() {
    for seed in 1..200_u64 {
        let mut desk = Desk::new();
        desk.begin(true, seed);
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut wanted = Vec::new();
        for _ in 0..200 {
            match roll(8) {
                0 => {
                    wanted =
                        (0..roll(4)).map(|n| shown(&format!("p{n}"), &format!("h{}", roll(3)), "Running")).collect();
                    desk.show(&wanted);
                }
                1 => desk.remove(&key(&format!("p{}", roll(4)))),
                2 => {
                    const KINDS: [RefusalKind; 4] =
                        [RefusalKind::Away, RefusalKind::Forbidden, RefusalKind::Conflict, RefusalKind::NotFound];
                    desk.refusing = KINDS.get(usize::try_from(roll(6)).expect("small")).map(|kind| (*kind, "no"));
                }
                3 if desk.watching => {
                    desk.watching = false;
                    let gone = Refusal { kind: RefusalKind::Gone, message: "old".to_owned(), retry_after: None };
                    let end = [None, Some(gone)][usize::try_from(roll(2)).expect("small")].clone();
                    // What happens while nobody watches is seen by the list only.
                    let missed = end.is_none();
                    desk.cluster.apply(Fact::WatchEnded(end), desk.now);
                    if missed {
                        desk.cluster.apply(
                            Fact::WatchEnded(Some(Refusal {
                                kind: RefusalKind::Gone,
                                message: "old".to_owned(),
                                retry_after: None,
                            })),
                            desk.now,
                        );
                    }
                }
                _ => {
                    desk.pass(Duration::from_millis(roll(3000)));
                    desk.turn();
                }
            }
        }
        desk.refusing = None;
        for _ in 0..400 {
            desk.pass(Duration::from_secs(1)).settle();
        }
        let there: Vec<_> = desk
            .pods
            .values()
            .map(|pod| (key_of(pod), pod.metadata.annotations.as_ref().expect("a mirror")[MIRROR_ANNOTATION].clone()))
            .collect();
        let should: Vec<_> = wanted.iter().map(|pod: &Shown| (pod.key.clone(), pod.hash.clone())).collect();
        assert_eq!(there, should, "seed {seed}");
        assert!(wanted.iter().all(|pod| desk.status(&pod.key.name)["phase"] == "Running"), "seed {seed}");
    }
}
