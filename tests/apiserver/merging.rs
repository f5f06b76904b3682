//! Strategic merge, case by case.

use crate::apiserver::strategic;
use serde_json::{Value, json};

#[track_caller]
fn merged(kind: &str, object: Value, patch: Value) -> Value {
    let mut object = object;
    strategic::apply(kind, &mut object, &patch).unwrap_or_else(|e| panic!("{}", e.message()));
    object
}

fn types(list: &Value) -> String {
    let words: Vec<String> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| format!("{}={}", c["type"].as_str().unwrap_or("?"), c["status"].as_str().unwrap_or("?")))
        .collect();
    words.join(" ")
}

fn conditions(text: &str) -> Value {
    let list = text.split_whitespace().map(|word| {
        let (kind, status) = word.split_once('=').expect("type=status");
        json!({ "type": kind, "status": status })
    });
    list.collect()
}

#[test]
fn conditions_merge_by_type_and_keep_the_order_of_a_real_server() {
    for (live, patch, order, wanted) in [
        ("A=1 B=1", "B=2", "", "A=1 B=2"),
        ("A=1 B=1", "C=2", "", "C=2 A=1 B=1"),
        ("A=1 B=1", "B=2 A=2", "", "B=2 A=2"),
        ("A=1 B=1 C=1", "B=2", "A B C", "A=1 B=2 C=1"),
        ("A=1 B=1", "C=2", "A B C", "A=1 B=1 C=2"),
        ("A=1 B=1 C=1", "", "C B A", "C=1 B=1 A=1"),
        ("A=1 X=1 B=1", "C=2", "A B C", "A=1 X=1 B=1 C=2"),
        ("", "A=1 B=2", "", "A=1 B=2"),
    ] {
        let mut status = json!({ "conditions": conditions(patch) });
        if !order.is_empty() {
            let list: Vec<Value> = order.split(' ').map(|kind| json!({ "type": kind })).collect();
            status["$setElementOrder/conditions"] = list.into();
        }
        if patch.is_empty() {
            status.as_object_mut().unwrap().remove("conditions");
        }
        let out = merged("Pod", json!({ "status": { "conditions": conditions(live) } }), json!({ "status": status }));
        assert_eq!(types(&out["status"]["conditions"]), wanted, "{live} + {patch} in {order}");
    }
}

#[test]
fn elements_merge_field_by_field() {
    let live =
        json!({ "status": { "conditions": [{ "type": "Ready", "status": "False", "reason": "R", "message": "m" }] } });
    let patch =
        json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": null, "message": null }] } });
    assert_eq!(merged("Pod", live, patch)["status"]["conditions"], json!([{ "type": "Ready", "status": "True" }]));
}

#[test]
fn addresses_merge_by_a_type_that_is_no_key() {
    let live = json!({ "status": { "addresses": [
        { "type": "InternalIP", "address": "10.0.0.1" },
        { "type": "InternalIP", "address": "fd00::1" },
        { "type": "Hostname", "address": "n" },
    ] } });
    let patch = |list: Value| json!({ "status": { "addresses": list } });
    let moved = merged("Node", live.clone(), patch(json!([{ "type": "InternalIP", "address": "10.0.0.2" }])));
    assert_eq!(
        moved["status"]["addresses"],
        json!([
            { "type": "InternalIP", "address": "10.0.0.2" },
            { "type": "InternalIP", "address": "fd00::1" },
            { "type": "Hostname", "address": "n" },
        ]),
        "only the first changes"
    );
    let both = json!([{ "type": "InternalIP", "address": "10.0.0.2" }, { "type": "InternalIP", "address": "fd00::2" }]);
    let lost = merged("Node", live.clone(), patch(both));
    let lost: Vec<&Value> = lost["status"]["addresses"].as_array().unwrap().iter().map(|a| &a["address"]).collect();
    assert_eq!(lost, ["fd00::2", "fd00::1", "n"], "of two with one type, the last wins the first place");
    let replaced = json!([
        { "type": "InternalIP", "address": "10.0.0.2" },
        { "type": "Hostname", "address": "n" },
        { "$patch": "replace" },
    ]);
    let replaced = merged("Node", live, patch(replaced));
    let left: Vec<&Value> = replaced["status"]["addresses"].as_array().unwrap().iter().map(|a| &a["address"]).collect();
    assert_eq!(left, ["10.0.0.2", "n"]);
}

