//! `--config`: a KubeletConfiguration, `kubelet.config.k8s.io/v1beta1`.
//!
//! Keys that we honour are checked like flags; of those that the kubelet knows and we do not need or have not built
//! yet, only the presence is looked at. Everything else is an error with its place, as in a manifest.

use super::ConfigError;
use super::kubelet::{IGNORED_KEYS, LATER_KEYS, LATER_UNLESS_ZERO_KEYS};
use super::node::file as node_keys;
use super::seed::{Checked, Number, Text};
use super::settings::Settings;
use super::value;
use crate::yaml;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// Far above any configuration, in bytes: what is larger is the wrong file.
const FILE_MAX: u64 = 1024 * 1024;
const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Keys that do something here.
const HONOURED_KEYS: &[&str] = &[
    "apiVersion",
    "kind",
    "cgroupRoot",
    "clusterDNS",
    "clusterDomain",
    "containerLogMaxFiles",
    "containerLogMaxSize",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "crashLoopBackOff",
    "fileCheckFrequency",
    "maxPods",
    "podCIDR",
    "podLogsDir",
    "podPidsLimit",
    "resolvConf",
    "staticPodPath",
    "staticPodURL",
];

static ALL_KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| [HONOURED_KEYS, node_keys::KEYS, LATER_KEYS, LATER_UNLESS_ZERO_KEYS, IGNORED_KEYS].concat());

/// What the file says, and what it says in vain.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<String>,
}

/// Reads and decodes the file.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    decode(path, &text)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_MAX} bytes")));
    }
    Ok(text)
}

fn decode(path: &Path, text: &str) -> Result<Loaded, ConfigError> {
    let file = path.display();
    let decoded = yaml::decode::<Configuration>(text, yaml::Options { strict: true });
    let (mut found, _) = decoded
        .map_err(|problems| ConfigError::Usage(yaml::render(&file.to_string(), &problems, 0).trim_end().to_owned()))?;
    if found.static_pod_url {
        return Err(ConfigError::NotBuilt("staticPodURL".to_owned()));
    }
    // The kubelet takes paths as relative to the file.
    let dir = path.parent().unwrap_or(Path::new("/"));
    for relative in [&mut found.settings.manifest_path, &mut found.settings.pod_logs_dir] {
        *relative = relative.take().map(|path| value::clean(&dir.join(path)));
    }
    found.settings.resolv_conf =
        found.settings.resolv_conf.map(|inner| inner.map(|path| value::clean(&dir.join(path))));
    let later = found.later.iter().map(|key| format!("{file}: not built yet: {key}"));
    let ignored =
        found.ignored.iter().map(|key| format!("{file}: {key}: the kubelet knows it, but it means nothing here"));
    Ok(Loaded { settings: found.settings, warnings: later.chain(ignored).collect() })
}

#[derive(Debug, Default)]
struct Configuration {
    settings: Settings,
    static_pod_url: bool,
    later: Vec<String>,
    ignored: Vec<String>,
}

impl<'de> Deserialize<'de> for Configuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Configuration, D::Error> {
        deserializer.deserialize_struct(KIND, &ALL_KEYS, Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Configuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {KIND}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Configuration, M::Error> {
        let mut found = Configuration::default();
        let (mut kind, mut api_version) = (false, false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => kind = map.next_value_seed(Text(|text: &str| exactly(text, KIND)))?.is_some(),
                "apiVersion" => {
                    api_version = map.next_value_seed(Text(|text: &str| exactly(text, API_VERSION)))?.is_some()
                }
                "staticPodURL" => {
                    found.static_pod_url = map.next_value::<Option<String>>()?.is_some_and(|url| !url.is_empty())
                }
                "evictionHard" => {
                    let thresholds = map.next_value::<Option<node_keys::Thresholds>>()?;
                    found.settings.node.hard_eviction = thresholds.map(|thresholds| thresholds.0);
                    // It lowers what the Node says pods may have; nothing is evicted yet.
                    found.later.extend(found.settings.node.hard_eviction.map(|_| key));
                }
                name if node_keys::KEYS.contains(&name) => node_keys::honour(name, &mut map, &mut found.settings.node)?,
                name if HONOURED_KEYS.contains(&name) => honour(name, &mut map, &mut found.settings)?,
                name if LATER_UNLESS_ZERO_KEYS.contains(&name) => {
                    if map.next_value::<Option<i64>>()?.is_some_and(|number| number != 0) {
                        found.later.push(key);
                    }
                }
                name => {
                    let later = LATER_KEYS.contains(&name);
                    let given = map.next_value::<Option<IgnoredAny>>()?.is_some();
                    // Unknown keys come along too; they are already noted as such.
                    if given && later {
                        found.later.push(key);
                    } else if given && IGNORED_KEYS.contains(&name) {
                        found.ignored.push(key);
                    }
                }
            }
        }
        match (kind, api_version) {
            (true, true) => Ok(found),
            (false, _) => Err(M::Error::missing_field("kind")),
            (_, false) => Err(M::Error::missing_field("apiVersion")),
        }
    }
}

