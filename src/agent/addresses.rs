//! Which pod has which address: chosen by the loop, so that two pods that start at once never choose the same.
//!
//! There are no lease files: after a restart of the agent the sandbox records say it, after a reboot the hash of the
//! pod's name mostly chooses the same again.

use super::node::Node;
use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use crate::model::id::PodUid;
use crate::model::pod::StaticPod;
use crate::model::time::Now;
use crate::net::Bridge;
use crate::net::node::{Watch, node_ip};
use crate::reconcile::event::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub struct Addresses {
    pods: BTreeMap<PodUid, Ipv4Addr>,
    watch: Option<Watch>,
}

impl Addresses {
    pub fn new(watch: Option<Watch>) -> Addresses {
        Addresses { pods: BTreeMap::new(), watch }
    }

    pub fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// Whether the host's addresses or routes may have changed.
    pub fn drain(&self) -> bool {
        // What cannot be read is looked at again: that costs one request to the kernel.
        self.watch.as_ref().is_some_and(|watch| watch.drain().unwrap_or(true))
    }

    /// Sets the pod's address aside and returns those that all others have: with them, [`Bridge::attach`] chooses the
    /// same one. A full subnet is told by the attempt itself.
    pub fn reserve(&mut self, bridge: &Bridge, pod: &StaticPod) -> Vec<IpAddr> {
        let others: BTreeSet<Ipv4Addr> =
            self.pods.iter().filter(|(uid, _)| **uid != pod.uid).map(|(_, address)| *address).collect();
        if let Some(address) = bridge.subnet().choose(&pod.key, &others) {
            self.pods.insert(pod.uid.clone(), address);
        }
        others.into_iter().map(IpAddr::V4).collect()
    }

    pub fn adopt(&mut self, uid: PodUid, address: Ipv4Addr) {
        self.pods.insert(uid, address);
    }

    /// Its sandbox is gone, and so is its claim.
    pub fn release(&mut self, uid: &PodUid) {
        self.pods.remove(uid);
    }
}

impl Agent {
    pub(super) fn look_at_addresses(&mut self, now: Now) {
        // One that has begun may have looked before the change.
        if self.workers.has_waiting(&Lane::Node) {
            return;
        }
        let node = Arc::clone(&self.node);
        let before = self.core.node_address();
        self.workers.submit(Lane::Node, "node address", now.mono, move || {
            let address = node_address(&node);
            Outcome::NodeAddress { address, news: address != before }
        });
    }

    /// A firewall that was loaded anew took our table with it.
    pub(super) fn restore_masquerade(&mut self, now: Now) {
        if self.addresses.pods.is_empty() || self.node.bridge.is_none() || !self.workers.idle(&Lane::Network) {
            return;
        }
        let node = Arc::clone(&self.node);
        self.workers.submit(Lane::Network, "masquerade", now.mono, move || {
            match node.bridge.as_ref().map(Bridge::restore_table) {
                Some(Ok(true)) => log::warn!("the pod network's nf_tables table was gone and is there again"),
                Some(Ok(false)) | None => {}
                Some(Err(error)) => log::warn!("{}", crate::error::chain(&error)),
            }
            Outcome::Nothing
        });
    }

    pub(super) fn take_node_address(&mut self, address: Option<IpAddr>) {
        if self.core.node_address() != address {
            match address {
                Some(address) => log::info!("the node's address is {address}"),
                None => log::warn!("the node has no address"),
            }
            self.facts.push(Event::NodeAddress(address));
        }
    }
}

/// `--node-ip`, else the address of the default route, else loopback (contract 2).
pub fn node_address(node: &Node) -> Option<IpAddr> {
    let found = || node_ip().inspect_err(|error| log::warn!("{}", crate::error::chain(error))).ok();
    node.config.node_ip.or_else(found)
}
