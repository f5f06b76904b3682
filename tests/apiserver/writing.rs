//! Creating, replacing, patching and deleting: versions, preconditions, conflicts, grace.

use crate::apiserver::{ADMIN, ApiServer};
use crate::client::Client;
use crate::watching::pod;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const POD: &str = "/api/v1/namespaces/default/pods/a";

#[test]
fn a_created_object_gets_what_the_server_owns() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let mut body = pod("a", "n");
    body["metadata"]["uid"] = "mine".into();
    body["status"] = json!({ "phase": "Running", "podIP": "10.0.0.1" });
    let made = admin.post(PODS, &body).code(201).body;
    assert_ne!(made["metadata"]["uid"], "mine");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"], json!({ "phase": "Pending", "qosClass": "BestEffort" }));
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
    assert!(made["metadata"]["creationTimestamp"].as_str().is_some_and(|t| t.ends_with('Z') && t.len() == 20));
    let again = admin.post(PODS, &pod("a", "n")).code(409);
    assert_eq!(again.body["reason"], "AlreadyExists");
    assert_eq!(again.message(), "pods \"a\" already exists");
    assert_eq!(again.body["details"], json!({ "name": "a", "kind": "pods" }));
    let none = admin.get("/api/v1/namespaces/default/pods/none").code(404);
    assert_eq!(none.message(), "pods \"none\" not found");
    let nowhere = admin
        .post("/api/v1/namespaces/nowhere/pods", &json!({ "metadata": { "name": "x" }, "spec": { "containers": [] } }));
    assert_eq!(nowhere.code(404).message(), "namespaces \"nowhere\" not found");
    let empty = admin.post(PODS, &json!({ "metadata": { "name": "e" }, "spec": { "containers": [] } })).code(422);
    assert_eq!(empty.message(), "Pod \"e\" is invalid: spec.containers: Required value");
    assert_eq!(empty.body["details"]["causes"][0]["field"], "spec.containers");
    let wrong = json!({ "metadata": { "name": "e" }, "spec": { "containers": "x" } });
    assert_eq!(admin.post(PODS, &wrong).code(400).body["reason"], "BadRequest");
    let named =
        json!({ "metadata": { "generateName": "g-" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let named = admin.post(PODS, &named).code(201).body;
    assert_eq!(named["metadata"]["name"].as_str().unwrap().len(), 7);
}

#[test]
fn a_replacement_must_know_the_version_and_the_uid() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "n" },
        "spec": { "holderIdentity": "n", "renewTime": "2026-01-01T00:00:00.123456Z" },
    });
    let (all, one) = (
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
    );
    let made = admin.post(all, &lease).code(201).body;
    assert_eq!(made["spec"]["renewTime"], "2026-01-01T00:00:00.123456Z");
    let mut next = made.clone();
    next["spec"]["renewTime"] = "2026-01-01T00:00:10.000001Z".into();
    let renewed = admin.replace(one, &next).code(200).body;
    assert_ne!(renewed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let stale = admin.replace(one, &next).code(409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on leases.coordination.k8s.io \"n\": the object has been modified; please \
         apply your changes to the latest version and try again"
    );
    let mut other = renewed.clone();
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    assert!(admin.replace(one, &other).code(409).message().contains("Precondition failed: UID in precondition"));
    let mut blind = renewed.clone();
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(
        admin.replace(one, &blind).code(422).message(),
        "Lease.coordination.k8s.io \"n\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified \
         for an update"
    );
    let same = admin.replace(one, &renewed).code(200).body;
    assert_eq!(same, renewed, "what changes nothing has no version of its own");
}

#[test]
fn a_patch_of_another_uid_is_refused() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let made = admin.post(PODS, &pod("a", "n")).code(201).body;
    let status = format!("{POD}/status");
    let patch = |uid: &Value| json!({ "metadata": { "uid": uid }, "status": { "phase": "Running" } });
    assert_eq!(admin.patch(&status, &patch(&made["metadata"]["uid"])).code(200).body["status"]["phase"], "Running");
    let refused = admin.patch(&status, &patch(&json!("other"))).code(422);
    assert_eq!(refused.message(), "Pod \"a\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable");
    let stale = json!({ "metadata": { "resourceVersion": made["metadata"]["resourceVersion"] }, "status": { "phase": "Failed" } });
    admin.patch(&status, &stale).code(409);
    admin.try_ask("PATCH", &status, "application/json", "{}").unwrap().code(415);
    let shapeless = admin.patch(&status, &json!({ "status": { "podIP": {} } })).code(422);
    assert!(shapeless.message().contains("is invalid: patch: Invalid value"), "{shapeless:?}");
    admin.patch("/api/v1/namespaces/default/pods/none/status", &json!({})).code(404);
}

#[test]
fn each_endpoint_writes_only_its_part() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let made = admin.post(PODS, &pod("a", "n")).code(201).body;
    let patch = json!({ "spec": { "nodeName": "m" }, "status": { "phase": "Running" } });
    let status = admin.patch(&format!("{POD}/status"), &patch).code(200).body;
    assert_eq!((&status["spec"]["nodeName"], &status["status"]["phase"]), (&json!("n"), &json!("Running")));
    let main = admin.patch(POD, &json!({ "metadata": { "labels": { "x": "y" } }, "status": { "phase": "Failed" } }));
    let main = main.code(200).body;
    assert_eq!((&main["metadata"]["labels"]["x"], &main["status"]["phase"]), (&json!("y"), &json!("Running")));
    let spec = admin.patch(POD, &json!({ "spec": { "hostNetwork": true } })).code(422);
    assert!(spec.message().contains("pod updates may not change fields"), "{spec:?}");
    let mirror = json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": "h" } } });
    assert!(admin.patch(POD, &mirror).code(422).message().ends_with("may not add mirror pod annotation"));
    assert_eq!(main["metadata"]["uid"], made["metadata"]["uid"]);
}

