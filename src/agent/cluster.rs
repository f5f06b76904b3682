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
use crate::cluster::events::{Happening, Subject};
use crate::cluster::fact::{Fact, Notice, Shown};
use crate::cluster::node::NodeNews;
use crate::cluster::request::{Request, of_event};
use crate::config::Config;
use crate::http::TrustedTime;
use crate::model::id::PodUid;
use crate::model::time::{Mono, Now};
use crate::reconcile::state::{NodeState, PodState};
use crate::reconcile::status::pod_status;
use crate::server::wire::Problem;
use crate::sys::clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What changes within this time is shown at once: a start is a burst of facts.
const COALESCE: Duration = Duration::from_millis(50);
/// Words that change with time alone are looked at this often.
const REFRESH: Duration = Duration::from_secs(10);
/// The machine itself is read this often: what it is short of is told soon.
const READ_EVERY: Duration = Duration::from_secs(30);

pub struct ClusterLink {
    pub(super) core: Cluster,
    client: Arc<Client>,
    /// Facts have come since the pods were shown.
    dirty: bool,
    shown_at: Option<Mono>,
    readings: Option<NodeReadings>,
    read_at: Option<Mono>,
}

/// `None` for a node that stands alone. A kubeconfig that cannot be used is told before anything is touched.
pub fn client(config: &Config) -> Result<Option<Client>, ClientError> {
    let Some(kubeconfig) = &config.kubeconfig else { return Ok(None) };
    let agent = concat!("pinlet/", env!("CARGO_PKG_VERSION"));
    Client::new(kubeconfig, agent, Arc::new(TrustedTime::default())).map(Some)
}

impl ClusterLink {
    pub fn new(node: &Node, client: Client) -> ClusterLink {
        let dice = clock::random_bytes::<8>().map(u64::from_ne_bytes).unwrap_or(1);
        let core = Cluster::new(node_facts::node_settings(node), dice);
        log::info!("the API server is {}", client.server());
        let client = Arc::new(client);
        ClusterLink { core, client, dirty: true, shown_at: None, readings: None, read_at: None }
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// What the API server does not know or want of this node.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let away = self.core.problem().map(|why| format!("the API server is not reached, and pods go on: {why}"));
        let node = self.core.node().problems().map(|why| format!("the Node is not as it should be: {why}"));
        let mut problems: Vec<Problem> = away.into_iter().chain(node).map(Problem::new).collect();
        problems.extend(self.core.node().lacks_taint().map(|command| Problem {
            text: "the Node lacks the taint that keeps other pods away".to_owned(),
            hint: Some(command),
        }));
        problems
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
        let readiness = self.readiness();
        let link = self.cluster.as_mut()?;
        if link.due_at().is_none_or(|at| at <= now.mono) {
            link.core.apply(Fact::Shown(shown_pods(&self.core, now)), now);
            if let Some(readings) = &link.readings {
                let addresses = self.core.node_address().into_iter().collect();
                let facts = node_facts::node_facts(&self.node, readings, addresses, readiness);
                link.core.apply(Fact::Node(Box::new(facts)), now);
            }
            link.dirty = false;
            link.shown_at = Some(now.mono);
        }
        let plan = link.core.plan(self.node.name.as_str(), now);
        let (client, node) = (Arc::clone(&link.client), Arc::clone(&self.node));
        let notices = link.core.take_notices();
        let mut due = [link.due_at(), plan.wake_at].into_iter().flatten().min();
        for notice in notices {
            self.tell_notice(&notice, now);
        }
        let request = plan.request.or_else(|| self.event_to_post(now));
        // What waits for its turn comes with the answer that ends the one of now.
        due = due.into_iter().chain(self.events.due_at().filter(|at| *at > now.mono)).min();
        if let Some(request) = request {
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

    /// After everything else. Where the server is away, events wait for it here.
    fn event_to_post(&mut self, now: Now) -> Option<Request> {
        let link = self.cluster.as_mut()?;
        if self.events.due_at().is_none_or(|at| at > now.mono) || !link.core.take_turn(now) {
            return None;
        }
        match self.events.due(now) {
            Some(post) => Some(Request::Event(Box::new(post))),
            None => {
                link.core.give_turn_back();
                None
            }
        }
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
            link.dirty |= link.readings.as_ref() != Some(&readings);
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
        if let Fact::Answered { request, outcome } = &fact
            && let Request::Event(post) = &**request
        {
            self.events.answered(post.id, of_event(outcome), now);
        }
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

    /// A line in the log, and what a kubelet would tell by an event.
    fn tell_notice(&mut self, notice: &Notice, now: Now) {
        match notice {
            Notice::MirrorRefused { key, uid, message, .. } => {
                log::warn!("{key}: its mirror pod is refused: {message}");
                let subject = Subject::Pod { key: key.clone(), uid: uid.clone() };
                self.tell(vec![Happening::warning(subject, "FailedCreateMirrorPod", message.clone())], now);
            }
            Notice::PodRejected { key, uid, message } => {
                log::warn!("{key}, bound here by the API server: {message}");
                if let Some(uid) = PodUid::new(uid) {
                    let subject = Subject::Pod { key: key.clone(), uid };
                    self.tell(vec![Happening::warning(subject, "StaticPodsOnly", message.clone())], now);
                }
            }
            Notice::Away { message } => log::warn!("the API server does not answer; pods go on: {message}"),
            Notice::Back => {
                log::info!("the API server answers again");
                self.events.outage_over(now);
            }
            Notice::Node(news) => self.tell_of_node(news, now),
        }
    }

    fn tell_of_node(&mut self, news: &NodeNews, now: Now) {
        let subject = || Subject::node(&self.node.name);
        match news {
            NodeNews::There { uid, created: true } => log::info!("the Node is registered (UID {uid})"),
            NodeNews::There { uid, created: false } => log::info!("the Node is there (UID {uid})"),
            NodeNews::Deleted => log::warn!("somebody deleted the Node"),
            NodeNews::LacksTaint { command } => {
                log::warn!("the Node lacks the taint that keeps other pods away: {command}");
                let message = format!("pods may be scheduled here that are not run: {command}");
                self.tell(vec![Happening::warning(subject(), "TaintMissing", message)], now);
            }
            NodeNews::Condition { reason } => {
                let message = NodeNews::condition_message(&self.node.name, reason);
                self.tell(vec![Happening::normal(subject(), reason, message)], now);
            }
        }
    }
}
