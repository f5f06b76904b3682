//! From a manifest's bytes to a pod as admitted, or to all that is wrong with it. Pure; runs in the decoding child.

use super::decode::{DecodeRequest, Decoded, FieldValidation};
use super::quantity::Quantity;
use super::report::Report;
use super::{defaults, refuse, uid, validate};
use crate::model::id::{ContainerName, NodeName, PodKey, PodUid};
use crate::model::pod::{
    Container, DnsPolicy, EnvVar, HostAlias, HostPathType, PullPolicy, QosClass, Resources, RestartPolicy, StaticPod,
    TerminationMessagePolicy, Volume, VolumeMount, VolumeSource,
};
use crate::yaml::{Document, Kind, Path, Problem};
use k8s_openapi::api::core::v1 as core_v1;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const DEFAULT_NAMESPACE: &str = "default";
const ANNOTATION_HASH: &str = "kubernetes.io/config.hash";
const ANNOTATION_SOURCE: &str = "kubernetes.io/config.source";
/// Only a kubelet may set these; in a file they are leavings of a copied mirror pod.
const ANNOTATIONS_DROPPED: [&str; 2] = ["kubernetes.io/config.mirror", "kubernetes.io/config.seen"];
/// The kernel's limit for a host name, less the NUL.
const HOSTNAME_BYTES_MAX: usize = 63;
/// A grace period below is taken as this: the stop signal must have a chance.
const GRACE_SECONDS_MIN: u64 = 1;

pub(super) fn admit(request: &DecodeRequest, bytes: &[u8]) -> Decoded {
    let rejected = |problem| Decoded::rejected(vec![problem]);
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(problem) => return rejected(problem),
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(problem) => return rejected(problem),
    };
    if document.is_empty() {
        return rejected(Problem::of_file("the file is empty"));
    }
    if !document.is_mapping() {
        let (_, problems) = document.decode::<core_v1::Pod>();
        return Decoded::rejected(problems);
    }
    let mut report = Report::new(&document, Vec::new());
    let root = Path::root();
    let (api_version, kind) = (document.text_at(&root.field("apiVersion")), document.text_at(&root.field("kind")));
    if !validate::is_pod(&mut report, api_version, kind) {
        return Decoded::rejected(report.into_problems());
    }
    let (pod, decoding) = document.decode::<core_v1::Pod>();
    let mut problems = report.into_problems();
    problems.extend(decoding);
    let Some(pod) = pod else { return Decoded::rejected(problems) };
    admit_pod(request, &document, pod, problems)
}

fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column =
            before.rsplit(|byte| *byte == b'\n').next().map_or(0, |last| String::from_utf8_lossy(last).chars().count())
                + 1;
        not_text(line, column, &format!("byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]))
    })?;
    match text.find('\0') {
        None => Ok(text),
        Some(at) => {
            let line = text[..at].matches('\n').count() + 1;
            let column = text[..at].rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
            Err(not_text(line, column, "it has a NUL byte"))
        }
    }
}

fn not_text(line: usize, column: usize, why: &str) -> Problem {
    Problem {
        kind: Kind::Syntax,
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
        path: String::new(),
        message: format!("not a text file: {why}"),
        hint: None,
    }
}

fn admit_pod(
    request: &DecodeRequest,
    document: &Document<'_>,
    mut pod: core_v1::Pod,
    problems: Vec<Problem>,
) -> Decoded {
    let mut report = Report::new(document, problems);
    refuse::refuse(&mut report, &pod);
    defaults::apply(&mut pod);
    let manifest_name = pod.metadata.name.clone().unwrap_or_default();
    let full_name = format!("{manifest_name}-{}", request.node_name);
    pod.metadata.namespace.take_if(|namespace| namespace.is_empty());
    validate::validate(&mut report, &pod, &full_name);
    let strict = request.field_validation == FieldValidation::Strict;
    let lenient = |problem: &Problem| !strict && matches!(problem.kind, Kind::UnknownField | Kind::DuplicateKey);
    let problems = report.into_problems();
    if problems.iter().any(|problem| !lenient(problem)) {
        return Decoded::rejected(problems.into_iter().filter(|problem| !lenient(problem)).collect());
    }
    let hash = uid::hash(&document.canonical(), &request.node_name, &request.path);
    match build(request, pod, manifest_name, full_name, hash) {
        Some(pod) => Decoded::accepted(pod, problems),
        // Validation lets nothing through that `build` cannot express; if it ever does, the file is to say so.
        None => Decoded::rejected(vec![Problem::of_file("the pod passed validation but cannot be expressed")]),
    }
}