/// One key of [`HONOURED_KEYS`]. Zero and the empty text are the same as no key, where they are so for the kubelet.
fn honour<'de, M: MapAccess<'de>>(key: &str, map: &mut M, settings: &mut Settings) -> Result<(), M::Error> {
    match key {
        "staticPodPath" => settings.manifest_path = map.next_value_seed(Text(unless_empty_path))?.flatten(),
        "podLogsDir" => settings.pod_logs_dir = map.next_value_seed(Text(unless_empty_path))?.flatten(),
        "resolvConf" => settings.resolv_conf = map.next_value_seed(Text(unless_empty_path))?,
        "cgroupRoot" => settings.cgroup_root = map.next_value_seed(Text(value::cgroup_path))?,
        "clusterDomain" => settings.cluster_domain = map.next_value_seed(Text(value::domain))?,
        "clusterDNS" => {
            let addresses = map.next_value::<Option<Vec<Address>>>()?;
            settings.cluster_dns = addresses.map(|list| list.into_iter().map(|address| address.0).collect());
        }
        "containerLogMaxSize" => {
            let size = |text: &str| if text.is_empty() { Ok(None) } else { value::log_size(text).map(Some) };
            settings.container_log_max_bytes = map.next_value_seed(Text(size))?.flatten();
        }
        "containerLogMaxFiles" => settings.container_log_max_files = map.next_value_seed(Number(value::log_files))?,
        "cpuCFSQuota" => settings.cpu_cfs_quota = map.next_value()?,
        "cpuCFSQuotaPeriod" => {
            let period = |text: &str| value::duration(text).and_then(value::cfs_period);
            settings.cpu_cfs_quota_period = map.next_value_seed(Text(period))?;
        }
        "crashLoopBackOff" => {
            let back_off = map.next_value::<Option<CrashLoopBackOff>>()?.unwrap_or_default();
            settings.max_restart_period = back_off.max_container_restart_period.map(|period| period.0);
        }
        "fileCheckFrequency" => {
            let frequency = |text: &str| match value::duration(text)? {
                Duration::ZERO => Ok(None),
                given => value::check_frequency(given).map(Some),
            };
            settings.file_check_frequency = map.next_value_seed(Text(frequency))?.flatten();
        }
        "maxPods" => {
            let pods = map.next_value_seed(Number(value::max_pods))?;
            settings.max_pods = pods.filter(|pods| *pods != 0);
        }
        "podCIDR" => {
            let cidr = |text: &str| if text.is_empty() { Ok(None) } else { value::cidr(text).map(Some) };
            settings.pod_cidr = map.next_value_seed(Text(cidr))?.flatten();
        }
        _ => settings.pod_pids_limit = map.next_value_seed(Number(value::pids_limit))?,
    }
    Ok(())
}

/// Not yet absolute: only the caller knows the file's directory.
fn unless_empty_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn exactly(text: &str, expected: &str) -> Result<(), String> {
    if text == expected { Ok(()) } else { Err(format!("must be {expected}, not {text:?}")) }
}

