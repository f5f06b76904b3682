//! What to send to `/nodes/NAME/status` so that the API server shows the status that is so.
//!
//! A strategic merge patch against what the server was last seen to have. Conditions always go whole: what a
//! controller wrote over them meanwhile (`Unknown`, where the node was silent) is mended by the next patch. Addresses
//! would be merged by their type, which is wrong where two share one (dual stack) or one changes: they are replaced.

use super::capacity::{Resources, is_hugepages};
use super::conditions;
use super::facts::NodeFacts;
use super::object;
use crate::model::time::Wall;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::{Map, Value, json};

/// How soon a change must be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Heartbeats apart, the server has it all.
    None,
    /// Images, capacity, versions.
    Slow,
    /// What others act on: conditions and addresses.
    Urgent,
}

/// What differs between the facts and what the server has, heartbeats apart.
pub fn change(facts: &NodeFacts, max_images: Option<usize>, node: &Node) -> Change {
    let before = node.status.clone().unwrap_or_default();
    let wanted = object::status(facts, max_images, Some(&before), Wall::EPOCH);
    let known = before.conditions.as_deref().unwrap_or_default();
    let condition_differs = conditions::said(facts.pressures, &facts.readiness)
        .iter()
        .any(|said| said.differs(known.iter().find(|condition| condition.type_ == said.type_)));
    if condition_differs || wanted.addresses != before.addresses {
        Change::Urgent
    } else if slow_fields(&wanted, &before).is_empty() {
        Change::None
    } else {
        Change::Slow
    }
}

/// The body of the patch, whether or not anything but the heartbeats changes.
pub fn status_patch(facts: &NodeFacts, max_images: Option<usize>, node: &Node, now: Wall) -> Value {
    let before = node.status.clone().unwrap_or_default();
    let wanted = object::status(facts, max_images, Some(&before), now);
    let mut status = slow_fields(&wanted, &before);
    let conditions = wanted.conditions.as_deref().unwrap_or_default();
    let order: Vec<Value> = conditions.iter().map(|condition| json!({ "type": condition.type_ })).collect();
    status.insert("$setElementOrder/conditions".to_owned(), json!(order));
    status.insert("conditions".to_owned(), json!(conditions));
    if wanted.addresses != before.addresses {
        let mut addresses: Vec<Value> = wanted.addresses.iter().flatten().map(|address| json!(address)).collect();
        addresses.push(json!({ "$patch": "replace" }));
        status.insert("addresses".to_owned(), json!(addresses));
    }
    // The UID: a Node that was deleted and made anew meanwhile is looked at first.
    json!({ "metadata": { "uid": node.metadata.uid }, "status": status })
}

fn slow_fields(wanted: &NodeStatus, before: &NodeStatus) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, wanted, before) in
        [("capacity", &wanted.capacity, &before.capacity), ("allocatable", &wanted.allocatable, &before.allocatable)]
    {
        let (empty, none) = (Resources::new(), Resources::new());
        let difference = resources(wanted.as_ref().unwrap_or(&empty), before.as_ref().unwrap_or(&none));
        if !difference.is_empty() {
            fields.insert(name.to_owned(), Value::Object(difference));
        }
    }
    if wanted.node_info != before.node_info {
        let mut info = json!(wanted.node_info);
        if before.node_info.as_ref().is_some_and(|info| info.swap.is_some()) {
            info["swap"] = Value::Null;
        }
        fields.insert("nodeInfo".to_owned(), info);
    }
    // The server leaves empty lists out.
    if wanted.images.as_deref().unwrap_or_default() != shown_images(before) {
        fields.insert("images".to_owned(), json!(wanted.images));
    }
    fields.extend(leavings(before));
    fields
}

/// Extended resources that somebody else gave the node stay; huge pages of a size that is gone go.
fn resources(wanted: &Resources, before: &Resources) -> Map<String, Value> {
    let mut difference = Map::new();
    for (name, quantity) in wanted {
        if before.get(name) != Some(quantity) {
            difference.insert(name.clone(), json!(quantity));
        }
    }
    for name in before.keys().filter(|name| is_hugepages(name) && !wanted.contains_key(*name)) {
        difference.insert(name.clone(), Value::Null);
    }
    difference
}

/// With no names at all a kubelet posts null, and a server gives null back.
fn shown_images(before: &NodeStatus) -> Vec<k8s_openapi::api::core::v1::ContainerImage> {
    let mut images = before.images.clone().unwrap_or_default();
    for image in &mut images {
        image.names.get_or_insert_default();
    }
    images
}

