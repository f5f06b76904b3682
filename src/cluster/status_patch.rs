//! The strategic merge patch that makes a pod's status in the API server what it is here.
//!
//! Only what the node owns is compared and written: a condition that somebody else keeps in the status stays. Lists
//! merge as the API's types say: conditions by type, addresses by ip, all others as a whole.

use serde_json::{Map, Value, json};

/// Fields that are taken back when the node has nothing to say there.
const OWNED: [&str; 11] = [
    "phase",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "containerStatuses",
    "initContainerStatuses",
    "allocatedResources",
];
const MERGED_BY_IP: [&str; 2] = ["hostIPs", "podIPs"];
const CONDITIONS: &str = "conditions";

/// The part of `theirs` that the node owns, given what it has to say: what a comparison is about.
pub fn owned_part(theirs: &Value, ours: &Value) -> Value {
    let mut part = Map::new();
    for (field, value) in theirs.as_object().into_iter().flatten() {
        if field == CONDITIONS {
            let kept: Vec<Value> =
                elements(ours, CONDITIONS).filter_map(|c| find(theirs, "type", &c["type"])).cloned().collect();
            part.insert(field.clone(), kept.into());
        } else if OWNED.contains(&field.as_str()) || ours.get(field).is_some() {
            part.insert(field.clone(), value.clone());
        }
    }
    Value::Object(part)
}

/// `None`: there is nothing to change.
pub fn status_patch(uid: &str, theirs: &Value, ours: &Value) -> Option<Value> {
    let mut status = Map::new();
    for (field, new) in ours.as_object().into_iter().flatten() {
        let old = theirs.get(field).unwrap_or(&Value::Null);
        let change = match field.as_str() {
            CONDITIONS => {
                let changed = changed_conditions(theirs, ours);
                if !changed.is_empty() {
                    let order: Vec<Value> = elements(ours, CONDITIONS).map(|c| json!({ "type": c["type"] })).collect();
                    status.insert(format!("$setElementOrder/{CONDITIONS}"), order.into());
                    status.insert(CONDITIONS.to_owned(), changed.into());
                }
                continue;
            }
            field if MERGED_BY_IP.contains(&field) => addresses(theirs, ours, field),
            _ => merge(old, new),
        };
        status.extend(change.map(|change| (field.clone(), change)));
    }
    for field in OWNED.into_iter().filter(|field| ours.get(field).is_none()) {
        if theirs.get(field).is_some_and(|value| !is_empty(value)) {
            status.insert(field.to_owned(), Value::Null);
        }
    }
    (!status.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": status }))
}

/// Whole elements, with null for what is no longer said.
fn changed_conditions(theirs: &Value, ours: &Value) -> Vec<Value> {
    let changed = |new: &Value| {
        let old = find(theirs, "type", &new["type"]);
        let same = |field: &str| old.is_some_and(|old| old.get(field).unwrap_or(&Value::Null) == &new[field]);
        if ["status", "reason", "message", "lastTransitionTime"].into_iter().all(same) {
            return None;
        }
        let mut element = new.clone();
        for field in ["reason", "message"] {
            if element.get(field).is_none() {
                element[field] = Value::Null;
            }
        }
        Some(element)
    };
    elements(ours, CONDITIONS).filter_map(changed).collect()
}

/// An old address has to be taken out by name.
fn addresses(theirs: &Value, ours: &Value, field: &str) -> Option<Value> {
    if theirs.get(field) == ours.get(field) {
        return None;
    }
    let gone = elements(theirs, field).filter(|old| elements(ours, field).all(|new| new["ip"] != old["ip"]));
    let gone: Vec<Value> = gone.map(|old| json!({ "$patch": "delete", "ip": old["ip"] })).collect();
    let order: Vec<Value> = elements(ours, field).cloned().collect();
    Some(order.into_iter().chain(gone).collect())
}

/// Objects field by field, anything else as a whole.
fn merge(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        let same = old == new || (is_empty(old) && is_empty(new));
        return (!same).then(|| new.clone());
    };
    let mut change = Map::new();
    for (field, value) in after {
        let before = before.get(field).unwrap_or(&Value::Null);
        change.extend(merge(before, value).map(|value| (field.clone(), value)));
    }
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        change.insert(field.clone(), Value::Null);
    }
    (!change.is_empty()).then_some(Value::Object(change))
}

/// A field that holds nothing is left out by one side or the other.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn elements<'v>(status: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    status.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn find<'v>(status: &'v Value, key: &str, value: &Value) -> Option<&'v Value> {
    elements(status, CONDITIONS).find(|element| &element[key] == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &str) -> Value {
        json!({ "type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z" })
    }

    #[test]
    fn what_is_the_same_is_not_patched_and_foreign_conditions_stay() {
        let ours = json!({ "phase": "Running", "conditions": [ready("True")], "resources": {} });
        let mut theirs = ours.clone();
        theirs["conditions"] = json!([
            { "type": "Custom", "status": "False" },
            { "type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:00Z" },
        ]);
        theirs["observedGeneration"] = json!(1);
        assert_eq!(status_patch("u", &theirs, &ours), None);
    }

    #[test]
    fn a_condition_is_written_whole_with_what_it_no_longer_says() {
        let ours = json!({ "conditions": [{ "type": "PodScheduled", "status": "True" }, ready("True")] });
        let theirs = json!({ "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m" },
        ]});
        let patch = status_patch("u", &theirs, &ours).expect("a change");
        let mut changed = ready("True");
        changed["reason"] = Value::Null;
        changed["message"] = Value::Null;
        let order = json!([{ "type": "PodScheduled" }, { "type": "Ready" }]);
        let status = json!({ "$setElementOrder/conditions": order, "conditions": [changed] });
        assert_eq!(patch, json!({ "metadata": { "uid": "u" }, "status": status }));
    }

    #[test]
    fn old_addresses_and_fields_that_are_silent_are_taken_back() {
        let ours = json!({ "podIP": "10.0.0.2", "podIPs": [{ "ip": "10.0.0.2" }] });
        let theirs = json!({ "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "reason": "Stopped", "nominatedNodeName": "x" });
        let status = &status_patch("u", &theirs, &ours).expect("a change")["status"];
        let expected = json!({
            "podIP": "10.0.0.2",
            "podIPs": [{ "ip": "10.0.0.2" }, { "$patch": "delete", "ip": "10.0.0.1" }],
            "reason": null,
        });
        assert_eq!(status, &expected);
    }

    #[test]
    fn objects_are_merged_field_by_field() {
        let ours = json!({ "resources": { "limits": { "memory": "1" } } });
        let theirs = json!({ "resources": { "limits": { "memory": "2", "cpu": "1" }, "requests": { "cpu": "1" } } });
        let status = &status_patch("u", &theirs, &ours).expect("a change")["status"];
        assert_eq!(status, &json!({ "resources": { "limits": { "memory": "1", "cpu": null }, "requests": null } }));
    }
}
