//! Our specs beside those that containerd gave runc (`tests/data/oci`), field by field.

use super::*;
use crate::model::pod::{EnvVar, HostPathType, QosClass, Resources, Volume, VolumeMount, VolumeSource};
use crate::runtime::host_facts::CapabilityBits;
use crate::runtime::testing;
use oci_spec::runtime::PosixRlimitType;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const ALL_CAPABILITIES: u64 = (1 << 41) - 1;
const POLICY: Policy =
    Policy { cpu_cfs_quota: true, cpu_cfs_quota_period: Duration::from_millis(100), pod_pids_limit: None };
const CONTAINER_DIR: &str = "/run/pinlet/containers/c";

struct Case {
    pod: StaticPod,
    image: ImageConfig,
    host: HostFacts,
    paths: PodPaths,
    cgroups_path: PathBuf,
}

impl Case {
    fn of(pod: StaticPod, image: ImageConfig) -> Case {
        let paths = PodPaths {
            root: format!("/var/lib/pinlet/pods/{}", pod.uid).into(),
            sandbox: format!("/run/pinlet/pods/{}", pod.uid).into(),
        };
        let host = HostFacts {
            cpus: 2,
            memory_bytes: 8 << 30,
            hard_limits: vec![],
            capabilities: CapabilityBits::new(ALL_CAPABILITIES),
            pure_cgroup_v2: false,
            thermal_throttle: vec![],
        };
        Case { pod, image, host, paths, cgroups_path: "/kubepods/c".into() }
    }

    fn build(&self) -> Result<SpecOutput, SpecError> {
        build(&SpecInput {
            pod: &self.pod,
            container: &self.pod.containers[0],
            id: &ContainerId::from_bytes([0xab; 32]),
            image: &self.image,
            host: &self.host,
            node_hostname: "vm",
            paths: &self.paths,
            container_dir: Path::new(CONTAINER_DIR),
            cgroups_path: &self.cgroups_path,
            policy: &POLICY,
        })
    }

    fn json(&self) -> Value {
        let output = self.build().expect("a spec");
        let mut value = serde_json::to_value(output.spec).expect("a spec is JSON");
        sort_capabilities(&mut value);
        value
    }
}

/// They are a set.
fn sort_capabilities(spec: &mut Value) {
    for kind in ["bounding", "effective", "permitted"] {
        if let Some(list) = spec["process"]["capabilities"][kind].as_array_mut() {
            list.sort_by_key(|name| name.as_str().unwrap_or_default().to_owned());
        }
    }
}

/// The recorded spec, with every difference of the module's table applied.
fn expected(name: &str, case: &Case) -> Value {
    let path = format!("{}/tests/data/oci/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a recording");
    let mut spec: Value = serde_json::from_str(&text).expect("JSON");
    sort_capabilities(&mut spec);
    let process = spec["process"].as_object_mut().expect("an object");
    process.remove("oomScoreAdj").expect("in the recording");
    process.insert("rlimits".into(), json!([]));
    let env = process["env"].as_array_mut().expect("a list");
    env.retain(|entry| !entry.as_str().unwrap_or_default().starts_with("KUBERNETES_"));
    spec["mounts"].as_array_mut().expect("a list").retain(|mount| mount["type"] != "cgroup");
    let own = |path: PathBuf| json!(path.to_string_lossy());
    for mount in spec["mounts"].as_array_mut().expect("a list") {
        match mount["destination"].as_str() {
            Some("/etc/hosts") => mount["source"] = own(case.paths.hosts()),
            Some("/etc/hostname") => mount["source"] = own(case.paths.hostname()),
            Some("/etc/resolv.conf") => mount["source"] = own(case.paths.resolv_conf()),
            Some("/dev/shm") => mount["source"] = own(case.paths.shm()),
            Some("/dev/termination-log") => {
                let container = case.pod.containers[0].name.as_str();
                mount["source"] = own(case.paths.root.join("containers").join(container).join("termination-abababab"));
            }
            _ => {}
        }
    }
    let host_network = case.pod.host_network;
    let linux = spec["linux"].as_object_mut().expect("an object");
    linux.remove("resources").expect("in the recording");
    linux.insert("rootfsPropagation".into(), json!("private"));
    linux.insert("cgroupsPath".into(), own(case.cgroups_path.clone()));
    let namespaces = linux["namespaces"].as_array_mut().expect("a list");
    namespaces.retain(|ns| !(host_network && (ns["type"] == "uts" || ns["type"] == "network")));
    for namespace in namespaces {
        match namespace["type"].as_str() {
            Some("ipc") => namespace["path"] = own(case.paths.ipc()),
            Some("uts") => namespace["path"] = own(case.paths.uts()),
            Some("network") => namespace["path"] = own(case.paths.net()),
            _ => {}
        }
    }
    spec.as_object_mut().expect("an object").remove("annotations").expect("in the recording");
    spec
}

