//! The Pod as admitted: defaulted, validated, named, and reduced to what this node acts on.
//!
//! `manifest` makes it, in the decoding child; everything after that trusts it. The v1 object beside it is what
//! users are shown; decisions are taken on the typed fields, never on the object.

use super::id::{ContainerName, NodeName, PodKey, PodUid};
use k8s_openapi::api::core::v1 as core_v1;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A static pod, as it should run on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StaticPod {
    pub uid: PodUid,
    pub key: PodKey,
    /// `metadata.name` as the manifest has it, without the node's suffix.
    pub manifest_name: String,
    pub node_name: NodeName,
    /// The manifest's file: absolute and lexically cleaned, symlinks not resolved.
    pub source: PathBuf,
    /// 32 hex digits over the canonical form. Equal to the uid unless the manifest gives a uid of its own:
    /// then an edit changes the hash alone, and still replaces the pod.
    pub hash: String,
    pub restart_policy: RestartPolicy,
    /// `terminationGracePeriodSeconds`; at least one second.
    pub grace: Duration,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// What the pod's UTS namespace is called: `spec.hostname`, else the full name, cut to 63 characters.
    pub hostname: String,
    pub host_aliases: Vec<HostAlias>,
    pub dns_policy: DnsPolicy,
    pub qos: QosClass,
    /// In manifest order; at least one.
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    /// The v1 object without status: defaults, full name, nodeName, annotations, NoExecute toleration.
    /// `creationTimestamp` and `kubernetes.io/config.seen` are added where it is shown.
    pub object: core_v1::Pod,
}

impl StaticPod {
    pub fn container(&self, name: &ContainerName) -> Option<&Container> {
        self.containers.iter().find(|c| &c.name == name)
    }
}

/// The API's types only leave it out: no number in them is a fraction. With it, `Arc`s that are the same are equal at
/// a glance, and most that the loop compares are.
impl Eq for StaticPod {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsPolicy {
    Default,
    ClusterFirst,
}

/// kubelet: `pkg/apis/core/v1/helper/qos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    pub ip: IpAddr,
    pub hostnames: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: ContainerName,
    /// As the manifest has it; `image::reference` normalises it.
    pub image: String,
    pub pull_policy: PullPolicy,
    /// Empty: the image's entrypoint.
    pub command: Vec<String>,
    /// Empty, with an empty command: the image's cmd.
    pub args: Vec<String>,
    /// Literal values in list order, `$(VAR)` not yet expanded.
    pub env: Vec<EnvVar>,
    pub working_dir: Option<String>,
    pub resources: Resources,
    pub mounts: Vec<VolumeMount>,
    /// Absolute path inside the container.
    pub termination_message_path: String,
    pub termination_message_policy: TerminationMessagePolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminationMessagePolicy {
    File,
    FallbackToLogsOnError,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

/// Defaulted requests and limits. cpu in thousandths of a core (rounded up), memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_request_milli: Option<u64>,
    pub cpu_limit_milli: Option<u64>,
    pub memory_request_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Names an entry of [`StaticPod::volumes`]; admission has checked it.
    pub volume: String,
    pub path: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    HostPath {
        path: PathBuf,
        kind: HostPathType,
    },
    /// On the root dir's file system.
    EmptyDir {
        size_limit_bytes: Option<u64>,
    },
    /// A tmpfs.
    MemoryDir {
        size_limit_bytes: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathType {
    Unchecked,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}
