//! One pod as one row, by the rules of kubectl's printer (pkg/printers/internalversion, printPod).
//!
//! Two rules are ours: a pod that is being removed is `Terminating` until nothing of it is left, also where its
//! containers have ended already; and so is one that stop-pods stops, which then is `Stopped`, however its containers
//! ended.

use crate::model::duration;
use crate::model::time::Wall;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub struct PodRow {
    pub namespace: String,
    pub name: String,
    pub ready: String,
    pub status: String,
    pub restarts: String,
    pub age: String,
    pub ip: String,
    pub node: String,
}

pub fn pod_row(pod: &Pod, now: Wall) -> PodRow {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let spec = pod.spec.as_ref();
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let ready = containers.iter().filter(|c| c.ready && is_running(c)).count();
    let restarts: i64 = containers.iter().map(|c| i64::from(c.restart_count)).sum();
    PodRow {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        ready: format!("{ready}/{}", spec.map_or(0, |spec| spec.containers.len())),
        status: reason(pod, status),
        restarts: restarts.to_string(),
        age: age(pod.metadata.creation_timestamp.as_ref(), now),
        ip: status.pod_ip.clone().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
    }
}

fn is_running(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// The column STATUS.
pub fn reason(pod: &Pod, status: &PodStatus) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        let lost = status.reason.as_deref() == Some("NodeLost");
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    if status.reason.as_deref() == Some("Stopped") {
        return if containers.iter().any(is_running) { "Terminating" } else { "Stopped" }.to_owned();
    }
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut reason = filled(&status.reason).or(filled(&status.phase)).unwrap_or_else(|| "Pending".to_owned());
    let mut has_running = false;
    // From the last to the first: of several reasons the first container's is shown.
    for container in containers.iter().rev() {
        match container_reason(container) {
            Some(text) => reason = text,
            None => has_running |= container.ready && is_running(container),
        }
    }
    if reason == "Completed" && has_running {
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
    reason
}

/// Why a container does not run.
fn container_reason(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    if let Some(reason) = waiting.filter(|reason| !reason.is_empty()) {
        return Some(reason);
    }
    let ended = state.terminated.as_ref()?;
    Some(match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    })
}

/// kubectl's AGE: the wall clock's distance, never negative.
pub fn age(created: Option<&Time>, now: Wall) -> String {
    let Some(created) = created else { return "<unknown>".to_owned() };
    let created = Wall(i64::try_from(created.0.as_nanosecond()).unwrap_or(i64::MAX));
    duration::short_text(Duration::from_secs(now.seconds_since(created)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: Wall = Wall(1_700_000_100_000_000_000);

    /// A pod of two containers whose states are given.
    fn pod(phase: &str, states: &[Value], more: &Value) -> Pod {
        let statuses: Vec<Value> = states
            .iter()
            .enumerate()
            .map(|(n, state)| {
                let running = state.get("running").is_some();
                json!({"name": format!("c{n}"), "image": "x", "imageID": "", "ready": running, "restartCount": n + 1, "state": state})
            })
            .collect();
        let containers: Vec<Value> = (0..states.len()).map(|n| json!({"name": format!("c{n}")})).collect();
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-n", "namespace": "default", "creationTimestamp": "2023-11-14T22:13:20Z"},
            "spec": {"nodeName": "n", "containers": containers},
            "status": {"phase": phase, "podIP": "10.85.0.2", "containerStatuses": statuses},
        });
        merge(&mut object, more);
        serde_json::from_value(object).expect("a pod")
    }

    fn merge(into: &mut Value, from: &Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from.clone(),
        }
    }

    #[test]
    fn a_row_shows_what_kubectl_shows() {
        let row = pod_row(&pod("Running", &[json!({"running": {}}), json!({"running": {}})], &json!({})), NOW);
        let expected = PodRow {
            namespace: "default".to_owned(),
            name: "web-n".to_owned(),
            ready: "2/2".to_owned(),
            status: "Running".to_owned(),
            restarts: "3".to_owned(),
            age: "100s".to_owned(),
            ip: "10.85.0.2".to_owned(),
            node: "n".to_owned(),
        };
        assert_eq!(row, expected);
    }

    #[test]
    fn the_status_follows_kubectls_printer() {
        let running = || json!({"running": {}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = |reason: &str, code: i32| json!({"terminated": {"reason": reason, "exitCode": code}});
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let going = json!({"metadata": {"deletionTimestamp": "2023-11-14T22:13:30Z"}});
        let stop = json!({"status": {"reason": "Stopped"}});
        let rows: [(&str, &[Value], Value, &str, &str); 17] = [
            ("Pending", &[], json!({}), "Pending", "0/0"),
            ("Pending", &[waiting("ContainerCreating")], json!({}), "ContainerCreating", "0/1"),
            ("Pending", &[waiting("ErrImageNeverPull"), running()], json!({}), "ErrImageNeverPull", "1/2"),
            ("Running", &[waiting("CrashLoopBackOff")], json!({}), "CrashLoopBackOff", "0/1"),
            ("Running", &[ended("Error", 1)], json!({}), "Error", "0/1"),
            ("Running", &[ended("", 3)], json!({}), "ExitCode:3", "0/1"),
            ("Running", &[json!({"terminated": {"exitCode": 137, "signal": 9}})], json!({}), "Signal:9", "0/1"),
            ("Succeeded", &[ended("Completed", 0)], json!({}), "Completed", "0/1"),
            ("Failed", &[ended("OOMKilled", 137), ended("Completed", 0)], json!({}), "OOMKilled", "0/2"),
            ("Running", &[ended("Completed", 0), running()], ready.clone(), "Running", "1/2"),
            ("Running", &[ended("Completed", 0), running()], json!({}), "NotReady", "1/2"),
            // kubectl passes over a waiting state without a reason.
            ("Running", &[waiting(""), running()], json!({}), "Running", "1/2"),
            ("Failed", &[], json!({"status": {"reason": "Evicted"}}), "Evicted", "0/0"),
            ("Running", &[running()], going.clone(), "Terminating", "1/1"),
            ("Succeeded", &[ended("Completed", 0)], going.clone(), "Terminating", "0/1"),
            ("Running", &[ended("Error", 137), running()], stop.clone(), "Terminating", "1/2"),
            ("Running", &[ended("Error", 137), waiting("ContainerCreating")], stop.clone(), "Stopped", "0/2"),
        ];
        for (phase, states, more, status, ready) in rows {
            let row = pod_row(&pod(phase, states, &more), NOW);
            assert_eq!((row.status.as_str(), row.ready.as_str()), (status, ready), "{phase} {states:?}");
        }
    }

    #[test]
    fn an_age_is_never_negative_and_may_be_unknown() {
        let later: Time = serde_json::from_value(json!("2030-01-01T00:00:00Z")).expect("a time");
        assert_eq!(age(Some(&later), NOW), "0s");
        assert_eq!(age(None, NOW), "<unknown>");
    }
}
