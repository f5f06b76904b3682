//! What happens to pods, as `get events` and `describe pod` tell it.

mod support;

use serde_json::Value;
use support::wait::expect;
use support::{Node, PATIENCE, Pod, Setup, json, wait_for};

fn events(node: &Node, name: &str) -> Vec<Value> {
    let out = node.verb(&["get", "events", "-o", "json"]).ok();
    let list: Value = serde_json::from_str(&out.stdout).expect("JSON");
    let full = node.full_name(name);
    let items = list["items"].as_array().expect("a list").iter();
    items.filter(|event| event["involvedObject"]["name"] == full.as_str()).cloned().collect()
}

/// `REASON: message`, in the order in which they happened last.
fn told(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .map(|event| format!("{} {}: {}", text(event, "type"), text(event, "reason"), text(event, "message")))
        .collect()
}

fn wait_events(node: &Node, pod: &str, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait_for(what, PATIENCE, || {
        let events = events(node, pod);
        expect(holds(&events), || format!("{:#?}", told(&events)))?;
        Ok(events)
    })
}

const PULLED: &str =
    "Normal Pulled: Container image \"busybox:1\" already present on machine and can be accessed by the pod";
const CREATED: &str = "Normal Created: Container created";
const STARTED: &str = "Normal Started: Container started";

#[test]
fn a_pod_that_starts_and_goes_tells_what_a_kubelet_tells() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app").container("d", support::IDLE));
    let pod = node.wait_running("app");
    let all = events(&node, "app");
    for container in ["c", "d"] {
        let path = format!("spec.containers{{{container}}}");
        let its: Vec<Value> =
            all.iter().filter(|e| e["involvedObject"]["fieldPath"] == path.as_str()).cloned().collect();
        assert_eq!(told(&its), [PULLED, CREATED, STARTED]);
    }
    let first = &all[0];
    assert_eq!(first["involvedObject"]["uid"], pod.uid().as_str());
    assert_eq!(first["source"], json!({"component": "kubelet", "host": node.tag}));
    assert_eq!((&first["count"], &first["kind"]), (&json!(1), &json!("Event")));

    let out = node.verb(&["get", "events"]).ok();
    let rows: Vec<Vec<&str>> = out.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    let node_object = format!("node/{}", node.tag);
    assert_eq!(rows[1][1..], ["Normal", "Starting", &node_object, "Starting", "kubelet."]);
    assert_eq!(rows.len(), 2 + 6, "{out:?}");
    let described = node.verb(&["describe", "pod", "app"]).ok().stdout;
    let (_, table) = described.split_once("\nEvents:\n").expect("a table");
    assert_eq!(table.lines().count(), 2 + 6, "{table}");
    let last: Vec<&str> = table.lines().last().expect("a line").split_whitespace().collect();
    assert_eq!((last[1], &last[3..]), ("Started", &["kubelet", "Container", "started"][..]), "{table}");

    assert_eq!(node.verb(&["get", "events", "app"]).ok().stdout.lines().count(), 1 + 6);
    let name = first["metadata"]["name"].as_str().expect("a name");
    assert_eq!(node.verb(&["get", "events", name, "-o", "name"]).ok().stdout, format!("event/{name}\n"));
    let out = node.verb(&["get", "events", "nothing"]).code(1);
    assert_eq!(out.stderr, "events \"nothing\" not found\n");
    let out = node.verb(&["get", "events", "-n", "nowhere"]).ok();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", "No resources found\n"));
    node.verb(&["get", "events", "-w"]).code(2);

    node.remove("app.yaml");
    node.wait_gone("app");
    let gone = told(&events(&node, "app"));
    for container in ["c", "d"] {
        let line = format!("Normal Killing: Stopping container {container}");
        assert_eq!(gone.iter().filter(|told| **told == line).count(), 1, "{gone:?}");
    }
    assert_eq!(gone.len(), 8, "they outlive the pod: {gone:?}");
}

#[test]
fn a_crash_loop_is_counted() {
    let node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::new("app", "exit 3"));
    let counted = |events: &[Value]| {
        let backoff = events.iter().find(|event| event["reason"] == "BackOff");
        backoff.is_some_and(|event| event["count"].as_u64() >= Some(2))
    };
    let all = wait_events(&node, "app", "it backs off again and again", counted);
    assert_eq!(all.len(), 4, "each is one event that counts: {:?}", told(&all));
    let pod = node.pod("app");
    let line = format!(
        "Warning BackOff: Back-off restarting failed container c in pod {}_default({})",
        node.full_name("app"),
        pod.uid()
    );
    assert!(told(&all).contains(&line), "{all:?}");
    let described = node.verb(&["describe", "pod", "app"]).ok().stdout;
    let row = described.lines().find(|row| row.starts_with("  Warning  BackOff")).expect("a row");
    assert!(row.contains(" (x") && row.contains(" over "), "{row}");
}

#[test]
fn a_missing_image_and_a_command_that_is_not_there_say_so() {
    let node = Node::start();
    node.put_pod(&Pod::idle("absent").image("absent:1").with("imagePullPolicy", json!("IfNotPresent")));
    node.put_pod(&Pod::idle("never").image("absent:1").with("imagePullPolicy", json!("Never")));
    node.put_pod(&Pod::idle("broken").with("command", json!(["/no/such/program"])).restart("Never"));
    let absent = wait_events(&node, "absent", "its image is missed", |all| all.len() == 4);
    let absent = told(&absent);
    assert!(absent[0].starts_with("Warning Failed: Failed to pull image \"absent:1\": "), "{absent:?}");
    let rest = [
        "Warning Failed: Error: ErrImagePull",
        "Normal BackOff: Back-off pulling image \"absent:1\"",
        "Warning Failed: Error: ImagePullBackOff",
    ];
    assert_eq!(absent[1..], rest);
    let never = wait_events(&node, "never", "its image is missed", |all| all.len() == 2);
    let expected = [
        "Warning ErrImageNeverPull: Container image \"absent:1\" is not present with pull policy of Never",
        "Warning Failed: Error: ErrImageNeverPull",
    ];
    assert_eq!(told(&never), expected);
    let broken = told(&wait_events(&node, "broken", "its start failed", |all| all.len() == 3));
    assert_eq!(broken[..2], [PULLED, CREATED]);
    assert!(broken[2].starts_with("Warning Failed: Error: ") && broken[2].contains("/no/such/program"), "{broken:?}");
}

#[test]
fn what_was_adopted_did_not_start_again() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
    node.crash_agent();
    node.start_agent();
    node.wait_running("app");
    assert_eq!(told(&events(&node, "app")), [] as [String; 0], "events live in the agent's memory");
    let described = node.verb(&["describe", "pod", "app"]).ok().stdout;
    assert!(described.ends_with("\nEvents:  <none>\n"), "{described}");
}
