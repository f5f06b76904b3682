//! Pods for the unit tests of this area, and a directory that goes away with the test.

use crate::model::id::{ContainerName, NodeName, PodKey, PodUid};
use crate::model::pod::{
    Container, DnsPolicy, PullPolicy, QosClass, Resources, RestartPolicy, StaticPod, TerminationMessagePolicy,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub fn container(name: &str) -> Container {
    Container {
        name: ContainerName::new(name).expect("a label"),
        image: "kalise/nodejs-web-app:latest".into(),
        pull_policy: PullPolicy::IfNotPresent,
        command: vec![],
        args: vec![],
        env: vec![],
        working_dir: None,
        resources: Resources::default(),
        mounts: vec![],
        termination_message_path: "/dev/termination-log".into(),
        termination_message_policy: TerminationMessagePolicy::File,
    }
}

/// `nodejs` on node `vm`, best effort, on the pod network.
pub fn pod() -> StaticPod {
    let uid = "f17e73af6702d1ac48bc6d4bcb5fd1d6";
    StaticPod {
        uid: PodUid::new(uid).expect("a uid"),
        key: PodKey { namespace: "default".into(), name: "nodejs-vm".into() },
        manifest_name: "nodejs".into(),
        node_name: NodeName::new("vm").expect("a name"),
        source: "/etc/kubernetes/manifests/nodejs.yaml".into(),
        hash: uid.into(),
        restart_policy: RestartPolicy::Always,
        grace: Duration::from_secs(30),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        hostname: "nodejs-vm".into(),
        host_aliases: vec![],
        dns_policy: DnsPolicy::ClusterFirst,
        qos: QosClass::BestEffort,
        containers: vec![container("nodejs")],
        volumes: vec![],
        object: k8s_openapi::api::core::v1::Pod::default(),
    }
}

/// A fresh directory under the system's temporary one, removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pinlet-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
