//! The keys of a KubeletConfiguration that describe the Node, as serde steps.
//!
//! As in `seed`, checks run inside what is being decoded: only there is the place in the file known.

use super::NodeSettings;
use super::value;
use crate::config::seed::{Number, Text};
use crate::model::node::{HardEviction, NodeTaint, Reserved};
use serde::de::MapAccess;
use std::collections::BTreeMap;

/// Keys that [`honour`] takes.
pub const KEYS: &[&str] = &[
    "kubeReserved",
    "nodeLeaseDurationSeconds",
    "nodeStatusMaxImages",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "providerID",
    "registerNode",
    "registerWithTaints",
    "systemReserved",
];

/// One key of [`KEYS`].
pub fn honour<'de, M: MapAccess<'de>>(key: &str, map: &mut M, node: &mut NodeSettings) -> Result<(), M::Error> {
    match key {
        "kubeReserved" => node.kube_reserved = map.next_value::<Option<ReservedAmounts>>()?.map(|found| found.0),
        "nodeLeaseDurationSeconds" => {
            node.lease_duration = map.next_value_seed(Number(value::lease_duration))?.flatten()
        }
        "nodeStatusMaxImages" => node.max_images = map.next_value_seed(Number(value::max_images))?,
        "nodeStatusReportFrequency" => node.report_every = map.next_value_seed(Text(value::frequency))?.flatten(),
        "nodeStatusUpdateFrequency" => node.update_every = map.next_value_seed(Text(value::frequency))?.flatten(),
        "providerID" => node.provider_id = map.next_value()?,
        "registerNode" => node.register = map.next_value()?,
        "registerWithTaints" => node.taints = map.next_value::<Option<Taints>>()?.map(|found| found.0),
        _ => node.system_reserved = map.next_value::<Option<ReservedAmounts>>()?.map(|found| found.0),
    }
    Ok(())
}

#[derive(serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct ReservedAmounts(Reserved);

impl TryFrom<BTreeMap<String, String>> for ReservedAmounts {
    type Error = String;
    fn try_from(amounts: BTreeMap<String, String>) -> Result<ReservedAmounts, String> {
        value::reserved(&amounts).map(ReservedAmounts)
    }
}

/// `evictionHard`, which a caller warns of too: nothing is evicted yet.
#[derive(serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Thresholds(pub HardEviction);

impl TryFrom<BTreeMap<String, String>> for Thresholds {
    type Error = String;
    fn try_from(thresholds: BTreeMap<String, String>) -> Result<Thresholds, String> {
        value::hard_eviction(&thresholds).map(Thresholds)
    }
}

/// Each may be null, only so that the check of one runs while the decoder is at its place.
#[derive(serde::Deserialize)]
#[serde(try_from = "Vec<Option<Taint>>")]
struct Taints(Vec<NodeTaint>);

impl TryFrom<Vec<Option<Taint>>> for Taints {
    type Error = String;
    fn try_from(taints: Vec<Option<Taint>>) -> Result<Taints, String> {
        value::unique(taints.into_iter().flatten().map(|taint| taint.0).collect()).map(Taints)
    }
}

#[derive(serde::Deserialize)]
#[serde(try_from = "WrittenTaint")]
struct Taint(NodeTaint);

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenTaint {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    effect: String,
    #[serde(default)]
    time_added: Option<String>,
}

impl TryFrom<WrittenTaint> for Taint {
    type Error = String;
    fn try_from(written: WrittenTaint) -> Result<Taint, String> {
        if written.time_added.is_some() {
            return Err("taint.TimeAdded is not nil".to_owned());
        }
        value::taint_of_file(&written.key, &written.value.unwrap_or_default(), &written.effect).map(Taint)
    }
}
