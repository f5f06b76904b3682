//! Action -> effect: the one match that carries out what the core decided.
//!
//! It decides nothing. What may touch a real file system becomes a job on the pod's lane; signals and kills, which
//! touch only processes and cgroups, are done at once, since a pod whose disk hangs must still be stoppable.

use super::outcome::Outcome;
use super::run::Agent;
use super::spawning::asked_marker;
use super::start::{self, StartOrder};
use super::worker::Lane;
use super::{images, pods, records};
use crate::error::chain;
use crate::model::id::{ContainerId, ContainerName, PodUid};
use crate::model::image::ImageFacts;
use crate::model::pod::StaticPod;
use crate::model::time::Now;
use crate::reconcile::action::Action;
use crate::runtime::resources;
use crate::sys::{poll, spawn};
use std::sync::Arc;

impl Agent {
    pub(super) fn execute(&mut self, action: Action, now: Now) {
        match action {
            Action::Prepare { uid } => self.prepare_pod(&uid, now),
            Action::EnsureSandbox { uid } => self.ensure_sandbox(&uid, now),
            Action::ResolveImage { uid, container } => self.resolve_image(uid, container, now),
            Action::Start { uid, container, attempt, image } => self.start(&uid, container, attempt, *image, now),
            Action::Signal { uid, container, id, signal } => self.signal(&uid, &container, &id, signal),
            Action::Kill { uid, container, id } => self.kill(&uid, &container, &id),
            Action::RemoveContainer { uid, container, id } => self.remove_container(&uid, container, id, now),
            Action::Persist { uid } => self.persist(&uid, now),
            Action::StopSandbox { uid } => self.stop_sandbox(&uid, now),
            Action::Remove { uid } => self.remove_pod(&uid, now),
        }
    }

    fn on_pod(
        &mut self,
        uid: &PodUid,
        name: &'static str,
        now: Now,
        job: impl FnOnce(&super::node::Node, &Arc<StaticPod>) -> Outcome + Send + 'static,
    ) {
        self.on_lane(Lane::Pod(uid.clone()), uid, name, now, job);
    }

    fn on_lane(
        &mut self,
        lane: Lane,
        uid: &PodUid,
        name: &'static str,
        now: Now,
        job: impl FnOnce(&super::node::Node, &Arc<StaticPod>) -> Outcome + Send + 'static,
    ) {
        // The core never speaks of a pod that it does not know.
        let Some(state) = self.core.pod(uid) else { return };
        let (node, pod) = (Arc::clone(&self.node), Arc::clone(&state.pod));
        self.workers.submit(lane, name, now.mono, move || job(&node, &pod));
    }

    fn prepare_pod(&mut self, uid: &PodUid, now: Now) {
        let manifest = self.manifests.bytes_of(uid);
        let Some(record) = self.record_of(uid) else { return };
        self.on_pod(uid, "prepare", now, move |node, pod| pods::prepare(node, pod, &record, manifest.as_deref()));
    }

    /// The address is settled here, so that two pods that start at once never choose the same.
    fn ensure_sandbox(&mut self, uid: &PodUid, now: Now) {
        let taken = match (self.core.pod(uid), &self.node.bridge) {
            (Some(state), Some(bridge)) if !state.pod.host_network => self.addresses.reserve(bridge, &state.pod),
            _ => Vec::new(),
        };
        let shares = self.burstable_shares(None);
        self.on_pod(uid, "sandbox", now, move |node, pod| pods::ensure_sandbox(node, pod, &taken, shares));
    }

    pub(super) fn resolve_image(&mut self, uid: PodUid, container: ContainerName, now: Now) {
        let lane = Lane::PodImages(uid.clone());
        self.on_lane(lane, &uid, "image", now, move |node, pod| images::resolve(node, pod, &container));
    }

    fn start(&mut self, uid: &PodUid, container: ContainerName, attempt: u32, image: ImageFacts, now: Now) {
        let ip = self.core.pod(uid).and_then(|state| state.ip);
        self.on_pod(uid, "start", now, move |node, pod| {
            let ip = if pod.host_network { None } else { ip };
            start::prepare(node, &StartOrder { pod: Arc::clone(pod), container, attempt, image, ip })
        });
    }

    /// A process that is gone already, or is another one by now, is not signalled: its exit is on the way.
    fn signal(&mut self, uid: &PodUid, container: &ContainerName, id: &ContainerId, signal: i32) {
        let running = self.core.pod(uid).and_then(|p| p.container(container)).and_then(|c| c.running());
        let Some(init) = running.filter(|r| &r.id == id).map(|r| r.init) else { return };
        self.note_asked(id);
        let sent = poll::pidfd_open(init.pid.0).and_then(|pidfd| {
            if spawn::start_ticks(init.pid.0)? == init.start_ticks { spawn::signal(&pidfd, signal) } else { Ok(()) }
        });
        match sent {
            Ok(()) => log::info!("{} container {container}: asked to stop with signal {signal}", self.name_of(uid)),
            Err(error) => log::debug!("{} container {container}: not signalled: {error}", self.name_of(uid)),
        }
    }

    fn kill(&mut self, uid: &PodUid, container: &ContainerName, id: &ContainerId) {
        self.note_asked(id);
        let Some(monitor) = self.monitors.by_id(id) else { return };
        log::info!("{} container {container}: killed, its grace period is over", self.name_of(uid));
        if let Err(error) = self.node.hierarchies.kill(&monitor.intent.cgroup_path()) {
            log::error!("{} container {container}: {}", self.name_of(uid), chain(&error));
        }
    }

    fn remove_container(&mut self, uid: &PodUid, container: ContainerName, id: ContainerId, now: Now) {
        self.on_pod(uid, "remove container", now, move |node, pod| {
            start::remove_container(node, pod, &container, &id);
            Outcome::Nothing
        });
    }

    fn persist(&mut self, uid: &PodUid, now: Now) {
        let Some(record) = self.record_of(uid) else { return };
        let manifest = self.manifests.bytes_of(uid);
        let (node, uid) = (Arc::clone(&self.node), uid.clone());
        self.workers.submit(Lane::Durable(uid.clone()), "keep", now.mono, move || {
            records::keep(&node, &uid, &record, manifest.as_deref());
            Outcome::Nothing
        });
    }

    fn stop_sandbox(&mut self, uid: &PodUid, now: Now) {
        let shares = self.burstable_shares(Some(uid));
        self.on_pod(uid, "stop sandbox", now, move |node, pod| pods::stop_sandbox(node, pod, shares));
    }

    fn remove_pod(&mut self, uid: &PodUid, now: Now) {
        let shares = self.burstable_shares(Some(uid));
        self.on_pod(uid, "remove", now, move |node, pod| pods::remove(node, pod, shares));
    }

    /// What all burstable pods together get, without the one that goes.
    fn burstable_shares(&self, without: Option<&PodUid>) -> u64 {
        let staying = self.core.pods().filter(|p| !p.is_stopped() && Some(&p.pod.uid) != without);
        resources::burstable_shares(staying.map(|p| &*p.pod))
    }

    fn name_of(&self, uid: &PodUid) -> String {
        self.core.pod(uid).map_or_else(|| uid.to_string(), |state| state.pod.key.to_string())
    }

    /// So that an agent that finds the exit later knows that it was asked for.
    fn note_asked(&self, id: &ContainerId) {
        let path = asked_marker(&self.node.paths.run_container(id));
        if let Err(error) = std::fs::write(&path, b"") {
            log::warn!("cannot write {}: {error}", path.display());
        }
    }
}
