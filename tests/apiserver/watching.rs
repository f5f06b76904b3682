//! Lists and watches: versions, selectors, bookmarks, and the ways in which a watch ends.

use crate::apiserver::{ADMIN, ApiServer, Cut};
use crate::client::Client;
use serde_json::{Value, json};

pub fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i:1" }] },
    })
}

#[test]
fn a_list_has_the_version_that_a_watch_goes_on_from() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    admin.post("/api/v1/namespaces/default/pods", &pod("a", "n")).code(201);
    let list = admin.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn&resourceVersion=0").code(200).body;
    assert_eq!(list["kind"], "PodList");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn&resourceVersion={version}");
    let mut watch = Client::new(&server, ADMIN).watch(&path);
    admin.post("/api/v1/namespaces/default/pods", &pod("other", "m")).code(201);
    admin.post("/api/v1/namespaces/default/pods", &pod("b", "n")).code(201);
    assert_eq!(watch.line(), "ADDED b", "what another node has is not seen");
    admin.patch("/api/v1/namespaces/default/pods/a/status", &json!({ "status": { "phase": "Running" } })).code(200);
    let event = watch.event();
    assert_eq!(event["type"], "MODIFIED");
    assert_eq!(event["object"]["kind"], "Pod", "unlike in a list, an object says what it is");
    let gone = admin.delete("/api/v1/namespaces/default/pods/a", &json!({ "gracePeriodSeconds": 0 })).code(200).body;
    let last = watch.event();
    assert_eq!(
        (&last["type"], &last["object"]["metadata"]["deletionGracePeriodSeconds"]),
        (&json!("MODIFIED"), &json!(0))
    );
    let last = watch.event();
    assert_eq!(last["type"], "DELETED");
    assert_eq!(last["object"]["metadata"]["resourceVersion"], gone["metadata"]["resourceVersion"]);
}

#[test]
fn a_watch_without_a_version_begins_with_what_is_there() {
    let server = ApiServer::start();
    server.put(&pod("a", "n"));
    for version in ["", "&resourceVersion=0"] {
        let path = format!("/api/v1/namespaces/default/pods?watch=true{version}&timeoutSeconds=1");
        let mut watch = Client::new(&server, ADMIN).watch(&path);
        assert_eq!([watch.line(), watch.line()], ["ADDED a", "end"]);
    }
    let path = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Client::new(&server, ADMIN).watch(path);
    assert_eq!(watch.line(), "ADDED a");
    let mark = watch.event();
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[test]
fn what_leaves_a_selection_is_deleted_for_its_watcher() {
    let server = ApiServer::start();
    server.put(&pod("a", "n"));
    let from = server.version();
    let path = format!("/api/v1/pods?watch=1&labelSelector=app%3Da&resourceVersion={from}");
    let mut watch = Client::new(&server, ADMIN).watch(&path);
    let mut admin = Client::new(&server, ADMIN);
    let pod = "/api/v1/namespaces/default/pods/a";
    let moved = admin.merge(pod, &json!({ "metadata": { "labels": { "app": "z" } } })).code(200).body;
    let event = watch.event();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["app"], "a", "as it was last seen");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], moved["metadata"]["resourceVersion"]);
    admin.merge(pod, &json!({ "metadata": { "labels": { "app": "a" } } })).code(200);
    assert_eq!(watch.line(), "ADDED a");
}

#[test]
fn selectors_select() {
    let server = ApiServer::start();
    for (name, node) in [("a", "n"), ("b", "n"), ("c", "")] {
        server.put(&pod(name, node));
    }
    let mut admin = Client::new(&server, ADMIN);
    for (query, wanted) in [
        ("", "a b c"),
        ("fieldSelector=metadata.name=b", "b"),
        ("fieldSelector=spec.nodeName!=n", "c"),
        ("fieldSelector=spec.nodeName=n,status.phase!=Failed", "a b"),
        ("fieldSelector=spec.nodeName=", "c"),
        ("labelSelector=app%20in%20(a,c)", "a c"),
        ("labelSelector=app!=a", "b c"),
        ("labelSelector=app,!none", "a b c"),
        ("labelSelector=app%3D%3Db&fieldSelector=spec.nodeName=n", "b"),
    ] {
        let list = admin.get(&format!("/api/v1/namespaces/default/pods?{query}")).code(200).body;
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|p| p["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), wanted, "{query}");
    }
}

#[test]
fn bookmarks_come_when_asked_for_and_before_the_end() {
    let server = ApiServer::start();
    let path = |marks| {
        format!(
            "/api/v1/pods?watch=1&timeoutSeconds=5&allowWatchBookmarks={marks}&resourceVersion={}",
            server.version()
        )
    };
    let mut with = Client::new(&server, ADMIN).watch(&path("true"));
    let mut without = Client::new(&server, ADMIN).watch(&path("false"));
    Client::new(&server, ADMIN).post("/api/v1/namespaces", &json!({ "metadata": { "name": "x" } })).code(201);
    let newest = server.version().to_string();
    server.send_bookmarks();
    let mark = with.event();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "Pod");
    assert_eq!(mark["object"]["metadata"]["resourceVersion"], newest, "also where only other things changed");
    assert_eq!([with.line(), with.line()], ["BOOKMARK -", "end"]);
    assert_eq!(without.line(), "end");
    server.set_bookmark_interval(std::time::Duration::from_millis(300));
    let mut often = Client::new(&server, ADMIN).watch(&path("true"));
    assert_eq!([often.line(), often.line()], ["BOOKMARK -", "BOOKMARK -"]);
}

