//! kubectl against the double: what users type, and what they see.
//!
//! `PINLET_TEST_KUBECTL` names the programs, separated by colons; without it, the one of the machine is used.

use crate::apiserver::{ADMIN, ApiServer, Kubeconfig, User};
use crate::client::Client;
use crate::replay::lines;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const POD: &str = "/api/v1/namespaces/default/pods/nodejs-web-app-vm";

fn programs() -> Vec<PathBuf> {
    let named = std::env::var("PINLET_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    named.split(':').map(PathBuf::from).collect()
}

/// A kubectl with a home of its own, so that its caches are no other's.
struct Kubectl {
    program: PathBuf,
    home: PathBuf,
}

#[derive(Debug)]
struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Kubectl {
    fn new(program: PathBuf, server: &ApiServer) -> Kubectl {
        server.set_anonymous(Some(User::new("kubernetes-admin", &["system:masters"])));
        let home = std::env::temp_dir().join(format!("pinlet-kubectl-{}-{}", std::process::id(), server.port()));
        std::fs::create_dir_all(&home).expect("a home");
        Kubeconfig::new(&server.url()).write(&home.join("config"));
        Kubectl { program, home }
    }

    fn spawn(&self, args: &[&str]) -> Child {
        Command::new(&self.program)
            .args(args)
            .env("KUBECONFIG", self.home.join("config"))
            .env("HOME", &self.home)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.program.display()))
    }

    fn finish(&self, mut child: Child, args: &[&str]) -> Output {
        let end = Instant::now() + LIMIT;
        while child.try_wait().expect("a child").is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                let output = child.wait_with_output().expect("its output");
                panic!("{args:?} did not end: {}", String::from_utf8_lossy(&output.stderr));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().expect("its output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn run(&self, args: &[&str]) -> Output {
        self.finish(self.spawn(args), args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "{}: {args:?}: {output:?}", self.program.display());
        output.out
    }

    /// The words of a table, row by row, without the cells that tell an age.
    #[track_caller]
    fn table(&self, args: &[&str]) -> Vec<Vec<String>> {
        let text = self.ok(args);
        text.lines()
            .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect())
            .collect()
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// The double with what was recorded: a node, its pods in every state, and events.
fn recorded() -> ApiServer {
    let server = ApiServer::start();
    for object in lines("objects.jsonl") {
        server.put(&object);
    }
    server
}

fn each(test: impl Fn(&ApiServer, &Kubectl)) {
    for program in programs() {
        let server = recorded();
        let kubectl = Kubectl::new(program, &server);
        test(&server, &kubectl);
    }
}

#[test]
fn get_shows_tables() {
    each(|server, kubectl| {
        let table = kubectl.table(&["get", "pods", "-o", "wide", "-n", "default"]);
        assert_eq!(
            table[0],
            ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
        );
        let row = |name: &str| table.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name}: {table:?}"));
        let states: Vec<String> = table[1..].iter().map(|row| format!("{} {} {}", row[0], row[1], row[2])).collect();
        assert_eq!(states.len(), server.list(&crate::apiserver::resource::PODS).len());
        assert_eq!(
            states,
            [
                "completed-vm 0/1 Completed",
                "crash-vm 0/1 CrashLoopBackOff",
                "failed-vm 0/1 Error",
                "nodejs-web-app-vm 1/1 Running",
                "noimage-vm 1/3 ImagePullBackOff",
                "sidecar-vm 1/2 CrashLoopBackOff",
                "startuperr-vm 0/1 CrashLoopBackOff",
                "static-httpd-vm 1/1 Running",
            ]
        );
        assert_eq!(row("nodejs-web-app-vm")[6..], ["vm", "<none>", "<none>"]);
        assert!(row("crash-vm")[3].contains(" ago)"), "{:?}", row("crash-vm"));
        let nodes = kubectl.table(&["get", "nodes", "-o", "wide"]);
        assert_eq!(nodes[1][..3], ["vm", "Ready", "<none>"]);
        assert_eq!(nodes[1][4], "v1.36.2");
        assert!(kubectl.ok(&["get", "pods", "-A"]).starts_with("NAMESPACE"));
        assert!(kubectl.ok(&["get", "events", "--field-selector", "type=Normal"]).contains("pod/"));
        assert!(kubectl.ok(&["get", "leases", "-n", "kube-node-lease"]).contains("vm"));
        assert_eq!(kubectl.ok(&["get", "po", "crash-vm", "-o", "jsonpath={.metadata.name}"]), "crash-vm");
        assert_eq!(kubectl.ok(&["get", "no", "-o", "name"]), "node/vm\n");
        let none = kubectl.run(&["get", "pod", "none"]);
        assert_eq!(none.err, "Error from server (NotFound): pods \"none\" not found\n");
    });
}

#[test]
fn describe_shows_objects_and_their_events() {
    each(|server, kubectl| {
        let mirror = server.pod("default", "nodejs-web-app-vm").expect("recorded");
        let static_uid = &mirror["metadata"]["annotations"]["kubernetes.io/config.hash"];
        server.put(&json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e.1", "namespace": "default" },
            "involvedObject": { "kind": "Pod", "namespace": "default", "name": "nodejs-web-app-vm", "uid": static_uid },
            "reason": "Started", "message": "Container started", "type": "Normal", "count": 3,
            "source": { "component": "kubelet", "host": "vm" },
            "firstTimestamp": "2026-11-23T23:05:30Z", "lastTimestamp": "2026-11-23T23:05:30Z",
        }));
        let text = kubectl.ok(&["describe", "pod", "nodejs-web-app-vm"]);
        for word in
            ["Node:", "vm/192.0.2.2", "Controlled By:", "Node/vm", "Container started", "kubernetes.io/config.mirror"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
        let text = kubectl.ok(&["describe", "node", "vm"]);
        for word in ["KubeletReady", "InternalIP", "HolderIdentity:", "Non-terminated Pods:", "crash-vm"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    });
}

