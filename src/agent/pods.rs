//! Jobs that concern a pod as a whole: its directories, its sandbox and network, and taking all of it away.
//!
//! Each is idempotent: it may be repeated after a failure, or after an agent died in the middle of it.

use super::node::Node;
use super::outcome::Outcome;
use super::pod_files;
use super::records::{self, PodRecord};
use super::start::remove_tree;
use super::sweep::sweep_symlinks;
use crate::error::chain;
use crate::model::id::PodUid;
use crate::model::pod::{QosClass, StaticPod};
use crate::net::NetError;
use crate::reconcile::event::Event;
use crate::runtime::sandbox::{self, LinkRecord, SandboxRecord};
use crate::runtime::volumes;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long processes without a container may take to die before the removal is tried again later.
const LEFT_TO_DIE: Duration = Duration::from_secs(2);
/// It makes directories and writes short files.
const CGROUPS_STACK_BYTES: usize = 128 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PodError {
    #[error("cannot make {path}")]
    MakeDirectory { path: PathBuf, source: io::Error },
    #[error("cannot remove {path}")]
    Remove { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Record(#[from] records::RecordError),
    #[error(transparent)]
    Volume(#[from] volumes::VolumeError),
    #[error(transparent)]
    Files(#[from] pod_files::FilesError),
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Cgroup(#[from] crate::runtime::cgroup::CgroupError),
}

impl PodError {
    /// With what the user can do about it, in the form of contract 2.
    fn in_one_line(&self) -> String {
        let hint = match self {
            PodError::Net(error) => error.hint(),
            PodError::MakeDirectory { .. }
            | PodError::Remove { .. }
            | PodError::Record(_)
            | PodError::Volume(_)
            | PodError::Files(_)
            | PodError::Sandbox(_)
            | PodError::Cgroup(_) => None,
        };
        match hint {
            Some(hint) => format!("{}; hint: {hint}", chain(self)),
            None => chain(self),
        }
    }
}

/// Worker: directories, the kept manifest and record, volumes, hosts and resolv.conf.
pub fn prepare(node: &Node, pod: &Arc<StaticPod>, record: &PodRecord, manifest: Option<&[u8]>) -> Outcome {
    let uid = pod.uid.clone();
    let event = match try_prepare(node, pod, record, manifest) {
        Ok(()) => Event::Prepared { uid },
        Err(error) => Event::PrepareFailed { uid, message: chain(&error) },
    };
    Outcome::Facts(vec![event])
}

fn try_prepare(node: &Node, pod: &StaticPod, record: &PodRecord, manifest: Option<&[u8]>) -> Result<(), PodError> {
    let root = node.paths.root_pod(&pod.uid);
    make_dir(&root, 0o711)?;
    // The record before anything outside the pod's own directory: an agent that dies here leaves nothing unnamed.
    records::note(node, &pod.uid, record, manifest)?;
    make_dir(&node.paths.pod_log_dir(&pod.key, &pod.uid), 0o755)?;
    Ok(volumes::prepare(pod, &node.pod_paths(&pod.uid))?)
}

/// Worker: cgroup, namespaces, shared memory and, for a pod network, the link with an address that is not in `taken`.
pub fn ensure_sandbox(node: &Node, pod: &Arc<StaticPod>, taken: &[IpAddr], burstable: u64) -> Outcome {
    let uid = pod.uid.clone();
    match try_sandbox(node, pod, taken, burstable) {
        Ok(record) => Outcome::SandboxMade(Box::new(record)),
        Err(error) => {
            // Half a sandbox is taken away, so that the next try starts from nothing.
            take_sandbox_away(node, pod);
            Outcome::Facts(vec![Event::SandboxFailed { uid, message: error.in_one_line() }])
        }
    }
}

fn try_sandbox(node: &Node, pod: &StaticPod, taken: &[IpAddr], burstable: u64) -> Result<SandboxRecord, PodError> {
    // A dozen hierarchies take as long as the namespaces: beside each other. Both are waited for, whatever comes of one.
    let (cgroups, sandbox) = std::thread::scope(|scope| {
        let cgroups = std::thread::Builder::new()
            .name("cgroups".to_owned())
            .stack_size(CGROUPS_STACK_BYTES)
            .spawn_scoped(scope, || ensure_cgroups(node, pod, burstable));
        let sandbox = make_namespaces(node, pod, taken);
        let cgroups = match cgroups {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => ensure_cgroups(node, pod, burstable),
        };
        (cgroups, sandbox)
    });
    cgroups?;
    sandbox
}

fn ensure_cgroups(node: &Node, pod: &StaticPod, burstable: u64) -> Result<(), PodError> {
    for warning in node.hierarchies.ensure_pod(&node.cgroup_plan(pod, None, Default::default()))? {
        log::warn!("{}: {warning}", pod.key);
    }
    share_burstable(node, pod, burstable);
    Ok(())
}

fn make_namespaces(node: &Node, pod: &StaticPod, taken: &[IpAddr]) -> Result<SandboxRecord, PodError> {
    let paths = node.pod_paths(&pod.uid);
    let mut record = sandbox::create(pod, &paths, &node.boot, node.host.memory_bytes)?;
    if record.pod_network && record.ip.is_none() {
        attach(node, pod, &mut record, taken)?;
    }
    sandbox::write_record(&paths.sandbox, &record)?;
    pod_files::refresh(node, pod, record.ip)?;
    Ok(record)
}

/// The cgroup above all burstable pods weighs what they ask for together (kubelet: `qos_container_manager`). It is
/// gone with the last of them.
fn share_burstable(node: &Node, pod: &StaticPod, shares: u64) {
    let root = &node.config.cgroup_root;
    if pod.qos == QosClass::Burstable
        && node.hierarchies.has_burstable(root)
        && let Err(error) = node.hierarchies.set_burstable_shares(root, shares)
    {
        log::warn!("{}", chain(&error));
    }
}

fn attach(node: &Node, pod: &StaticPod, record: &mut SandboxRecord, taken: &[IpAddr]) -> Result<(), PodError> {
    // `--network none`: loopback is all that the pod has.
    let Some(bridge) = &node.bridge else { return Ok(()) };
    let link = bridge.attach(&node.pod_paths(&pod.uid).net(), &pod.key, taken)?;
    record.ip = Some(link.ip);
    record.link = Some(LinkRecord { bridge: link.bridge, veth: link.veth, mac: link.mac });
    Ok(())
}

/// Worker: the sandbox goes, the directories stay.
pub fn stop_sandbox(node: &Node, pod: &Arc<StaticPod>, burstable: u64) -> Outcome {
    let uid = pod.uid.clone();
    let event = match kill_leavings(node, pod).and_then(|()| try_stop(node, pod)) {
        Ok(()) => {
            share_burstable(node, pod, burstable);
            Event::SandboxStopped { uid }
        }
        Err(error) => Event::SandboxStopFailed { uid, message: chain(&error) },
    };
    Outcome::Facts(vec![event])
}

/// Worker: nothing of the pod is left, in the kernel or on disk.
pub fn remove(node: &Node, pod: &Arc<StaticPod>, burstable: u64) -> Outcome {
    let uid = pod.uid.clone();
    let gone = kill_leavings(node, pod).and_then(|()| try_stop(node, pod)).and_then(|()| remove_dirs(node, &uid, pod));
    let event = match gone {
        Ok(()) => {
            share_burstable(node, pod, burstable);
            Event::Removed { uid }
        }
        Err(error) => Event::RemoveFailed { uid, message: chain(&error) },
    };
    Outcome::Facts(vec![event])
}

/// The containers that we know of have ended. Whoever is in the pod's cgroup still is nobody's, and would keep it for
/// ever. Never while adopting: there the containers of a pod without a whole sandbox go on.
fn kill_leavings(node: &Node, pod: &StaticPod) -> Result<(), PodError> {
    let cgroup = node.config.cgroup_root.join(node.pod_cgroup(pod));
    if node.hierarchies.populated(&cgroup) {
        log::warn!("{}: processes are left in its cgroup; they are killed", pod.key);
        node.hierarchies.clear(&cgroup, LEFT_TO_DIE)?;
    }
    Ok(())
}

fn try_stop(node: &Node, pod: &StaticPod) -> Result<(), PodError> {
    let dir = node.paths.run_pod(&pod.uid);
    let link = sandbox::read(&dir)?.and_then(|record| record.link);
    match (&link, &node.bridge) {
        (Some(link), Some(bridge)) => bridge.detach(&link.veth)?,
        // Attached, and dead before the record said so.
        (None, Some(bridge)) if !pod.host_network => bridge.detach_netns(&node.pod_paths(&pod.uid).net())?,
        (Some(_) | None, _) => {}
    }
    sandbox::remove(&dir)?;
    node.hierarchies.remove_pod(&node.config.cgroup_root, &node.pod_cgroup(pod))?;
    if let Some(bridge) = node.bridge.as_ref().filter(|_| !pod.host_network) {
        bridge.remove_if_unused()?;
    }
    Ok(())
}

fn remove_dirs(node: &Node, uid: &PodUid, pod: &StaticPod) -> Result<(), PodError> {
    let remove = |path: PathBuf| remove_tree(&path).map_err(|source| PodError::Remove { path, source });
    let logs = node.paths.pod_log_dir(&pod.key, uid);
    remove(logs.clone())?;
    // Those of containers that no record names any more too.
    sweep_symlinks(&node.paths.container_logs, &logs);
    // The root directory last: while it is there, the pod is known to be ours.
    remove(node.paths.root_pod(uid))
}

/// What can be taken away is; what cannot is said, and tried again with the next step.
pub fn take_sandbox_away(node: &Node, pod: &StaticPod) {
    if let Err(error) = try_stop(node, pod) {
        log::warn!("{}: {}", pod.key, chain(&error));
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), PodError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| PodError::MakeDirectory { path: path.to_owned(), source })
}