#[test]
fn a_pod_on_a_node_is_deleted_in_two_steps() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let made = admin.post(PODS, &pod("a", "n")).code(201).body;
    let wish = admin.delete(POD, &Value::Null).code(200).body;
    assert_eq!(
        (&wish["metadata"]["deletionGracePeriodSeconds"], &wish["metadata"]["generation"]),
        (&json!(30), &json!(2))
    );
    let later = admin.delete(POD, &json!({ "gracePeriodSeconds": 60 })).code(200).body;
    assert_eq!(later, wish, "a second wish cannot lengthen");
    let sooner = admin.delete(POD, &json!({ "gracePeriodSeconds": 5 })).code(200).body;
    assert!(sooner["metadata"]["deletionTimestamp"].as_str() < wish["metadata"]["deletionTimestamp"].as_str());
    let patched = admin.patch(&format!("{POD}/status"), &json!({ "status": { "phase": "Running" } })).code(200).body;
    assert_eq!(patched["metadata"]["deletionTimestamp"], sooner["metadata"]["deletionTimestamp"]);
    let other = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "other" } });
    let refused = admin.delete(POD, &other).code(409);
    assert_eq!(
        refused.message(),
        format!(
            "Operation cannot be fulfilled on Pod \"a\": the UID in the precondition (other) does not match the UID \
             in record ({}). The object might have been deleted and then recreated",
            made["metadata"]["uid"].as_str().unwrap()
        )
    );
    let own = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": made["metadata"]["uid"] } });
    admin.delete(POD, &own).code(200);
    admin.get(POD).code(404);
    assert_eq!(admin.delete(POD, &own).code(404).message(), "pods \"a\" not found");
}

#[test]
fn a_pod_that_nobody_must_stop_goes_at_once() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    admin.post(PODS, &pod("a", "")).code(201);
    admin.delete(POD, &Value::Null).code(200);
    admin.get(POD).code(404);
    admin.post(PODS, &pod("a", "n")).code(201);
    admin.patch(&format!("{POD}/status"), &json!({ "status": { "phase": "Failed" } })).code(200);
    admin.delete(POD, &Value::Null).code(200);
    admin.get(POD).code(404);
    let node = json!({ "metadata": { "name": "n" } });
    let made = admin.post("/api/v1/nodes", &node).code(201).body;
    let gone = admin.delete("/api/v1/nodes/n", &Value::Null).code(200).body;
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(gone["details"], json!({ "name": "n", "kind": "nodes", "uid": made["metadata"]["uid"] }));
}

#[test]
fn a_status_that_no_kubelet_may_report_is_refused() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let mut never = pod("a", "n");
    never["spec"]["restartPolicy"] = "Never".into();
    admin.post(PODS, &never).code(201);
    let path = format!("{POD}/status");
    let state = |state: Value| {
        json!({ "status": { "containerStatuses": [{
        "name": "c", "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }] } })
    };
    admin.patch(&path, &state(json!({ "terminated": { "exitCode": 1 } }))).code(200);
    let back = admin.patch(&path, &state(json!({ "running": {} }))).code(422);
    assert!(back.message().ends_with("Forbidden: may not be transitioned to non-terminated state"), "{back:?}");
    let first = json!({ "status": { "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] } });
    admin.patch(&path, &first).code(200);
    let moved = json!({ "status": { "podIP": "10.0.0.2", "podIPs": [{ "ip": "10.0.0.2" }] } });
    let merged = admin.patch(&path, &moved).code(422);
    assert!(merged.message().ends_with("may specify no more than one IP for each IP family"), "{merged:?}");
    let replaced =
        json!({ "status": { "podIP": "10.0.0.2", "podIPs": [{ "ip": "10.0.0.2" }, { "$patch": "replace" }] } });
    let replaced = admin.patch(&path, &replaced).code(200).body;
    assert_eq!(replaced["status"]["podIPs"], json!([{ "ip": "10.0.0.2" }]));
}

#[test]
fn garbage_is_collected_as_controllers_do() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let node = admin.post("/api/v1/nodes", &json!({ "metadata": { "name": "n" } })).code(201).body;
    let mut mirror = pod("a", "n");
    mirror["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": node["metadata"]["uid"], "controller": true }]);
    admin.post(PODS, &mirror).code(201);
    assert_eq!(server.collect_garbage(), 0);
    admin.delete("/api/v1/nodes/n", &Value::Null).code(200);
    assert_eq!(server.collect_garbage(), 1);
    assert!(admin.get(POD).code(200).body["metadata"]["deletionTimestamp"].is_string(), "it is asked to go");
    assert_eq!(server.collect_unbound_pods(), 1);
    admin.get(POD).code(404);
    server.collect_automatically();
    let node = admin.post("/api/v1/nodes", &json!({ "metadata": { "name": "n" } })).code(201).body;
    mirror["metadata"]["ownerReferences"][0]["uid"] = node["metadata"]["uid"].clone();
    admin.post(PODS, &mirror).code(201);
    admin.delete("/api/v1/nodes/n", &Value::Null).code(200);
    assert!(admin.get(POD).code(200).body["metadata"]["deletionTimestamp"].is_string());
}
