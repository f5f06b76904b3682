//! The agent's command line, in the kubelet's spelling: `--flag=V` and `--flag V`, switches as `--flag` or
//! `--flag=false`, `_` for `-`, a repeated flag wins over the earlier one.

use super::ConfigError;
use super::kubelet::{
    IGNORED_SWITCH_FLAGS, IGNORED_VALUE_FLAGS, LATER_SWITCH_FLAGS, LATER_UNLESS_ZERO, LATER_VALUE_FLAGS,
};
use super::node::NodeSettings;
use super::node::value as node_value;
use super::settings::Settings;
use super::value::{self, Cidr, FieldValidation};
use crate::model::id::NodeName;
use crate::model::node::{NodeTaint, Reserved};
use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// The command line as typed.
#[derive(Debug)]
pub struct Typed {
    pub settings: Settings,
    /// `--config`.
    pub file: Option<PathBuf>,
    pub warnings: Vec<String>,
}

/// Reads the arguments that follow `pinlet` or `pinlet run`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Typed, ConfigError> {
    let args = args.into_iter().map(dashed);
    let matches = command().try_get_matches_from(args).map_err(usage)?;
    if matches.get_flag("version") {
        return Err(ConfigError::Shown(format!("pinlet {}\n", env!("CARGO_PKG_VERSION"))));
    }
    refuse_later(&matches)?;
    Ok(Typed { settings: settings(&matches), file: one(&matches, "config"), warnings: warnings(&matches) })
}

/// `--pod_manifest_path=a_b` as `--pod-manifest-path=a_b`: the kubelet takes both.
fn dashed(arg: OsString) -> OsString {
    if !arg.as_bytes().starts_with(b"--") {
        return arg;
    }
    let mut bytes = arg.into_vec();
    let name = bytes.iter().position(|b| *b == b'=').unwrap_or(bytes.len());
    bytes[..name].iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
    OsString::from_vec(bytes)
}

fn usage(error: clap::Error) -> ConfigError {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp => ConfigError::Shown(text),
        _ => ConfigError::Usage(text.trim_end().to_owned()),
    }
}

fn refuse_later(matches: &ArgMatches) -> Result<(), ConfigError> {
    for name in LATER_VALUE_FLAGS.iter().chain(LATER_SWITCH_FLAGS) {
        let Some(text) = matches.get_one::<String>(name) else { continue };
        if !(LATER_UNLESS_ZERO.contains(name) && text == "0") {
            return Err(ConfigError::NotBuilt(format!("--{name}")));
        }
    }
    match matches.get_one::<String>("network").map(String::as_str) {
        Some("cni") => Err(ConfigError::NotBuilt("--network cni".to_owned())),
        _ => Ok(()),
    }
}

fn warnings(matches: &ArgMatches) -> Vec<String> {
    let given = |name: &&&str| matches.contains_id(name);
    let names = IGNORED_VALUE_FLAGS.iter().chain(IGNORED_SWITCH_FLAGS).filter(given);
    names.map(|name| format!("flag --{name}: the kubelet knows it, but it means nothing here")).collect()
}

fn one<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.get_one::<T>(name).cloned()
}

