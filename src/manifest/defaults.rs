//! What Kubernetes fills in where a Pod leaves a field out (`pkg/apis/core/v1/defaults.go`).
//!
//! The UID is made before this: a new default never changes it.

use super::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, HostPathVolumeSource, Pod, PodSpec, ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::BTreeMap;

pub(super) const GRACE_SECONDS: i64 = 30;
pub(super) const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

pub(super) fn apply(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    or_text(&mut spec.restart_policy, "Always");
    or_text(&mut spec.dns_policy, "ClusterFirst");
    or_text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    spec.containers.iter_mut().for_each(|container| default_container(container, host_network));
    spec.volumes.iter_mut().flatten().for_each(default_volume);
    omit_empty(pod);
}

/// What Go's JSON leaves out when it holds nothing.
fn omit_empty(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    let PodSpec { host_network, host_pid, host_ipc, hostname, host_aliases, volumes, tolerations, .. } = spec;
    for flag in [host_network, host_pid, host_ipc] {
        flag.take_if(|flag| !*flag);
    }
    hostname.take_if(|text| text.is_empty());
    host_aliases.take_if(|list| list.is_empty());
    volumes.take_if(|list| list.is_empty());
    tolerations.take_if(|list| list.is_empty());
    pod.metadata.labels.take_if(|map| map.is_empty());
    spec.containers.iter_mut().for_each(omit_empty_of_container);
}

fn omit_empty_of_container(container: &mut Container) {
    let Container { args, command, env, ports, stdin, stdin_once, tty, volume_mounts, working_dir, .. } = container;
    for list in [args, command] {
        list.take_if(|list| list.is_empty());
    }
    for flag in [stdin, stdin_once, tty] {
        flag.take_if(|flag| !*flag);
    }
    env.take_if(|list| list.is_empty());
    ports.take_if(|list| list.is_empty());
    volume_mounts.take_if(|list| list.is_empty());
    working_dir.take_if(|text| text.is_empty());
    for var in env.iter_mut().flatten() {
        var.value.take_if(|text| text.is_empty());
    }
    for mount in volume_mounts.iter_mut().flatten() {
        mount.read_only.take_if(|flag| !*flag);
    }
}

fn default_container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = if names_latest(image) { "Always" } else { "IfNotPresent" };
    or_text(&mut container.image_pull_policy, policy);
    or_text(&mut container.termination_message_path, TERMINATION_MESSAGE_PATH);
    or_text(&mut container.termination_message_policy, "File");
    container.ports.iter_mut().flatten().for_each(|port| default_port(port, host_network));
    default_resources(container.resources.get_or_insert_default());
}

fn default_port(port: &mut ContainerPort, host_network: bool) {
    or_text(&mut port.protocol, "TCP");
    port.host_port.take_if(|number| *number == 0);
    if host_network && port.container_port != 0 {
        port.host_port.get_or_insert(port.container_port);
    }
}

/// Requests come from the limits where they are missing; every quantity is rounded up to thousandths and spelled
/// canonically. What is no quantity stays as it is, for validation to name.
fn default_resources(resources: &mut ResourceRequirements) {
    let ResourceRequirements { limits, requests, claims: _ } = resources;
    for quantity in limits.iter_mut().chain(requests.iter_mut()).flat_map(BTreeMap::values_mut) {
        canonical(quantity);
    }
    for (name, limit) in limits.iter().flatten() {
        requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn canonical(quantity: &mut resource::Quantity) {
    if let Ok(exact) = Quantity::parse(&quantity.0) {
        quantity.0 = exact.rounded_up_to_milli().to_string();
    }
}

fn default_volume(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(HostPathVolumeSource { type_, .. }) = &mut volume.host_path {
        type_.get_or_insert_default();
    }
    if let Some(size) = volume.empty_dir.as_mut().and_then(|source| source.size_limit.as_mut()) {
        canonical(size);
    }
}

/// Whether the image's tag is `latest`, be it by leaving out tag and digest.
fn names_latest(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

/// An empty text counts as left out, as it does in Go.
fn or_text(field: &mut Option<String>, default: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(default.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        let rows = [
            ("kalise/nodejs-web-app:latest", true),
            ("busybox", true),
            ("localhost:5000/busybox", true),
            ("localhost:5000/busybox:1", false),
            ("busybox:1.36", false),
            ("busybox@sha256:00", false),
            ("busybox:latest@sha256:00", true),
        ];
        for (image, latest) in rows {
            assert_eq!(names_latest(image), latest, "{image}");
        }
    }
}
