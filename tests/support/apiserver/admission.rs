//! Admission: what is refused, or added, although the user may ask for it. NodeRestriction's rules, and of the other
//! plugins those that a mirror pod or a Node meets.

use super::identity::User;
use super::podsecurity;
use super::resource::{NAMESPACES, NODES, PODS, QUOTAS};
use super::route::Target;
use super::shape::{each, items, text};
use super::status::Failure;
use super::store::{Key, Store};
use super::strategy::MIRROR;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the plugins add to an object before it is created, and whether its namespace takes it.
pub fn on_create(store: &Store, user: &User, target: &Target, object: &mut Value) -> Result<(), Failure> {
    if target.resource.namespaced {
        let namespace = store.get(&Key::new(&NAMESPACES, "", &target.namespace));
        let namespace = namespace.ok_or_else(|| Failure::not_found(&NAMESPACES, &target.namespace))?;
        if text(&namespace, "/status/phase") == "Terminating" {
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                target.namespace
            );
            return Err(Failure::forbidden(target.resource, text(object, "/metadata/name"), &why));
        }
    }
    if let Some(node) = user.node() {
        node_creates(store, node, target, object)?;
    }
    match target.resource.kind {
        "Pod" => {
            priority(object)?;
            service_account(target, object)?;
            let namespace = store.get(&Key::new(&NAMESPACES, "", &target.namespace));
            let security = namespace.and_then(|namespace| podsecurity::refusal(&namespace, object));
            if let Some(why) = security.or_else(|| quota(store, &target.namespace)) {
                return Err(Failure::forbidden(target.resource, text(object, "/metadata/name"), &why));
            }
        }
        "Node" => not_ready(object),
        _ => {}
    }
    Ok(())
}

/// Of the Priority plugin: the number follows from the class, and who gives another one is refused.
fn priority(pod: &mut Value) -> Result<(), Failure> {
    let name = text(pod, "/metadata/name").to_owned();
    let refuse = |why: String| Err(Failure::forbidden(&PODS, &name, &why));
    let computed = match text(pod, "/spec/priorityClassName") {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        class => return refuse(format!("no PriorityClass with name {class} was found")),
    };
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|given| *given != computed) {
        return refuse(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {computed} from the given PriorityClass name"
        ));
    }
    pod["spec"]["priority"] = computed.into();
    Ok(())
}

/// Of quotas: the number of pods that have not ended.
fn quota(store: &Store, namespace: &str) -> Option<String> {
    let pods = store.list(&PODS, namespace);
    let used = pods.iter().filter(|pod| !matches!(text(pod, "/status/phase"), "Failed" | "Succeeded")).count();
    store.list(&QUOTAS, namespace).iter().find_map(|quota| {
        let hard: usize = text(quota, "/spec/hard/pods").parse().ok()?;
        let name = text(quota, "/metadata/name");
        let over = used + 1 > hard;
        over.then(|| format!("exceeded quota: {name}, requested: pods=1, used: pods={used}, limited: pods={hard}"))
    })
}

/// Of the ServiceAccount plugin: a mirror names none of the objects that the API server would have to hand out.
fn service_account(target: &Target, pod: &Value) -> Result<(), Failure> {
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return Ok(());
    }
    let refuse = |what: &str| {
        let why = format!("a mirror pod may not reference {what}");
        Err(Failure::forbidden(target.resource, text(pod, "/metadata/name"), &why))
    };
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return refuse("service accounts");
    }
    if names_anywhere(&pod["spec"], &["secretKeyRef", "secretRef", "secret"]) {
        return refuse("secrets");
    }
    Ok(())
}

/// Of TaintNodesByCondition: a new Node takes no pods until a controller has seen it ready.
fn not_ready(node: &mut Value) {
    const KEY: &str = "node.kubernetes.io/not-ready";
    let taint = json!({ "key": KEY, "effect": "NoSchedule" });
    let had = each(&mut node["spec"], "taints").any(|t| t["key"] == KEY && t["effect"] == "NoSchedule");
    if !had {
        match node["spec"]["taints"].as_array_mut() {
            Some(taints) => taints.push(taint),
            None => node["spec"]["taints"] = json!([taint]),
        }
    }
}

