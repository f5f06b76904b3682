//! The Node as it is registered, and the status that it is to show.

use super::capacity;
use super::conditions;
use super::facts::{NodeFacts, NodeImage};
use super::ours;
use crate::model::time::Wall;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeAddress, NodeSpec, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The release of Kubernetes whose kubelet we behave like. Tools parse the Node's version as one of these.
const KUBERNETES_VERSION: &str = "v1.36.2";
/// kubelet: more names of one image are not shown.
const NAMES_PER_IMAGE_MAX: usize = 5;

/// The Node as it is created, and what `get node` shows where there is no API server.
pub fn node(facts: &NodeFacts, max_images: Option<usize>, now: Wall) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.to_string()),
            labels: Some(ours::labels(facts)),
            annotations: Some(ours::annotations()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: (!facts.provider_id.is_empty()).then(|| facts.provider_id.clone()),
            taints: Some(ours::taints(facts)),
            ..NodeSpec::default()
        }),
        status: Some(status(facts, max_images, None, now)),
    }
}

/// `before` is the status that the API server has: from there come the times of conditions that did not change.
///
/// No `daemonEndpoints`: nothing is served on 10250 yet, and an API server that is told 0 dials that port too.
pub fn status(facts: &NodeFacts, max_images: Option<usize>, before: Option<&NodeStatus>, now: Wall) -> NodeStatus {
    let known = before.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let posted =
        |said: &conditions::Said<'_>| said.posted(known.iter().find(|condition| condition.type_ == said.type_), now);
    NodeStatus {
        addresses: Some(addresses(facts)),
        allocatable: Some(capacity::allocatable(facts)),
        capacity: Some(capacity::capacity(facts)),
        conditions: Some(conditions::said(facts.pressures, &facts.readiness).iter().map(posted).collect()),
        images: Some(images(&facts.images, max_images)),
        node_info: Some(node_info(facts)),
        ..NodeStatus::default()
    }
}

fn addresses(facts: &NodeFacts) -> Vec<NodeAddress> {
    let internal = facts
        .addresses
        .iter()
        .map(|address| NodeAddress { type_: "InternalIP".to_owned(), address: address.to_string() });
    let hostname = NodeAddress { type_: "Hostname".to_owned(), address: facts.hostname.clone() };
    internal.chain([hostname]).collect()
}

fn node_info(facts: &NodeFacts) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: facts.architecture.clone(),
        boot_id: facts.boot.to_string(),
        container_runtime_version: format!("pinlet://{}", facts.version),
        kernel_version: facts.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: format!("{KUBERNETES_VERSION}+pinlet.{}", facts.version),
        machine_id: facts.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: facts.os_image.clone(),
        swap: None,
        system_uuid: facts.system_uuid.clone(),
    }
}

/// The largest ones; equal sizes by name, so that the list does not flap.
fn images(images: &[NodeImage], max: Option<usize>) -> Vec<ContainerImage> {
    let mut shown: Vec<&NodeImage> = images.iter().collect();
    shown.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    shown.truncate(max.unwrap_or(usize::MAX));
    let image = |image: &NodeImage| ContainerImage {
        names: Some(image.names.iter().take(NAMES_PER_IMAGE_MAX).cloned().collect()),
        size_bytes: Some(i64::try_from(image.size_bytes).unwrap_or(i64::MAX)),
    };
    shown.into_iter().map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::facts;
    use super::*;

    #[test]
    fn the_largest_images_are_shown_with_five_names_at_most() {
        let image = |size_bytes, names: &[&str]| NodeImage {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            size_bytes,
        };
        let stored = [
            image(1, &["small"]),
            image(7, &["b"]),
            image(9, &["1", "2", "3", "4", "5", "6"]),
            image(7, &["a"]),
            image(u64::MAX, &[]),
        ];
        let shown: Vec<(String, i64)> = images(&stored, Some(4))
            .into_iter()
            .map(|i| (i.names.unwrap_or_default().concat(), i.size_bytes.unwrap_or(0)))
            .collect();
        assert_eq!(shown, [(String::new(), i64::MAX), ("12345".into(), 9), ("a".into(), 7), ("b".into(), 7)]);
        assert_eq!((images(&stored, None).len(), images(&stored, Some(0)).len()), (5, 0));
    }

    #[test]
    fn versions_and_provider_are_where_tools_look_for_them() {
        let mut here = facts();
        here.version = "0.1.0".to_owned();
        here.provider_id = "metal://rack-1/vm".to_owned();
        let node = node(&here, Some(50), Wall::EPOCH);
        let info = node.status.and_then(|status| status.node_info).expect("nodeInfo");
        assert_eq!(info.kubelet_version, "v1.36.2+pinlet.0.1.0");
        assert_eq!(info.container_runtime_version, "pinlet://0.1.0");
        assert_eq!(node.spec.and_then(|spec| spec.provider_id).as_deref(), Some("metal://rack-1/vm"));
    }

    #[test]
    fn addresses_are_the_internal_ones_and_then_the_name() {
        let mut here = facts();
        here.addresses = vec!["192.0.2.2".parse().expect("v4"), "2001:db8::2".parse().expect("v6")];
        let shown: Vec<String> = addresses(&here).into_iter().map(|a| format!("{} {}", a.type_, a.address)).collect();
        assert_eq!(shown, ["InternalIP 192.0.2.2", "InternalIP 2001:db8::2", "Hostname vm"]);
    }
}
