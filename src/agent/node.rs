//! What does not change while the agent runs: shared by the loop and every job, never written.

use super::paths::Paths;
use crate::config::Config;
use crate::image::store::Store;
use crate::model::id::{BootId, NodeName};
use crate::model::id::{ContainerId, PodUid};
use crate::model::pod::{QosClass, StaticPod};
use crate::model::time::{Mono, Now, Wall};
use crate::net::Bridge;
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::host_facts::HostFacts;
use crate::runtime::launch::{CgroupPlan, Limits};
use crate::runtime::pod_paths::PodPaths;
use crate::runtime::resources::{self, Policy};
use crate::sys::child::SelfImage;
use crate::sys::clock;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Node {
    pub config: Config,
    pub paths: Paths,
    pub name: NodeName,
    pub boot: BootId,
    pub host: HostFacts,
    pub policy: Policy,
    /// The running binary, for every child in another role.
    pub me: SelfImage,
    pub hierarchies: Hierarchies,
    pub store: Store,
    /// `None` with `--network none`.
    pub bridge: Option<Bridge>,
}

impl Node {
    pub fn pod_paths(&self, uid: &PodUid) -> PodPaths {
        PodPaths { root: self.paths.root_pod(uid), sandbox: self.paths.run_pod(uid) }
    }

    /// Where the pod's cgroup is, below the cgroup root (kubelet's cgroupfs layout).
    pub fn pod_cgroup(&self, pod: &StaticPod) -> PathBuf {
        let kubepods = PathBuf::from("kubepods");
        let parent = match pod.qos {
            QosClass::Guaranteed => kubepods,
            QosClass::Burstable => kubepods.join("burstable"),
            QosClass::BestEffort => kubepods.join("besteffort"),
        };
        parent.join(format!("pod{}", pod.uid))
    }

    /// The cgroup of one container, or with an empty `leaf` of the pod alone.
    pub fn cgroup_plan(&self, pod: &StaticPod, leaf: Option<&ContainerId>, limits: Limits) -> CgroupPlan {
        CgroupPlan {
            root: self.config.cgroup_root.clone(),
            pod: self.pod_cgroup(pod),
            leaf: leaf.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            limits,
            pod_limits: resources::pod_limits(pod, &self.policy),
        }
    }
}

/// Both clocks, now. The loop calls it once per turn; jobs stamp what they saw with it.
pub fn now() -> Now {
    Now { mono: Mono(clock::boottime_ns()), wall: Wall(clock::realtime_ns()) }
}
