//! Who may ask for what: the Node authorizer for nodes, RBAC's bootstrap roles for the rest, in their words.

use super::identity::User;
use super::resource::Resource;
use super::route::{Target, Verb};
use super::shape::text;
use super::status::Failure;
use super::store::{Key, Store};

/// Refuses what neither authorizer allows.
pub fn resource_request(store: &Store, user: &User, target: &Target) -> Result<(), Failure> {
    if user.is_in("system:masters") {
        return Ok(());
    }
    let verdict = match user.node() {
        Some("") => Err(format!("unknown node for user {:?}", user.name)),
        Some(node) => node_request(store, node, target),
        None if user.is_in("system:bootstrappers") => bootstrap_request(target),
        None => Err(String::new()),
    };
    verdict.map_err(|why| refusal(user, target, &why))
}

/// `pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "default": why`
fn refusal(user: &User, target: &Target, why: &str) -> Failure {
    let mut resource = target.resource.plural.to_owned();
    if !target.sub.is_empty() {
        resource = format!("{resource}/{}", target.sub);
    }
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", target.namespace)
    };
    let mut message = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        user.name,
        target.verb.text(),
        target.resource.group
    );
    if !why.is_empty() {
        message = format!("{message}: {why}");
    }
    Failure::forbidden(target.resource, &target.name, &message)
}

fn node_request(store: &Store, node: &str, target: &Target) -> Result<(), String> {
    let name = target.name.as_str();
    match (target.resource.plural, target.sub.as_str(), target.verb) {
        ("nodes", "", Verb::Create | Verb::Update | Verb::Patch) | ("nodes", "status", Verb::Update | Verb::Patch) => {
            Ok(())
        }
        ("nodes", "", Verb::Get | Verb::List | Verb::Watch) => match name {
            _ if name == node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            _ => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        ("pods", "", Verb::Create | Verb::Delete) | ("pods", "status", Verb::Update | Verb::Patch) => Ok(()),
        ("pods", "", Verb::Get) => own_pod(store, node, target),
        ("pods", "", Verb::List | Verb::Watch) => match target.fields.fixed("spec.nodeName") {
            Some(fixed) if fixed == node => Ok(()),
            _ if !name.is_empty() => own_pod(store, node, target),
            _ => Err("can only list/watch pods with spec.nodeName field selector".to_owned()),
        },
        ("leases", "", verb) => node_lease(node, target, verb),
        ("csinodes", "", Verb::Create) => Ok(()),
        ("csinodes", "", Verb::Get | Verb::Update | Verb::Patch | Verb::Delete) if name == node => Ok(()),
        ("csinodes", "", Verb::Get | Verb::Update | Verb::Patch | Verb::Delete) => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("events", "", Verb::Create | Verb::Update | Verb::Patch)
        | ("subjectaccessreviews", "", Verb::Create)
        | ("certificatesigningrequests", "", Verb::Create | Verb::Get | Verb::List | Verb::Watch) => Ok(()),
        _ => Err(String::new()),
    }
}

/// A pod that is bound to the node. One that is not there is refused in the same words: no relationship is known.
fn own_pod(store: &Store, node: &str, target: &Target) -> Result<(), String> {
    let pod = store.cached(&Key::new(target.resource, &target.namespace, &target.name));
    let known = pod.is_some_and(|pod| text(&pod, "/spec/nodeName") == node);
    if known { Ok(()) } else { Err(format!("no relationship found between node '{node}' and this object")) }
}

fn node_lease(node: &str, target: &Target, verb: Verb) -> Result<(), String> {
    if !matches!(verb, Verb::Get | Verb::Create | Verb::Update | Verb::Patch | Verb::Delete) {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if target.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if verb != Verb::Create && target.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

/// The role of a bootstrap token: to ask for a certificate.
fn bootstrap_request(target: &Target) -> Result<(), String> {
    let asks = target.resource == REQUESTS && target.sub.is_empty();
    if asks && matches!(target.verb, Verb::Create | Verb::Get | Verb::List | Verb::Watch) {
        return Ok(());
    }
    Err(String::new())
}

const REQUESTS: &Resource = &super::resource::REQUESTS;
