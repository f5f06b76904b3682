//! The OCI spec of one container, from the Pod, the image and this host. Pure.
//!
//! A process must see what containerd and runc would show it (`tests/data/oci` holds what they made). The
//! differences, all on purpose; `the_spec_equals_containerds_but_for_the_listed_differences` holds them to this list:
//!
//! | containerd's spec | here | why |
//! |---|---|---|
//! | `process.user` of the image | root; the monitor's creator fills it in | names are looked up inside the container's root |
//! | `process.oomScoreAdj` | not in the spec | libcontainer would apply it to its caller too; it is written to init |
//! | no `process.rlimits`: inherited from containerd | written out | the agent's own soft limits must not leak in |
//! | service variables of `kubernetes` | none | there is no API server |
//! | a cgroup mount on v1 | none | on v1 the container's root could raise its own limits through it |
//! | mount type `cgroup` | `cgroup2` (v2 only) | libcontainer would take it apart by the host's layout |
//! | host network and UTS namespace by path | left out: the caller's | the same namespaces |
//! | `linux.resources` | none | pinlet owns the cgroups; device rules are a program on v2, the devices hierarchy on v1 |
//! | propagation per mount | `linux.rootfsPropagation: private` | libcontainer knows only the one of the root |
//! | `rbind` of a volume's own path | of a staging directory | the creator clones volumes before it leaves the host's tree |
//! | `io.kubernetes.cri.*` annotations | none | nobody reads them |
//!
//! There is no seccomp filter: containers of static pods are Unconfined unless asked otherwise, and asking is refused.

mod confinement;
mod mounts;
mod process;

#[cfg(test)]
mod golden;

use super::env;
use super::host_facts::HostFacts;
use super::launch::{LaunchVolume, Limits};
use super::pod_paths::PodPaths;
use super::resources::{self, Policy};
use super::stop_signal;
use crate::model::id::ContainerId;
use crate::model::image::ImageConfig;
use crate::model::observed::StartFailureReason;
use crate::model::pod::{Container, StaticPod};
use oci_spec::OciSpecError;
use oci_spec::runtime::{Root, RootBuilder, Spec, SpecBuilder};
use std::path::Path;

pub use process::CAP_MKNOD;

/// The version that containerd writes, and whose fields are used.
const OCI_VERSION: &str = "1.2.1";
/// The root file system's directory in the bundle.
const ROOTFS: &str = "rootfs";

/// All that a spec depends on.
#[derive(Clone, Copy, Debug)]
pub struct SpecInput<'a> {
    pub pod: &'a StaticPod,
    pub container: &'a Container,
    pub id: &'a ContainerId,
    pub image: &'a ImageConfig,
    pub host: &'a HostFacts,
    /// The kernel's host name now (`host_facts::kernel_hostname`): what hostNetwork pods are called.
    pub node_hostname: &'a str,
    pub paths: &'a PodPaths,
    /// `<run-dir>/containers/<id>`: the bundle; volumes are staged below it.
    pub container_dir: &'a Path,
    /// `/` + cgroup root + pod + container id. Only shown: the creator has joined it already.
    pub cgroups_path: &'a Path,
    pub policy: &'a Policy,
}

#[derive(Clone, Debug)]
pub struct SpecOutput {
    pub spec: Spec,
    pub volumes: Vec<LaunchVolume>,
    /// `name[:group]` or numbers, to be looked up inside the root; empty is root.
    pub user: String,
    pub stop_signal: i32,
    /// To be written to init between create and start.
    pub oom_score_adj: i32,
    pub limits: Limits,
    /// What was put right, to be logged.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// containerd's words.
    #[error("no command specified")]
    NoCommand,
    #[error("{what} contains a NUL byte")]
    Nul { what: &'static str },
    #[error("volume {volume:?} is not a volume of the pod")]
    UnknownVolume { volume: String },
    #[error("cannot build the container's spec")]
    Build(#[from] OciSpecError),
}

impl SpecError {
    /// The state that Kubernetes shows for it.
    pub fn reason(&self) -> StartFailureReason {
        match self {
            SpecError::NoCommand => StartFailureReason::CreateContainerError,
            SpecError::Nul { .. } | SpecError::UnknownVolume { .. } | SpecError::Build(_) => {
                StartFailureReason::CreateContainerConfigError
            }
        }
    }
}

pub fn build(input: &SpecInput) -> Result<SpecOutput, SpecError> {
    let args = env::command_line(input.container, input.image);
    if args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let hostname = hostname(input.pod, input.node_hostname);
    let environment = env::environment(&input.image.env, hostname, &input.container.env);
    let mounts = mounts::mounts(input)?;
    let spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .process(process::process(input, args, environment)?)
        .root(root()?)
        .mounts(mounts.mounts)
        .linux(confinement::linux(input)?)
        .build()?;
    let (stop_signal, warnings) = stop_signal(input);
    Ok(SpecOutput {
        spec: without_defaults(spec),
        volumes: mounts.volumes,
        user: input.image.user.clone(),
        stop_signal,
        oom_score_adj: resources::oom_score_adj(input.pod, input.container, input.host.memory_bytes),
        limits: resources::container_limits(input.container, input.policy),
        warnings,
    })
}

/// What the pod's processes take as their host's name: their own UTS namespace's, or the node's.
pub fn hostname<'a>(pod: &'a StaticPod, node_hostname: &'a str) -> &'a str {
    if pod.host_network { node_hostname } else { &pod.hostname }
}

/// Writable: `readOnlyRootFilesystem` is refused by admission.
fn root() -> Result<Root, SpecError> {
    let mut root = RootBuilder::default().path(ROOTFS).build()?;
    root.set_readonly(None);
    Ok(root)
}

/// The crate's builder fills in a host name that belongs to the namespace which the pod brings along.
fn without_defaults(mut spec: Spec) -> Spec {
    spec.set_hostname(None).set_domainname(None).set_annotations(None).set_hooks(None);
    spec
}

fn stop_signal(input: &SpecInput) -> (i32, Vec<String>) {
    let text = &input.image.stop_signal;
    match stop_signal::parse(text) {
        Some(number) => (number, Vec::new()),
        None if text.is_empty() => (stop_signal::DEFAULT, Vec::new()),
        None => (stop_signal::DEFAULT, vec![format!("the image's STOPSIGNAL {text:?} is no signal: SIGTERM is used")]),
    }
}
