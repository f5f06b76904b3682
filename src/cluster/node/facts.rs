//! What is so of this node, as plain data: read at the edge, shown by [`super::node`].

use super::conditions::{Pressures, Readiness};
use crate::model::id::{BootId, NodeName};
use crate::model::node::{HardEviction, NodeTaint, Reserved};
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    pub name: NodeName,
    /// What the Hostname address and the label `kubernetes.io/hostname` say: the name without a cloud's changes.
    pub hostname: String,
    /// `--node-labels`.
    pub labels: BTreeMap<String, String>,
    /// `--register-with-taints`; ours comes by itself.
    pub taints: Vec<NodeTaint>,
    /// Empty for none.
    pub provider_id: String,
    /// One per family at most; the first is the node's.
    pub addresses: Vec<IpAddr>,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Of the file system that the root dir is on.
    pub ephemeral_storage_bytes: u64,
    /// Page size -> bytes of all pages of that size; sizes without a page too.
    pub hugepages: BTreeMap<u64, u64>,
    pub max_pods: u32,
    pub system_reserved: Reserved,
    pub kube_reserved: Reserved,
    pub hard_eviction: HardEviction,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot: BootId,
    pub kernel_version: String,
    pub os_image: String,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// pinlet's own version, such as `0.1.0`.
    pub version: String,
    /// In any order; which are shown and how many is decided with the settings.
    pub images: Vec<NodeImage>,
    pub pressures: Pressures,
    pub readiness: Readiness,
}

/// An image of the local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeImage {
    pub names: Vec<String>,
    pub size_bytes: u64,
}
