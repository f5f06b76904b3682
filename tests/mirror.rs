//! The node as a cluster sees it, against the double of an API server: mirror pods, the Node, pods that nobody runs.

#[path = "support/apiserver/mod.rs"]
mod apiserver;
mod support;

use apiserver::resource::{EVENTS, LEASES, NODES, PODS};
use apiserver::{ApiServer, Cut, Fault, Kubeconfig, Object, User};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use support::wait::{expect, stays};
use support::{Node, PATIENCE, Pod, Setup, json, wait_for};

/// A node and the API server that it is shown to.
struct Shown {
    node: Node,
    server: ApiServer,
}

impl Shown {
    fn start() -> Shown {
        Shown::with(Setup::default())
    }

    fn with(setup: Setup) -> Shown {
        let server = ApiServer::start();
        let mut node = setup.stopped().start();
        let token = server.node_token(&node.tag);
        let path = Kubeconfig::new(&server.url()).token(&token).write(&node.dir.join("kubeconfig"));
        node.setup.flags.push(format!("--kubeconfig={}", path.display()));
        node.start_agent();
        Shown { node, server }
    }

    fn mirror(&self, name: &str) -> Option<Object> {
        self.server.pod("default", &self.node.full_name(name))
    }

    fn wait_mirror(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("the mirror of {name} {what}\n{}", self.node.tag), PATIENCE, || {
            let mirror = self.mirror(name).ok_or("no mirror")?;
            let value = (*mirror).clone();
            if holds(&value) { Ok(value) } else { Err(format!("{value:#}\n{}", self.node.agent_log())) }
        })
    }

    fn wait_running(&self, name: &str) -> Value {
        self.wait_mirror(name, "runs", |pod| pod["status"]["containerStatuses"][0]["state"]["running"].is_object())
    }

    fn wait_no_mirror(&self, name: &str) {
        wait_for("no mirror", PATIENCE, || expect(self.mirror(name).is_none(), || format!("{:?}", self.mirror(name))));
    }
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().expect("a uid")
}

#[test]
fn a_static_pod_is_seen_in_the_cluster_and_goes_with_its_manifest() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("web"));
    let mirror = shown.wait_running("web");
    let local = shown.node.wait_running("web");
    assert_ne!(uid(&mirror), local.uid(), "the server gives its own");
    assert_eq!(mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"], json!(local.uid()));
    assert_eq!(mirror["spec"]["nodeName"], json!(shown.node.tag));
    assert_eq!(mirror["status"]["containerStatuses"], local.0["status"]["containerStatuses"]);
    assert_eq!(mirror["status"]["podIP"], local.0["status"]["podIP"]);
    shown.node.remove("web.yaml");
    shown.wait_no_mirror("web");
    shown.node.wait_gone("web");
}

#[test]
fn what_happens_is_told_by_events_of_the_static_pod() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::new("crashes", "exit 3"));
    let uid = shown.node.wait_pod("crashes", "has crashed", |pod| pod.restarts("c") > 0).uid();
    let name = shown.node.full_name("crashes");
    let told = |reason: &str| {
        let events = shown.server.list(&EVENTS);
        events.iter().any(|event| {
            let about = &event["involvedObject"];
            event["reason"] == reason && about["name"] == json!(name) && about["uid"] == json!(uid)
        })
    };
    for reason in ["Pulled", "Created", "Started", "BackOff"] {
        wait_for(reason, PATIENCE, || {
            expect(told(reason), || format!("{:#?}\n{}", shown.server.list(&EVENTS), shown.node.agent_log()))
        });
    }
    wait_for("the second start counts up", PATIENCE, || {
        let events = shown.server.list(&EVENTS);
        let started = events.iter().find(|event| event["reason"] == "Started");
        expect(started.is_some_and(|event| event["count"].as_u64() > Some(1)), || format!("{started:#?}"))
    });
}

