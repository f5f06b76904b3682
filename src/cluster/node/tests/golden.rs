//! What a kubelet sent of its Node and lease (`tests/data/node`), made again from the same facts.
//!
//! What differs by nature is listed once, in [`DIFFERS`], and taken out of both sides; everything else is equal.

use super::fixture::{UID, facts};
use crate::cluster::node::conditions::Readiness;
use crate::cluster::node::facts::NodeFacts;
use crate::cluster::node::{lease, object, ours, patch};
use crate::model::time::Wall;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const FORTY: Duration = Duration::from_secs(40);

/// Fields that are another's or ours alone.
const DIFFERS: &[(&str, &str)] = &[
    ("/metadata/labels", ours::STATIC_PODS_ONLY),
    // Ours at creation; the other is the admission plugin's.
    ("/spec", "taints"),
    // The kubelet's version with ours behind it, and the runtime is ourselves.
    ("/status/nodeInfo", "kubeletVersion"),
    ("/status/nodeInfo", "containerRuntimeVersion"),
    // Nothing is served on 10250 yet.
    ("/status", "daemonEndpoints"),
    // Of containerd's runtimes and of features that we do not claim.
    ("/status", "runtimeHandlers"),
    ("/status", "features"),
    ("/status", "declaredFeatures"),
];

fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/node").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).expect("a recording")).expect("JSON")
}

/// 2026-11-23 at that second of the day.
fn at(hours: i64, minutes: i64, seconds: i64) -> Wall {
    const MIDNIGHT: i64 = 1_795_392_000;
    Wall((MIDNIGHT + hours * 3600 + minutes * 60 + seconds) * 1_000_000_000)
}

fn without_what_differs(mut object: Value) -> Value {
    for (parent, key) in DIFFERS {
        if let Some(fields) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
            fields.remove(*key);
        }
    }
    // A kubelet posts null for no names.
    for image in object.pointer_mut("/status/images").and_then(Value::as_array_mut).into_iter().flatten() {
        if image["names"].is_null() {
            image["names"] = json!([]);
        }
    }
    object
}

fn at_first() -> NodeFacts {
    NodeFacts { readiness: Readiness::NotReady { message: "CSINode is not yet initialized".to_owned() }, ..facts() }
}

#[test]
fn the_node_is_created_as_a_kubelet_creates_it() {
    let created = json!(object::node(&at_first(), Some(50), at(23, 5, 31)));
    assert_eq!(without_what_differs(created), without_what_differs(recorded("create.json")));
}

/// Our patch of the status against a recorded Node; what differs between the versions is patched once, and left out.
fn patch_against(node: &str, facts: &NodeFacts, now: Wall) -> Value {
    let node: Node = serde_json::from_value(recorded(node)).expect("a Node");
    let mut patch = patch::status_patch(facts, Some(50), &node, now);
    assert_eq!(patch["metadata"], json!({ "uid": UID }), "a precondition that a kubelet does not send");
    let status = patch["status"].as_object_mut().expect("a status");
    for kubelets in ["runtimeHandlers", "features", "declaredFeatures"] {
        assert_eq!(status.remove(kubelets), Some(Value::Null), "{kubelets} of the kubelet before us go");
    }
    assert_eq!(status.remove("nodeInfo").map(|info| info["operatingSystem"].clone()), Some(json!("linux")));
    patch["status"].clone()
}

/// A kubelet sends of each condition what changed, we send it whole.
fn holds(ours: &Value, recorded: &Value) {
    assert_eq!(ours["$setElementOrder/conditions"], recorded["$setElementOrder/conditions"]);
    for theirs in recorded["conditions"].as_array().expect("conditions") {
        let conditions = ours["conditions"].as_array().expect("conditions");
        let same = conditions.iter().find(|c| c["type"] == theirs["type"]).expect("a condition of that type");
        for (key, value) in theirs.as_object().expect("an object") {
            assert_eq!(&same[key], value, "{} {key}", theirs["type"]);
        }
    }
    // Null and an empty list differ for the kubelet, so it sends the images each time; we need not.
    assert_eq!(ours.as_object().expect("an object").len(), 2, "{ours}");
}

#[test]
fn readiness_is_patched_as_a_kubelet_patches_it() {
    let ours = patch_against("created.json", &facts(), at(23, 5, 31));
    holds(&ours, &recorded("becomes-ready.json")["status"]);
    let server = recorded("ready.json");
    assert_eq!(ours["conditions"], server["status"]["conditions"], "and comes to what the server then showed");
}

#[test]
fn a_heartbeat_is_patched_as_a_kubelet_patches_it() {
    let ours = patch_against("ready.json", &facts(), at(23, 9, 5));
    holds(&ours, &recorded("heartbeat.json")["status"]);
    // `kubectl get -o json` sorts the keys, not the lists.
    assert_eq!(ours["conditions"], recorded("node.json")["status"]["conditions"]);
}

#[test]
fn the_node_that_a_server_shows_needs_nothing_but_our_label_and_taint() {
    let node: Node = serde_json::from_value(recorded("node.json")).expect("a Node");
    let patch = ours::metadata_patch(&facts(), &node).expect("a patch");
    assert_eq!(patch, json!({ "metadata": { "uid": UID, "labels": { "pinlet.dev/static-pods-only": "true" } } }));
    assert!(ours::lacks_our_taint(&node));
}

#[test]
fn the_lease_is_created_and_renewed_as_a_kubelet_does_it() {
    let micros = |wall: Wall, micros: i64| Wall(wall.0 + micros * 1000);
    let name = facts().name;
    let created = lease::new(&name, UID, FORTY, micros(at(23, 5, 41), 128_866));
    assert_eq!(json!(created), recorded("lease-create.json"));
    let seen: Lease = serde_json::from_value(recorded("lease-created.json")).expect("a Lease");
    let renewed = lease::renewed(seen, &name, UID, FORTY, micros(at(23, 5, 51), 255_387));
    assert_eq!(json!(renewed), recorded("lease-renew.json"));
    let later: Lease = serde_json::from_value(recorded("lease.json")).expect("a Lease");
    let again = lease::renewed(later.clone(), &name, UID, FORTY, micros(at(23, 10, 36), 960_643));
    assert_eq!(again, later);
}