fn settings(matches: &ArgMatches) -> Settings {
    Settings {
        manifest_path: one::<Option<PathBuf>>(matches, "pod-manifest-path").flatten(),
        kubeconfig: one::<Option<PathBuf>>(matches, "kubeconfig"),
        hostname_override: one::<Option<NodeName>>(matches, "hostname-override").flatten(),
        node_ip: one::<Option<IpAddr>>(matches, "node-ip").flatten(),
        root_dir: one(matches, "root-dir"),
        run_dir: one(matches, "run-dir"),
        pod_logs_dir: one(matches, "pod-logs-dir"),
        container_logs_dir: one(matches, "container-logs-dir"),
        preload_images_dir: one(matches, "preload-images-dir"),
        cgroup_root: one(matches, "cgroup-root"),
        // refuse_later has sent `cni` back, the parser everything else that is no network.
        network: one::<String>(matches, "network").and_then(|text| value::network(&text).ok()),
        cni_conf_dir: one(matches, "cni-conf-dir"),
        cni_bin_dirs: one(matches, "cni-bin-dir"),
        pod_cidr: one::<Cidr>(matches, "pod-cidr"),
        bridge_name: one(matches, "bridge-name"),
        field_validation: one::<FieldValidation>(matches, "field-validation"),
        cluster_dns: matches.get_many::<Vec<IpAddr>>("cluster-dns").map(|lists| lists.flatten().copied().collect()),
        cluster_domain: one(matches, "cluster-domain"),
        resolv_conf: one::<Option<PathBuf>>(matches, "resolv-conf"),
        max_pods: one(matches, "max-pods"),
        verbosity: one(matches, "v"),
        stop_pods_on_exit: one(matches, "stop-pods-on-exit"),
        file_check_frequency: one(matches, "file-check-frequency"),
        max_restart_period: None,
        container_log_max_bytes: one(matches, "container-log-max-size"),
        container_log_max_files: one(matches, "container-log-max-files"),
        pod_pids_limit: one::<Option<u64>>(matches, "pod-max-pids"),
        cpu_cfs_quota: one(matches, "cpu-cfs-quota"),
        cpu_cfs_quota_period: one::<Duration>(matches, "cpu-cfs-quota-period"),
        node: node_settings(matches),
    }
}

fn node_settings(matches: &ArgMatches) -> NodeSettings {
    let labels = matches.get_many::<BTreeMap<String, String>>("node-labels");
    NodeSettings {
        register: one(matches, "register-node"),
        labels: labels.map(|maps| maps.flatten().map(|(key, value)| (key.clone(), value.clone())).collect()),
        taints: one::<Vec<NodeTaint>>(matches, "register-with-taints"),
        provider_id: one(matches, "provider-id"),
        max_images: one::<Option<usize>>(matches, "node-status-max-images"),
        lease_duration: None,
        update_every: one::<Option<Duration>>(matches, "node-status-update-frequency").flatten(),
        report_every: None,
        system_reserved: one::<Reserved>(matches, "system-reserved"),
        kube_reserved: one::<Reserved>(matches, "kube-reserved"),
        hard_eviction: None,
    }
}

/// clap's name for each flag is the flag.
fn flag(name: &'static str, value: &'static str, parser: impl Into<ValueParser>, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(parser).allow_hyphen_values(true).help(help)
}

/// pflag's switch: a value only behind `=`.
fn switch(name: &'static str, help: &'static str) -> Arg {
    flag(name, "true|false", value::boolean, help).num_args(0..=1).require_equals(true).default_missing_value("true")
}

fn hidden_value(name: &'static str) -> Arg {
    Arg::new(name).long(name).num_args(1).allow_hyphen_values(true).hide(true)
}

fn hidden_switch(name: &'static str) -> Arg {
    Arg::new(name).long(name).num_args(0..=1).require_equals(true).default_missing_value("true").hide(true)
}

/// An empty text is the same as no flag, as for the kubelet.
fn unless_empty<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn network_or_cni(text: &str) -> Result<String, String> {
    match text {
        "cni" => Ok(text.to_owned()),
        _ => value::network(text).map(|_| text.to_owned()).map_err(|_| "must be auto, cni, bridge or none".to_owned()),
    }
}

fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}

fn command() -> Command {
    let mut command = Command::new("pinlet run")
        .no_binary_name(true)
        .args_override_self(true)
        .about("Runs the static pods of a directory")
        .after_help("Flags of the kubelet that mean nothing here are accepted with a warning.")
        .args(path_flags())
        .args(network_flags())
        .args(pod_flags())
        .args(node_flags());
    for name in IGNORED_VALUE_FLAGS.iter().chain(LATER_VALUE_FLAGS) {
        command = command.arg(hidden_value(name));
    }
    for name in IGNORED_SWITCH_FLAGS.iter().chain(LATER_SWITCH_FLAGS) {
        command = command.arg(hidden_switch(name));
    }
    command
}

