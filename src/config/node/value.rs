//! One value each: labels, taints, reservations and thresholds, refused in the kubelet's words.

use crate::config::value;
use crate::model::names;
use crate::model::node::{HardEviction, NodeTaint, Reserved, TaintEffect, Threshold};
use std::collections::BTreeMap;
use std::time::Duration;

/// Domains whose labels belong to Kubernetes: a node may set only some of them.
const KUBERNETES: [&str; 2] = ["kubernetes.io", "k8s.io"];
const ALLOWED_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const ALLOWED_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Signals that a kubelet knows thresholds for.
const SIGNALS: [&str; 9] = [
    "allocatableMemory.available",
    "containerfs.available",
    "containerfs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "pid.available",
];

/// `key=value,key=value`; blanks around each do not count.
pub fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

pub fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let labels = pairs(text);
    let unknown: Vec<&str> = labels.keys().map(String::as_str).filter(|key| !may_be_set(key)).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]\n--node-labels in the \
             'kubernetes.io' namespace must begin with an allowed prefix ({}) or be in the specifically allowed set \
             ({})",
            unknown.join(" "),
            ALLOWED_PREFIXES.join(", "),
            ALLOWED_LABELS.join(", ")
        ));
    }
    let mut faults = Vec::new();
    for (key, value) in &labels {
        for (text, found) in [(key, names::qualified(key)), (value, names::label_value(value))] {
            if !found.is_empty() {
                faults.push(format!("'{text}' - {}", found.join(", ")));
            }
        }
    }
    if faults.is_empty() { Ok(labels) } else { Err(format!("invalid node labels: {}", faults.join("; "))) }
}

/// What NodeRestriction lets a node set.
fn may_be_set(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &&str| domain == *of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    !KUBERNETES.iter().any(within) || ALLOWED_PREFIXES.iter().any(within) || ALLOWED_LABELS.contains(&key)
}

/// `key=value:effect,key:effect`.
pub fn taints(text: &str) -> Result<Vec<NodeTaint>, String> {
    let specs = text.split(',').filter(|spec| !spec.is_empty());
    unique(specs.map(taint).collect::<Result<_, _>>()?)
}

fn taint(spec: &str) -> Result<NodeTaint, String> {
    let wrong = || format!("invalid taint spec: {spec}");
    let (pair, effect) = spec.split_once(':').ok_or_else(wrong)?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if effect.contains(':') || value.contains('=') {
        return Err(wrong());
    }
    checked_taint(key, value, effect).map_err(|fault| match fault {
        TaintFault::Effect(text) => text,
        TaintFault::Name(text) => format!("{}, {text}", wrong()),
    })
}

/// One of `registerWithTaints`.
pub fn taint_of_file(key: &str, value: &str, effect: &str) -> Result<NodeTaint, String> {
    checked_taint(key, value, effect).map_err(|fault| match fault {
        TaintFault::Effect(text) | TaintFault::Name(text) => format!("invalid taint: {key}={value}:{effect}, {text}"),
    })
}

enum TaintFault {
    Effect(String),
    Name(String),
}

fn checked_taint(key: &str, value: &str, effect: &str) -> Result<NodeTaint, TaintFault> {
    let unsupported = || TaintFault::Effect(format!("invalid taint effect: {effect}, unsupported taint effect"));
    let effect = TaintEffect::parse(effect).ok_or_else(unsupported)?;
    let faults = [names::label_value(value), names::qualified(key)].concat();
    if faults.is_empty() {
        Ok(NodeTaint { key: key.to_owned(), value: value.to_owned(), effect })
    } else {
        Err(TaintFault::Name(faults.join("; ")))
    }
}

/// An API server refuses a Node with doubles.
pub fn unique(taints: Vec<NodeTaint>) -> Result<Vec<NodeTaint>, String> {
    for (at, taint) in taints.iter().enumerate() {
        if taints[..at].iter().any(|earlier| earlier.key == taint.key && earlier.effect == taint.effect) {
            let (key, effect) = (&taint.key, taint.effect.as_str());
            return Err(format!("duplicated taints with the same key and effect: {key}:{effect}"));
        }
    }
    Ok(taints)
}

/// -1 is no limit.
pub fn max_images(value: i64) -> Result<Option<usize>, String> {
    match value {
        -1 => Ok(None),
        _ => usize::try_from(value).map(Some).map_err(|_| format!("{value} must be -1 or greater")),
    }
}

