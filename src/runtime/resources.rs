//! Requests and limits as the numbers that a cgroup takes, and the out-of-memory score. Pure.
//!
//! The kubelet's arithmetic (`pkg/kubelet/cm/helpers_linux.go`, `qos/policy.go`), in cgroup v1's units: who writes
//! the files converts shares into v2's weight.

use super::launch::Limits;
use crate::model::pod::{Container, QosClass, StaticPod};
use std::time::Duration;

/// The least and the most that `cpu.shares` takes.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// One core in shares, and in thousandths.
const SHARES_PER_CPU: u64 = 1024;
const MILLI_PER_CPU: u64 = 1000;
/// The least quota that the kernel takes, in microseconds.
const MIN_QUOTA_US: u64 = 1000;

/// The node's settings that limits depend on (`--cpu-cfs-quota`, `podPidsLimit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub cpu_cfs_quota: bool,
    pub cpu_cfs_quota_period: Duration,
    pub pod_pids_limit: Option<u64>,
}

impl Policy {
    fn quota(&self, limit_milli: Option<u64>) -> (Option<u64>, Option<u64>) {
        let Some(milli) = limit_milli.filter(|milli| *milli > 0 && self.cpu_cfs_quota) else { return (None, None) };
        let period = u64::try_from(self.cpu_cfs_quota_period.as_micros()).unwrap_or(u64::MAX);
        (Some((milli.saturating_mul(period) / MILLI_PER_CPU).max(MIN_QUOTA_US)), Some(period))
    }
}

/// The container's own cgroup.
pub fn container_limits(container: &Container, policy: &Policy) -> Limits {
    let resources = &container.resources;
    let (cpu_quota_us, cpu_period_us) = policy.quota(resources.cpu_limit_milli);
    Limits {
        cpu_shares: Some(shares(resources.cpu_request_milli.or(resources.cpu_limit_milli).unwrap_or(0))),
        cpu_quota_us,
        cpu_period_us,
        memory_limit_bytes: resources.memory_limit_bytes.filter(|bytes| *bytes > 0),
        pids_max: None,
    }
}

/// The cgroup above all containers of the pod. Quota and memory are limited only where every container is.
pub fn pod_limits(pod: &StaticPod, policy: &Policy) -> Limits {
    let pids_max = policy.pod_pids_limit.filter(|limit| *limit > 0);
    if pod.qos == QosClass::BestEffort {
        return Limits { cpu_shares: Some(MIN_SHARES), pids_max, ..Limits::default() };
    }
    let sum_of_all = |value: fn(&Container) -> Option<u64>| -> Option<u64> {
        pod.containers.iter().map(|c| value(c).filter(|n| *n > 0)).try_fold(0u64, |sum, n| Some(sum.saturating_add(n?)))
    };
    let (cpu_quota_us, cpu_period_us) = policy.quota(sum_of_all(|c| c.resources.cpu_limit_milli));
    Limits {
        cpu_shares: Some(shares(requested_milli(pod))),
        cpu_quota_us,
        cpu_period_us,
        memory_limit_bytes: sum_of_all(|c| c.resources.memory_limit_bytes),
        pids_max,
    }
}

/// All burstable pods together: the sum of what their containers ask for.
pub fn burstable_shares<'a>(pods: impl Iterator<Item = &'a StaticPod>) -> u64 {
    let burstable = pods.filter(|pod| pod.qos == QosClass::Burstable);
    shares(burstable.map(requested_milli).fold(0, u64::saturating_add))
}

fn requested_milli(pod: &StaticPod) -> u64 {
    pod.containers
        .iter()
        .map(|c| c.resources.cpu_request_milli.or(c.resources.cpu_limit_milli).unwrap_or(0))
        .fold(0, u64::saturating_add)
}

fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(SHARES_PER_CPU) / MILLI_PER_CPU).clamp(MIN_SHARES, MAX_SHARES)
}

