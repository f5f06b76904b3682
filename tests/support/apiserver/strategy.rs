//! What a real server does to an object before it stores it: fields that clients may not set, defaults, and the
//! validation that a node agent can run into.

use super::identity::User;
use super::route::Target;
use super::shape::{default, each, items, text};
use super::status::{Failure, Problem};
use super::{date, fresh, qos};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const MIRROR_FIELD: &str = "metadata.annotations[kubernetes.io/config.mirror]";

/// The object as it is created, after normalisation.
pub fn for_create(target: &Target, user: &User, mut object: Value) -> Result<Value, Failure> {
    let resource = target.resource;
    let meta = &mut object["metadata"];
    if meta["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
        return Err(Failure::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    let given = meta["namespace"].as_str().unwrap_or_default();
    if resource.namespaced && !given.is_empty() && given != target.namespace {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let meta = meta.as_object_mut().expect("metadata is an object");
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation"] {
        meta.remove(field);
    }
    if resource.namespaced {
        meta.insert("namespace".into(), target.namespace.as_str().into());
    } else {
        meta.remove("namespace");
    }
    let generate = meta.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !generate.is_empty() && meta.get("name").is_none_or(|name| name == "") {
        meta.insert("name".into(), format!("{generate}{}", fresh::suffix()).into());
    }
    meta.insert("uid".into(), fresh::uid().into());
    meta.insert("creationTimestamp".into(), date::now().into());
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        let problem = Problem::required("metadata.name", "name or generateName is required");
        return Err(Failure::invalid(resource, "", &[problem]));
    }
    match resource.kind {
        "Pod" => prepare_pod(&mut object),
        "CertificateSigningRequest" => prepare_request(user, &mut object),
        "Namespace" => object["status"] = json!({ "phase": "Active" }),
        _ => {}
    }
    let problems = match resource.kind {
        "Pod" => created_pod_problems(&object),
        "Node" => address_problems(&object),
        "Event" => event_problems(&object),
        _ => Vec::new(),
    };
    if problems.is_empty() { Ok(object) } else { Err(Failure::invalid(resource, &name, &problems)) }
}

fn prepare_pod(pod: &mut Value) {
    pod["metadata"]["generation"] = 1.into();
    let spec = &mut pod["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
        // Of the Priority admission, where no class says otherwise.
        ("priority", json!(0)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        default(spec, field, value);
    }
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let latest = text(container, "/image").rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
            default(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
            default(container, "terminationMessagePath", json!("/dev/termination-log"));
            default(container, "terminationMessagePolicy", json!("File"));
            for port in each(container, "ports") {
                default(port, "protocol", json!("TCP"));
            }
        }
    }
    pod["status"] = json!({ "phase": "Pending", "qosClass": qos::class(&pod["spec"]) });
}

fn prepare_request(user: &User, request: &mut Value) {
    request["status"] = json!({});
    request["spec"]["username"] = user.name.as_str().into();
    request["spec"]["groups"] = json!(user.groups);
}

fn created_pod_problems(pod: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mirror = text(&pod["metadata"]["annotations"], "/kubernetes.io~1config.mirror");
    if pod["metadata"]["annotations"].get(MIRROR).is_some() && text(pod, "/spec/nodeName").is_empty() {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        problems.push(Problem::invalid(MIRROR_FIELD, &format!("{mirror:?}"), why));
    }
    if items(&pod["spec"], "containers").is_empty() {
        problems.push(Problem::required("spec.containers", ""));
    }
    if items(&pod["spec"], "containers").iter().any(|c| text(c, "/image").is_empty()) {
        problems.push(Problem::required("spec.containers[0].image", ""));
    }
    problems
}

/// An event lives where its object does; one about something without a namespace lives in `default`.
fn event_problems(event: &Value) -> Vec<Problem> {
    let (own, about) = (text(event, "/metadata/namespace"), text(event, "/involvedObject/namespace"));
    if (about.is_empty() && own == "default") || about == own {
        return Vec::new();
    }
    vec![Problem::invalid("involvedObject.namespace", &format!("{about:?}"), "does not match event.namespace")]
}

fn address_problems(node: &Value) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let twice = items(&node["status"], "addresses").iter().any(|address| !seen.insert(address.to_string()));
    if !twice {
        return Vec::new();
    }
    let text = "Duplicate value".to_owned();
    vec![Problem { field: "status.addresses", reason: "FieldValueDuplicate", text }]
}