#[test]
fn a_mirror_that_the_cluster_refuses_says_why_and_the_pod_runs() {
    let shown = Shown::start();
    shown.server.fail(None, Fault::says(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q"), |request| {
        request.method == "POST" && request.path.ends_with("/pods")
    });
    shown.node.put_pod(&Pod::idle("web"));
    shown.node.wait_running("web");
    wait_for("the reason is told", PATIENCE, || {
        let out = shown.node.verb(&["explain", "web"]);
        expect(out.stdout.contains("exceeded quota: q"), || format!("{out:?}\n{}", shown.node.agent_log()))
    });
    shown.server.heal_all();
    shown.wait_running("web");
    wait_for("nothing is said any more", PATIENCE, || {
        let out = shown.node.verb(&["explain", "web"]);
        expect(!out.stdout.contains("quota"), || format!("{out:?}"))
    });
}

#[test]
fn what_users_do_to_a_mirror_reaches_no_container() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("web"));
    let first = shown.wait_running("web");
    let local = shown.node.wait_running("web");
    let pid = shown.node.init_pid(&local, "c");
    let name = shown.node.full_name("web");
    assert!(shown.server.remove(&PODS, "default", &name));
    let second =
        shown.wait_mirror("web", "is back", |pod| uid(pod) != uid(&first) && pod["status"]["phase"] == "Running");
    shown
        .server
        .edit(&PODS, "default", &name, |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    shown.wait_mirror("web", "is back again", |pod| uid(pod) != uid(&second) && pod["status"]["phase"] == "Running");
    shown.server.edit(&PODS, "default", &name, |pod| pod["status"]["phase"] = json!("Failed"));
    shown.wait_mirror("web", "is repaired", |pod| pod["status"]["phase"] == "Running");
    let after = shown.node.wait_running("web");
    assert_eq!((shown.node.init_pid(&after, "c"), after.restarts("c")), (pid, 0));
}

#[test]
fn an_edited_manifest_gets_a_new_mirror() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("web"));
    let first = shown.wait_running("web");
    shown.node.put_pod(&Pod::idle("web").with("env", json!([{"name": "A", "value": "b"}])));
    let second =
        shown.wait_mirror("web", "is another", |pod| uid(pod) != uid(&first) && pod["status"]["phase"] == "Running");
    let local = shown.node.wait_running("web");
    assert_eq!(second["metadata"]["annotations"]["kubernetes.io/config.mirror"], json!(local.uid()));
}

#[test]
fn pods_live_on_without_an_answer_and_all_is_shown_when_there_is_one() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("before"));
    shown.wait_running("before");
    shown.server.down();
    shown.node.put_pod(&Pod::idle("meanwhile"));
    shown.node.wait_running("meanwhile");
    shown.node.remove("before.yaml");
    shown.node.wait_gone("before");
    wait_for("the log says it", PATIENCE, || {
        expect(shown.node.agent_log().contains("the API server does not answer"), || shown.node.agent_log())
    });
    shown.server.up();
    shown.wait_running("meanwhile");
    shown.wait_no_mirror("before");
}

#[test]
fn every_kind_of_failure_is_survived() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("web"));
    let local = shown.node.wait_running("web");
    shown.wait_running("web");
    for (n, fault) in [
        Fault::status(500),
        Fault::status(403),
        Fault::status(409),
        Fault::status(401),
        Fault::too_many(1),
        Fault::Garbage(b"<html>a portal</html>".to_vec()),
        Fault::Truncate,
        Fault::Close,
        Fault::LoseAnswer,
    ]
    .into_iter()
    .enumerate()
    {
        shown.server.fail(None, fault, |_| true);
        shown.server.cut_watches(if n % 2 == 0 { Cut::Abrupt } else { Cut::Expired });
        let name = format!("p{n}");
        shown.node.put_pod(&Pod::idle(&name));
        shown.node.wait_running(&name);
        shown.server.heal_all();
        shown.wait_running(&name);
    }
    let after = shown.node.wait_running("web");
    assert_eq!(shown.node.init_pid(&after, "c"), shown.node.init_pid(&local, "c"));
}