/// Seconds; 0 is the same as nothing, as for the kubelet.
pub fn lease_duration(value: i64) -> Result<Option<Duration>, String> {
    match i32::try_from(value).ok().and_then(|seconds| u64::try_from(seconds).ok()) {
        None => Err("must be greater than 0".to_owned()),
        Some(0) => Ok(None),
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
    }
}

/// Zero is the same as nothing, as for the kubelet.
pub fn frequency(text: &str) -> Result<Option<Duration>, String> {
    value::duration(text).map(|duration| Some(duration).filter(|given| !given.is_zero()))
}

/// `systemReserved` and `kubeReserved`. Processes are checked, and do not count among what pods may have.
pub fn reserved(amounts: &BTreeMap<String, String>) -> Result<Reserved, String> {
    let mut reserved = Reserved::default();
    for (name, text) in amounts {
        if text.starts_with('-') {
            return Err(format!("resource quantity for {name:?} cannot be negative: {text}"));
        }
        let wrong = |_| format!("failed to parse quantity {text:?} for {name:?} resource");
        match name.as_str() {
            "cpu" => reserved.cpu_millis = value::quantity_millis(text).map_err(wrong)?,
            "memory" => reserved.memory_bytes = value::quantity(text).map_err(wrong)?,
            "ephemeral-storage" => reserved.ephemeral_storage_bytes = value::quantity(text).map_err(wrong)?,
            "pid" => drop(value::quantity(text).map_err(wrong)?),
            _ => return Err(format!("cannot reserve {name:?} resource")),
        }
    }
    Ok(reserved)
}

/// `evictionHard`: all signals are checked, two of them lower what pods may have.
pub fn hard_eviction(thresholds: &BTreeMap<String, String>) -> Result<HardEviction, String> {
    let mut eviction = HardEviction::NONE;
    for (signal, text) in thresholds {
        if !SIGNALS.contains(&signal.as_str()) {
            return Err(format!("unknown eviction signal {signal}"));
        }
        let threshold = threshold(signal, text)?;
        match signal.as_str() {
            "memory.available" => eviction.memory_available = threshold,
            "nodefs.available" => eviction.nodefs_available = threshold,
            _ => {}
        }
    }
    Ok(eviction)
}

