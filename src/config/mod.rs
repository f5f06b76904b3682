//! Flags and a KubeletConfiguration file become one validated [`Config`]; flags win.
//!
//! Each source is first read as typed ([`settings::Settings`], every field optional), then both are merged over the
//! defaults. After that nobody asks where a value came from. A wrong flag, key, value or type is an error that names
//! it; what the kubelet knows and we do not need is one warning.

pub mod file;
pub mod flags;
mod kubelet;
pub mod node;
mod seed;
pub mod settings;
pub mod value;

use crate::model::id::NodeName;
use node::NodeConfig;
use settings::Settings;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use value::{Cidr, FieldValidation, Network};

/// The directory that a kubeadm-style kubelet uses.
const MANIFEST_PATH: &str = "/etc/kubernetes/manifests";
const CNI_BIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// The kubelet's `maxPods`.
const MAX_PODS: u32 = 110;
/// The kubelet's `containerLogMaxSize`, in bytes, and `containerLogMaxFiles`.
const LOG_MAX_BYTES: u64 = 10 * 1024 * 1024;
const LOG_MAX_FILES: u32 = 5;
/// The kubelet's `fileCheckFrequency`, `crashLoopBackOff.maxContainerRestartPeriod` and `cpuCFSQuotaPeriod`.
const FILE_CHECK_FREQUENCY: Duration = Duration::from_secs(20);
const MAX_RESTART_PERIOD: Duration = Duration::from_secs(300);
const CFS_PERIOD: Duration = Duration::from_millis(100);

/// How the agent is to run. All paths are absolute and lexically clean.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A directory, or a single file.
    pub manifest_path: PathBuf,
    /// `None`: this node stands alone.
    pub kubeconfig: Option<PathBuf>,
    pub hostname_override: Option<NodeName>,
    pub node_ip: Option<IpAddr>,
    pub root_dir: PathBuf,
    pub run_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub container_logs_dir: PathBuf,
    pub preload_images_dir: PathBuf,
    /// Relative to the mount of each hierarchy, without a leading slash; empty for the root.
    pub cgroup_root: PathBuf,
    pub network: Network,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dirs: Vec<PathBuf>,
    pub pod_cidr: Cidr,
    pub bridge_name: String,
    pub field_validation: FieldValidation,
    pub cluster_dns: Vec<IpAddr>,
    /// Empty for none.
    pub cluster_domain: String,
    /// `None`: pods get no resolver configuration of the host.
    pub resolv_conf: Option<PathBuf>,
    pub max_pods: u32,
    /// klog's: 0 is quiet, 2 is what units use, 4 and above is debugging.
    pub verbosity: u32,
    pub stop_pods_on_exit: bool,
    pub file_check_frequency: Duration,
    pub max_restart_period: Duration,
    pub container_log_max_bytes: u64,
    pub container_log_max_files: u32,
    /// `None`: no limit.
    pub pod_pids_limit: Option<u64>,
    pub cpu_cfs_quota: bool,
    pub cpu_cfs_quota_period: Duration,
    /// The Node object and its lease.
    pub node: NodeConfig,
    /// To be logged once, at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// `args` are the arguments after `pinlet` or `pinlet run`. Reads the file that `--config` names.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Config, ConfigError> {
        let typed = flags::parse(args)?;
        let mut warnings = typed.warnings;
        let settings = match typed.file {
            None => typed.settings,
            Some(path) => {
                let loaded = file::load(&path)?;
                warnings.extend(loaded.warnings);
                typed.settings.or(loaded.settings)
            }
        };
        Ok(Config::merged(settings, warnings))
    }

    fn merged(settings: Settings, warnings: Vec<String>) -> Config {
        let path = |text: &str| PathBuf::from(text);
        let root_dir = settings.root_dir.unwrap_or_else(|| path("/var/lib/pinlet"));
        Config {
            manifest_path: settings.manifest_path.unwrap_or_else(|| path(MANIFEST_PATH)),
            kubeconfig: settings.kubeconfig.unwrap_or_default(),
            hostname_override: settings.hostname_override,
            node_ip: settings.node_ip,
            run_dir: settings.run_dir.unwrap_or_else(|| path("/run/pinlet")),
            pod_logs_dir: settings.pod_logs_dir.unwrap_or_else(|| path("/var/log/pods")),
            container_logs_dir: settings.container_logs_dir.unwrap_or_else(|| path("/var/log/containers")),
            preload_images_dir: settings.preload_images_dir.unwrap_or_else(|| root_dir.join("preload")),
            root_dir,
            cgroup_root: settings.cgroup_root.unwrap_or_default(),
            network: settings.network.unwrap_or(Network::Auto),
            cni_conf_dir: settings.cni_conf_dir.unwrap_or_else(|| path("/etc/cni/net.d")),
            cni_bin_dirs: settings.cni_bin_dirs.unwrap_or_else(|| CNI_BIN_DIRS.iter().map(PathBuf::from).collect()),
            pod_cidr: settings.pod_cidr.unwrap_or(Cidr { address: [10, 85, 0, 0].into(), prefix: 16 }),
            bridge_name: settings.bridge_name.unwrap_or_else(|| "pinlet0".to_owned()),
            field_validation: settings.field_validation.unwrap_or(FieldValidation::Strict),
            cluster_dns: settings.cluster_dns.unwrap_or_default(),
            cluster_domain: settings.cluster_domain.unwrap_or_default(),
            resolv_conf: settings.resolv_conf.unwrap_or_else(|| Some(path("/etc/resolv.conf"))),
            max_pods: settings.max_pods.unwrap_or(MAX_PODS),
            verbosity: settings.verbosity.unwrap_or(0),
            stop_pods_on_exit: settings.stop_pods_on_exit.unwrap_or(false),
            file_check_frequency: settings.file_check_frequency.unwrap_or(FILE_CHECK_FREQUENCY),
            max_restart_period: settings.max_restart_period.unwrap_or(MAX_RESTART_PERIOD),
            container_log_max_bytes: settings.container_log_max_bytes.unwrap_or(LOG_MAX_BYTES),
            container_log_max_files: settings.container_log_max_files.unwrap_or(LOG_MAX_FILES),
            pod_pids_limit: settings.pod_pids_limit.unwrap_or(None),
            cpu_cfs_quota: settings.cpu_cfs_quota.unwrap_or(true),
            cpu_cfs_quota_period: settings.cpu_cfs_quota_period.unwrap_or(CFS_PERIOD),
            node: settings.node.merged(),
            warnings,
        }
    }
}

