//! One text for all spellings of a document: what a pod's UID is hashed over.
//!
//! INVARIANT: a release never changes this form. The UID of every pod in the field depends on it; the golden vectors
//! under `tests/data/manifest/uid` prove it.

use super::tree::{Node, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Merge keys are expanded already. Keys are sorted, pairs without a value dropped, the last of equal keys counts, and
/// a scalar is its text whatever its quoting. Every text carries its length, so that no two documents share a form.
pub(super) fn canonical(node: &Node) -> String {
    let mut out = String::new();
    write_node(&mut out, node);
    out
}

fn write_node(out: &mut String, node: &Node) {
    match &node.value {
        Value::Scalar(_) if node.is_null() => out.push('~'),
        Value::Scalar(scalar) => write_text(out, &scalar.text),
        Value::Sequence(items) => {
            out.push('[');
            items.iter().for_each(|item| write_node(out, item));
            out.push(']');
        }
        Value::Mapping(pairs) => {
            let sorted: BTreeMap<&str, &Node> = pairs.iter().map(|pair| (pair.key.as_str(), &pair.value)).collect();
            out.push('{');
            for (key, value) in sorted.into_iter().filter(|(_, value)| !value.is_null()) {
                write_text(out, key);
                write_node(out, value);
            }
            out.push('}');
        }
    }
}

fn write_text(out: &mut String, text: &str) {
    let _ = write!(out, "{}:{text}", text.len());
}
