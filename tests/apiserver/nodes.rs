//! What a node may do: the Node authorizer's and NodeRestriction's refusals, in their words.

use crate::apiserver::{ADMIN, ApiServer, BOOTSTRAP};
use crate::client::{Client, Reply};
use crate::watching::pod;
use serde_json::{Value, json};
use std::time::Duration;

const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

fn node_and_admin(server: &ApiServer) -> (Client, Client) {
    (Client::new(server, &server.node_token("n")), Client::new(server, ADMIN))
}

fn mirror(name: &str, owner: &Value) -> Value {
    let mut mirror = pod(name, "n");
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "h" });
    mirror["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": owner["metadata"]["uid"], "controller": true }]);
    mirror
}

#[track_caller]
fn refused(reply: Reply, words: &str) {
    let reply = reply.code(403);
    assert_eq!(reply.body["reason"], "Forbidden");
    assert_eq!(reply.message(), words);
}

#[test]
fn a_stranger_is_nobody() {
    let server = ApiServer::start();
    for token in ["", "unknown"] {
        let reply = Client::new(&server, token).get(PODS).code(401);
        assert_eq!((reply.message(), &reply.body["reason"]), ("Unauthorized", &json!("Unauthorized")));
    }
    let token = server.node_token("n");
    Client::new(&server, &token).get("/api/v1/nodes/n").code(404);
    server.remove_token(&token);
    Client::new(&server, &token).get("/api/v1/nodes/n").code(401);
    assert_eq!(Client::new(&server, "").get("/healthz").code(200).text, "ok");
    refused(
        Client::new(&server, BOOTSTRAP).get("/api/v1/nodes/n"),
        "nodes \"n\" is forbidden: User \"system:bootstrap:abcdef\" cannot get resource \"nodes\" in API group \"\" \
         at the cluster scope",
    );
}

#[test]
fn a_node_reads_only_what_is_its_own() {
    let server = ApiServer::start();
    let (mut node, _) = node_and_admin(&server);
    server.put(&pod("mine", "n"));
    server.put(&pod("other", "m"));
    node.get("/api/v1/nodes/n").code(404);
    node.get("/api/v1/nodes?fieldSelector=metadata.name%3Dn").code(200);
    node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn&resourceVersion=0").code(200);
    node.get(&format!("{PODS}/mine")).code(200);
    let user = "User \"system:node:n\" cannot";
    for (path, wanted) in [
        (
            "/api/v1/nodes",
            format!(
                "nodes is forbidden: {user} list resource \"nodes\" in API group \"\" at the cluster scope: node 'n' cannot read all nodes, only its own Node object"
            ),
        ),
        (
            "/api/v1/nodes/m",
            format!(
                "nodes \"m\" is forbidden: {user} get resource \"nodes\" in API group \"\" at the cluster scope: node 'n' cannot read 'm', only its own Node object"
            ),
        ),
        (
            "/api/v1/pods",
            format!(
                "pods is forbidden: {user} list resource \"pods\" in API group \"\" at the cluster scope: can only list/watch pods with spec.nodeName field selector"
            ),
        ),
        (
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dm",
            format!(
                "pods is forbidden: {user} watch resource \"pods\" in API group \"\" at the cluster scope: can only list/watch pods with spec.nodeName field selector"
            ),
        ),
        (
            "/api/v1/namespaces/default/pods/none",
            format!(
                "pods \"none\" is forbidden: {user} get resource \"pods\" in API group \"\" in the namespace \"default\": no relationship found between node 'n' and this object"
            ),
        ),
        (
            "/api/v1/namespaces/default/pods/other",
            format!(
                "pods \"other\" is forbidden: {user} get resource \"pods\" in API group \"\" in the namespace \"default\": no relationship found between node 'n' and this object"
            ),
        ),
        (
            "/api/v1/namespaces/default/events",
            format!(
                "events is forbidden: {user} list resource \"events\" in API group \"\" in the namespace \"default\""
            ),
        ),
        (
            "/api/v1/namespaces",
            format!(
                "namespaces is forbidden: {user} list resource \"namespaces\" in API group \"\" at the cluster scope"
            ),
        ),
    ] {
        refused(node.get(path), &wanted);
    }
}

