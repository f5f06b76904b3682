//! Strategic merge: Kubernetes' own patch. Lists whose type names a merge key are merged element by element, the others
//! are replaced; directives (`$patch`, `$retainKeys`, `$setElementOrder/...`, `$deleteFromPrimitiveList/...`) say more.
//! The order of the outcome is the real server's too: what a patch brings without saying where stands first.

use super::status::Failure;
use serde_json::{Map, Value};

/// How one list is merged; a list without an entry is atomic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A map, not a list: only its type matters.
    Map,
    Key(&'static str),
    /// Plain values, each once.
    Set,
}

/// Type, field, how it merges, type of the field's value or elements. From the patchStrategy tags of the API's types.
const FIELDS: &[(&str, &str, Rule, &str)] = &[
    ("Pod", "metadata", Rule::Map, "ObjectMeta"),
    ("Node", "metadata", Rule::Map, "ObjectMeta"),
    ("Event", "metadata", Rule::Map, "ObjectMeta"),
    ("Namespace", "metadata", Rule::Map, "ObjectMeta"),
    ("Lease", "metadata", Rule::Map, "ObjectMeta"),
    ("ServiceAccount", "metadata", Rule::Map, "ObjectMeta"),
    ("ObjectMeta", "ownerReferences", Rule::Key("uid"), ""),
    ("ObjectMeta", "finalizers", Rule::Set, ""),
    ("Pod", "spec", Rule::Map, "PodSpec"),
    ("Pod", "status", Rule::Map, "PodStatus"),
    ("PodSpec", "volumes", Rule::Key("name"), ""),
    ("PodSpec", "containers", Rule::Key("name"), "Container"),
    ("PodSpec", "initContainers", Rule::Key("name"), "Container"),
    ("PodSpec", "ephemeralContainers", Rule::Key("name"), "Container"),
    ("PodSpec", "imagePullSecrets", Rule::Key("name"), ""),
    ("PodSpec", "hostAliases", Rule::Key("ip"), ""),
    ("PodSpec", "topologySpreadConstraints", Rule::Key("topologyKey"), ""),
    ("PodSpec", "resourceClaims", Rule::Key("name"), ""),
    ("PodSpec", "schedulingGates", Rule::Key("name"), ""),
    ("Container", "ports", Rule::Key("containerPort"), ""),
    ("Container", "env", Rule::Key("name"), ""),
    ("Container", "volumeMounts", Rule::Key("mountPath"), ""),
    ("Container", "volumeDevices", Rule::Key("devicePath"), ""),
    ("PodStatus", "conditions", Rule::Key("type"), ""),
    ("PodStatus", "podIPs", Rule::Key("ip"), ""),
    ("PodStatus", "hostIPs", Rule::Key("ip"), ""),
    ("PodStatus", "resourceClaimStatuses", Rule::Key("name"), ""),
    ("Node", "spec", Rule::Map, "NodeSpec"),
    ("Node", "status", Rule::Map, "NodeStatus"),
    ("NodeSpec", "podCIDRs", Rule::Set, ""),
    ("NodeStatus", "conditions", Rule::Key("type"), ""),
    ("NodeStatus", "addresses", Rule::Key("type"), ""),
    ("Namespace", "status", Rule::Map, "NamespaceStatus"),
    ("NamespaceStatus", "conditions", Rule::Key("type"), ""),
    ("ServiceAccount", "secrets", Rule::Key("name"), ""),
];

const ORDER: &str = "$setElementOrder/";
const REMOVE: &str = "$deleteFromPrimitiveList/";

/// Changes `object` as `patch` says; `kind` is the object's.
pub fn apply(kind: &str, object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let Value::Object(patch) = patch else {
        return Err(Failure::bad_request("Invalid JSON document"));
    };
    let map = object.as_object_mut().expect("objects are maps");
    merge_map(kind, map, patch)
}

fn rule(kind: &str, field: &str) -> (Option<Rule>, &'static str) {
    let found = FIELDS.iter().find(|(k, f, _, _)| *k == kind && *f == field);
    found.map_or((None, ""), |(_, _, rule, next)| (Some(*rule), next))
}

fn merge_map(kind: &str, map: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Failure> {
    match patch.get("$patch").map(|directive| directive.as_str().unwrap_or_default()) {
        Some("replace") => {
            *map = patch.iter().filter(|(field, _)| *field != "$patch").map(|(f, v)| (f.clone(), v.clone())).collect();
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Failure::internal(format!("unknown patch type: {other}"))),
    }
    retain_keys(map, patch)?;
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix(REMOVE) {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(Value::Array(items)) = map.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
        } else if !field.starts_with('$') {
            let order = patch.get(&format!("{ORDER}{field}")).and_then(Value::as_array);
            merge_field(kind, map, field, value, order)?;
        }
    }
    // An order without a list in the patch still sorts.
    for (directive, order) in patch {
        let Some(field) = directive.strip_prefix(ORDER).filter(|field| !patch.contains_key(*field)) else { continue };
        if let (Some(Value::Array(items)), Some(order)) = (map.get_mut(field), order.as_array()) {
            let key = key_of(rule(kind, field).0);
            let live = items.clone();
            *items = ordered(std::mem::take(items), order, &live, key);
        }
    }
    Ok(())
}