fn path_flags() -> Vec<Arg> {
    let maybe_path = |text: &str| unless_empty(text, value::path);
    vec![
        flag("pod-manifest-path", "DIR", maybe_path, "Directory of the manifests, or one manifest")
            .default_value_text("/etc/kubernetes/manifests"),
        flag("config", "FILE", value::path, "KubeletConfiguration (kubelet.config.k8s.io/v1beta1); flags win"),
        flag("kubeconfig", "FILE", maybe_path, "API server that is shown mirror pods; none: standalone"),
        flag("root-dir", "DIR", value::path, "Images, volumes and durable state").default_value_text("/var/lib/pinlet"),
        flag("run-dir", "DIR", value::path, "Socket and records of this boot").default_value_text("/run/pinlet"),
        flag("pod-logs-dir", "DIR", value::path, "Container logs").default_value_text("/var/log/pods"),
        flag("container-logs-dir", "DIR", value::path, "Symlinks to the logs")
            .default_value_text("/var/log/containers"),
        flag("preload-images-dir", "DIR", value::path, "Image archives and layouts to import")
            .default_value_text("<root-dir>/preload"),
        flag("cgroup-root", "PATH", value::cgroup_path, "cgroup under which the pods live").default_value_text("/"),
        Arg::new("version").long("version").action(ArgAction::SetTrue).help("Print the version and exit"),
    ]
}

fn network_flags() -> Vec<Arg> {
    let maybe_name = |text: &str| unless_empty(text, value::node_name);
    let maybe_path = |text: &str| unless_empty(text, value::path);
    vec![
        flag("hostname-override", "NAME", maybe_name, "Node name instead of the host's name"),
        flag("node-ip", "IP", value::node_ip, "The node's address instead of the default route's"),
        flag("network", "MODE", network_or_cni, "auto, cni, bridge or none").default_value_text("auto"),
        flag("cni-conf-dir", "DIR", value::path, "CNI configurations").default_value_text("/etc/cni/net.d"),
        flag("cni-bin-dir", "DIRS", value::path_list, "CNI plugins, colon-separated directories"),
        flag("pod-cidr", "CIDR", value::cidr, "Addresses of the built-in bridge").default_value_text("10.85.0.0/16"),
        flag("bridge-name", "NAME", value::interface, "Name of the built-in bridge").default_value_text("pinlet0"),
        flag("cluster-dns", "IPS", value::ip_list, "Name servers of pods with dnsPolicy ClusterFirst")
            .action(ArgAction::Append),
        flag("cluster-domain", "DOMAIN", value::domain, "Search domain beside the host's"),
        flag("resolv-conf", "FILE", maybe_path, "Base of the pods' resolv.conf").default_value_text("/etc/resolv.conf"),
    ]
}

fn pod_flags() -> Vec<Arg> {
    let max_pods = |text: &str| integer(text).and_then(value::max_pods);
    let files = |text: &str| integer(text).and_then(value::log_files);
    let pids = |text: &str| integer(text).and_then(value::pids_limit);
    let frequency = |text: &str| value::duration(text).and_then(value::check_frequency);
    let period = |text: &str| value::duration(text).and_then(value::cfs_period);
    vec![
        flag("field-validation", "MODE", value::field_validation, "strict or warn").default_value_text("strict"),
        flag("file-check-frequency", "DURATION", frequency, "Time between rescans").default_value_text("20s"),
        flag("max-pods", "N", max_pods, "Most pods on this node").default_value_text("110"),
        flag("pod-max-pids", "N", pids, "Most processes in a pod, -1 for no limit").default_value_text("-1"),
        switch("cpu-cfs-quota", "Enforce cpu limits (default true)"),
        flag("cpu-cfs-quota-period", "DURATION", period, "Period of the quota").default_value_text("100ms"),
        flag("container-log-max-size", "SIZE", value::log_size, "Size at which a log rotates")
            .default_value_text("10Mi"),
        flag("container-log-max-files", "N", files, "Most log files of a container").default_value_text("5"),
        switch("stop-pods-on-exit", "SIGTERM stops the pods first, as stop-pods does"),
        flag("v", "N", clap::value_parser!(u32), "Verbosity of the log").short('v').default_value_text("0"),
    ]
}