fn build(
    request: &DecodeRequest,
    mut object: core_v1::Pod,
    manifest_name: String,
    full_name: String,
    hash: String,
) -> Option<StaticPod> {
    let given = object.metadata.uid.as_deref().filter(|uid| !uid.is_empty());
    let uid = PodUid::new(given.unwrap_or(&hash))?;
    let namespace = object.metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let key = PodKey { namespace, name: full_name };
    dress(&mut object, &uid, &key, &request.node_name);
    let spec = object.spec.as_ref()?;
    Some(StaticPod {
        node_name: NodeName::new(&request.node_name)?,
        source: request.path.clone(),
        hash,
        restart_policy: match spec.restart_policy.as_deref()? {
            "Always" => RestartPolicy::Always,
            "OnFailure" => RestartPolicy::OnFailure,
            "Never" => RestartPolicy::Never,
            _ => return None,
        },
        grace: Duration::from_secs(
            u64::try_from(spec.termination_grace_period_seconds?).unwrap_or(0).max(GRACE_SECONDS_MIN),
        ),
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        hostname: hostname(spec.hostname.as_deref().unwrap_or(&key.name)),
        host_aliases: spec.host_aliases.iter().flatten().map(host_alias).collect::<Option<_>>()?,
        dns_policy: match spec.dns_policy.as_deref()? {
            "Default" => DnsPolicy::Default,
            "ClusterFirst" => DnsPolicy::ClusterFirst,
            _ => return None,
        },
        qos: qos(spec),
        containers: spec.containers.iter().map(container).collect::<Option<_>>()?,
        volumes: spec.volumes.iter().flatten().map(volume).collect::<Option<_>>()?,
        uid,
        key,
        manifest_name,
        object,
    })
}

/// What a kubelet does to the object before anybody sees it (`applyDefaults`).
fn dress(object: &mut core_v1::Pod, uid: &PodUid, key: &PodKey, node_name: &str) {
    object.status = None;
    let meta = &mut object.metadata;
    meta.creation_timestamp = None;
    meta.uid = Some(uid.as_str().to_owned());
    meta.name = Some(key.name.clone());
    meta.namespace = Some(key.namespace.clone());
    let annotations = meta.annotations.get_or_insert_default();
    ANNOTATIONS_DROPPED.iter().for_each(|name| {
        annotations.remove(*name);
    });
    annotations.insert(ANNOTATION_HASH.to_owned(), uid.as_str().to_owned());
    annotations.insert(ANNOTATION_SOURCE.to_owned(), "file".to_owned());
    let spec = object.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    tolerate_no_execute(spec.tolerations.get_or_insert_default());
}

/// A static pod stays whatever taint its node gets: added, or in place of the one that says the same with a time limit.
fn tolerate_no_execute(tolerations: &mut Vec<core_v1::Toleration>) {
    let wanted = core_v1::Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..core_v1::Toleration::default()
    };
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let same = |other: &core_v1::Toleration| {
        other.effect == wanted.effect && other.operator == wanted.operator && empty(&other.key) && empty(&other.value)
    };
    match tolerations.iter().position(same) {
        Some(index) => tolerations[index] = wanted,
        None => tolerations.push(wanted),
    }
}

