//! The cells of the tables whose contents are computed: pods, nodes, events.

use super::age;
use super::shape::{items, text};
use serde_json::{Value, json};

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

pub fn pod(pod: &Value) -> Value {
    let status = &pod["status"];
    let (reason, ready, restarts) = pod_state(pod);
    let gates = items(&pod["spec"], "readinessGates");
    let met = |gate: &Value| {
        let kind = &gate["conditionType"];
        items(status, "conditions").iter().any(|c| c["type"] == *kind && c["status"] == "True")
    };
    let gates = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        format!("{}/{}", gates.iter().filter(|gate| met(gate)).count(), gates.len())
    };
    let address = items(status, "podIPs").first().map_or("", |entry| text(entry, "/ip"));
    json!([
        text(pod, "/metadata/name"),
        ready,
        reason,
        restarts,
        age::since_creation(pod),
        or_none(if address.is_empty() { text(status, "/podIP") } else { address }),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(status, "/nominatedNodeName")),
        gates,
    ])
}

/// Reason, `ready/total`, restarts.
fn pod_state(pod: &Value) -> (String, String, String) {
    let status = &pod["status"];
    let mut reason = text(status, "/phase").to_owned();
    if !text(status, "/reason").is_empty() {
        reason = text(status, "/reason").to_owned();
    }
    let sidecars: Vec<&str> = items(&pod["spec"], "initContainers")
        .iter()
        .filter(|c| c["restartPolicy"] == "Always")
        .map(|c| text(c, "/name"))
        .collect();
    let total = items(&pod["spec"], "containers").len() + sidecars.len();
    let mut counts = Counts::default();
    let initializing = initial_state(pod, &sidecars, &mut reason, &mut counts);
    if !initializing {
        regular_state(status, &mut reason, &mut counts);
    }
    if pod["metadata"]["deletionTimestamp"].is_string() && text(status, "/reason") == "NodeLost" {
        reason = "Unknown".to_owned();
    } else if pod["metadata"]["deletionTimestamp"].is_string() && !matches!(reason.as_str(), "Succeeded" | "Failed") {
        reason = "Terminating".to_owned();
    }
    let restarts = match counts.last {
        Some(at) if counts.restarts > 0 => format!("{} ({} ago)", counts.restarts, age::since(at)),
        _ => counts.restarts.to_string(),
    };
    (reason, format!("{}/{total}", counts.ready), restarts)
}

#[derive(Default)]
struct Counts<'a> {
    ready: usize,
    restarts: u64,
    /// When the last one ended before a restart.
    last: Option<&'a str>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, container: &'a Value) {
        self.restarts += container["restartCount"].as_u64().unwrap_or(0);
        let ended = text(container, "/lastState/terminated/finishedAt");
        if !ended.is_empty() && self.last.is_none_or(|last| last < ended) {
            self.last = Some(ended);
        }
    }
}

/// The init containers; true as long as one of them decides the reason.
fn initial_state<'a>(pod: &'a Value, sidecars: &[&str], reason: &mut String, counts: &mut Counts<'a>) -> bool {
    let all = items(&pod["status"], "initContainerStatuses");
    for (at, container) in all.iter().enumerate() {
        counts.add(container);
        let terminated = &container["state"]["terminated"];
        let waiting = text(container, "/state/waiting/reason");
        let sidecar = sidecars.contains(&text(container, "/name"));
        if terminated.is_object() && terminated["exitCode"] == 0 {
            continue;
        }
        if sidecar && container["started"] == true {
            counts.ready += usize::from(container["ready"] == true);
            continue;
        }
        *reason = if terminated.is_object() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{at}/{}", items(&pod["spec"], "initContainers").len())
        };
        return true;
    }
    false
}

fn regular_state<'a>(status: &'a Value, reason: &mut String, counts: &mut Counts<'a>) {
    let mut running = false;
    for container in items(status, "containerStatuses").iter().rev() {
        counts.add(container);
        let terminated = &container["state"]["terminated"];
        let waiting = text(container, "/state/waiting/reason");
        if !waiting.is_empty() {
            *reason = waiting.to_owned();
        } else if terminated.is_object() {
            *reason = ended(terminated);
        } else if container["ready"] == true && container["state"]["running"].is_object() {
            running = true;
            counts.ready += 1;
        }
    }
    if reason == "Completed" && running {
        let ready = items(status, "conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        *reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    match terminated["signal"].as_i64().unwrap_or(0) {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

pub fn node(node: &Value) -> Value {
    let ready = items(&node["status"], "conditions").iter().find(|c| c["type"] == "Ready");
    let mut status = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node["metadata"]["labels"].as_object();
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .filter(|role| !role.is_empty())
        .collect();
    let address = |kind: &str| {
        let found = items(&node["status"], "addresses").iter().find(|a| a["type"] == kind);
        found.map_or("<none>", |a| text(a, "/address"))
    };
    let info = |field: &str| {
        let value = text(&node["status"]["nodeInfo"], &format!("/{field}")).to_owned();
        if value.is_empty() { "<unknown>".to_owned() } else { value }
    };
    json!([
        text(node, "/metadata/name"),
        status,
        or_none(&roles.join(",")),
        age::since_creation(node),
        text(node, "/status/nodeInfo/kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ])
}

pub fn event(event: &Value) -> Value {
    let object = &event["involvedObject"];
    let source = [text(event, "/source/component"), text(event, "/source/host")];
    let source: Vec<&str> = source.into_iter().filter(|part| !part.is_empty()).collect();
    json!([
        age::since(text(event, "/lastTimestamp")),
        text(event, "/type"),
        text(event, "/reason"),
        format!("{}/{}", text(object, "/kind").to_lowercase(), text(object, "/name")),
        text(object, "/fieldPath"),
        source.join(", "),
        text(event, "/message").trim(),
        age::since(text(event, "/firstTimestamp")),
        event["count"].as_u64().unwrap_or(1).to_string(),
        text(event, "/metadata/name"),
    ])
}
