//! What the node has, and what of it pods may have, in the text that the kubelet's quantities come to.

use super::facts::NodeFacts;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];

pub type Resources = BTreeMap<String, Quantity>;

pub fn capacity(facts: &NodeFacts) -> Resources {
    let mut resources = BTreeMap::from([
        ("cpu".to_owned(), cpu(u64::from(facts.cpus) * 1000)),
        ("ephemeral-storage".to_owned(), bytes(facts.ephemeral_storage_bytes)),
        ("memory".to_owned(), bytes(facts.memory_bytes)),
        ("pods".to_owned(), count(u64::from(facts.max_pods))),
    ]);
    resources.extend(hugepages(facts));
    resources
}

/// Without what is kept for system and kubelet, what eviction keeps free, and of the memory the huge pages.
pub fn allocatable(facts: &NodeFacts) -> Resources {
    let (system, kube, eviction) = (&facts.system_reserved, &facts.kube_reserved, &facts.hard_eviction);
    let cpu_millis = (u64::from(facts.cpus) * 1000).saturating_sub(system.cpu_millis.saturating_add(kube.cpu_millis));
    let memory_kept = system
        .memory_bytes
        .saturating_add(kube.memory_bytes)
        .saturating_add(eviction.memory_available.map_or(0, |threshold| threshold.of(facts.memory_bytes)))
        .saturating_add(facts.hugepages.values().sum());
    let storage_kept = system
        .ephemeral_storage_bytes
        .saturating_add(kube.ephemeral_storage_bytes)
        .saturating_add(eviction.nodefs_available.map_or(0, |threshold| threshold.of(facts.ephemeral_storage_bytes)));
    let mut resources = capacity(facts);
    resources.insert("cpu".to_owned(), cpu(cpu_millis));
    resources.insert("memory".to_owned(), bytes(facts.memory_bytes.saturating_sub(memory_kept)));
    let storage = facts.ephemeral_storage_bytes.saturating_sub(storage_kept);
    resources.insert("ephemeral-storage".to_owned(), bytes(storage));
    resources
}

/// `hugepages-2Mi` and its like.
pub fn is_hugepages(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

fn hugepages(facts: &NodeFacts) -> impl Iterator<Item = (String, Quantity)> {
    facts.hugepages.iter().map(|(size, total)| (format!("hugepages-{}", bytes(*size).0), bytes(*total)))
}

fn cpu(millis: u64) -> Quantity {
    match millis % 1000 {
        0 => count(millis / 1000),
        _ => Quantity(format!("{millis}m")),
    }
}

/// In steps of 1024; below that, as Kubernetes does, in steps of 1000.
fn bytes(value: u64) -> Quantity {
    if value < 1024 { count(value) } else { stepped(value, 1024, &BINARY) }
}

fn count(value: u64) -> Quantity {
    stepped(value, 1000, &DECIMAL)
}

/// The largest suffix that leaves a whole number.
fn stepped(mut value: u64, step: u64, suffixes: &[&str]) -> Quantity {
    let mut suffix = "";
    for larger in suffixes {
        if value == 0 || !value.is_multiple_of(step) {
            break;
        }
        value /= step;
        suffix = larger;
    }
    Quantity(format!("{value}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::facts;
    use super::*;
    use crate::model::node::{HardEviction, Reserved, Threshold};

    fn shown(resources: &Resources) -> Vec<(&str, &str)> {
        resources.iter().map(|(name, quantity)| (name.as_str(), quantity.0.as_str())).collect()
    }

    #[test]
    fn quantities_have_the_largest_suffix_that_leaves_a_whole_number() {
        for (value, text) in [
            (0, "0"),
            (512, "512"),
            (1000, "1k"),
            (1024, "1Ki"),
            (1025, "1025"),
            (2 << 20, "2Mi"),
            (3 << 30, "3Gi"),
            (1 << 60, "1Ei"),
            (243_497_856_212, "243497856212"),
        ] {
            assert_eq!(bytes(value).0, text);
        }
        assert_eq!((cpu(2000).0, cpu(1800).0, cpu(0).0), ("2".to_owned(), "1800m".to_owned(), "0".to_owned()));
        assert_eq!((count(110).0, count(1000).0, count(2500).0), ("110".into(), "1k".into(), "2500".into()));
    }

    #[test]
    fn what_is_reserved_and_what_eviction_keeps_free_is_not_for_pods() {
        let mut node = facts();
        (node.cpus, node.memory_bytes, node.ephemeral_storage_bytes) = (4, 8 << 30, 100 << 30);
        node.hugepages = BTreeMap::from([(2 << 20, 1 << 30), (1 << 30, 0)]);
        node.system_reserved = Reserved { cpu_millis: 200, memory_bytes: 1 << 30, ephemeral_storage_bytes: 1 << 30 };
        node.kube_reserved = Reserved { cpu_millis: 300, memory_bytes: 512 << 20, ephemeral_storage_bytes: 0 };
        node.hard_eviction = HardEviction {
            memory_available: Some(Threshold::Bytes(512 << 20)),
            nodefs_available: Some(Threshold::Fraction(0.25)),
        };
        assert_eq!(
            shown(&allocatable(&node)),
            [
                ("cpu", "3500m"),
                ("ephemeral-storage", "74Gi"),
                ("hugepages-1Gi", "0"),
                ("hugepages-2Mi", "1Gi"),
                ("memory", "5Gi"),
                ("pods", "110"),
            ]
        );
        node.system_reserved.memory_bytes = 1 << 40;
        node.system_reserved.cpu_millis = 9000;
        node.hard_eviction = HardEviction::NONE;
        let resources = allocatable(&node);
        assert_eq!((resources["memory"].0.as_str(), resources["cpu"].0.as_str()), ("0", "0"));
        assert_eq!(resources["ephemeral-storage"].0, "99Gi");
    }
}
