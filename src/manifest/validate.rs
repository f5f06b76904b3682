//! Kubernetes' validation of what is supported here, with its paths and its words
//! (`pkg/apis/core/validation/validation.go`). Sees the pod after defaults, with the name that users will see.

use super::admit::DEFAULT_NAMESPACE;
use super::quantity::{self, Quantity, QuantityError};
use super::report::Report;
use crate::model::id::PodUid;
use crate::model::names;
use crate::yaml::{Kind, Part, Path};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HostAlias, HostPathVolumeSource, Pod, PodSpec,
    ResourceRequirements, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashSet;
use std::net::IpAddr;

/// Of every file system that Linux knows.
const FILE_NAME_BYTES_MAX: usize = 255;
/// A UID that is made of the manifest: 32 hex digits.
const UID_BYTES: usize = 32;
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// The kernel knows no larger user or group, and no larger port.
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const ABSOLUTE: &str = "must be an absolute path";
const IP_RULE: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(super) fn validate(report: &mut Report<'_>, pod: &Pod, full_name: &str) {
    metadata(report, &pod.metadata, full_name);
    let path = Path::root().field("spec");
    let Some(spec) = &pod.spec else { return };
    volumes(report, &path.field("volumes"), spec.volumes.as_deref().unwrap_or_default());
    containers(report, &path.field("containers"), spec);
    choice(report, &path.field("restartPolicy"), spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    choice(report, &path.field("dnsPolicy"), spec.dns_policy.as_deref(), &policies);
    choice(
        report,
        &path.field("preemptionPolicy"),
        spec.preemption_policy.as_deref(),
        &["PreemptLowerPriority", "Never"],
    );
    text(report, &path.field("hostname"), spec.hostname.as_deref(), names::label);
    text(report, &path.field("nodeName"), spec.node_name.as_deref(), names::subdomain);
    text(report, &path.field("priorityClassName"), spec.priority_class_name.as_deref(), names::subdomain);
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        tolerates(report, &path.field("tolerations").index(index), toleration);
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        host_alias(report, &path.field("hostAliases").index(index), alias);
    }
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.field("readinessGates").index(index).field("conditionType");
        each(report, &path, &gate.condition_type, names::qualified(&gate.condition_type));
    }
}

fn each(report: &mut Report<'_>, path: &Path, value: &str, faults: Vec<String>) {
    faults.iter().for_each(|fault| report.invalid(path, value, fault));
}

fn text(report: &mut Report<'_>, path: &Path, value: Option<&str>, rule: fn(&str) -> Vec<String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        each(report, path, value, rule(value));
    }
}

fn choice(report: &mut Report<'_>, path: &Path, value: Option<&str>, supported: &[&str]) {
    if let Some(value) = value.filter(|value| !supported.contains(value)) {
        report.unsupported_value(path, value, supported);
    }
}

/// The kubelet admits such a pod and then never gets beyond ContainerCreating.
fn log_directory_bytes(meta: &ObjectMeta, full_name: &str) -> usize {
    let length = |text: &Option<String>, otherwise: usize| {
        text.as_deref().map(str::len).filter(|length| *length > 0).unwrap_or(otherwise)
    };
    length(&meta.namespace, DEFAULT_NAMESPACE.len()) + full_name.len() + length(&meta.uid, UID_BYTES) + 2
}