struct Address(IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        deserializer.deserialize_str(Checked(value::ip)).map(Address)
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CrashLoopBackOff {
    max_container_restart_period: Option<RestartPeriod>,
}

struct RestartPeriod(Duration);

impl<'de> Deserialize<'de> for RestartPeriod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RestartPeriod, D::Error> {
        let period = |text: &str| value::duration(text).and_then(value::restart_period);
        deserializer.deserialize_str(Checked(period)).map(RestartPeriod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{Dice, damaged};

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    fn decode_body(body: &str) -> Result<Loaded, String> {
        decode(Path::new("/etc/k/config.yaml"), &format!("{HEAD}{body}")).map_err(|error| error.to_string())
    }

    #[test]
    fn honoured_keys_become_settings() {
        let loaded = decode_body(
            "staticPodPath: ../manifests/\npodLogsDir: /logs\nresolvConf: ''\nfileCheckFrequency: 5s\nmaxPods: 7\n\
             podPidsLimit: 100\ncpuCFSQuota: no\ncpuCFSQuotaPeriod: 50ms\nclusterDNS: [10.0.0.1, 'fd00::1']\n\
             clusterDomain: cluster.local\ncontainerLogMaxSize: 1Mi\ncontainerLogMaxFiles: 3\n\
             crashLoopBackOff: {maxContainerRestartPeriod: 10s}\ncgroupRoot: /k\npodCIDR: 10.1.0.0/24\n",
        )
        .expect("valid");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let expected = Settings {
            manifest_path: Some("/etc/manifests".into()),
            pod_logs_dir: Some("/logs".into()),
            resolv_conf: Some(None),
            file_check_frequency: Some(Duration::from_secs(5)),
            max_pods: Some(7),
            pod_pids_limit: Some(Some(100)),
            cpu_cfs_quota: Some(false),
            cpu_cfs_quota_period: Some(Duration::from_millis(50)),
            cluster_dns: Some(vec![[10, 0, 0, 1].into(), "fd00::1".parse().expect("an address")]),
            cluster_domain: Some("cluster.local".to_owned()),
            container_log_max_bytes: Some(1024 * 1024),
            container_log_max_files: Some(3),
            max_restart_period: Some(Duration::from_secs(10)),
            cgroup_root: Some("k".into()),
            pod_cidr: Some(value::cidr("10.1.0.0/24").expect("a network")),
            ..Settings::default()
        };
        assert_eq!(loaded.settings, expected);
    }

    #[test]
    fn keys_of_the_node_become_its_settings() {
        let loaded = decode_body(
            "registerNode: false\nproviderID: metal://7\nnodeStatusMaxImages: -1\nnodeLeaseDurationSeconds: 20\n\
             nodeStatusUpdateFrequency: 15s\nnodeStatusReportFrequency: 1m\nsystemReserved: {cpu: 200m, pid: '100'}\n\
             kubeReserved: {memory: 1Gi}\nevictionHard: {memory.available: 5%}\nregisterWithTaints:\n\
             - {key: site, value: edge, effect: NoSchedule}\n- {key: b, effect: NoExecute}\n",
        )
        .expect("valid");
        assert_eq!(loaded.warnings, ["/etc/k/config.yaml: not built yet: evictionHard"]);
        let node = loaded.settings.node.merged();
        assert_eq!((node.register, node.provider_id.as_str(), node.max_images), (false, "metal://7", None));
        assert_eq!(node.lease_duration, Duration::from_secs(20));
        assert_eq!((node.update_every, node.report_every), (Duration::from_secs(15), Duration::from_secs(60)));
        assert_eq!((node.system_reserved.cpu_millis, node.kube_reserved.memory_bytes), (200, 1 << 30));
        assert_eq!((node.taints.len(), node.taints[1].key.as_str(), node.taints[0].value.as_str()), (2, "b", "edge"));
        let memory = node.hard_eviction.memory_available.map(|threshold| threshold.of(1000));
        assert_eq!((memory, node.hard_eviction.nodefs_available), (Some(50), None));
    }

    #[test]
    fn zero_null_and_empty_are_as_silent_as_for_the_kubelet() {
        let body = "staticPodPath: ''\nfileCheckFrequency: 0s\nmaxPods: 0\ncontainerLogMaxSize: ''\npodCIDR: ''\n\
                    clusterDNS: null\nport: 0\nreadOnlyPort: 0\nevictionHard: null\nstaticPodURL: ''\n";
        let loaded = decode_body(body).expect("valid");
        assert_eq!((loaded.settings, loaded.warnings.len()), (Settings::default(), 0));
    }

    #[test]
    fn what_only_the_kubelet_needs_or_a_later_stage_is_one_warning_each() {
        let loaded = decode_body("port: 10250\ncgroupDriver: systemd\nevictionHard: {memory.available: 100Mi}\n")
            .expect("valid");
        assert_eq!(
            loaded.warnings,
            [
                "/etc/k/config.yaml: not built yet: port",
                "/etc/k/config.yaml: not built yet: evictionHard",
                "/etc/k/config.yaml: cgroupDriver: the kubelet knows it, but it means nothing here",
            ]
        );
        assert_eq!(decode_body("staticPodURL: http://x/").err(), Some("not built yet: staticPodURL".to_owned()));
    }

    #[test]
    fn wrong_keys_and_values_are_named_with_their_place() {
        for (body, expected) in [
            ("maxPod: 3\n", "/etc/k/config.yaml:3:1: maxPod: unknown field\nhint: did you mean maxPods?"),
            ("maxPods: many\n", "/etc/k/config.yaml:3:10: maxPods: "),
            ("maxPods: -1\n", "/etc/k/config.yaml:3:10: maxPods: must not be negative"),
            ("fileCheckFrequency: 20\n", "/etc/k/config.yaml:3:21: fileCheckFrequency: \"20\" is not a duration"),
            ("clusterDNS: [10.0.0.1, x]\n", "/etc/k/config.yaml:3:24: clusterDNS[1]: \"x\" is not an IP address"),
            (
                "crashLoopBackOff:\n  maxContainerRestartPeriod: 10m\n",
                "/etc/k/config.yaml:4:30: crashLoopBackOff.maxContainerRestartPeriod: must be 1s to 300s",
            ),
            ("crashLoopBackOff: {max: 1s}\n", "/etc/k/config.yaml:3:20: crashLoopBackOff.max: unknown field"),
            ("maxPods: 1\nmaxPods: 2\n", "/etc/k/config.yaml:4:1: maxPods: "),
            ("nodeStatusMaxImages: -2\n", "/etc/k/config.yaml:3:22: nodeStatusMaxImages: -2 must be -1 or greater"),
            (
                "nodeLeaseDurationSeconds: -1\n",
                "/etc/k/config.yaml:3:27: nodeLeaseDurationSeconds: must be greater than 0",
            ),
            (
                "systemReserved: {gpu: '1'}\n",
                "/etc/k/config.yaml:3:17: systemReserved: cannot reserve \"gpu\" resource",
            ),
            (
                "registerWithTaints:\n- {key: a, effect: Never}\n",
                "/etc/k/config.yaml:4:3: registerWithTaints[0]: invalid taint: a=:Never, invalid taint effect: Never, ",
            ),
            (
                "registerWithTaints: [{key: a, effect: NoExecute, timeAdded: '2026-01-01T00:00:00Z'}]\n",
                "/etc/k/config.yaml:3:22: registerWithTaints[0]: taint.TimeAdded is not nil",
            ),
            ("evictionHard: {memory.free: 1Mi}\n", "/etc/k/config.yaml:3:15: evictionHard: unknown eviction signal"),
            ("cpuCFSQuota: 7\n", "/etc/k/config.yaml:3:14: cpuCFSQuota: "),
        ] {
            let error = decode_body(body).expect_err(body);
            assert!(error.starts_with(expected), "{body}: {error}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let refused = |text: &str| decode(Path::new("/c"), text).expect_err(text).to_string();
        let kind = refused("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: Pod\n");
        assert!(kind.contains("/c:2:7: kind: must be KubeletConfiguration"), "{kind}");
        let version = refused("apiVersion: kubelet.config.k8s.io/v1\nkind: KubeletConfiguration\n");
        assert!(version.contains("apiVersion: must be kubelet.config.k8s.io/v1beta1"), "{version}");
        assert!(refused("").starts_with("/c") && refused("maxPods: 1\n").contains("kind"));
        assert!(refused("a: [").starts_with("/c:"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = load(Path::new("/nonexistent/config.yaml")).expect_err("missing");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("/nonexistent/config.yaml"));
    }

    /// Every key that does something, in each of the forms that YAML has, and some of those that do nothing.
    const FULL: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# A comment with é in it.
staticPodPath: ../manifests/
podLogsDir: \"/var/log/pods\"
resolvConf: /run/systemd/resolve/resolv.conf
fileCheckFrequency: 1m5s
maxPods: 110
podPidsLimit: 4096
cpuCFSQuota: true
cpuCFSQuotaPeriod: 100ms
clusterDNS:
- 10.96.0.10
- 'fd00::a'
clusterDomain: cluster.local
containerLogMaxSize: 10Mi
containerLogMaxFiles: 5
crashLoopBackOff: &back
  maxContainerRestartPeriod: 10s
cgroupRoot: /k8s
podCIDR: 10.85.0.0/16
cgroupDriver: systemd
evictionHard: {memory.available: \"100Mi\", 'nodefs.available': 10%}
authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s}}
port: 10250
logging: |
  several
  lines
";

    #[test]
    fn a_damaged_file_is_read_or_refused_by_name() {
        let path = std::env::temp_dir().join(format!("pinlet-damaged-config-{}.yaml", std::process::id()));
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            load(&path)
        };
        let warnings = read(FULL.as_bytes()).expect("undamaged").warnings;
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        let (mut accepted, mut refused) = (0, 0);
        let mut judge = |bytes: &[u8]| match read(bytes) {
            Ok(loaded) => {
                accepted += 1;
                let named = |w: &String| w.contains(path.to_str().expect("text")) && w.contains(": ");
                assert!(loaded.warnings.iter().all(named), "{:?}", loaded.warnings);
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                let place = path.display().to_string();
                let rest = text.split_once(&place).map(|(_, rest)| rest);
                // The one key that is refused as such says its name only.
                let named = rest.is_some_and(|rest| rest.len() > ":1:1: ".len()) || text.contains("staticPodURL");
                assert!(named || matches!(error, ConfigError::Read { .. }), "{text:?} for {bytes:?}");
            }
        };
        for cut in 0..FULL.len() {
            judge(&FULL.as_bytes()[..cut]);
        }
        for seed in 0..3000 {
            judge(&damaged(FULL.as_bytes(), &mut Dice::new(seed)));
        }
        std::fs::remove_file(&path).expect("it is there");
        assert!(accepted > 300 && refused > 300, "{accepted} accepted, {refused} refused");
    }
}