#[test]
fn the_node_is_registered_and_comes_back_when_an_admin_deletes_it() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("web"));
    let mirror = shown.wait_running("web");
    let node = shown.server.node(&shown.node.tag).expect("registered");
    let node = (*node).clone();
    assert_eq!(node["metadata"]["labels"]["pinlet.dev/static-pods-only"], "true");
    let ready = node["status"]["conditions"].as_array().expect("conditions").iter().find(|c| c["type"] == "Ready");
    assert_eq!(ready.expect("Ready")["status"], "True");
    assert!(node["status"]["nodeInfo"]["kubeletVersion"].as_str().expect("a version").contains("+pinlet."));
    assert!(shown.server.get(&LEASES, "kube-node-lease", &shown.node.tag).is_some());
    shown.server.remove(&NODES, "", &shown.node.tag);
    shown.server.collect_garbage();
    let again = shown.wait_mirror("web", "is owned by the new Node", |pod| {
        uid(pod) != uid(&mirror)
            && shown.server.node(&shown.node.tag).is_some_and(|node| {
                let node = (*node).clone();
                pod["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
            })
    });
    assert_ne!(uid(&again), uid(&mirror));
}

#[test]
fn a_pod_that_the_cluster_binds_here_is_rejected_and_let_go() {
    let shown = Shown::start();
    shown.node.put_pod(&Pod::idle("web"));
    shown.wait_running("web");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "foreign", "namespace": "default"},
        "spec": {"nodeName": shown.node.tag, "containers": [{"name": "c", "image": "busybox:1"}]},
        "status": {"phase": "Pending"},
    });
    shown.server.put(&pod);
    wait_for("it is rejected", PATIENCE, || {
        let pod = (*shown.server.pod("default", "foreign").ok_or("gone")?).clone();
        expect(pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "StaticPodsOnly", || format!("{pod:#}"))
    });
    stays("nothing of it runs", Duration::from_secs(1), || {
        expect(shown.node.pods().len() == 1, || format!("{:?}", shown.node.pods().len()))
    });
    shown
        .server
        .edit(&PODS, "default", "foreign", |pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    wait_for("it is gone", PATIENCE, || {
        expect(shown.server.pod("default", "foreign").is_none(), || "there".to_owned())
    });
}

/// What a user of the cluster types, with whatever kubectl there is.
#[test]
fn kubectl_shows_the_pods_and_a_deleted_one_is_back() {
    let shown = Shown::start();
    shown.server.set_anonymous(Some(User::new("kubernetes-admin", &["system:masters"])));
    let config = Kubeconfig::new(&shown.server.url()).write(&shown.node.dir.join("admin"));
    let kubectl = |args: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["30", "kubectl"]).args(args).env("KUBECONFIG", &config).env("HOME", &shown.node.dir);
        let output = command.env("NO_PROXY", "127.0.0.1").output().expect("kubectl is installed");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    shown.node.put_pod(&Pod::idle("web").own_network());
    shown.node.put_pod(&Pod::idle("host"));
    let mirror = shown.wait_running("web");
    shown.wait_running("host");
    let table = kubectl(&["get", "pods", "-o", "wide", "-n", "default"]);
    for pod in ["web", "host"] {
        let ip = shown.node.pod(pod).ip();
        let name = shown.node.full_name(pod);
        let row = table.lines().find(|row| row.starts_with(&name)).unwrap_or_else(|| panic!("{table}"));
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!((cells[1], cells[2], cells[3]), ("1/1", "Running", "0"), "{table}");
        assert!(cells.contains(&ip.as_str()) && cells.contains(&shown.node.tag.as_str()), "{table}");
    }
    let nodes = kubectl(&["get", "nodes"]);
    assert!(nodes.lines().any(|row| row.starts_with(&shown.node.tag) && row.contains(" Ready ")), "{nodes}");
    let name = shown.node.full_name("web");
    wait_for("its events", PATIENCE, || {
        let text = kubectl(&["describe", "pod", &name]);
        expect(text.contains("Container started") && text.contains("Controlled By:  Node/"), || text.clone())
    });
    kubectl(&["delete", "pod", &name, "--wait=false"]);
    shown.wait_mirror("web", "is back", |pod| uid(pod) != uid(&mirror) && pod["status"]["phase"] == "Running");
}

#[test]
fn an_agent_that_starts_anew_keeps_the_mirrors_and_deletes_orphans() {
    let mut shown = Shown::start();
    shown.node.put_pod(&Pod::idle("stays"));
    shown.node.put_pod(&Pod::idle("goes"));
    let before = shown.wait_running("stays");
    shown.wait_running("goes");
    shown.node.crash_agent();
    shown.node.remove("goes.yaml");
    shown.node.start_agent();
    shown.wait_no_mirror("goes");
    assert_eq!(uid(&shown.wait_running("stays")), uid(&before));
}