#[test]
fn pod_addresses_need_a_delete() {
    let live = json!({ "status": { "podIPs": [{ "ip": "10.0.0.1" }] } });
    let added = merged("Pod", live.clone(), json!({ "status": { "podIPs": [{ "ip": "10.0.0.2" }] } }));
    assert_eq!(added["status"]["podIPs"], json!([{ "ip": "10.0.0.2" }, { "ip": "10.0.0.1" }]));
    let moved = json!({ "status": {
        "$setElementOrder/podIPs": [{ "ip": "10.0.0.2" }],
        "podIPs": [{ "ip": "10.0.0.2" }, { "ip": "10.0.0.1", "$patch": "delete" }],
    } });
    assert_eq!(merged("Pod", live.clone(), moved)["status"]["podIPs"], json!([{ "ip": "10.0.0.2" }]));
    let none = json!({ "status": { "podIPs": null } });
    assert_eq!(merged("Pod", live, none)["status"], json!({}));
}

#[test]
fn lists_without_a_key_are_replaced() {
    let live = json!({ "status": { "containerStatuses": [{ "name": "a" }, { "name": "b" }], "images": [{ "names": ["x"] }] } });
    let patch = json!({ "status": { "containerStatuses": [{ "name": "b" }], "images": [] } });
    for kind in ["Pod", "Node"] {
        let out = merged(kind, live.clone(), patch.clone());
        assert_eq!(out["status"], json!({ "containerStatuses": [{ "name": "b" }], "images": [] }));
    }
    let taints = json!({ "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }] } });
    let other = json!({ "spec": { "taints": [{ "key": "b", "effect": "NoExecute" }] } });
    assert_eq!(merged("Node", taints, other.clone()), other);
}

#[test]
fn maps_take_directives() {
    let live = json!({ "metadata": { "labels": { "a": "1", "b": "2" }, "annotations": { "x": "y" } } });
    let patch = json!({ "metadata": {
        "labels": { "$patch": "replace", "c": "3" },
        "annotations": { "$patch": "delete" },
    } });
    assert_eq!(merged("Pod", live, patch)["metadata"], json!({ "labels": { "c": "3" }, "annotations": {} }));
    let live = json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
    let patch = json!({ "spec": { "volumes": [{ "name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": { "path": "/x" } }] } });
    assert_eq!(merged("Pod", live, patch)["spec"]["volumes"], json!([{ "name": "v", "hostPath": { "path": "/x" } }]));
    let live = json!({ "metadata": { "finalizers": ["a", "b"] } });
    let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"] } });
    assert_eq!(merged("Pod", live, patch)["metadata"]["finalizers"], json!(["c", "b"]));
}

#[test]
fn what_a_real_server_refuses_is_refused() {
    for (patch, words) in [
        (json!({ "status": { "conditions": [{ "status": "True" }] } }), "does not contain declared merge key: type"),
        (
            json!({ "status": { "conditions": [{ "type": "A" }], "$setElementOrder/conditions": [{ "type": "B" }] } }),
            "doesn't match $setElementOrder/conditions list",
        ),
        (json!({ "status": { "$patch": "mend" } }), "unknown patch type: mend"),
        (json!([]), "Invalid JSON document"),
    ] {
        let mut live = json!({ "status": { "conditions": [{ "type": "A" }] } });
        let refused = strategic::apply("Pod", &mut live, &patch).unwrap_err();
        assert!(refused.message().contains(words), "{patch}: {}", refused.message());
    }
}