fn metadata(report: &mut Report<'_>, meta: &ObjectMeta, full_name: &str) {
    let path = Path::root().field("metadata");
    match meta.name.as_deref() {
        None | Some("") => report.required(&path.field("name"), "name is needed for the pod"),
        Some(_) => each(report, &path.field("name"), full_name, names::subdomain(full_name)),
    }
    let log_dir = log_directory_bytes(meta, full_name);
    if full_name.len() <= names::SUBDOMAIN_MAX && log_dir > FILE_NAME_BYTES_MAX {
        let detail = format!(
            "the pod's log directory, NAMESPACE_NAME_UID, would have a name of {log_dir} bytes, and no file name has \
             more than {FILE_NAME_BYTES_MAX}"
        );
        report.invalid(&path.field("name"), full_name, &detail);
    }
    if let Some(namespace) = meta.namespace.as_deref() {
        each(report, &path.field("namespace"), namespace, names::label(namespace));
    }
    if let Some(uid) = meta.uid.as_deref().filter(|uid| !uid.is_empty() && PodUid::new(uid).is_none()) {
        report.invalid(&path.field("uid"), uid, "must be 1 to 64 letters, digits or '-'");
    }
    for (key, value) in meta.labels.iter().flatten() {
        let path = path.field("labels");
        names::qualified(key).iter().for_each(|fault| report.invalid_key(&path, key, fault));
        for fault in names::label_value(value) {
            report.invalid_at(&path, &path.key(key), &format!("{value:?}"), &fault);
        }
    }
    let path = path.field("annotations");
    let mut bytes = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        names::qualified(&key.to_lowercase()).iter().for_each(|fault| report.invalid_key(&path, key, fault));
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        report.too_long(&path, ANNOTATIONS_BYTES_MAX);
    }
}

fn volumes(report: &mut Report<'_>, path: &Path, volumes: &[Volume]) {
    let mut seen = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = path.field("name");
        if volume.name.is_empty() {
            report.required(&name, "");
        } else {
            each(report, &name, &volume.name, names::label(&volume.name));
            if !seen.insert(volume.name.as_str()) {
                report.duplicate(&name, &volume.name);
            }
        }
        if let Some(source) = &volume.host_path {
            host_path(report, &path.field("hostPath"), source);
        }
        if let Some(source) = &volume.empty_dir {
            if volume.host_path.is_some() {
                report.forbidden(&path.field("hostPath"), "may not specify more than 1 volume type");
            }
            empty_dir(report, &path.field("emptyDir"), source);
        }
    }
}

fn host_path(report: &mut Report<'_>, path: &Path, source: &HostPathVolumeSource) {
    let at = path.field("path");
    if source.path.is_empty() {
        report.required(&at, "");
    } else if source.path.split('/').any(|part| part == "..") {
        report.invalid(&at, &source.path, "must not contain '..'");
    } else if !source.path.starts_with('/') {
        report.invalid(&at, &source.path, ABSOLUTE);
    }
    let types = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    choice(report, &path.field("type"), source.type_.as_deref(), &types);
}

fn empty_dir(report: &mut Report<'_>, path: &Path, source: &EmptyDirVolumeSource) {
    if let Some(medium) = source.medium.as_deref().filter(|medium| !medium.starts_with("HugePages")) {
        choice(report, &path.field("medium"), Some(medium), &["", "Memory"]);
    }
    if let Some(size) = &source.size_limit {
        let path = path.field("sizeLimit");
        if quantity(report, &path, &size.0).is_some_and(Quantity::is_negative) {
            report.forbidden(&path, "SizeLimit field must be a valid resource quantity");
        }
    }
}

fn containers(report: &mut Report<'_>, path: &Path, spec: &PodSpec) {
    if spec.containers.is_empty() {
        return report.required(path, "");
    }
    let volumes: HashSet<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    let host_network = spec.host_network == Some(true);
    let mut names_seen = HashSet::new();
    let mut host_ports = HashSet::new();
    for (index, item) in spec.containers.iter().enumerate() {
        let path = path.index(index);
        container(report, &path, item, &volumes);
        if !item.name.is_empty() && !names_seen.insert(item.name.as_str()) {
            report.duplicate(&path.field("name"), &item.name);
        }
        for (index, port) in item.ports.iter().flatten().enumerate() {
            host_port(report, &path.field("ports").index(index), port, host_network, &mut host_ports);
        }
    }
}