fn nodejs() -> Case {
    let mut pod = testing::pod();
    pod.hostname = "nodejs-web-app-vm".into();
    let image = ImageConfig {
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        cmd: vec!["node".into(), "server.js".into()],
        working_dir: "/usr/src/app".into(),
        ..ImageConfig::default()
    };
    Case::of(pod, image)
}

fn httpd() -> Case {
    let mut pod = testing::pod();
    pod.host_network = true;
    pod.qos = QosClass::Burstable;
    let mut container = testing::container("httpd");
    container.command =
        ["/bin/httpd", "-f", "-v", "-p", "127.0.0.1:18080", "-h", "/var/www"].map(str::to_owned).to_vec();
    container.resources = Resources {
        cpu_request_milli: Some(10),
        memory_request_bytes: Some(16 << 20),
        memory_limit_bytes: Some(64 << 20),
        ..Resources::default()
    };
    pod.containers = vec![container];
    Case::of(pod, ImageConfig::default())
}

#[test]
fn the_spec_equals_containerds_but_for_the_listed_differences() {
    let nodejs = nodejs();
    assert_eq!(nodejs.json(), expected("nodejs-web-app-vm-nodejs", &nodejs));

    let httpd = httpd();
    assert_eq!(httpd.json(), expected("static-httpd-vm-httpd", &httpd));
    let output = httpd.build().expect("a spec");
    assert_eq!(output.oom_score_adj, 999);
    // shares 10, memory and swap 67108864 in the recording; the period alone means nothing.
    assert_eq!((output.limits.cpu_shares, output.limits.memory_limit_bytes), (Some(10), Some(64 << 20)));

    let mut side = httpd;
    side.pod.containers = vec![testing::container("side")];
    side.pod.containers[0].command = vec!["/bin/stamp".into(), "/dev/null".into()];
    assert_eq!(side.json(), expected("sidecar-vm-side", &side));
}

#[test]
fn on_pure_cgroup_v2_there_is_a_read_only_cgroup_mount_in_a_cgroup_namespace() {
    let mut case = nodejs();
    case.host.pure_cgroup_v2 = true;
    let spec = case.json();
    let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]});
    assert_eq!(spec["mounts"][5], mount);
    assert!(spec["linux"]["namespaces"].as_array().expect("a list").contains(&json!({"type": "cgroup"})));
}

#[test]
fn rlimits_are_those_of_the_contract_whatever_the_agents_soft_limits() {
    let mut case = nodejs();
    case.host.hard_limits = vec![
        (PosixRlimitType::RlimitNofile, u64::MAX),
        (PosixRlimitType::RlimitCore, u64::MAX),
        (PosixRlimitType::RlimitStack, u64::MAX),
        (PosixRlimitType::RlimitNproc, 96365),
    ];
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    let expected = json!([
        limit("RLIMIT_NOFILE", 1_048_576, 1_048_576),
        limit("RLIMIT_CORE", 0, u64::MAX),
        limit("RLIMIT_STACK", 8 << 20, u64::MAX),
        limit("RLIMIT_NPROC", 96365, 96365),
    ]);
    assert_eq!(case.json()["process"]["rlimits"], expected);
    case.host.hard_limits = vec![(PosixRlimitType::RlimitNofile, 20000), (PosixRlimitType::RlimitStack, 1 << 20)];
    let expected = json!([limit("RLIMIT_NOFILE", 20000, 20000), limit("RLIMIT_STACK", 1 << 20, 1 << 20)]);
    assert_eq!(case.json()["process"]["rlimits"], expected);
}

#[test]
fn a_capability_that_the_agent_lacks_is_left_out() {
    let mut case = nodejs();
    case.host.capabilities = CapabilityBits::new(ALL_CAPABILITIES).without(super::CAP_MKNOD);
    let spec = case.json();
    for kind in ["bounding", "effective", "permitted"] {
        let list = spec["process"]["capabilities"][kind].as_array().expect("a list");
        assert!(list.len() == 13 && !list.contains(&json!("CAP_MKNOD")), "{kind}");
    }
    assert_eq!(spec["process"]["capabilities"].get("inheritable"), None);
    assert_eq!(spec["process"]["capabilities"].get("ambient"), None);
}