#[test]
fn a_mirror_has_one_owner_and_names_nothing() {
    let server = ApiServer::start();
    let (mut node, _) = node_and_admin(&server);
    let early = node.post(PODS, &mirror("a", &json!({ "metadata": { "uid": "u" } }))).code(404);
    assert_eq!(early.message(), "node \"n\" not found");
    let made = node.post("/api/v1/nodes", &json!({ "metadata": { "name": "n" } })).code(201).body;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    type Edit = fn(&mut Value);
    let cases: &[(Edit, &str)] = &[
        (
            |p| p["metadata"]["annotations"] = json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        ),
        (|p| p["spec"]["nodeName"] = json!("m"), "node \"n\" can only create pods with spec.nodeName set to itself"),
        (
            |p| p["metadata"]["ownerReferences"] = json!([]),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            |p| {
                let one = p["metadata"]["ownerReferences"][0].clone();
                p["metadata"]["ownerReferences"].as_array_mut().unwrap().push(one);
            },
            "node \"n\" can only create pods with a single owner reference set to itself",
        ),
        (
            |p| p["metadata"]["ownerReferences"][0]["name"] = json!("m"),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            |p| p["metadata"]["ownerReferences"][0]["controller"] = json!(false),
            "node \"n\" can only create pods with a controller owner reference set to itself",
        ),
        (
            |p| p["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(true),
            "node \"n\" must not set blockOwnerDeletion on an owner reference",
        ),
        (
            |p| p["spec"]["serviceAccountName"] = json!("default"),
            "node \"n\" can not create pods that reference a service account",
        ),
        (
            |p| p["spec"]["volumes"] = json!([{ "name": "v", "secret": { "secretName": "s" } }]),
            "node \"n\" can not create pods that reference secrets",
        ),
        (
            |p| p["spec"]["containers"][0]["envFrom"] = json!([{ "configMapRef": { "name": "c" } }]),
            "node \"n\" can not create pods that reference configmaps",
        ),
        (
            |p| p["spec"]["volumes"] = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }]),
            "node \"n\" can not create pods that reference persistentvolumeclaims",
        ),
    ];
    for (edit, words) in cases {
        let mut bad = mirror("a", &made);
        edit(&mut bad);
        refused(node.post(PODS, &bad), &format!("pods \"a\" is forbidden: {words}"));
    }
    let mut old = mirror("a", &made);
    old["metadata"]["ownerReferences"][0]["uid"] = json!("gone");
    refused(node.post(PODS, &old), &format!("pods \"a\" is forbidden: node n UID mismatch: expected gone got {uid}"));
    node.post(PODS, &mirror("a", &made)).code(201);
    node.patch(&format!("{PODS}/a/status"), &json!({ "status": { "phase": "Running" } })).code(200);
    let label = json!({ "metadata": { "labels": { "x": "y" } } });
    refused(
        node.patch(&format!("{PODS}/a/status"), &label),
        "pods \"a\" is forbidden: node \"n\" cannot update labels through pod status",
    );
    refused(
        node.patch(&format!("{PODS}/a"), &label),
        "pods \"a\" is forbidden: User \"system:node:n\" cannot patch resource \"pods\" in API group \"\" in the \
         namespace \"default\"",
    );
    node.delete(&format!("{PODS}/a"), &json!({ "gracePeriodSeconds": 0 })).code(200);
}

#[test]
fn a_node_touches_only_pods_that_are_bound_to_it() {
    let server = ApiServer::start();
    let (mut node, _) = node_and_admin(&server);
    server.put(&pod("other", "m"));
    refused(
        node.patch(&format!("{PODS}/other/status"), &json!({ "status": { "phase": "Failed" } })),
        "pods \"other\" is forbidden: node \"n\" can only update pod status for pods with spec.nodeName set to itself",
    );
    refused(
        node.delete(&format!("{PODS}/other"), &Value::Null),
        "pods \"other\" is forbidden: node \"n\" can only delete pods with spec.nodeName set to itself",
    );
    node.delete(&format!("{PODS}/none"), &Value::Null).code(404);
}

