//! The shape of stored objects: Kubernetes' own types decide what is a field and of which kind, and what Go's encoder
//! always writes is written here too.

use super::resource::Resource;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::storage::v1::CSINode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The object as its type knows it: unknown fields and nulls are gone, a field of the wrong kind is an error.
pub fn normalise(resource: &Resource, object: &Value) -> Result<Value, String> {
    let typed = match resource.kind {
        "Pod" => through::<Pod>(object),
        "Node" => through::<Node>(object),
        "Event" => through::<Event>(object),
        "Namespace" => through::<Namespace>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "ResourceQuota" => through::<ResourceQuota>(object),
        "Lease" => through::<Lease>(object),
        "CertificateSigningRequest" => through::<CertificateSigningRequest>(object),
        "CSINode" => through::<CSINode>(object),
        "SubjectAccessReview" => through::<SubjectAccessReview>(object),
        other => Err(format!("no type for {other}")),
    };
    let mut object = typed.map_err(|e| {
        format!("{} in version {:?} cannot be handled as a {}: {e}", resource.kind, resource.version, resource.kind)
    })?;
    always_written(resource, &mut object);
    Ok(object)
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

/// Fields that Go writes whatever is in them.
fn always_written(resource: &Resource, object: &mut Value) {
    match resource.kind {
        "Event" => {
            for (field, empty) in [
                ("eventTime", Value::Null),
                ("reportingComponent", json!("")),
                ("reportingInstance", json!("")),
                ("source", json!({})),
                ("firstTimestamp", Value::Null),
                ("lastTimestamp", Value::Null),
            ] {
                default(object, field, empty);
            }
        }
        "Pod" => pod_always_written(object),
        "Node" => {
            default(object, "spec", json!({}));
            default(object, "status", json!({}));
            default(&mut object["status"], "daemonEndpoints", json!({ "kubeletEndpoint": { "Port": 0 } }));
            for image in each(&mut object["status"], "images") {
                null_if_empty(image, "names");
            }
        }
        "CSINode" => null_if_empty(&mut object["spec"], "drivers"),
        "Namespace" | "CertificateSigningRequest" => default(object, "status", json!({})),
        _ => {}
    }
}

fn pod_always_written(object: &mut Value) {
    default(object, "status", json!({}));
    for list in ["containers", "initContainers"] {
        for container in each(&mut object["spec"], list) {
            default(container, "resources", json!({}));
        }
    }
    let status = &mut object["status"];
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for container in each(status, list) {
            default(container, "state", json!({}));
            default(container, "lastState", json!({}));
        }
    }
    for condition in each(status, "conditions") {
        default(condition, "lastProbeTime", Value::Null);
        default(condition, "lastTransitionTime", Value::Null);
    }
}

/// A list that Go writes also without elements: as null, since storing it made it so.
fn null_if_empty(object: &mut Value, list: &str) {
    if items(object, list).is_empty() {
        object[list] = Value::Null;
    }
}

/// Sets a field that is not there.
pub fn default(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if let Some(map) = object.as_object_mut() {
        map.entry(field).or_insert(value);
    }
}

/// The elements of a list that may not be there.
pub fn each<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The elements of a list that may not be there.
pub fn items<'a>(object: &'a Value, list: &str) -> &'a [Value] {
    object[list].as_array().map_or(&[], Vec::as_slice)
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
