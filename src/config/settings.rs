//! What one source says: the command line, or the file. Every field may be silent; a value that is there is valid by
//! itself. [`super::Config`] is what the two make together.

use super::node::NodeSettings;
use super::value::{Cidr, FieldValidation, Network};
use crate::model::id::NodeName;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub manifest_path: Option<PathBuf>,
    /// The inner `None` is the empty path: no API server.
    pub kubeconfig: Option<Option<PathBuf>>,
    pub hostname_override: Option<NodeName>,
    pub node_ip: Option<IpAddr>,
    pub root_dir: Option<PathBuf>,
    pub run_dir: Option<PathBuf>,
    pub pod_logs_dir: Option<PathBuf>,
    pub container_logs_dir: Option<PathBuf>,
    pub preload_images_dir: Option<PathBuf>,
    pub cgroup_root: Option<PathBuf>,
    pub network: Option<Network>,
    pub cni_conf_dir: Option<PathBuf>,
    pub cni_bin_dirs: Option<Vec<PathBuf>>,
    pub pod_cidr: Option<Cidr>,
    pub bridge_name: Option<String>,
    pub field_validation: Option<FieldValidation>,
    pub cluster_dns: Option<Vec<IpAddr>>,
    pub cluster_domain: Option<String>,
    /// The inner `None` is the empty path, which for the kubelet means: no resolver configuration at all.
    pub resolv_conf: Option<Option<PathBuf>>,
    pub max_pods: Option<u32>,
    pub verbosity: Option<u32>,
    pub stop_pods_on_exit: Option<bool>,
    pub file_check_frequency: Option<Duration>,
    pub max_restart_period: Option<Duration>,
    pub container_log_max_bytes: Option<u64>,
    pub container_log_max_files: Option<u32>,
    /// The inner `None` is no limit.
    pub pod_pids_limit: Option<Option<u64>>,
    pub cpu_cfs_quota: Option<bool>,
    pub cpu_cfs_quota_period: Option<Duration>,
    pub node: NodeSettings,
}

impl Settings {
    /// Each field of `self`, or where it is silent that of `weaker`.
    pub fn or(self, weaker: Settings) -> Settings {
        Settings {
            manifest_path: self.manifest_path.or(weaker.manifest_path),
            kubeconfig: self.kubeconfig.or(weaker.kubeconfig),
            hostname_override: self.hostname_override.or(weaker.hostname_override),
            node_ip: self.node_ip.or(weaker.node_ip),
            root_dir: self.root_dir.or(weaker.root_dir),
            run_dir: self.run_dir.or(weaker.run_dir),
            pod_logs_dir: self.pod_logs_dir.or(weaker.pod_logs_dir),
            container_logs_dir: self.container_logs_dir.or(weaker.container_logs_dir),
            preload_images_dir: self.preload_images_dir.or(weaker.preload_images_dir),
            cgroup_root: self.cgroup_root.or(weaker.cgroup_root),
            network: self.network.or(weaker.network),
            cni_conf_dir: self.cni_conf_dir.or(weaker.cni_conf_dir),
            cni_bin_dirs: self.cni_bin_dirs.or(weaker.cni_bin_dirs),
            pod_cidr: self.pod_cidr.or(weaker.pod_cidr),
            bridge_name: self.bridge_name.or(weaker.bridge_name),
            field_validation: self.field_validation.or(weaker.field_validation),
            cluster_dns: self.cluster_dns.or(weaker.cluster_dns),
            cluster_domain: self.cluster_domain.or(weaker.cluster_domain),
            resolv_conf: self.resolv_conf.or(weaker.resolv_conf),
            max_pods: self.max_pods.or(weaker.max_pods),
            verbosity: self.verbosity.or(weaker.verbosity),
            stop_pods_on_exit: self.stop_pods_on_exit.or(weaker.stop_pods_on_exit),
            file_check_frequency: self.file_check_frequency.or(weaker.file_check_frequency),
            max_restart_period: self.max_restart_period.or(weaker.max_restart_period),
            container_log_max_bytes: self.container_log_max_bytes.or(weaker.container_log_max_bytes),
            container_log_max_files: self.container_log_max_files.or(weaker.container_log_max_files),
            pod_pids_limit: self.pod_pids_limit.or(weaker.pod_pids_limit),
            cpu_cfs_quota: self.cpu_cfs_quota.or(weaker.cpu_cfs_quota),
            cpu_cfs_quota_period: self.cpu_cfs_quota_period.or(weaker.cpu_cfs_quota_period),
            node: self.node.or(weaker.node),
        }
    }
}
