//! The loop's side of an API server: shows it the node's pods, carries out what the second core plans, hears answers.
//!
//! Two lanes, and so at most two connections: one for requests, one for the watch. Nothing here reaches a pod.

use super::api::{self, Watched, Watching};
use super::node::Node;
use super::node_facts::{self, NodeReadings};
use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use crate::apiserver::{Client, ClientError};
use crate::cluster::Cluster;
use crate::cluster::fact::{Fact, Notice, Shown};
use crate::cluster::node::{NodeNews, Pressures, Readiness};
use crate::http::TrustedTime;
use crate::model::time::{Mono, Now};
use crate::reconcile::state::{NodeState, PodState};
use crate::reconcile::status::pod_status;
use crate::sys::clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What changes within this time is shown at once: a start is a burst of facts.
const COALESCE: Duration = Duration::from_millis(50);
/// Words that change with time alone are looked at this often.
const REFRESH: Duration = Duration::from_secs(10);
/// The machine itself is read this often.
const READ_EVERY: Duration = Duration::from_secs(60);

pub struct ClusterLink {
    pub(super) core: Cluster,
    client: Arc<Client>,
    /// Facts have come since the pods were shown.
    dirty: bool,
    shown_at: Option<Mono>,
    readings: Option<NodeReadings>,
    read_at: Option<Mono>,
}

impl ClusterLink {
    /// `None` for a node that stands alone.
    pub fn of(node: &Node) -> Result<Option<ClusterLink>, ClientError> {
        let Some(kubeconfig) = &node.config.kubeconfig else { return Ok(None) };
        let time = Arc::new(TrustedTime::default());
        let agent = concat!("pinlet/", env!("CARGO_PKG_VERSION"));
        let client = Arc::new(Client::new(kubeconfig, agent, time)?);
        let dice = clock::random_bytes::<8>().map(u64::from_ne_bytes).unwrap_or(1);
        let core = Cluster::new(node_facts::node_settings(node), dice);
        log::info!("the API server is {}", client.server());
        Ok(Some(ClusterLink { core, client, dirty: true, shown_at: None, readings: None, read_at: None }))
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// When the pods are to be shown next.
    fn due_at(&self) -> Option<Mono> {
        let wait = if self.dirty { COALESCE } else { REFRESH };
        self.shown_at.map(|at| at + wait)
    }
}

/// Of a name the pod that is there, not one that waits for it to go.
fn shown_pods(state: &NodeState, now: Now) -> Vec<Shown> {
    let mut pods: BTreeMap<_, &PodState> = BTreeMap::new();
    for pod in state.pods() {
        pods.entry(pod.pod.key.clone()).or_insert(pod);
    }
    pods.into_iter().map(|(key, pod)| shown(key, pod, state, now)).collect()
}

fn shown(key: crate::model::id::PodKey, pod: &PodState, state: &NodeState, now: Now) -> Shown {
    let mut object = pod.pod.object.clone();
    object.status = None;
    let seen = pod.created.rfc3339_nanos();
    object.metadata.annotations.get_or_insert_default().insert("kubernetes.io/config.seen".to_owned(), seen);
    Shown {
        key,
        uid: pod.pod.uid.clone(),
        hash: pod.pod.hash.clone(),
        object: Arc::new(object),
        status: serde_json::to_value(pod_status(pod, state, now)).unwrap_or_default(),
    }
}

impl Agent {
    /// One turn of the second core; when it wants another.
    pub(super) fn serve_cluster(&mut self, now: Now) -> Option<Mono> {
        self.read_node(now);
        let link = self.cluster.as_mut()?;
        if link.due_at().is_none_or(|at| at <= now.mono) {
            link.core.apply(Fact::Shown(shown_pods(&self.core, now)), now);
            if let Some(readings) = &link.readings {
                let addresses = self.core.node_address().into_iter().collect();
                let (pressures, readiness) = (Pressures::default(), Readiness::Ready);
                let facts = node_facts::node_facts(&self.node, readings, addresses, pressures, readiness);
                link.core.apply(Fact::Node(Box::new(facts)), now);
            }
            link.dirty = false;
            link.shown_at = Some(now.mono);
        }
        let plan = link.core.plan(self.node.name.as_str(), now);
        let (client, node) = (Arc::clone(&link.client), Arc::clone(&self.node));
        for notice in link.core.take_notices() {
            tell(&notice);
        }
        let due = [link.due_at(), plan.wake_at].into_iter().flatten().min();
        if let Some(request) = plan.request {
            self.workers.submit(Lane::Api, "api", now.mono, move || {
                let outcome = api::perform(&client, node.name.as_str(), &request);
                Outcome::Cluster(Box::new(Fact::Answered { request: Box::new(request), outcome }))
            });
        }
        if let Some(version) = plan.watch {
            self.follow(Watching::Begin { version }, now);
        }
        due
    }

    fn read_node(&mut self, now: Now) {
        let Some(link) = &mut self.cluster else { return };
        if link.read_at.is_some_and(|at| now.mono.since(at) < READ_EVERY) {
            return;
        }
        link.read_at = Some(now.mono);
        let node = Arc::clone(&self.node);
        self.workers.submit(Lane::NodeReadings, "node", now.mono, move || {
            Outcome::NodeReadings(Box::new(NodeReadings::read(&node)))
        });
    }

    pub(super) fn take_readings(&mut self, readings: NodeReadings) {
        if let Some(link) = &mut self.cluster {
            // Nobody has to wait for a change of the machine.
            link.dirty |= link.readings.is_none();
            link.readings = Some(readings);
        }
    }

    fn follow(&mut self, watching: Watching, now: Now) {
        let Some(link) = &self.cluster else { return };
        let (client, node) = (Arc::clone(&link.client), Arc::clone(&self.node));
        self.workers.submit(Lane::ApiWatch, "watch", now.mono, move || {
            Outcome::Watched(Box::new(api::follow(&client, node.name.as_str(), watching)))
        });
    }

    pub(super) fn take_cluster_fact(&mut self, fact: Fact, now: Now) {
        if let Some(link) = &mut self.cluster {
            link.core.apply(fact, now);
        }
    }

    pub(super) fn take_watched(&mut self, watched: Watched, now: Now) {
        if !watched.changes.is_empty() {
            self.take_cluster_fact(Fact::Watched(watched.changes), now);
        }
        match watched.next {
            Ok(watching) => self.follow(watching, now),
            Err(refusal) => self.take_cluster_fact(Fact::WatchEnded(refusal), now),
        }
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::MirrorRefused { key, message, .. } => log::warn!("{key}: its mirror pod is refused: {message}"),
        Notice::PodRejected { key, message, .. } => log::warn!("{key}, bound here by the API server: {message}"),
        Notice::Away { message } => log::warn!("the API server does not answer; pods go on: {message}"),
        Notice::Back => log::info!("the API server answers again"),
        Notice::Node(NodeNews::There { uid, created: true }) => log::info!("the Node is registered (UID {uid})"),
        Notice::Node(NodeNews::There { uid, created: false }) => log::info!("the Node is there (UID {uid})"),
        Notice::Node(NodeNews::Deleted) => log::warn!("somebody deleted the Node"),
        Notice::Node(NodeNews::LacksTaint { command }) => {
            log::warn!("the Node lacks the taint that keeps other pods away: {command}");
        }
        Notice::Node(NodeNews::Condition { reason }) => log::debug!("the Node's status is now: {reason}"),
    }
}