#[test]
fn a_node_writes_its_own_node_and_its_taints_only_once() {
    let server = ApiServer::start();
    let (mut node, mut admin) = node_and_admin(&server);
    let new = |name: &str, labels: Value| {
        json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "taints": [{ "key": "pinlet.dev/static-pods-only", "effect": "NoSchedule" }] },
        })
    };
    refused(
        node.post("/api/v1/nodes", &new("m", json!({}))),
        "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
    );
    let labels = json!({ "kubernetes.io/os": "linux", "pinlet.dev/static-pods-only": "true", "node.kubernetes.io/x": "",
        "node-restriction.kubernetes.io/a": "", "node-role.kubernetes.io/worker": "" });
    refused(
        node.post("/api/v1/nodes", &new("n", labels)),
        "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: \
         node-restriction.kubernetes.io/a, node-role.kubernetes.io/worker",
    );
    let labels =
        json!({ "kubernetes.io/os": "linux", "pinlet.dev/static-pods-only": "true", "kubelet.kubernetes.io/x": "" });
    let made = node.post("/api/v1/nodes", &new("n", labels)).code(201).body;
    let keys: Vec<&Value> = made["spec"]["taints"].as_array().unwrap().iter().map(|t| &t["key"]).collect();
    assert_eq!(keys, ["pinlet.dev/static-pods-only", "node.kubernetes.io/not-ready"]);
    let path = "/api/v1/nodes/n";
    for (patch, words) in [
        (json!({ "spec": { "taints": null } }), "node \"n\" is not allowed to modify taints"),
        (
            json!({ "metadata": { "labels": { "node-role.kubernetes.io/x": "" } } }),
            "is not allowed to modify labels: node-role.kubernetes.io/x",
        ),
    ] {
        refused(node.patch(path, &patch), &format!("nodes \"n\" is forbidden: {words}"));
    }
    node.patch(path, &json!({ "metadata": { "labels": { "pinlet.dev/x": "1" } } })).code(200);
    let taints = json!({ "status": { "phase": "Running" }, "spec": { "taints": [] } });
    refused(
        node.patch(&format!("{path}/status"), &taints),
        "nodes \"n\" is forbidden: node \"n\" is not allowed to modify taints",
    );
    node.patch(&format!("{path}/status"), &json!({ "status": { "addresses": [] } })).code(200);
    server.put(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "m" } }));
    refused(
        node.patch("/api/v1/nodes/m", &json!({ "metadata": { "labels": { "x": "1" } } })),
        "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
    );
    refused(
        node.delete(path, &Value::Null),
        "nodes \"n\" is forbidden: User \"system:node:n\" cannot delete resource \"nodes\" in API group \"\" at the \
         cluster scope",
    );
    admin.patch(path, &json!({ "spec": { "taints": [] } })).code(200);
}

#[test]
fn a_node_renews_its_own_lease_and_posts_events() {
    let server = ApiServer::start();
    let (mut node, _) = node_and_admin(&server);
    let lease = |name: &str| json!({ "metadata": { "name": name }, "spec": { "holderIdentity": name } });
    refused(
        node.post(LEASES, &lease("m")),
        "leases.coordination.k8s.io \"m\" is forbidden: can only access node lease with the same name as the \
         requesting node",
    );
    node.post(LEASES, &lease("n")).code(201);
    refused(
        node.get(&format!("{LEASES}/m")),
        "leases.coordination.k8s.io \"m\" is forbidden: User \"system:node:n\" cannot get resource \"leases\" in API \
         group \"coordination.k8s.io\" in the namespace \"kube-node-lease\": can only access node lease with the same \
         name as the requesting node",
    );
    refused(
        node.post("/apis/coordination.k8s.io/v1/namespaces/default/leases", &lease("n")),
        "leases.coordination.k8s.io is forbidden: User \"system:node:n\" cannot create resource \"leases\" in API \
         group \"coordination.k8s.io\" in the namespace \"default\": can only access leases in the \
         \"kube-node-lease\" system namespace",
    );
    let event = |about: &str| {
        json!({
            "metadata": { "name": "n.1" }, "involvedObject": { "kind": "Pod", "namespace": about, "name": "a" },
            "reason": "Started", "message": "m", "type": "Normal", "count": 1,
        })
    };
    let made = node.post("/api/v1/namespaces/default/events", &event("default")).code(201).body;
    assert!(made["eventTime"].is_null() && made.get("eventTime").is_some());
    let count = node.patch("/api/v1/namespaces/default/events/n.1", &json!({ "count": 2 })).code(200).body;
    assert_eq!(count["count"], 2);
    let astray = node.post("/api/v1/namespaces/default/events", &event("other")).code(422);
    assert!(astray.message().ends_with("does not match event.namespace"), "{astray:?}");
    node.post("/api/v1/namespaces/none/events", &event("none")).code(404);
}