fn container(report: &mut Report<'_>, path: &Path, container: &Container, volumes: &HashSet<&str>) {
    let name = path.field("name");
    if container.name.is_empty() {
        report.required(&name, "");
    } else {
        each(report, &name, &container.name, names::label(&container.name));
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        report.required(&path.field("image"), "");
    } else if image.trim() != image {
        report.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
    let at = path.field("imagePullPolicy");
    choice(report, &at, container.image_pull_policy.as_deref(), &["Always", "IfNotPresent", "Never"]);
    let at = path.field("terminationMessagePolicy");
    choice(report, &at, container.termination_message_policy.as_deref(), &["File", "FallbackToLogsOnError"]);
    for (field, value) in
        [("terminationMessagePath", &container.termination_message_path), ("workingDir", &container.working_dir)]
    {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty() && !value.starts_with('/')) {
            report.invalid(&path.field(field), value, ABSOLUTE);
        }
    }
    ports(report, &path.field("ports"), container.ports.as_deref().unwrap_or_default());
    env(report, &path.field("env"), container.env.as_deref().unwrap_or_default());
    mounts(report, &path.field("volumeMounts"), container.volume_mounts.as_deref().unwrap_or_default(), volumes);
    no_nul(report, path, container);
    if let Some(requirements) = &container.resources {
        resources(report, &path.field("resources"), requirements);
    }
}

/// No argument, variable or path reaches a process with a NUL in it.
fn no_nul(report: &mut Report<'_>, path: &Path, container: &Container) {
    let lists = [("command", &container.command), ("args", &container.args)];
    for (field, list) in lists {
        for (index, value) in list.iter().flatten().enumerate().filter(|(_, value)| value.contains('\0')) {
            report.invalid(&path.field(field).index(index), value, "must not contain a NUL character");
        }
    }
    for (index, var) in container.env.iter().flatten().enumerate() {
        if let Some(value) = var.value.as_deref().filter(|value| value.contains('\0')) {
            report.invalid(&path.field("env").index(index).field("value"), value, "must not contain a NUL character");
        }
    }
}

fn ports(report: &mut Report<'_>, path: &Path, ports: &[ContainerPort]) {
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let faults = names::port_name(name);
            if faults.is_empty() && !seen.insert(name) {
                report.duplicate(&path.field("name"), name);
            }
            each(report, &path.field("name"), name, faults);
        }
        if port.container_port == 0 {
            report.required(&path.field("containerPort"), "");
        } else if !(1..=65535).contains(&port.container_port) {
            report.invalid_number(&path.field("containerPort"), port.container_port.into(), PORT_RANGE);
        }
        choice(report, &path.field("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty() && ip.parse::<IpAddr>().is_err()) {
            report.invalid(&path.field("hostIP"), ip, IP_RULE);
        }
    }
}

fn host_port(
    report: &mut Report<'_>,
    path: &Path,
    port: &ContainerPort,
    host_network: bool,
    taken: &mut HashSet<String>,
) {
    let Some(number) = port.host_port.filter(|number| *number != 0) else { return };
    let path = path.field("hostPort");
    if !(1..=65535).contains(&number) {
        return report.invalid_number(&path, number.into(), PORT_RANGE);
    }
    if host_network && number != port.container_port {
        report.invalid_number(&path, number.into(), "must match `containerPort` when `hostNetwork` is true");
    }
    let (protocol, ip) = (port.protocol.as_deref().unwrap_or_default(), port.host_ip.as_deref().unwrap_or_default());
    let triple = format!("{protocol}/{ip}/{number}");
    if taken.contains(&triple) {
        report.duplicate(&path, &triple);
    }
    taken.insert(triple);
}

fn env(report: &mut Report<'_>, path: &Path, vars: &[EnvVar]) {
    for (index, var) in vars.iter().enumerate() {
        let path = path.index(index);
        if var.name.is_empty() {
            report.required(&path.field("name"), "");
        } else if let Some(fault) = names::env_var(&var.name) {
            report.invalid(&path.field("name"), &var.name, fault);
        }
    }
}

fn mounts(report: &mut Report<'_>, path: &Path, mounts: &[VolumeMount], volumes: &HashSet<&str>) {
    let mut taken = HashSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            report.required(&path.field("name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            report.not_found(&path.field("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            report.required(&path.field("mountPath"), "");
        } else if !taken.insert(mount.mount_path.as_str()) {
            report.invalid(&path.field("mountPath"), &mount.mount_path, "must be unique");
        } else if mount.mount_path.contains('\0') {
            report.invalid(&path.field("mountPath"), &mount.mount_path, "must not contain a NUL character");
        }
    }
}

