//! What the Node object shows, put together: what a worker reads of kernel and disk, and what the loop knows.

use super::node::Node;
use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use crate::cluster::node::{self, NodeFacts, NodeImage, NodeSettings, Pressures, Readiness};
use crate::error::chain;
use crate::image::platform::Platform;
use crate::model::node::{HardEviction, Threshold};
use crate::model::time::Now;
use crate::runtime::host_identity::{self, HostIdentity, Memory};
use crate::server::query::{Answer, Reply};
use crate::sys::file::{self, Space};
use std::net::IpAddr;
use std::sync::Arc;

/// What must be read; it may change while the agent runs, and a disk that hangs must not hold the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReadings {
    pub identity: HostIdentity,
    /// Of the file system that the root dir is on; 0 if unknown.
    pub ephemeral_storage_bytes: u64,
    pub pressures: Pressures,
    /// `None` where the store cannot be read.
    pub images: Option<Vec<NodeImage>>,
}

impl NodeReadings {
    /// Worker.
    pub fn read(node: &Node) -> NodeReadings {
        let images = node.store.list().inspect_err(|error| log::warn!("{}", chain(error))).ok();
        let space = file::space(&node.paths.root)
            .inspect_err(|error| log::warn!("cannot tell the size of {}: {error}", node.paths.root.display()))
            .ok();
        NodeReadings {
            identity: HostIdentity::read(),
            ephemeral_storage_bytes: space.map_or(0, |space| space.size),
            pressures: pressures(&node.config.node.hard_eviction, space, host_identity::memory_available()),
            images: images.map(|images| {
                images.into_iter().map(|image| NodeImage { names: image.names, size_bytes: image.size }).collect()
            }),
        }
    }
}

/// kubelet: `eviction/helpers.go`, by its default thresholds or those of `evictionHard`. (It has none for pids.) What
/// cannot be read is no pressure.
fn pressures(limits: &HardEviction, disk: Option<Space>, memory: Option<Memory>) -> Pressures {
    let below = |limit: Option<Threshold>, capacity: u64, available: u64| {
        limit.is_some_and(|limit| available < limit.of(capacity))
    };
    Pressures {
        memory: memory.is_some_and(|m| below(limits.memory_available, m.total, m.available)),
        disk: disk.is_some_and(|d| below(limits.nodefs_available, d.size, d.available)),
        pids: false,
    }
}

/// `addresses`: the node's first, then one of the other family where there is one.
pub fn node_facts(node: &Node, readings: &NodeReadings, addresses: Vec<IpAddr>, readiness: Readiness) -> NodeFacts {
    let config = &node.config.node;
    let identity = readings.identity.clone();
    NodeFacts {
        name: node.name.clone(),
        // As for a kubelet without a cloud provider.
        hostname: node.name.to_string(),
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        provider_id: config.provider_id.clone(),
        addresses,
        cpus: if identity.cpus == 0 { node.host.cpus } else { identity.cpus },
        memory_bytes: node.host.memory_bytes,
        ephemeral_storage_bytes: readings.ephemeral_storage_bytes,
        hugepages: identity.hugepages,
        max_pods: node.config.max_pods,
        system_reserved: config.system_reserved,
        kube_reserved: config.kube_reserved,
        hard_eviction: config.hard_eviction,
        machine_id: identity.machine_id,
        system_uuid: identity.system_uuid,
        boot: node.boot.clone(),
        kernel_version: identity.kernel_version,
        os_image: identity.os_image,
        architecture: Platform::host().architecture.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        images: readings.images.clone().unwrap_or_default(),
        pressures: readings.pressures,
        readiness,
    }
}

/// What the configuration says of registration, status and lease.
pub fn node_settings(node: &Node) -> NodeSettings {
    let config = &node.config.node;
    NodeSettings {
        name: node.name.clone(),
        register: config.register,
        lease_duration: config.lease_duration,
        update_every: config.update_every,
        report_every: config.report_every,
        max_images: config.max_images,
    }
}

impl Agent {
    /// A node that starts nothing is not ready.
    pub(super) fn readiness(&self) -> Readiness {
        if self.core.stop_marker() {
            Readiness::NotReady { message: "stop-pods was called: nothing is started".to_owned() }
        } else {
            Readiness::Ready
        }
    }

    /// This node as it would be registered, for whoever asks.
    pub(super) fn show_node(&mut self, reply: Reply, now: Now) {
        let node = Arc::clone(&self.node);
        let addresses = self.core.node_address().into_iter().collect();
        let readiness = self.readiness();
        self.workers.submit(Lane::Queries, "show the node", now.mono, move || {
            let readings = NodeReadings::read(&node);
            let facts = node_facts(&node, &readings, addresses, readiness);
            reply.send(Answer::Node(Box::new(node::node(&facts, node.config.node.max_images, now.wall))));
            Outcome::Nothing
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_short_of_what_is_below_its_thresholds() {
        let disk = |available| Some(Space { size: 1000, available });
        let memory = |available| Some(Memory { total: 1 << 30, available });
        let defaults = HardEviction::default();
        let plenty = pressures(&defaults, disk(100), memory(100 << 20));
        assert_eq!(plenty, Pressures::default());
        let short = pressures(&defaults, disk(99), memory((100 << 20) - 1));
        assert_eq!((short.disk, short.memory, short.pids), (true, true, false));
        assert_eq!(pressures(&HardEviction::NONE, disk(0), memory(0)), Pressures::default());
        assert_eq!(pressures(&defaults, None, None), Pressures::default());
    }
}