/// Why there is no [`Config`]. Everything but [`ConfigError::Shown`] is wrong usage: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--help` or `--version`: not an error, the text that was asked for.
    #[error("{0}")]
    Shown(String),
    /// An unknown flag, a missing or wrong value: the text names the flag.
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// A flag of a later stage, as typed.
    #[error("not built yet: {0}")]
    NotBuilt(String),
}

impl ConfigError {
    /// 0 where the text belongs on stdout, 2 where it belongs on stderr.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Shown(_) => 0,
            ConfigError::Usage(_) | ConfigError::Read { .. } | ConfigError::NotBuilt(_) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        Config::from_args(args.iter().map(OsString::from))
    }

    #[test]
    fn without_flags_everything_has_the_default_of_the_contract() {
        let config = config(&[]).expect("no flags are fine");
        assert_eq!(config.manifest_path, PathBuf::from("/etc/kubernetes/manifests"));
        assert_eq!(config.root_dir, PathBuf::from("/var/lib/pinlet"));
        assert_eq!(config.run_dir, PathBuf::from("/run/pinlet"));
        assert_eq!(config.preload_images_dir, PathBuf::from("/var/lib/pinlet/preload"));
        assert_eq!(config.cgroup_root, PathBuf::new());
        assert_eq!(config.pod_cidr.to_string(), "10.85.0.0/16");
        assert_eq!((config.network, config.field_validation), (Network::Auto, FieldValidation::Strict));
        assert_eq!((config.max_pods, config.container_log_max_files), (110, 5));
        assert_eq!(config.resolv_conf, Some(PathBuf::from("/etc/resolv.conf")));
        assert!(config.warnings.is_empty() && !config.stop_pods_on_exit && config.cpu_cfs_quota);
    }

    #[test]
    fn flags_win_over_the_file() {
        let path = std::env::temp_dir().join(format!("pinlet-config-{}.yaml", std::process::id()));
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 7\nclusterDomain: a.b\nhairpinMode: none\n";
        std::fs::write(&path, text).expect("written");
        let outcome = config(&["--config", &path.to_string_lossy(), "--max-pods=9", "--cgroups-per-qos"]);
        let _ = std::fs::remove_file(&path);
        let config = outcome.expect("valid");
        assert_eq!((config.max_pods, config.cluster_domain.as_str(), config.warnings.len()), (9, "a.b", 2));
    }

    #[test]
    fn the_preload_directory_follows_the_root_directory() {
        let config = config(&["--root-dir=/data/pinlet"]).expect("valid");
        assert_eq!(config.preload_images_dir, PathBuf::from("/data/pinlet/preload"));
    }
}
