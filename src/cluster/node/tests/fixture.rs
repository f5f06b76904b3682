//! The node of the recordings, for the tests beside it.

use crate::cluster::node::conditions::{Pressures, Readiness};
use crate::cluster::node::facts::{NodeFacts, NodeImage};
use crate::model::id::{BootId, NodeName};
use crate::model::node::{HardEviction, Reserved};
use crate::model::time::Wall;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeMap;

pub const UID: &str = "e058efaf-1e02-4b80-b00b-c3801ebd00ca";

/// What a kubelet had to say of it (`tests/data/node`).
pub fn facts() -> NodeFacts {
    let image = |name: &str, size_bytes| NodeImage {
        names: if name.is_empty() { Vec::new() } else { vec![name.to_owned()] },
        size_bytes,
    };
    NodeFacts {
        name: NodeName::new("vm").expect("a name"),
        hostname: "vm".to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        provider_id: String::new(),
        addresses: vec!["192.0.2.2".parse().expect("an address")],
        cpus: 2,
        memory_bytes: 24_684_092 * 1024,
        ephemeral_storage_bytes: 264_212_084 * 1024,
        hugepages: BTreeMap::from([(2 << 20, 0), (1 << 30, 0)]),
        max_pods: 110,
        system_reserved: Reserved::default(),
        kube_reserved: Reserved::default(),
        hard_eviction: HardEviction::default(),
        machine_id: "3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned(),
        system_uuid: "3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned(),
        boot: BootId::new("37ee79d3-dac1-4d63-809c-f5e130fc6d38"),
        kernel_version: "6.18.44-fc-v657".to_owned(),
        os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        architecture: "amd64".to_owned(),
        version: "0.1.0".to_owned(),
        images: vec![
            image("docker.io/kalise/nodejs-web-app:latest", 39_172_598),
            image("registry.k8s.io/e2e-test-images/agnhost:2.63.0", 19_854_197),
            image("", 19_852_203),
            image("localhost/busybox:1", 1_342_104),
            image("", 1_037_031),
            image("registry.k8s.io/pause:3.10.2", 307_449),
        ],
        pressures: Pressures::default(),
        readiness: Readiness::Ready,
    }
}

/// The Node as an API server has it after `facts` were registered at the epoch.
pub fn registered(facts: &NodeFacts) -> Node {
    let mut node = crate::cluster::node::node(facts, Some(50), Wall::EPOCH);
    node.metadata.uid = Some(UID.to_owned());
    node.metadata.resource_version = Some("292".to_owned());
    node
}