fn resources(report: &mut Report<'_>, path: &Path, requirements: &ResourceRequirements) {
    let ResourceRequirements { limits, requests, claims: _ } = requirements;
    for (name, limit) in limits.iter().flatten() {
        non_negative(report, &path.field("limits").key(name), &limit.0);
    }
    for (name, request) in requests.iter().flatten() {
        let at = path.field("requests").key(name);
        let limit = limits.as_ref().and_then(|limits| limits.get(name));
        if limit.is_some_and(|limit| limit == request) {
            // Taken over from the limit, or equal to it: what is wrong with it has been said.
            continue;
        }
        let Some(exact) = non_negative(report, &at, &request.0) else { continue };
        let Some(limit) = limit else { continue };
        if Quantity::parse(&limit.0).is_ok_and(|limit| exact.nanos() > limit.nanos()) {
            let detail = format!("must be less than or equal to {name} limit of {}", limit.0);
            report.invalid_at(&path.field("requests"), &at, &format!("{:?}", request.0), &detail);
        }
    }
}

fn non_negative(report: &mut Report<'_>, path: &Path, text: &str) -> Option<Quantity> {
    let exact = quantity(report, path, text)?;
    if exact.is_negative() {
        report.invalid(path, text, "must be greater than or equal to 0");
        return None;
    }
    Some(exact)
}

fn quantity(report: &mut Report<'_>, path: &Path, text: &str) -> Option<Quantity> {
    let refuse = |error: QuantityError| {
        let message = format!("Invalid value: {text:?}: {error}");
        report.add(Kind::Value, path, Part::Value, message, quantity::meant(text));
    };
    Quantity::parse(text).map_err(refuse).ok()
}

fn tolerates(report: &mut Report<'_>, path: &Path, toleration: &Toleration) {
    let Toleration { effect, key, operator, toleration_seconds, value } = toleration;
    let (key, operator) = (key.as_deref().unwrap_or_default(), operator.as_deref().unwrap_or_default());
    let (effect, value) = (effect.as_deref().unwrap_or_default(), value.as_deref().unwrap_or_default());
    if !key.is_empty() {
        each(report, &path.field("key"), key, names::qualified(key));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        report.invalid(&path.field("operator"), operator, detail);
    }
    match operator {
        "" | "Equal" => each(report, &path.field("operator"), value, names::label_value(value)),
        "Exists" if !value.is_empty() => {
            report.invalid(&path.field("operator"), value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        _ => report.unsupported_value(&path.field("operator"), operator, &["Equal", "Exists"]),
    }
    if toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        report.invalid(&path.field("effect"), effect, detail);
    }
    choice(report, &path.field("effect"), Some(effect), &["", "NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

fn host_alias(report: &mut Report<'_>, path: &Path, alias: &HostAlias) {
    if alias.ip.parse::<IpAddr>().is_err() {
        report.invalid(&path.field("ip"), &alias.ip, IP_RULE);
    }
    for (index, name) in alias.hostnames.iter().flatten().enumerate() {
        let path = path.field("hostnames");
        for fault in names::subdomain(name) {
            report.invalid_at(&path, &path.index(index), &format!("{name:?}"), &fault);
        }
    }
}

/// `apiVersion` and `kind`, which nothing else looks at. Whether the rest is worth reading as a Pod.
pub(super) fn is_pod(report: &mut Report<'_>, api_version: Option<&str>, kind: Option<&str>) -> bool {
    let mut right = true;
    for (field, value, wanted) in [("apiVersion", api_version, "v1"), ("kind", kind, "Pod")] {
        let path = Path::root().field(field);
        match value {
            Some(value) if value == wanted => {}
            None | Some("") => report.required(&path, ""),
            Some(value) => {
                right = false;
                let hint = (field == "kind").then(|| "a manifest directory holds Pods and nothing else".to_owned());
                let message = format!("Unsupported value: {value:?}: supported values: {wanted:?}");
                report.add(Kind::Value, &path, Part::Value, message, hint);
            }
        }
    }
    right
}