/// `None` for 0% and 100%, which turn a threshold off.
fn threshold(signal: &str, text: &str) -> Result<Option<Threshold>, String> {
    if text == "0%" || text == "100%" {
        return Ok(None);
    }
    if let Some(percentage) = text.strip_suffix('%') {
        let number: f32 = percentage.parse().map_err(|_| format!("{text:?} is not a percentage"))?;
        return match number {
            number if number < 0.0 => Err(format!("eviction percentage threshold {signal} must be >= 0%: {text}")),
            number if number > 100.0 => Err(format!("eviction percentage threshold {signal} must be <= 100%: {text}")),
            number if number.is_nan() => Err(format!("{text:?} is not a percentage")),
            number => Ok(Some(Threshold::Fraction(number / 100.0))),
        };
    }
    match value::quantity(text) {
        Ok(bytes) if bytes > 0 => Ok(Some(Threshold::Bytes(bytes))),
        Err(fault) if !text.starts_with('-') => Err(fault),
        Ok(_) | Err(_) => Err(format!("eviction threshold {signal} must be positive: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_are_pairs_and_a_key_alone_has_no_value() {
        let found = labels("site=edge-7, rack = 3,,spare,node.kubernetes.io/x=y,a.node.kubernetes.io/z=1");
        let expected = [("site", "edge-7"), ("rack", "3"), ("spare", ""), ("node.kubernetes.io/x", "y")];
        let expected = [&expected[..], &[("a.node.kubernetes.io/z", "1")]].concat();
        assert_eq!(found, Ok(map(&expected)));
        assert_eq!(labels(""), Ok(BTreeMap::new()));
        assert!(labels("topology.kubernetes.io/zone=z,kubernetes.io/os=linux,notkubernetes.io/x=1").is_ok());
    }

    #[test]
    fn labels_that_a_node_may_not_set_or_nobody_can_are_refused() {
        for (text, words) in [
            (
                "node-role.kubernetes.io/worker=,x=1",
                "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: \
                 [node-role.kubernetes.io/worker]\n--node-labels in the 'kubernetes.io' namespace must begin with an \
                 allowed prefix (kubelet.kubernetes.io, node.kubernetes.io) or be in the specifically allowed set (beta",
            ),
            ("node-restriction.kubernetes.io/x=1", "[node-restriction.kubernetes.io/x]"),
            ("x.k8s.io/y=1,kubernetes.io/z=1", "[kubernetes.io/z x.k8s.io/y]"),
            ("a b=1", "invalid node labels: 'a b' - name part must consist of alphanumeric"),
            ("a=b c", "invalid node labels: 'b c' - a valid label must be an empty string"),
            ("=x", "invalid node labels: '' - name part must be non-empty"),
        ] {
            let fault = labels(text).expect_err(text);
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }

    #[test]
    fn taints_have_a_key_perhaps_a_value_and_an_effect() {
        let taint = |key: &str, value: &str, effect| NodeTaint { key: key.into(), value: value.into(), effect };
        assert_eq!(
            taints("a=b:NoSchedule,example.com/c:NoExecute,a=:PreferNoSchedule"),
            Ok(vec![
                taint("a", "b", TaintEffect::NoSchedule),
                taint("example.com/c", "", TaintEffect::NoExecute),
                taint("a", "", TaintEffect::PreferNoSchedule),
            ])
        );
        assert_eq!(taints(""), Ok(Vec::new()));
        for (text, words) in [
            ("a", "invalid taint spec: a"),
            ("a=b=c:NoSchedule", "invalid taint spec: a=b=c:NoSchedule"),
            ("a:b:NoSchedule", "invalid taint spec: a:b:NoSchedule"),
            ("a=b:Never", "invalid taint effect: Never, unsupported taint effect"),
            ("a b:NoSchedule", "invalid taint spec: a b:NoSchedule, name part must consist"),
            ("a=b c:NoSchedule", "invalid taint spec: a=b c:NoSchedule, a valid label must"),
            ("a=1:NoSchedule,a=2:NoSchedule", "duplicated taints with the same key and effect: a:NoSchedule"),
        ] {
            let fault = taints(text).expect_err(text);
            assert!(fault.starts_with(words), "{text}: {fault}");
        }
    }

    #[test]
    fn numbers_have_the_kubelets_bounds() {
        assert_eq!((max_images(-1), max_images(0), max_images(7)), (Ok(None), Ok(Some(0)), Ok(Some(7))));
        assert!(max_images(-2).is_err_and(|fault| fault == "-2 must be -1 or greater"));
        assert_eq!((lease_duration(0), lease_duration(20)), (Ok(None), Ok(Some(Duration::from_secs(20)))));
        assert!(lease_duration(-1).is_err() && lease_duration(1 << 40).is_err());
        assert_eq!((frequency("0s"), frequency("1m")), (Ok(None), Ok(Some(Duration::from_secs(60)))));
    }

    #[test]
    fn reservations_are_quantities_of_what_can_be_reserved() {
        let found = reserved(&map(&[("cpu", "200m"), ("memory", "1Gi"), ("ephemeral-storage", "2G"), ("pid", "1000")]));
        let expected = Reserved { cpu_millis: 200, memory_bytes: 1 << 30, ephemeral_storage_bytes: 2_000_000_000 };
        assert_eq!(found, Ok(expected));
        assert_eq!(reserved(&map(&[("cpu", "1.5")])).map(|r| r.cpu_millis), Ok(1500));
        for (name, text, words) in [
            ("gpu", "1", "cannot reserve \"gpu\" resource"),
            ("cpu", "-1", "resource quantity for \"cpu\" cannot be negative: -1"),
            ("memory", "much", "failed to parse quantity \"much\" for \"memory\" resource"),
        ] {
            assert_eq!(reserved(&map(&[(name, text)])), Err(words.to_owned()));
        }
    }

    #[test]
    fn thresholds_are_quantities_or_percentages_of_known_signals() {
        let found =
            hard_eviction(&map(&[("memory.available", "200Mi"), ("nodefs.available", "5%"), ("pid.available", "9")]));
        let expected = HardEviction {
            memory_available: Some(Threshold::Bytes(200 << 20)),
            nodefs_available: Some(Threshold::Fraction(0.05)),
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(hard_eviction(&map(&[("memory.available", "0%")])), Ok(HardEviction::NONE));
        for (signal, text, words) in [
            ("memory.free", "1Mi", "unknown eviction signal memory.free"),
            ("memory.available", "-1Mi", "eviction threshold memory.available must be positive: -1Mi"),
            ("nodefs.available", "-5%", "eviction percentage threshold nodefs.available must be >= 0%: -5%"),
            ("nodefs.available", "x%", "\"x%\" is not a percentage"),
        ] {
            assert_eq!(hard_eviction(&map(&[(signal, text)])), Err(words.to_owned()));
        }
    }
}