#[test]
fn a_mirror_is_refused_by_its_namespace() {
    let server = ApiServer::start();
    let (mut node, mut admin) = node_and_admin(&server);
    let made = node.post("/api/v1/nodes", &json!({ "metadata": { "name": "n" } })).code(201).body;
    let mut mirror = mirror("a", &made);
    let mut post = |space: &str, mirror: &Value| {
        let mut mirror = mirror.clone();
        mirror["metadata"]["namespace"] = space.into();
        node.post(&format!("/api/v1/namespaces/{space}/pods"), &mirror)
    };
    for (name, level) in [("base", "baseline"), ("strict", "restricted")] {
        let labels = json!({ "pod-security.kubernetes.io/enforce": level });
        admin.post("/api/v1/namespaces", &json!({ "metadata": { "name": name, "labels": labels } })).code(201);
    }
    post("base", &mirror).code(201);
    mirror["spec"]["hostNetwork"] = true.into();
    mirror["spec"]["volumes"] = json!([{ "name": "v", "hostPath": { "path": "/x" } }]);
    mirror["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    mirror["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    refused(
        post("base", &mirror),
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true), \
         hostPath volumes (volume \"v\"), hostPort (container \"c\" uses hostPort 8080), privileged (container \"c\" \
         must not set securityContext.privileged=true)",
    );
    let strict = post("strict", &mirror).code(403);
    assert!(strict.message().contains("runAsNonRoot != true (pod or container \"c\" must set"), "{strict:?}");
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "1" } } });
    admin.post("/api/v1/namespaces/default/resourcequotas", &quota).code(201);
    post("default", &mirror).code(201);
    mirror["metadata"]["name"] = "b".into();
    refused(
        post("default", &mirror),
        "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
    );
    mirror["spec"]["priority"] = 5.into();
    refused(
        post("kube-system", &mirror),
        "pods \"b\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority \
         admission controller computed 0 from the given PriorityClass name",
    );
    mirror["spec"]["priority"] = Value::Null;
    mirror["spec"]["priorityClassName"] = "system-node-critical".into();
    assert_eq!(post("kube-system", &mirror).code(201).body["spec"]["priority"], 2_000_001_000);
    let ending = admin.delete("/api/v1/namespaces/base", &Value::Null).code(200).body;
    assert_eq!(ending["status"]["phase"], "Terminating");
    refused(
        post("base", &mirror),
        "pods \"b\" is forbidden: unable to create new content in namespace base because it is being terminated",
    );
    assert_eq!(server.collect_namespaces(), 0, "a pod in it has yet to end");
    let now = json!({ "gracePeriodSeconds": 0 });
    admin.delete("/api/v1/namespaces/base/pods/a", &now).code(200);
    assert_eq!(server.collect_namespaces(), 1);
    assert!(server.remove_namespace("strict") && !server.remove_namespace("strict"));
    admin.get("/api/v1/namespaces/base").code(404);
}

#[test]
fn what_is_new_is_seen_late_where_caches_are_asked() {
    let server = ApiServer::start();
    let (mut node, _) = node_and_admin(&server);
    server.set_cache_lag(Duration::from_secs(3600));
    let made = node.post("/api/v1/nodes", &json!({ "metadata": { "name": "n" } })).code(201).body;
    node.get("/api/v1/nodes/n").code(200);
    assert_eq!(node.post(PODS, &mirror("a", &made)).code(404).message(), "node \"n\" not found");
    server.set_cache_lag(Duration::ZERO);
    node.post(PODS, &mirror("a", &made)).code(201);
    server.set_cache_lag(Duration::from_secs(3600));
    node.get(&format!("{PODS}/a")).code(403);
    assert_eq!(node.delete(&format!("{PODS}/a"), &Value::Null).code(404).message(), "pod \"a\" not found");
    node.patch(&format!("{PODS}/a/status"), &json!({ "status": { "phase": "Running" } })).code(200);
}