fn node_creates(store: &Store, node: &str, target: &Target, object: &Value) -> Result<(), Failure> {
    let name = text(object, "/metadata/name");
    let refuse = |why: String| Err(Failure::forbidden(target.resource, name, &why));
    match target.resource.kind {
        "Pod" => node_creates_pod(store, node, object),
        "Node" if name != node => refuse(format!("node {node:?} is not allowed to modify node {name:?}")),
        "Node" => match forbidden_labels(&object["metadata"]["labels"], &Value::Null) {
            Some(list) => refuse(format!("node {node:?} is not allowed to set the following labels: {list}")),
            None => Ok(()),
        },
        "Lease" if target.namespace != "kube-node-lease" => {
            refuse("can only access leases in the \"kube-node-lease\" system namespace".to_owned())
        }
        "Lease" if name != node => {
            refuse("can only access node lease with the same name as the requesting node".to_owned())
        }
        "CSINode" if name != node => {
            refuse("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => Ok(()),
    }
}

fn node_creates_pod(store: &Store, node: &str, pod: &Value) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::forbidden(&PODS, text(pod, "/metadata/name"), &why));
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return refuse(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if text(pod, "/spec/nodeName") != node {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let [owner] = items(&pod["metadata"], "ownerReferences") else {
        let few = items(&pod["metadata"], "ownerReferences").is_empty();
        let what = if few { "an owner reference" } else { "a single owner reference" };
        return refuse(format!("node {node:?} can only create pods with {what} set to itself"));
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return refuse(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let stored = store.cached(&Key::new(&NODES, "", node)).ok_or_else(|| Failure::not_cached(&NODES, node))?;
    let (given, real) = (text(owner, "/uid"), text(&stored, "/metadata/uid"));
    if given != real {
        return refuse(format!("node {node} UID mismatch: expected {given} got {real}"));
    }
    let spec = &pod["spec"];
    if !text(spec, "/serviceAccountName").is_empty() {
        return refuse(format!("node {node:?} can not create pods that reference a service account"));
    }
    for (what, fields) in [
        ("secrets", &["secretKeyRef", "secretRef", "secret", "imagePullSecrets"][..]),
        ("configmaps", &["configMapKeyRef", "configMapRef", "configMap"]),
        ("clustertrustbundles", &["clusterTrustBundle"]),
        ("persistentvolumeclaims", &["persistentVolumeClaim"]),
    ] {
        if names_anywhere(spec, fields) {
            return refuse(format!("node {node:?} can not create pods that reference {what}"));
        }
    }
    Ok(())
}

/// Whether one of these fields stands somewhere in a pod's spec. Labels and annotations are not below it.
fn names_anywhere(value: &Value, fields: &[&str]) -> bool {
    match value {
        Value::Object(map) => {
            map.iter().any(|(field, inner)| fields.contains(&field.as_str()) || names_anywhere(inner, fields))
        }
        Value::Array(list) => list.iter().any(|inner| names_anywhere(inner, fields)),
        _ => false,
    }
}

pub fn on_update(user: &User, target: &Target, old: &Value, new: &Value) -> Result<(), Failure> {
    let Some(node) = user.node() else { return Ok(()) };
    let refuse = |why: String| Err(Failure::forbidden(target.resource, &target.name, &why));
    match (target.resource.kind, target.sub.as_str()) {
        ("Pod", "status") if text(old, "/spec/nodeName") != node => {
            refuse(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("Pod", "status") if modified(&new["metadata"]["labels"], &old["metadata"]["labels"]).next().is_some() => {
            refuse(format!("node {node:?} cannot update labels through pod status"))
        }
        ("Pod", "status") if new["status"]["resourceClaimStatuses"] != old["status"]["resourceClaimStatuses"] => {
            refuse(format!("node {node:?} cannot update resource claim statues"))
        }
        ("Pod", "status") => Ok(()),
        ("Pod", _) => {
            refuse(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("Node", _) if target.name != node => {
            refuse(format!("node {node:?} is not allowed to modify node {:?}", target.name))
        }
        ("Node", _) if items(&old["spec"], "taints") != items(&new["spec"], "taints") => {
            refuse(format!("node {node:?} is not allowed to modify taints"))
        }
        ("Node", _) => match forbidden_labels(&new["metadata"]["labels"], &old["metadata"]["labels"]) {
            Some(list) => refuse(format!("is not allowed to modify labels: {list}")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

pub fn on_delete(store: &Store, user: &User, target: &Target, object: &Value) -> Result<(), Failure> {
    let Some(node) = user.node() else { return Ok(()) };
    if target.resource.kind == "Pod" && store.cached(&Key::of(&PODS, object)).is_none() {
        return Err(Failure::not_cached(&PODS, &target.name));
    }
    if target.resource.kind == "Pod" && text(object, "/spec/nodeName") != node {
        let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
        return Err(Failure::forbidden(target.resource, &target.name, &why));
    }
    Ok(())
}

/// Keys whose values differ.
fn modified<'a>(new: &'a Value, old: &'a Value) -> impl Iterator<Item = &'a str> {
    let keys = |value: &'a Value| value.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    keys(new).chain(keys(old)).filter(|key| new.get(*key) != old.get(*key))
}

/// Kubernetes' own labels that a node may set on itself.
const NODE_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The changed labels that a node may not change, as one list.
fn forbidden_labels(new: &Value, old: &Value) -> Option<String> {
    let in_domain =
        |space: &str, domain: &str| space == domain || space.strip_suffix(domain).is_some_and(|s| s.ends_with('.'));
    let forbidden = |label: &&str| {
        let space = label.split_once('/').map_or("", |(space, _)| space);
        let own = in_domain(space, "kubelet.kubernetes.io") || in_domain(space, "node.kubernetes.io");
        let theirs = in_domain(space, "kubernetes.io") || in_domain(space, "k8s.io");
        in_domain(space, "node-restriction.kubernetes.io") || (theirs && !own && !NODE_LABELS.contains(label))
    };
    let list: BTreeSet<&str> = modified(new, old).filter(forbidden).collect();
    if list.is_empty() { None } else { Some(list.into_iter().collect::<Vec<_>>().join(", ")) }
}