/// What the Node object shows, where there is an API server.
fn node_flags() -> Vec<Arg> {
    let images = |text: &str| integer(text).and_then(node_value::max_images);
    let reserved = |text: &str| node_value::reserved(&node_value::pairs(text));
    vec![
        switch("register-node", "Create the Node object where it is missing (default true)"),
        flag("node-labels", "K=V,...", node_value::labels, "Labels of the Node").action(ArgAction::Append),
        flag("register-with-taints", "K=V:EFFECT,...", node_value::taints, "Taints that the Node is created with"),
        flag("provider-id", "ID", clap::value_parser!(String), "The cloud's or rack's name for this machine"),
        flag("node-status-max-images", "N", images, "Most images that the Node shows, -1 for all")
            .default_value_text("50"),
        flag(
            "node-status-update-frequency",
            "DURATION",
            node_value::frequency,
            "Time over which changes are collected",
        )
        .default_value_text("10s"),
        flag("system-reserved", "K=V,...", reserved, "What is not for pods, such as cpu=200m,memory=150M"),
        flag("kube-reserved", "K=V,...", reserved, "The same, for the agent"),
    ]
}

/// Defaults are text in the help only: a flag that was not given must stay silent, so that the file can speak.
trait DefaultText {
    fn default_value_text(self, text: &'static str) -> Self;
}

impl DefaultText for Arg {
    fn default_value_text(self, text: &'static str) -> Arg {
        let help = self.get_help().map(ToString::to_string).unwrap_or_default();
        self.help(format!("{help} [default: {text}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Network;
    use super::*;

    fn typed(args: &[&str]) -> Result<Typed, ConfigError> {
        parse(args.iter().map(OsString::from))
    }

    fn set(args: &[&str]) -> Settings {
        typed(args).unwrap_or_else(|error| panic!("{args:?}: {error}")).settings
    }

    #[test]
    fn a_value_may_stand_behind_an_equals_sign_or_in_the_next_argument() {
        let expected = Some(PathBuf::from("/etc/kubernetes/manifest"));
        for args in [
            &["--pod-manifest-path=/etc/kubernetes/manifest/", "--v=2"][..],
            &["--pod-manifest-path", "/etc/kubernetes/manifest/", "--v", "2"],
            &["--pod_manifest_path=/etc/kubernetes/manifest/", "-v=2"],
            &["-v", "2", "--pod-manifest-path=/tmp", "--pod-manifest-path=/etc/kubernetes/manifest/"],
        ] {
            assert_eq!(set(args).manifest_path, expected, "{args:?}");
            assert_eq!(set(args).verbosity, Some(2), "{args:?}");
        }
        assert_eq!(set(&["--pod-max-pids", "-1"]).pod_pids_limit, Some(None));
        assert_eq!(set(&["--pod-manifest-path="]).manifest_path, None);
    }

    #[test]
    fn a_switch_takes_a_value_only_behind_an_equals_sign() {
        assert_eq!(set(&["--stop-pods-on-exit"]).stop_pods_on_exit, Some(true));
        assert_eq!(set(&["--stop-pods-on-exit=false"]).stop_pods_on_exit, Some(false));
        assert!(
            matches!(typed(&["--stop-pods-on-exit", "false"]), Err(ConfigError::Usage(text)) if text.contains("false"))
        );
    }

    #[test]
    fn lists_add_up_and_are_split_at_commas() {
        let servers = set(&["--cluster-dns=10.0.0.1,10.0.0.2", "--cluster-dns", "fd00::1"]).cluster_dns;
        assert_eq!(servers.map(|list| list.len()), Some(3));
        let dirs = set(&["--cni-bin-dir=/a:/b/"]).cni_bin_dirs;
        assert_eq!(dirs, Some(vec![PathBuf::from("/a"), PathBuf::from("/b")]));
    }

    #[test]
    fn what_nobody_knows_or_cannot_be_is_refused_by_name() {
        for (args, name) in [
            (&["--pod-manifest-pat=/x"][..], "--pod-manifest-pat"),
            (&["--max-pods=many"], "--max-pods"),
            (&["--max-pods=-1"], "--max-pods"),
            (&["--max-pods"], "--max-pods"),
            (&["--network=ovs"], "--network"),
            (&["--pod-cidr=fd00::/64"], "--pod-cidr"),
            (&["--field-validation=ignore"], "--field-validation"),
            (&["--v=x"], "--v"),
            (&["--file-check-frequency=20"], "--file-check-frequency"),
            (&["--hostname-override=a_b"], "--hostname-override"),
            (&["stray"], "stray"),
        ] {
            let error = typed(args).expect_err("must be refused");
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(matches!(&error, ConfigError::Usage(text) if text.contains(name)), "{args:?}: {error}");
        }
    }

    #[test]
    fn flags_of_a_later_stage_are_refused_in_the_words_of_the_contract() {
        for name in LATER_VALUE_FLAGS {
            let error = typed(&[&format!("--{name}=x")]).expect_err(name);
            assert_eq!((error.to_string(), error.exit_code()), (format!("not built yet: --{name}"), 2));
        }
        assert_eq!(
            typed(&["--strict-image-pull"]).map_err(|e| e.to_string()).err(),
            Some("not built yet: --strict-image-pull".to_owned())
        );
        assert_eq!(
            typed(&["--network", "cni"]).map_err(|e| e.to_string()).err(),
            Some("not built yet: --network cni".to_owned())
        );
        assert!(typed(&["--port", "0", "--read-only-port=0"]).is_ok_and(|t| t.warnings.is_empty()));
        assert_eq!(set(&["--network=none"]).network, Some(Network::None));
    }

    #[test]
    fn what_only_the_kubelet_needs_is_one_warning() {
        let typed = typed(&[
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
            "--fail-swap-on=false",
            "--cgroup-driver",
            "systemd",
            "--logtostderr",
        ])
        .expect("known to the kubelet");
        assert_eq!(typed.warnings.len(), 4, "{:?}", typed.warnings);
        assert!(typed.warnings[0].contains("--cgroup-driver"));
    }

    #[test]
    fn the_node_is_described_as_for_a_kubelet_and_wrong_words_are_refused_in_its_words() {
        let node = set(&[
            "--register-node=false",
            "--node-labels=site=edge-7,rack=3",
            "--node-labels=rack=4",
            "--register-with-taints=dropped=:NoExecute",
            "--register-with-taints=site=edge:NoSchedule",
            "--provider-id=metal://7",
            "--node-status-max-images=-1",
            "--node-status-update-frequency=30s",
            "--system-reserved=cpu=200m,memory=150M",
            "--kube-reserved=ephemeral-storage=1Gi",
        ])
        .node;
        let labels: Vec<String> = node.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!((labels, node.register), (vec!["rack=4".to_owned(), "site=edge-7".to_owned()], Some(false)));
        assert_eq!(node.taints.map(|taints| taints.len()), Some(1));
        assert_eq!((node.provider_id.as_deref(), node.max_images), (Some("metal://7"), Some(None)));
        assert_eq!(node.update_every, Some(Duration::from_secs(30)));
        assert_eq!(node.system_reserved.map(|reserved| reserved.cpu_millis), Some(200));
        assert_eq!(node.kube_reserved.map(|reserved| reserved.ephemeral_storage_bytes), Some(1 << 30));
        for (arg, words) in [
            ("--node-labels=node-role.kubernetes.io/x=", "unknown 'kubernetes.io' or 'k8s.io' labels specified with"),
            ("--register-with-taints=a=b", "invalid taint spec: a=b"),
            ("--register-with-taints=a=b:Never", "invalid taint effect: Never, unsupported taint effect"),
            ("--kube-reserved=gpu=1", "cannot reserve \"gpu\" resource"),
            ("--node-status-max-images=-2", "-2 must be -1 or greater"),
        ] {
            let error = typed(&[arg]).expect_err(arg);
            let name = arg.split_once('=').expect("a flag").0;
            assert!(error.to_string().contains(words) && error.to_string().contains(name), "{arg}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn help_and_version_are_shown_not_failures() {
        for args in [&["--help"][..], &["--version"], &["-h"]] {
            assert_eq!(typed(args).expect_err("shown").exit_code(), 0);
        }
        command().debug_assert();
    }
}