/// The object as it replaces `old`; what the endpoint does not write is taken from there.
pub fn for_update(target: &Target, old: &Value, mut new: Value) -> Result<Value, Failure> {
    let resource = target.resource;
    let name = text(old, "/metadata/name").to_owned();
    let mut problems = Vec::new();
    let given = text(&new, "/metadata/name");
    if given != name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let uid = text(&new, "/metadata/uid");
    if !uid.is_empty() && uid != text(old, "/metadata/uid") {
        problems.push(Problem::immutable("metadata.uid", uid));
    }
    for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        keep(&mut new["metadata"], &old["metadata"], field);
    }
    keep(&mut new["metadata"], &old["metadata"], "namespace");
    match (resource.kind, target.sub.as_str()) {
        ("Pod", "status") => {
            keep(&mut new, old, "spec");
            keep(&mut new["metadata"], &old["metadata"], "ownerReferences");
            finish_pod_status(old, &mut new);
            problems.extend(pod_status_problems(old, &new));
        }
        ("Pod", _) => {
            keep(&mut new, old, "status");
            problems.extend(pod_update_problems(old, &new));
        }
        ("Node", "status") => {
            keep(&mut new, old, "spec");
            problems.extend(address_problems(&new));
        }
        ("Node", _) => {
            keep(&mut new, old, "status");
            problems.extend(node_update_problems(old, &new));
        }
        ("CertificateSigningRequest", "") => keep(&mut new, old, "status"),
        ("CertificateSigningRequest", _) => keep(&mut new, old, "spec"),
        _ => {}
    }
    if problems.is_empty() { Ok(new) } else { Err(Failure::invalid(resource, &name, &problems)) }
}

/// Makes a field what it was, also where it was not there.
fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

/// The quality-of-service class never changes, and the single and plural addresses are brought into agreement:
/// `podIP` wins over a list that begins with another one.
fn finish_pod_status(old: &Value, new: &mut Value) {
    if text(new, "/status/qosClass").is_empty() {
        keep(&mut new["status"], &old["status"], "qosClass");
    }
    let status = &mut new["status"];
    for (one, many) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        let single = status[one].as_str().unwrap_or_default().to_owned();
        let first = items(status, many).first().map(|entry| text(entry, "/ip").to_owned()).unwrap_or_default();
        if single.is_empty() && !first.is_empty() {
            status[one] = first.into();
        } else if !single.is_empty() && (first.is_empty() || (one == "podIP" && first != single)) {
            status[many] = json!([{ "ip": single }]);
        }
    }
}

fn pod_status_problems(old: &Value, new: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (list, field) in [("podIPs", "status.podIPs"), ("hostIPs", "status.hostIPs")] {
        let addresses: Vec<&str> = items(&new["status"], list).iter().map(|entry| text(entry, "/ip")).collect();
        let six = addresses.iter().filter(|address| address.contains(':')).count();
        if addresses.iter().any(|address| address.parse::<std::net::IpAddr>().is_err()) {
            problems.push(Problem::invalid(field, &format!("{addresses:?}"), "must be a valid IP address"));
        } else if six > 1 || addresses.len() - six > 1 {
            let why = "may specify no more than one IP for each IP family";
            problems.push(Problem::invalid(field, &format!("{addresses:?}"), why));
        }
    }
    if items(&new["status"], "hostIPs").first().is_some_and(|entry| entry["ip"] != new["status"]["hostIP"]) {
        let first = new["status"]["hostIPs"][0]["ip"].to_string();
        problems.push(Problem::invalid("status.hostIPs[0].ip", &first, "must be equal to `hostIP`"));
    }
    problems.extend(restart_problems(old, new));
    problems
}

/// A container that ended for good may not run again in the same pod object.
fn restart_problems(old: &Value, new: &Value) -> Option<Problem> {
    let policy = text(old, "/spec/restartPolicy");
    if policy == "Always" {
        return None;
    }
    let ended = items(&old["status"], "containerStatuses").iter().filter(|status| {
        let terminated = &status["state"]["terminated"];
        terminated.is_object() && (policy == "Never" || terminated["exitCode"] == 0)
    });
    for status in ended {
        let now = items(&new["status"], "containerStatuses").iter().find(|s| s["name"] == status["name"]);
        if now.is_some_and(|s| !s["state"]["terminated"].is_object()) {
            let why = "may not be transitioned to non-terminated state";
            return Some(Problem::forbidden("status.containerStatuses[0].state", why));
        }
    }
    None
}

fn pod_update_problems(old: &Value, new: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (before, after) = (&old["metadata"]["annotations"][MIRROR], &new["metadata"]["annotations"][MIRROR]);
    if before.is_null() && !after.is_null() {
        problems.push(Problem::forbidden(MIRROR_FIELD, "may not add mirror pod annotation"));
    } else if before != after {
        problems.push(Problem::forbidden(MIRROR_FIELD, "may not remove or update mirror pod annotation"));
    }
    let mutable = ["tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds"];
    let frozen = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for container in each(&mut spec, "containers") {
            container["image"] = Value::Null;
        }
        let map = spec.as_object_mut().map(std::mem::take).unwrap_or_default();
        map.into_iter().filter(|(key, _)| !mutable.contains(&key.as_str())).collect::<Vec<_>>()
    };
    if frozen(old) != frozen(new) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        problems.push(Problem::forbidden("spec", why));
    }
    problems
}

fn node_update_problems(old: &Value, new: &Value) -> Vec<Problem> {
    let mut problems = address_problems(new);
    for (field, path, why) in [
        ("podCIDR", "spec.podCIDR", "node updates may not change podCIDR except from \"\" to valid"),
        ("providerID", "spec.providerID", "node updates may not change providerID except from \"\" to valid"),
    ] {
        let before = old["spec"][field].as_str().unwrap_or_default();
        if !before.is_empty() && new["spec"][field] != before {
            problems.push(Problem::forbidden(path, why));
        }
    }
    problems
}