fn retain_keys(map: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Failure> {
    let Some(kept) = patch.get("$retainKeys") else { return Ok(()) };
    let Some(kept) = kept.as_array() else {
        return Err(Failure::bad_request("invalid patch format of retainKeys"));
    };
    let is_kept = |field: &str| kept.iter().any(|k| k == field);
    if patch.iter().any(|(field, value)| !field.starts_with('$') && !value.is_null() && !is_kept(field)) {
        return Err(Failure::new(422, "Invalid", "patch content doesn't match retainKeys list"));
    }
    map.retain(|field, _| is_kept(field));
    Ok(())
}

fn key_of(rule: Option<Rule>) -> Option<&'static str> {
    match rule {
        Some(Rule::Key(key)) => Some(key),
        _ => None,
    }
}

fn merge_field(
    kind: &str,
    map: &mut Map<String, Value>,
    field: &str,
    value: &Value,
    order: Option<&Vec<Value>>,
) -> Result<(), Failure> {
    let (rule, next) = rule(kind, field);
    if value.is_null() {
        map.remove(field);
        return Ok(());
    }
    match (map.get_mut(field), value) {
        (Some(Value::Object(old)), Value::Object(new)) => merge_map(next, old, new),
        (Some(Value::Array(old)), Value::Array(new)) if matches!(rule, Some(Rule::Key(_) | Rule::Set)) => {
            let live = old.clone();
            merge_list(next, old, new, rule)?;
            let plain: Vec<Value> = new.iter().filter(|item| !is_directive(item)).cloned().collect();
            if let Some(order) = order {
                check_order(field, &plain, order, key_of(rule))?;
            }
            let merged = ordered(std::mem::take(old), &plain, &live, key_of(rule));
            *old = match order {
                Some(order) => ordered(merged, order, &live, key_of(rule)),
                None => merged,
            };
            Ok(())
        }
        _ => {
            if let Some(plain) = without_directives(value) {
                map.insert(field.to_owned(), plain);
            }
            Ok(())
        }
    }
}

fn is_directive(item: &Value) -> bool {
    item.get("$patch").is_some()
}

/// What a patch leaves where nothing was: itself, without directives. None where it only deletes.
fn without_directives(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.get("$patch").is_some_and(|directive| directive == "delete") => None,
        Value::Object(map) => {
            let plain = map.iter().filter(|(field, value)| !field.starts_with('$') && !value.is_null());
            let plain = plain.filter_map(|(field, value)| Some((field.clone(), without_directives(value)?)));
            Some(Value::Object(plain.collect()))
        }
        Value::Array(items) => {
            // `[{"$patch": "replace"}, ...]`: the directive stands alone in its element.
            let kept = items.iter().filter(|item| item.as_object().is_none_or(|m| !alone(m)));
            Some(Value::Array(kept.filter_map(without_directives).collect()))
        }
        other => Some(other.clone()),
    }
}

fn alone(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.contains_key("$patch")
}

fn merge_list(kind: &str, old: &mut Vec<Value>, new: &[Value], rule: Option<Rule>) -> Result<(), Failure> {
    if new.iter().any(|item| item.get("$patch").is_some_and(|d| d == "replace")) {
        *old = new.iter().filter(|item| !is_directive(item)).cloned().collect();
        return Ok(());
    }
    let Some(Rule::Key(key)) = rule else {
        for item in new {
            if !old.contains(item) {
                old.push(item.clone());
            }
        }
        return Ok(());
    };
    if let Some(item) = new.iter().find(|item| item.get(key).is_none_or(Value::is_null)) {
        return Err(Failure::internal(format!("map: {item} does not contain declared merge key: {key}")));
    }
    for item in new.iter().filter(|item| item.get("$patch").is_some_and(|d| d == "delete")) {
        old.retain(|had| had[key] != item[key]);
    }
    for item in new.iter().filter(|item| !is_directive(item)) {
        // Only the first with this key changes, also where there are two: a trap of addresses of one type.
        match old.iter_mut().find(|had| had[key] == item[key]) {
            Some(Value::Object(had)) => merge_map(kind, had, item.as_object().expect("has a key"))?,
            _ => old.extend(without_directives(item)),
        }
    }
    Ok(())
}

/// The elements of the patch must stand in its order list, in the same order.
fn check_order(field: &str, plain: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Failure> {
    let mut at = order.iter();
    for item in plain {
        if !at.any(|wanted| same(item, wanted, key)) {
            return Err(Failure::internal(format!(
                "The order in patch list:\n{plain:?}\n doesn't match {ORDER}{field} list:\n{order:?}\n"
            )));
        }
    }
    Ok(())
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a[key] == b[key],
        None => a == b,
    }
}

fn place(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| same(item, other, key))
}

/// `merged` in the order of `named`; elements that it does not name keep their order among themselves and go before
/// the first named one that stood behind them in `live`.
fn ordered(merged: Vec<Value>, named: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let (mut ours, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(named, item, key).is_some());
    ours.sort_by_key(|item| place(named, item, key));
    others.sort_by_key(|item| place(live, item, key).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(ours.len() + others.len());
    let (mut ours, mut others) = (ours.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(ours_next), Some(others_next)) = (ours.peek(), others.peek()) {
        let (a, b) = (place(live, others_next, key), place(live, ours_next, key));
        let other_first = matches!((a, b), (Some(a), Some(b)) if a < b);
        out.extend(if other_first { others.next() } else { ours.next() });
    }
    out.extend(ours);
    out.extend(others);
    out
}