#[test]
fn host_namespaces_are_left_out_and_the_hosts_shared_memory_is_staged() {
    let mut case = nodejs();
    (case.pod.host_network, case.pod.host_pid, case.pod.host_ipc) = (true, true, true);
    case.host.thermal_throttle = vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()];
    let output = case.build().expect("a spec");
    let staged = LaunchVolume { source: "/dev/shm".into(), staging: Path::new(CONTAINER_DIR).join("v/0") };
    assert_eq!(output.volumes, [staged]);
    let spec = case.json();
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "mount"}]));
    assert!(spec["process"]["env"].as_array().expect("a list").contains(&json!("HOSTNAME=vm")));
    let masked = spec["linux"]["maskedPaths"].as_array().expect("a list");
    assert!(masked.len() == 13 && masked[12] == "/sys/devices/system/cpu/cpu0/thermal_throttle");
}

#[test]
fn volumes_are_bound_from_staging_and_take_the_place_of_our_own_mounts() {
    let mut case = nodejs();
    let volume = |name: &str, source| Volume { name: name.into(), source };
    case.pod.volumes = vec![
        volume("data", VolumeSource::EmptyDir { size_limit_bytes: None }),
        volume("fast", VolumeSource::MemoryDir { size_limit_bytes: None }),
        volume("host", VolumeSource::HostPath { path: "/srv/x".into(), kind: HostPathType::Unchecked }),
    ];
    let mount = |name: &str, path: &str, read_only| VolumeMount { volume: name.into(), path: path.into(), read_only };
    case.pod.containers[0].mounts = vec![
        mount("data", "/var/lib/data", false),
        mount("host", "/etc/hosts", true),
        mount("fast", "/dev/shm/", false),
        mount("host", "relative", true),
    ];
    let output = case.build().expect("a spec");
    let sources: Vec<String> = output.volumes.iter().map(|v| v.source.to_string_lossy().into_owned()).collect();
    let uid = &case.pod.uid;
    assert_eq!(
        sources,
        [
            format!("/var/lib/pinlet/pods/{uid}/volumes/kubernetes.io~empty-dir/data"),
            "/srv/x".to_owned(),
            format!("/run/pinlet/pods/{uid}/mem-fast"),
            "/srv/x".to_owned()
        ]
    );
    let spec = case.json();
    let binds: Vec<(String, String, String)> = spec["mounts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|mount| mount["type"] == "bind")
        .map(|mount| {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            (text(&mount["destination"]), text(&mount["source"]), text(&mount["options"][2]))
        })
        .collect();
    let shown: Vec<(&str, bool, &str)> =
        binds.iter().map(|(at, from, mode)| (at.as_str(), from.starts_with(CONTAINER_DIR), mode.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("/relative", true, "ro"),
            ("/etc/hosts", true, "ro"),
            ("/dev/shm/", true, "rw"),
            ("/dev/termination-log", false, "rw"),
            ("/etc/hostname", false, "rw"),
            ("/etc/resolv.conf", false, "rw"),
            ("/var/lib/data", true, "rw"),
        ]
    );

    case.pod.containers[0].mounts = vec![mount("host", "/dev", false)];
    let spec = case.json();
    let places: Vec<&str> =
        spec["mounts"].as_array().expect("a list").iter().filter_map(|mount| mount["destination"].as_str()).collect();
    let expected = [
        "/proc",
        "/sys",
        "/dev",
        "/etc/hosts",
        "/dev/termination-log",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/dev/shm",
    ];
    assert_eq!(places, expected);
}

#[test]
fn what_cannot_be_made_into_a_spec_says_why() {
    let mut case = nodejs();
    case.image.cmd = vec![];
    let error = case.build().expect_err("no command");
    assert_eq!(
        (error.to_string(), error.reason()),
        ("no command specified".into(), StartFailureReason::CreateContainerError)
    );

    let mut case = nodejs();
    case.pod.containers[0].env = vec![EnvVar { name: "A".into(), value: "x\0y".into() }];
    let error = case.build().expect_err("a NUL byte");
    assert_eq!(error.to_string(), "the environment contains a NUL byte");
    assert_eq!(error.reason(), StartFailureReason::CreateContainerConfigError);
}

#[test]
fn stop_signal_and_user_of_the_image_are_handed_on() {
    let mut case = nodejs();
    case.image.user = "node:node".into();
    case.image.stop_signal = "SIGQUIT".into();
    let output = case.build().expect("a spec");
    assert_eq!((output.user.as_str(), output.stop_signal, output.warnings.len()), ("node:node", 3, 0));
    case.image.stop_signal = "SIGWRONG".into();
    let output = case.build().expect("a spec");
    assert_eq!((output.stop_signal, output.warnings.len()), (15, 1));
    case.image.stop_signal.clear();
    assert!(case.build().expect("a spec").warnings.is_empty());
}
