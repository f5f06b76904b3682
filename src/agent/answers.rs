//! What the loop answers to clients: views of the state, made when asked for.

use super::node::Node;
use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use super::{explain, images};
use crate::model::id::{ContainerName, PodKey};
use crate::model::time::Now;
use crate::reconcile::state::PodState;
use crate::reconcile::status;
use crate::server::query::{Answer, LogPlace, LogRequest, Pending, Query, Reply, Session};
use crate::server::wire::{ExecRequest, ImportOutcome, StopProgress, VersionInfo};
use std::path::PathBuf;
use std::sync::Arc;

impl Agent {
    pub(super) fn answer_queries(&mut self, now: Now) {
        for Pending { query, reply } in self.queries.try_iter().collect::<Vec<_>>() {
            self.answer(query, reply, now);
        }
    }

    fn answer(&mut self, query: Query, reply: Reply, now: Now) {
        match query {
            Query::Health => reply.send(Answer::Healthy),
            Query::Version => reply.send(Answer::Version(VersionInfo {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
            })),
            Query::Pods => {
                let pods = self.core.pods().map(|pod| status::pod_object(pod, &self.core, now));
                reply.send(Answer::Pods(pods.chain(explain::waiting_pods(&self.core)).collect()));
            }
            Query::Events => reply.send(Answer::Events(self.events.events(now))),
            Query::Manifests => reply.send(Answer::Manifests(self.manifests_report(now))),
            Query::Explain(target) => reply.send(self.explain(&target, now)),
            Query::Images => {
                let node = Arc::clone(&self.node);
                self.workers.submit(Lane::Queries, "list images", now.mono, move || {
                    reply.send(images::list(&node));
                    Outcome::Nothing
                });
            }
            Query::Node => self.show_node(reply, now),
            Query::StopProgress => reply.send(Answer::StopProgress(self.stop_progress())),
            Query::Import(paths) => self.import(paths, reply, now),
            Query::Log(request) => reply.send(self.log_place(&request)),
            Query::Exec { pod, container, request } => reply.send(self.exec(&pod, &container, request)),
        }
    }

    fn stop_progress(&self) -> StopProgress {
        let left = self.core.pods().filter(|p| !p.is_stopped()).map(|p| p.pod.key.to_string());
        StopProgress {
            marker_seen: self.core.stop_marker(),
            left: left.collect(),
            largest_grace_seconds: self.core.pods().map(|p| p.pod.grace.as_secs()).max().unwrap_or(0),
        }
    }

    fn import(&mut self, paths: Vec<PathBuf>, reply: Reply, now: Now) {
        let node = Arc::clone(&self.node);
        self.workers.submit(Lane::Images, "import", now.mono, move || {
            let outcomes: Vec<ImportOutcome> = paths.into_iter().map(|path| import_one(&node, path)).collect();
            // An archive may bring some of its images although another one is refused.
            let gained = outcomes.iter().any(|o| !o.names.is_empty());
            reply.send(Answer::Imported(outcomes));
            match gained {
                true => Outcome::Facts(vec![crate::reconcile::event::Event::ImagesChanged]),
                false => Outcome::Nothing,
            }
        });
    }

    fn log_place(&self, request: &LogRequest) -> Answer {
        let (pod, container) = match self.container(&request.pod, &request.container) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let state = pod.container(&container);
        let running = state.and_then(|c| c.running());
        let ended = state.and_then(|c| c.last.as_ref()).map(|e| &e.termination);
        let attempt = match (request.previous, running, ended) {
            (false, Some(running), _) => Some(running.attempt),
            (false, None, Some(ended)) => Some(ended.attempt),
            (true, Some(_), Some(ended)) => Some(ended.attempt),
            (true, None, Some(_)) => state.and_then(|c| c.previous.as_ref()).map(|t| t.attempt),
            (_, _, None) => None,
        };
        let Some(attempt) = attempt else {
            let (container, name) = (&request.container, &pod.pod.key.name);
            let message = if request.previous {
                format!("previous terminated container {container:?} in pod {name:?} not found")
            } else {
                format!(
                    "container {container:?} in pod {name:?} is waiting to start: {}",
                    self.waiting(pod, &request.container)
                )
            };
            return Answer::Refused { status: 400, message };
        };
        let writer = running.filter(|r| r.attempt == attempt).and_then(|r| self.monitors.by_id(&r.id));
        Answer::Log(LogPlace {
            path: self.node.paths.container_log(&pod.pod.key, &pod.pod.uid, &container, attempt),
            writer: writer.and_then(|m| m.intent.monitor),
        })
    }

    /// kubelet: `server.go`, the words after "is waiting to start: ".
    fn waiting(&self, pod: &PodState, container: &str) -> String {
        let now = super::node::now();
        let status = status::pod_status(pod, &self.core, now);
        let reason = status.container_statuses.unwrap_or_default().into_iter().find(|c| c.name == container);
        let reason = reason.and_then(|c| c.state).and_then(|s| s.waiting).and_then(|w| w.reason);
        match reason.as_deref() {
            Some("ErrImagePull") => "image can't be pulled".to_owned(),
            Some("ImagePullBackOff") => "trying and failing to pull image".to_owned(),
            Some(other) => other.to_owned(),
            None => "ContainerCreating".to_owned(),
        }
    }

    fn exec(&self, pod: &PodKey, container: &str, request: ExecRequest) -> Answer {
        let (state, name) = match self.container(pod, container) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let running = state.container(&name).and_then(|c| c.running());
        let monitor = running.and_then(|r| self.monitors.by_id(&r.id));
        let Some((monitor, process)) = monitor.and_then(|m| Some((m, m.intent.monitor?))) else {
            let message = format!("container {container:?} in pod {:?} does not run", pod.name);
            return Answer::Refused { status: 409, message };
        };
        let dir = monitor.dir.clone();
        Answer::Session(Session(Box::new(move |stream| super::session::run(stream, dir, process, request))))
    }

    fn container(&self, pod: &PodKey, container: &str) -> Result<(&PodState, ContainerName), Answer> {
        let not_found = |message: String| Answer::Refused { status: 404, message };
        let state = self.core.pod_by_key(pod).ok_or_else(|| self.why_not_there(pod, container))?;
        let name = ContainerName::new(container).filter(|name| state.container(name).is_some());
        let name = name.ok_or_else(|| not_found(format!("container {container:?} not found in pod {:?}", pod.name)))?;
        Ok((state, name))
    }

    /// A pod that has no place yet is listed, and says so here too.
    fn why_not_there(&self, pod: &PodKey, container: &str) -> Answer {
        match self.core.waiting().find(|waiting| waiting.wanted.pod.key == *pod) {
            None => Answer::no_such_pod(&pod.name),
            Some(waiting) => {
                let why = status::waiting_reason(&waiting.why);
                let message = format!("container {container:?} in pod {:?} has not started: the pod {why}", pod.name);
                Answer::Refused { status: 400, message }
            }
        }
    }
}

fn import_one(node: &Node, path: PathBuf) -> ImportOutcome {
    match node.store.import(&path, &node.me) {
        Ok(imported) => ImportOutcome { path, names: imported.names, error: None },
        Err(error) => {
            let text = crate::error::chain(&error);
            ImportOutcome { path, names: error.imported().to_vec(), error: Some(text) }
        }
    }
}
