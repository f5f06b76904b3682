//! What of a Node's metadata is ours: labels, one annotation, and the taint that keeps other pods away.
//!
//! Labels may be mended on a Node that exists, taints never (NodeRestriction): where ours is missing, an admin is told
//! the command that sets it.

use super::facts::NodeFacts;
use crate::model::id::NodeName;
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Label (`true`) and taint of a node that runs static pods only.
pub const STATIC_PODS_ONLY: &str = "pinlet.dev/static-pods-only";
const ATTACH_DETACH: (&str, &str) = ("volumes.kubernetes.io/controller-managed-attach-detach", "true");

/// `--node-labels` do not win over what is a matter of fact.
pub fn labels(facts: &NodeFacts) -> BTreeMap<String, String> {
    let mut labels = facts.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", facts.hostname.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &facts.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &facts.architecture),
        (STATIC_PODS_ONLY, "true"),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

pub fn annotations() -> BTreeMap<String, String> {
    BTreeMap::from([(ATTACH_DETACH.0.to_owned(), ATTACH_DETACH.1.to_owned())])
}

/// As registered: ours first, then those of the flags.
pub fn taints(facts: &NodeFacts) -> Vec<Taint> {
    let ours =
        Taint { key: STATIC_PODS_ONLY.to_owned(), value: None, effect: "NoSchedule".to_owned(), time_added: None };
    let given = facts.taints.iter().filter(|taint| {
        // At most one for each key and effect, or the API server refuses the Node.
        taint.key != ours.key || taint.effect.as_str() != ours.effect
    });
    let given = given.map(|taint| Taint {
        key: taint.key.clone(),
        value: (!taint.value.is_empty()).then(|| taint.value.clone()),
        effect: taint.effect.as_str().to_owned(),
        time_added: None,
    });
    let given: Vec<Taint> = given.collect();
    [vec![ours], given].concat()
}

/// What to patch on the Node so that labels and annotation are as they should; `None` if they are.
pub fn metadata_patch(facts: &NodeFacts, node: &Node) -> Option<Value> {
    let labels = missing(labels(facts), node.metadata.labels.as_ref());
    let annotations = missing(annotations(), node.metadata.annotations.as_ref());
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    let mut metadata = Map::new();
    // A Node that was deleted and made anew meanwhile is looked at first.
    metadata.insert("uid".to_owned(), json!(node.metadata.uid));
    for (key, values) in [("labels", labels), ("annotations", annotations)] {
        if !values.is_empty() {
            metadata.insert(key.to_owned(), json!(values));
        }
    }
    Some(json!({ "metadata": metadata }))
}

fn missing(mut wanted: BTreeMap<String, String>, there: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    wanted.retain(|key, value| there.and_then(|there| there.get(key)) != Some(value));
    wanted
}

/// The scheduler would send pods here that will not be run.
pub fn lacks_our_taint(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    // A stricter effect, or a value, does it too.
    let does = |taint: &Taint| taint.key == STATIC_PODS_ONLY && taint.effect != "PreferNoSchedule";
    !taints.into_iter().flatten().any(does)
}

/// What an admin types to set our taint.
pub fn taint_command(name: &NodeName) -> String {
    format!("kubectl taint nodes {name} {STATIC_PODS_ONLY}:NoSchedule")
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::{facts, registered};
    use super::*;
    use crate::model::node::{NodeTaint, TaintEffect};

    #[test]
    fn labels_of_the_flags_join_ours_and_do_not_win_over_facts() {
        let mut node = facts();
        node.labels = BTreeMap::from([("site".into(), "edge-7".into()), ("kubernetes.io/arch".into(), "s390x".into())]);
        let labels = labels(&node);
        assert_eq!((labels["site"].as_str(), labels["kubernetes.io/arch"].as_str()), ("edge-7", "amd64"));
        assert_eq!(labels[STATIC_PODS_ONLY], "true");
        assert_eq!(labels.len(), 7);
    }

    #[test]
    fn taints_are_ours_and_those_of_the_flags_without_doubles() {
        let mut node = facts();
        let taint = |key: &str, value: &str, effect| NodeTaint { key: key.into(), value: value.into(), effect };
        node.taints = vec![
            taint("site", "edge", TaintEffect::NoExecute),
            taint(STATIC_PODS_ONLY, "x", TaintEffect::NoSchedule),
            taint(STATIC_PODS_ONLY, "", TaintEffect::NoExecute),
        ];
        let shown: Vec<String> = taints(&node)
            .iter()
            .map(|t| format!("{}={}:{}", t.key, t.value.as_deref().unwrap_or_default(), t.effect))
            .collect();
        assert_eq!(
            shown,
            [
                "pinlet.dev/static-pods-only=:NoSchedule",
                "site=edge:NoExecute",
                "pinlet.dev/static-pods-only=:NoExecute",
            ]
        );
    }

    #[test]
    fn only_what_is_missing_or_wrong_is_patched() {
        let here = facts();
        let mut node = registered(&here);
        assert_eq!(metadata_patch(&here, &node), None);
        let labels = node.metadata.labels.as_mut().expect("labels");
        labels.insert("kubernetes.io/os".into(), "plan9".into());
        labels.insert("somebody.else/s".into(), "stays".into());
        labels.remove(STATIC_PODS_ONLY);
        node.metadata.annotations = None;
        assert_eq!(
            metadata_patch(&here, &node),
            Some(json!({ "metadata": {
                "uid": "e058efaf-1e02-4b80-b00b-c3801ebd00ca",
                "labels": { "kubernetes.io/os": "linux", "pinlet.dev/static-pods-only": "true" },
                "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
            } }))
        );
    }

    #[test]
    fn a_missing_taint_is_noticed_and_the_command_named() {
        let here = facts();
        let mut node = registered(&here);
        assert!(!lacks_our_taint(&node));
        for (effect, lacking) in [("NoSchedule", false), ("NoExecute", false), ("PreferNoSchedule", true)] {
            let taint = Taint { key: STATIC_PODS_ONLY.into(), effect: effect.into(), ..Taint::default() };
            node.spec.as_mut().expect("a spec").taints = Some(vec![taint]);
            assert_eq!(lacks_our_taint(&node), lacking, "{effect}");
        }
        node.spec = None;
        assert!(lacks_our_taint(&node));
        assert_eq!(taint_command(&here.name), "kubectl taint nodes vm pinlet.dev/static-pods-only:NoSchedule");
    }
}