/// kubelet: `GeneratePodHostNameAndDomain`, `truncatePodHostnameIfNeeded`.
fn hostname(name: &str) -> String {
    let cut = name.get(..HOSTNAME_BYTES_MAX).map_or(name, |cut| cut.trim_end_matches(['-', '.']));
    cut.to_owned()
}

fn host_alias(alias: &core_v1::HostAlias) -> Option<HostAlias> {
    Some(HostAlias { ip: alias.ip.parse().ok()?, hostnames: alias.hostnames.clone().unwrap_or_default() })
}

fn container(container: &core_v1::Container) -> Option<Container> {
    let env = container.env.iter().flatten();
    let mounts = container.volume_mounts.iter().flatten();
    Some(Container {
        name: ContainerName::new(&container.name)?,
        image: container.image.clone()?,
        pull_policy: match container.image_pull_policy.as_deref()? {
            "Always" => PullPolicy::Always,
            "IfNotPresent" => PullPolicy::IfNotPresent,
            "Never" => PullPolicy::Never,
            _ => return None,
        },
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        env: env.map(|var| EnvVar { name: var.name.clone(), value: var.value.clone().unwrap_or_default() }).collect(),
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        resources: resources(container),
        mounts: mounts
            .map(|mount| VolumeMount {
                volume: mount.name.clone(),
                path: absolute(&mount.mount_path),
                read_only: mount.read_only == Some(true),
            })
            .collect(),
        termination_message_path: container.termination_message_path.clone()?,
        termination_message_policy: match container.termination_message_policy.as_deref()? {
            "File" => TerminationMessagePolicy::File,
            "FallbackToLogsOnError" => TerminationMessagePolicy::FallbackToLogsOnError,
            _ => return None,
        },
    })
}

/// A kubelet takes a relative mount path as one below the root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn resource(
    map: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
    name: &str,
) -> Option<Quantity> {
    Quantity::parse(&map?.get(name)?.0).ok()
}

fn resources(container: &core_v1::Container) -> Resources {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    Resources {
        cpu_request_milli: resource(requests, "cpu").map(Quantity::millis),
        cpu_limit_milli: resource(limits, "cpu").map(Quantity::millis),
        memory_request_bytes: resource(requests, "memory").map(Quantity::units),
        memory_limit_bytes: resource(limits, "memory").map(Quantity::units),
    }
}

fn volume(volume: &core_v1::Volume) -> Option<Volume> {
    let source = match (&volume.host_path, &volume.empty_dir) {
        (Some(source), None) => VolumeSource::HostPath {
            path: PathBuf::from(&source.path),
            kind: match source.type_.as_deref().unwrap_or_default() {
                "" => HostPathType::Unchecked,
                "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
                "Directory" => HostPathType::Directory,
                "FileOrCreate" => HostPathType::FileOrCreate,
                "File" => HostPathType::File,
                "Socket" => HostPathType::Socket,
                "CharDevice" => HostPathType::CharDevice,
                "BlockDevice" => HostPathType::BlockDevice,
                _ => return None,
            },
        },
        (None, Some(source)) => {
            let limit = source.size_limit.as_ref().and_then(|limit| Quantity::parse(&limit.0).ok());
            let size_limit_bytes = limit.filter(|limit| !limit.is_zero()).map(Quantity::units);
            match source.medium.as_deref() {
                None | Some("") => VolumeSource::EmptyDir { size_limit_bytes },
                Some("Memory") => VolumeSource::MemoryDir { size_limit_bytes },
                Some(_) => return None,
            }
        }
        _ => return None,
    };
    Some(Volume { name: volume.name.clone(), source })
}

/// kubelet: `ComputePodQOS`. Zero counts as not set.
fn qos(spec: &core_v1::PodSpec) -> QosClass {
    let (mut any, mut guaranteed) = (false, true);
    for container in &spec.containers {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        for name in ["cpu", "memory"] {
            let limit = resource(limits, name).filter(|limit| !limit.is_zero());
            let request = resource(requests, name).filter(|request| !request.is_zero());
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit.map(Quantity::nanos) == request.map(Quantity::nanos);
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}
