//! JSON merge patch, RFC 7386.

use serde_json::{Map, Value};

pub fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("made one");
    for (field, value) in patch {
        if value.is_null() {
            map.remove(field);
        } else {
            apply(map.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}