#[test]
fn a_deleted_mirror_is_back() {
    each(|server, kubectl| {
        let mirror = server.pod("default", "nodejs-web-app-vm").expect("recorded");
        let mut fresh = (*mirror).clone();
        for field in ["uid", "resourceVersion", "creationTimestamp"] {
            fresh["metadata"].as_object_mut().expect("metadata").remove(field);
        }
        let mut node = Client::new(server, &server.node_token("vm"));
        for args in [
            &["delete", "pod", "nodejs-web-app-vm"][..],
            &["delete", "pod", "nodejs-web-app-vm", "--force", "--grace-period=0"],
        ] {
            let before = server.pod("default", "nodejs-web-app-vm").expect("it is there");
            let mark = server.journal().mark();
            let child = kubectl.spawn(args);
            let end = Instant::now() + LIMIT;
            // What the agent does: the end of the old one, then a new one. Only once kubectl watches: where the new one
            // comes between its list and its watch, kubectl waits for the end of that one, also on a real server.
            loop {
                assert!(Instant::now() < end, "the deletion arrives");
                let watches = server.journal().since(mark).iter().any(|entry| entry.is_watch());
                match server.pod("default", "nodejs-web-app-vm") {
                    None => break,
                    Some(now) if watches && now["metadata"]["deletionTimestamp"].is_string() => {
                        let uid = &now["metadata"]["uid"];
                        node.delete(POD, &json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } }))
                            .code(200);
                    }
                    Some(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
            node.post("/api/v1/namespaces/default/pods", &fresh).code(201);
            let output = kubectl.finish(child, args);
            assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
            assert!(output.out.contains("\"nodejs-web-app-vm\""), "{output:?}");
            let after = server.pod("default", "nodejs-web-app-vm").expect("it is back");
            assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
        }
    });
}

#[test]
fn an_admin_taints_labels_and_applies() {
    each(|server, kubectl| {
        let node = || server.node("vm").expect("recorded");
        kubectl.ok(&["taint", "node", "vm", "pinlet.dev/static-pods-only=:NoSchedule"]);
        let taints = node()["spec"]["taints"].to_string();
        assert!(taints.contains("pinlet.dev/static-pods-only"), "{taints}");
        kubectl.ok(&["taint", "node", "vm", "pinlet.dev/static-pods-only-"]);
        kubectl.ok(&["label", "node", "vm", "pinlet.dev/static-pods-only=true"]);
        assert_eq!(node()["metadata"]["labels"]["pinlet.dev/static-pods-only"], "true");
        kubectl.ok(&["cordon", "vm"]);
        assert_eq!(node()["spec"]["unschedulable"], true);
        assert_eq!(kubectl.table(&["get", "nodes"])[1][1], "Ready,SchedulingDisabled");
        server.add_namespace("apps");
        let pod: Value = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bound", "namespace": "apps" },
            "spec": { "nodeName": "vm", "containers": [{ "name": "c", "image": "i" }] },
        });
        let file = kubectl.home.join("pod.json");
        std::fs::write(&file, pod.to_string()).expect("a manifest");
        kubectl.ok(&["create", "--validate=false", "-f", file.to_str().expect("text")]);
        assert!(server.pod("apps", "bound").is_some());
        kubectl.ok(&["annotate", "pod", "-n", "apps", "bound", "a=b"]);
        kubectl.ok(&["delete", "node", "vm"]);
        assert!(server.node("vm").is_none());
    });
}

#[test]
fn a_watching_kubectl_sees_what_happens() {
    each(|server, kubectl| {
        let args = ["get", "pods", "-w", "--request-timeout=3s", "--field-selector", "metadata.name=crash-vm"];
        let child = kubectl.spawn(&args);
        let end = Instant::now() + LIMIT;
        while !server.journal().all().iter().any(|entry| entry.is_watch()) {
            assert!(Instant::now() < end, "the watch arrives");
            std::thread::sleep(Duration::from_millis(10));
        }
        server.edit(&crate::apiserver::resource::PODS, "default", "crash-vm", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] = 77.into();
        });
        let output = kubectl.finish(child, &args);
        let rows: Vec<&str> = output.out.lines().collect();
        assert_eq!(rows.len(), 3, "{output:?}");
        assert!(rows[2].starts_with("crash-vm") && rows[2].contains("77 ("), "{output:?}");
    });
}

#[test]
fn kubectl_shows_tokens_and_certificates_over_tls() {
    for program in programs() {
        let server = ApiServer::start_tls();
        let kubectl = Kubectl::new(program, &server);
        let admin = server.client_certificate("root", "system:masters");
        for (file, text) in [("ca.crt", server.ca()), ("root.crt", admin.certificate), ("root.key", admin.key)] {
            std::fs::write(kubectl.home.join(file), text).expect("a file");
        }
        let base = || Kubeconfig::new(&server.url()).cluster("certificate-authority", "ca.crt");
        server.set_anonymous(None);
        for (config, user) in [
            (base().token(ADMIN), "kubernetes-admin"),
            (base().user("client-certificate", "root.crt").user("client-key", "root.key"), "root"),
        ] {
            config.write(&kubectl.home.join("config"));
            kubectl.ok(&["get", "namespaces"]);
            let last = server.journal().all().pop().expect("a request");
            assert_eq!((last.path.as_str(), last.user.as_str()), ("/api/v1/namespaces", user));
        }
        base().write(&kubectl.home.join("config"));
        assert_ne!(kubectl.run(&["get", "namespaces"]).code, Some(0));
    }
}