/// How early the kernel picks the container when memory runs out: -997 (last) to 1000 (first).
pub fn oom_score_adj(pod: &StaticPod, container: &Container, node_memory_bytes: u64) -> i32 {
    match pod.qos {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let requested = u128::from(container.resources.memory_request_bytes.unwrap_or(0));
            let part = 1000 * requested / u128::from(node_memory_bytes.max(1));
            let score = 1000 - i32::try_from(part).unwrap_or(1000);
            // Above every guaranteed container (-997 is 3 above the least), below every best-effort one.
            score.clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::pod::Resources;

    const POLICY: Policy =
        Policy { cpu_cfs_quota: true, cpu_cfs_quota_period: Duration::from_millis(100), pod_pids_limit: Some(500) };

    fn burstable(resources: &[Resources]) -> StaticPod {
        let mut pod = testing::pod();
        pod.qos = QosClass::Burstable;
        pod.containers = resources
            .iter()
            .map(|resources| {
                let mut container = testing::container("c");
                container.resources = *resources;
                container
            })
            .collect();
        pod
    }

    #[test]
    fn shares_and_quota_are_the_kubelets() {
        for (request, limit, expected) in [
            (None, None, (2, None)),
            (Some(0), None, (2, None)),
            (Some(10), None, (10, None)),
            (Some(1000), Some(2000), (1024, Some(200_000))),
            (None, Some(250), (256, Some(25_000))),
            (Some(1), Some(1), (2, Some(1000))),
            (Some(u64::MAX), None, (262_144, None)),
        ] {
            let resources = Resources { cpu_request_milli: request, cpu_limit_milli: limit, ..Resources::default() };
            let limits = container_limits(&burstable(&[resources]).containers[0], &POLICY);
            assert_eq!(
                (limits.cpu_shares, limits.cpu_quota_us),
                (Some(expected.0), expected.1),
                "{request:?} {limit:?}"
            );
            assert_eq!(limits.cpu_period_us.is_some(), expected.1.is_some());
        }
        let limited = Resources { cpu_limit_milli: Some(500), ..Resources::default() };
        let off = Policy { cpu_cfs_quota: false, ..POLICY };
        assert_eq!(container_limits(&burstable(&[limited]).containers[0], &off).cpu_quota_us, None);
    }

    #[test]
    fn the_pod_is_limited_only_where_every_container_is() {
        let full = Resources {
            cpu_request_milli: Some(100),
            cpu_limit_milli: Some(500),
            memory_request_bytes: Some(1 << 20),
            memory_limit_bytes: Some(1 << 21),
        };
        let both = pod_limits(&burstable(&[full, full]), &POLICY);
        assert_eq!(
            both,
            Limits {
                cpu_shares: Some(204),
                cpu_quota_us: Some(100_000),
                cpu_period_us: Some(100_000),
                memory_limit_bytes: Some(1 << 22),
                pids_max: Some(500)
            }
        );
        let one = pod_limits(&burstable(&[full, Resources::default()]), &POLICY);
        assert_eq!((one.cpu_shares, one.cpu_quota_us, one.memory_limit_bytes), (Some(102), None, None));
        let best_effort = testing::pod();
        assert_eq!(
            pod_limits(&best_effort, &POLICY),
            Limits { cpu_shares: Some(2), pids_max: Some(500), ..Limits::default() }
        );
    }

    #[test]
    fn the_out_of_memory_score_stays_between_guaranteed_and_best_effort() {
        const NODE: u64 = 1000 << 20;
        for (request, expected) in [(0, 999), (1 << 20, 999), (16 << 20, 984), (500 << 20, 500), (2000 << 20, 3)] {
            let resources = Resources { memory_request_bytes: Some(request), ..Resources::default() };
            let pod = burstable(&[resources]);
            assert_eq!(oom_score_adj(&pod, &pod.containers[0], NODE), expected, "{request}");
        }
        let mut pod = testing::pod();
        assert_eq!(oom_score_adj(&pod, &pod.containers[0], NODE), 1000);
        pod.qos = QosClass::Guaranteed;
        assert_eq!(oom_score_adj(&pod, &pod.containers[0], NODE), -997);
    }
}
