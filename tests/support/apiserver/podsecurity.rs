//! PodSecurity, the plugin that refuses pods in namespaces that enforce a standard: of its checks, those that pods of a
//! node usually fail.

use super::shape::{items, text};
use serde_json::Value;

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Why the namespace refuses the pod.
pub fn refusal(namespace: &Value, pod: &Value) -> Option<String> {
    let level = namespace["metadata"]["labels"][ENFORCE].as_str()?;
    let mut violations = Vec::new();
    if level == "restricted" {
        violations.extend(unset(
            pod,
            "allowPrivilegeEscalation != false",
            "allowPrivilegeEscalation=false",
            |context| context["allowPrivilegeEscalation"] == false,
        ));
        violations.extend(unset(pod, "unrestricted capabilities", "capabilities.drop=[\"ALL\"]", |context| {
            items(&context["capabilities"], "drop").iter().any(|c| c == "ALL")
        }));
    }
    if matches!(level, "baseline" | "restricted") {
        violations.extend(baseline(pod));
    }
    if level == "restricted" {
        violations.extend(unset(pod, "runAsNonRoot != true", "runAsNonRoot=true", |c| c["runAsNonRoot"] == true));
        let wanted = "seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
        violations.extend(unset(pod, "seccompProfile", wanted, |context| {
            matches!(text(context, "/seccompProfile/type"), "RuntimeDefault" | "Localhost")
        }));
    }
    if violations.is_empty() {
        return None;
    }
    Some(format!("violates PodSecurity \"{level}:latest\": {}", violations.join(", ")))
}

fn baseline(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut violations = Vec::new();
    let host = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| spec[*field] == true);
    let host: Vec<String> = host.map(|field| format!("{field}=true")).collect();
    if !host.is_empty() {
        violations.push(format!("host namespaces ({})", host.join(", ")));
    }
    let volumes = items(spec, "volumes").iter().filter(|volume| volume["hostPath"].is_object());
    let names: Vec<String> = volumes.map(|volume| format!("{:?}", text(volume, "/name"))).collect();
    if !names.is_empty() {
        let word = if names.len() == 1 { "volume" } else { "volumes" };
        violations.push(format!("hostPath volumes ({word} {})", names.join(", ")));
    }
    for container in items(spec, "containers") {
        let ports = items(container, "ports").iter().filter_map(|port| port["hostPort"].as_u64());
        let ports: Vec<String> = ports.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        if !ports.is_empty() {
            let word = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
            let name = text(container, "/name");
            violations.push(format!("hostPort (container {name:?} uses {word} {})", ports.join(", ")));
        }
    }
    for container in items(spec, "containers").iter().filter(|c| c["securityContext"]["privileged"] == true) {
        let name = text(container, "/name");
        violations.push(format!("privileged (container {name:?} must not set securityContext.privileged=true)"));
    }
    violations
}

/// A container whose own or whose pod's security context lacks what is wanted.
fn unset(pod: &Value, check: &str, wanted: &str, has: impl Fn(&Value) -> bool) -> Option<String> {
    let pods = has(&pod["spec"]["securityContext"]);
    let lacks = |container: &&Value| !pods && !has(&container["securityContext"]);
    let container = items(&pod["spec"], "containers").iter().find(lacks)?;
    let name = text(container, "/name");
    let whose =
        if check.contains("runAsNonRoot") || check.contains("seccomp") { "pod or container" } else { "container" };
    Some(format!("{check} ({whose} {name:?} must set securityContext.{wanted})"))
}