#[test]
fn a_watch_from_a_forgotten_version_is_told_so() {
    let server = ApiServer::start();
    let old = server.version();
    server.compact();
    let mut watch = Client::new(&server, ADMIN).watch(&format!("/api/v1/pods?watch=1&resourceVersion={old}"));
    let event = watch.event();
    assert_eq!(event["type"], "ERROR");
    assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&json!(410), &json!("Expired")));
    assert_eq!(watch.line(), "end");
    let mut admin = Client::new(&server, ADMIN);
    let exact = admin.get(&format!("/api/v1/pods?resourceVersion={old}&resourceVersionMatch=Exact")).code(410);
    assert!(exact.message().starts_with("too old resource version"), "{exact:?}");
    let ahead = admin.get("/api/v1/pods?resourceVersion=99999999").code(504);
    assert_eq!(ahead.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert!(admin.get("/api/v1/pods?watch=1&resourceVersion=x").code(400).message().contains("resourceVersion"));
}

#[test]
fn watches_end_as_asked() {
    let server = ApiServer::start();
    let begin =
        || Client::new(&server, ADMIN).watch(&format!("/api/v1/pods?watch=1&resourceVersion={}", server.version()));
    let mut watch = begin();
    server.cut_watches(Cut::Clean);
    assert_eq!(watch.line(), "end");
    let mut watch = begin();
    server.cut_watches(Cut::Expired);
    assert_eq!(watch.event()["object"]["code"], 410);
    assert_eq!(watch.line(), "end");
    for cut in [Cut::Abrupt, Cut::InALine] {
        let mut watch = begin();
        server.cut_watches(cut);
        assert!(watch.next().is_err(), "{cut:?}");
    }
}

#[test]
fn a_mirror_that_a_user_deletes_is_seen_as_on_a_real_server() {
    let server = ApiServer::start();
    server.put(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n", "uid": "u" } }));
    let mut mirror = pod("a", "n");
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "h" });
    mirror["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true }]);
    let token = server.node_token("n");
    let path = format!("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn&resourceVersion={}", server.version());
    let mut watch = Client::new(&server, &token).watch(&path);
    let (mut node, mut admin) = (Client::new(&server, &token), Client::new(&server, ADMIN));
    let uid = node.post("/api/v1/namespaces/default/pods", &mirror).code(201).body["metadata"]["uid"].clone();
    let own = "/api/v1/namespaces/default/pods/a";
    node.patch(&format!("{own}/status"), &json!({ "status": { "phase": "Running" } })).code(200);
    admin.delete(own, &json!({ "propagationPolicy": "Background" })).code(200);
    let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
    node.delete(own, &options).code(200);
    node.post("/api/v1/namespaces/default/pods", &mirror).code(201);
    node.delete(own, &options).code(409);
    // Type, generation, grace and version as in the recording, from the version of the creation on.
    let mut seen = Vec::new();
    let mut first = 0;
    for _ in 0..6 {
        let event = watch.event();
        let meta = &event["object"]["metadata"];
        let version: u64 = meta["resourceVersion"].as_str().unwrap().parse().unwrap();
        first = if first == 0 { version } else { first };
        seen.push(format!(
            "{} {} {} {}",
            event["type"].as_str().unwrap(),
            meta["generation"],
            meta["deletionGracePeriodSeconds"],
            version - first
        ));
    }
    let wanted =
        ["ADDED 1 null 0", "MODIFIED 1 null 1", "MODIFIED 2 30 2", "MODIFIED 2 0 3", "DELETED 2 0 4", "ADDED 1 null 5"];
    assert_eq!(seen, wanted);
}
