//! What the configuration says of the Node object and its lease. It means something only where there is an API server;
//! without one it is checked all the same, as a standalone kubelet does.

pub mod file;
pub mod value;

use crate::model::node::{HardEviction, NodeTaint, Reserved};
use std::collections::BTreeMap;
use std::time::Duration;

/// The kubelet's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
/// The kubelet's `nodeLeaseDurationSeconds`, `nodeStatusUpdateFrequency` and `nodeStatusReportFrequency`.
const LEASE_DURATION: Duration = Duration::from_secs(40);
const UPDATE_EVERY: Duration = Duration::from_secs(10);
const REPORT_EVERY: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Whether a Node that is not there is created.
    pub register: bool,
    /// Beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Beside ours.
    pub taints: Vec<NodeTaint>,
    /// Empty for none.
    pub provider_id: String,
    /// `None` for all.
    pub max_images: Option<usize>,
    pub lease_duration: Duration,
    pub update_every: Duration,
    pub report_every: Duration,
    pub system_reserved: Reserved,
    pub kube_reserved: Reserved,
    pub hard_eviction: HardEviction,
}

/// What one source says of it; every field may be silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSettings {
    pub register: Option<bool>,
    pub labels: Option<BTreeMap<String, String>>,
    pub taints: Option<Vec<NodeTaint>>,
    pub provider_id: Option<String>,
    /// The inner `None` is no limit.
    pub max_images: Option<Option<usize>>,
    pub lease_duration: Option<Duration>,
    pub update_every: Option<Duration>,
    pub report_every: Option<Duration>,
    pub system_reserved: Option<Reserved>,
    pub kube_reserved: Option<Reserved>,
    pub hard_eviction: Option<HardEviction>,
}

impl NodeSettings {
    /// Each field of `self`, or where it is silent that of `weaker`.
    pub fn or(self, weaker: NodeSettings) -> NodeSettings {
        NodeSettings {
            register: self.register.or(weaker.register),
            labels: self.labels.or(weaker.labels),
            taints: self.taints.or(weaker.taints),
            provider_id: self.provider_id.or(weaker.provider_id),
            max_images: self.max_images.or(weaker.max_images),
            lease_duration: self.lease_duration.or(weaker.lease_duration),
            update_every: self.update_every.or(weaker.update_every),
            report_every: self.report_every.or(weaker.report_every),
            system_reserved: self.system_reserved.or(weaker.system_reserved),
            kube_reserved: self.kube_reserved.or(weaker.kube_reserved),
            hard_eviction: self.hard_eviction.or(weaker.hard_eviction),
        }
    }

    pub fn merged(self) -> NodeConfig {
        // kubelet: who asks for more frequent updates gets reports as often.
        let report_every = self.report_every.or(self.update_every).unwrap_or(REPORT_EVERY);
        NodeConfig {
            register: self.register.unwrap_or(true),
            labels: self.labels.unwrap_or_default(),
            taints: self.taints.unwrap_or_default(),
            provider_id: self.provider_id.unwrap_or_default(),
            max_images: self.max_images.unwrap_or(Some(MAX_IMAGES)),
            lease_duration: self.lease_duration.unwrap_or(LEASE_DURATION),
            update_every: self.update_every.unwrap_or(UPDATE_EVERY),
            report_every,
            system_reserved: self.system_reserved.unwrap_or_default(),
            kube_reserved: self.kube_reserved.unwrap_or_default(),
            hard_eviction: self.hard_eviction.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_kubelets() {
        let config = NodeSettings::default().merged();
        assert!(config.register && config.labels.is_empty() && config.taints.is_empty());
        assert_eq!((config.max_images, config.lease_duration), (Some(50), Duration::from_secs(40)));
        assert_eq!((config.update_every, config.report_every), (Duration::from_secs(10), Duration::from_secs(300)));
        assert_eq!(config.hard_eviction, HardEviction::default());
    }

    #[test]
    fn reports_follow_updates_unless_told_otherwise() {
        let often = NodeSettings { update_every: Some(Duration::from_secs(30)), ..NodeSettings::default() };
        assert_eq!(often.clone().merged().report_every, Duration::from_secs(30));
        let both = NodeSettings { report_every: Some(Duration::from_secs(60)), ..often };
        assert_eq!(both.merged().report_every, Duration::from_secs(60));
    }
}