/// What a kubelet said of itself before pinlet took its place. A stale `volumesInUse` keeps volumes from other nodes.
fn leavings(before: &NodeStatus) -> Map<String, Value> {
    let there = [
        ("declaredFeatures", before.declared_features.is_some()),
        ("features", before.features.is_some()),
        ("runtimeHandlers", before.runtime_handlers.is_some()),
        ("volumesInUse", before.volumes_in_use.is_some()),
    ];
    there.into_iter().filter(|(_, there)| *there).map(|(name, _)| (name.to_owned(), Value::Null)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::conditions::Readiness;
    use super::super::facts::NodeImage;
    use super::super::tests::fixture::{facts, registered};
    use super::*;
    use k8s_openapi::api::core::v1::{NodeFeatures, NodeSwapStatus};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    const NOON: Wall = Wall(43_200_000_000_000);

    fn patched(here: &NodeFacts, node: &Node) -> Value {
        status_patch(here, Some(50), node, NOON)["status"].clone()
    }

    fn fields(patch: &Value) -> Vec<&str> {
        patch.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    #[test]
    fn a_heartbeat_holds_the_conditions_alone() {
        let here = facts();
        let node = registered(&here);
        assert_eq!(change(&here, Some(50), &node), Change::None);
        let patch = status_patch(&here, Some(50), &node, NOON);
        assert_eq!(patch["metadata"], json!({ "uid": node.metadata.uid }));
        assert_eq!(fields(&patch["status"]), ["$setElementOrder/conditions", "conditions"]);
        let ready = &patch["status"]["conditions"][3];
        assert_eq!(ready["lastHeartbeatTime"], "1970-01-01T12:00:00Z");
        assert_eq!(ready["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(patch["status"]["$setElementOrder/conditions"][1], json!({ "type": "DiskPressure" }));
    }

    #[test]
    fn addresses_are_replaced_as_a_whole() {
        let mut here = facts();
        let node = registered(&here);
        here.addresses = vec!["192.0.2.9".parse().expect("v4"), "2001:db8::9".parse().expect("v6")];
        assert_eq!(change(&here, Some(50), &node), Change::Urgent);
        assert_eq!(
            patched(&here, &node)["addresses"],
            json!([
                { "type": "InternalIP", "address": "192.0.2.9" },
                { "type": "InternalIP", "address": "2001:db8::9" },
                { "type": "Hostname", "address": "vm" },
                { "$patch": "replace" },
            ])
        );
    }

    #[test]
    fn a_condition_that_flips_or_that_a_controller_wrote_over_is_urgent() {
        let mut here = facts();
        let mut node = registered(&here);
        here.readiness = Readiness::NotReady { message: "stopped".to_owned() };
        assert_eq!(change(&here, Some(50), &node), Change::Urgent);
        assert_eq!(patched(&here, &node)["conditions"][3]["status"], "False");
        here.readiness = Readiness::Ready;
        let conditions = node.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("conditions");
        conditions[3].status = "Unknown".to_owned();
        assert_eq!(change(&here, Some(50), &node), Change::Urgent);
        assert_eq!(patched(&here, &node)["conditions"][3]["lastTransitionTime"], "1970-01-01T12:00:00Z");
    }

    #[test]
    fn only_what_differs_is_sent_and_what_others_gave_stays() {
        let mut here = facts();
        let mut node = registered(&here);
        let status = node.status.as_mut().expect("a status");
        let capacity = status.capacity.as_mut().expect("capacity");
        capacity.insert("example.com/dongle".into(), Quantity("4".into()));
        capacity.insert("hugepages-64Ki".into(), Quantity("0".into()));
        assert_eq!(patched(&here, &node)["capacity"], json!({ "hugepages-64Ki": null }));
        node = registered(&here);
        here.max_pods = 20;
        here.images.push(NodeImage { names: vec!["a:1".into()], size_bytes: 1 });
        assert_eq!(change(&here, Some(50), &node), Change::Slow);
        let patch = patched(&here, &node);
        assert_eq!((&patch["capacity"], &patch["allocatable"]), (&json!({ "pods": "20" }), &json!({ "pods": "20" })));
        assert_eq!(patch["images"].as_array().map(Vec::len), Some(here.images.len()));
        assert_eq!(patch.get("nodeInfo"), None);
    }

    #[test]
    fn what_a_kubelet_left_is_taken_away() {
        let here = facts();
        let mut node = registered(&here);
        let status = node.status.as_mut().expect("a status");
        status.volumes_in_use = Some(vec!["kubernetes.io/nfs/x".into()]);
        status.features = Some(NodeFeatures { supplemental_groups_policy: Some(true) });
        let info = status.node_info.as_mut().expect("nodeInfo");
        info.kubelet_version = "v1.30.0".to_owned();
        info.swap = Some(NodeSwapStatus { capacity: Some(1) });
        assert_eq!(change(&here, Some(50), &node), Change::Slow);
        let patch = patched(&here, &node);
        assert_eq!((&patch["volumesInUse"], &patch["features"]), (&Value::Null, &Value::Null));
        assert_eq!(fields(&patch).len(), 5);
        assert_eq!(patch["nodeInfo"]["swap"], Value::Null);
    }

    #[test]
    fn a_list_that_the_server_left_out_is_no_change() {
        let mut here = facts();
        here.images.clear();
        let mut node = registered(&here);
        node.status.as_mut().expect("a status").images = None;
        assert_eq!(change(&here, Some(50), &node), Change::None);
    }
}
