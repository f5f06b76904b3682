//! After adoption: leavings on disk that no record names any more, because an agent or the machine died between two
//! steps. Nothing waits for it, and nothing that a known pod may still need is touched.

use super::node::Node;
use super::outcome::Outcome;
use super::paths::Paths;
use super::run::Agent;
use super::start::remove_tree;
use super::worker::Lane;
use crate::model::id::{ContainerName, PodUid};
use crate::model::time::Now;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

impl Agent {
    /// Jobs on the pods' own lanes: a start in the same pod waits for its sweep or goes before it, never beside it.
    pub(super) fn sweep_leavings(&mut self, now: Now) {
        let pods: Vec<_> = self.core.pods().map(|p| (p.pod.uid.clone(), kept_layers(p))).collect();
        for (uid, kept) in pods {
            let node = Arc::clone(&self.node);
            self.workers.submit(Lane::Pod(uid.clone()), "sweep", now.mono, move || {
                for (container, layers) in &kept {
                    sweep_layers(&node, &uid, container, layers);
                }
                Outcome::Nothing
            });
        }
        let node = Arc::clone(&self.node);
        self.workers.submit(Lane::Node, "sweep", now.mono, move || {
            sweep_symlinks(&node.paths.container_logs, &node.paths.pod_logs);
            Outcome::Nothing
        });
    }
}

/// By container: the names of the writable layers that its running and its last container have.
fn kept_layers(pod: &crate::reconcile::state::PodState) -> Vec<(ContainerName, BTreeSet<String>)> {
    let kept = pod.containers.iter().map(|container| {
        let running = container.running().map(|r| &r.id);
        let last = container.last.as_ref().map(|e| &e.termination.id);
        let names = running.into_iter().chain(last).map(Paths::layer_name);
        (container.name.clone(), names.collect())
    });
    kept.collect()
}

fn sweep_layers(node: &Node, uid: &PodUid, container: &ContainerName, kept: &BTreeSet<String>) {
    for entry in fs::read_dir(node.paths.root_container(uid, container)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_layer = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_layer && !kept.contains(&name) {
            log::info!("removing the writable layer {}, which no container has", entry.path().display());
            if let Err(error) = remove_tree(&entry.path()) {
                log::warn!("cannot remove {}: {error}", entry.path().display());
            }
        }
    }
}

/// Links to logs below `logs` that are gone (kubelet: dead symlinks go).
pub fn sweep_symlinks(links: &Path, logs: &Path) {
    for entry in fs::read_dir(links).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = fs::read_link(&path).is_ok_and(|target| target.starts_with(logs));
        if ours
            && !path.exists()
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("cannot remove {}: {error}", path.display());
        }
    }
}
