//! `linux`: namespaces, masked and read-only paths, propagation.

use super::{SpecError, SpecInput};
use oci_spec::runtime::{Linux, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};
use std::path::PathBuf;

/// The kubelet's list; each cpu's `thermal_throttle` is added where it exists.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub fn linux(input: &SpecInput) -> Result<Linux, SpecError> {
    let masked = MASKED
        .iter()
        .map(|path| (*path).to_owned())
        .chain(input.host.thermal_throttle.iter().map(|path| path.to_string_lossy().into_owned()));
    let mut linux = LinuxBuilder::default()
        .cgroups_path(input.cgroups_path)
        .namespaces(namespaces(input)?)
        // Volumes are mountPropagation None: what the host mounts later stays outside.
        .rootfs_propagation("private")
        .masked_paths(masked.collect::<Vec<_>>())
        .readonly_paths(READ_ONLY.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
        .build()?;
    // pinlet owns the cgroups, and libcontainer fails on resources without a cgroup file system.
    linux.set_resources(None);
    Ok(linux)
}

/// The pod's by path; pid and mount of its own; those that are left out are the host's.
fn namespaces(input: &SpecInput) -> Result<Vec<LinuxNamespace>, SpecError> {
    let (pod, paths) = (input.pod, input.paths);
    let mut all: Vec<(LinuxNamespaceType, Option<PathBuf>)> = Vec::new();
    if !pod.host_pid {
        all.push((LinuxNamespaceType::Pid, None));
    }
    if !pod.host_ipc {
        all.push((LinuxNamespaceType::Ipc, Some(paths.ipc())));
    }
    if !pod.host_network {
        all.push((LinuxNamespaceType::Uts, Some(paths.uts())));
    }
    all.push((LinuxNamespaceType::Mount, None));
    if !pod.host_network {
        all.push((LinuxNamespaceType::Network, Some(paths.net())));
    }
    if input.host.pure_cgroup_v2 {
        all.push((LinuxNamespaceType::Cgroup, None));
    }
    let one = |(kind, path): (LinuxNamespaceType, Option<PathBuf>)| {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        match path {
            Some(path) => builder.path(path).build(),
            None => builder.build(),
        }
    };
    Ok(all.into_iter().map(one).collect::<Result<_, _>>()?)
}
