//! One start of one container: what a worker prepares on disk, and the order it becomes.
//!
//! INVARIANT: the intent record is written before the monitor is spawned, again with the monitor's pid by the loop, and
//! only then is the monitor told to go; so no record without a pid ever became a container.

use super::node::{Node, now};
use super::outcome::Outcome;
use super::pod_files;
use crate::error::chain;
use crate::model::id::{ContainerId, ContainerName};
use crate::model::image::ImageFacts;
use crate::model::observed::{StartFailure, StartFailureReason};
use crate::model::pod::{Container, StaticPod};
use crate::reconcile::event::Event;
use crate::runtime::launch::{Launch, LaunchVolume, LogTarget};
use crate::runtime::record::{self, Intent};
use crate::runtime::spawn::{self, Spawned};
use crate::runtime::spec::{self, SpecInput, SpecOutput};
use crate::runtime::{host_facts, launch, stop_signal, termination};
use crate::sys::{clock, file};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The durable records' lane has at most one write under way.
const REMOVE_TRIES: u32 = 10;

/// What the core asked for.
#[derive(Clone, Debug)]
pub struct StartOrder {
    pub pod: Arc<StaticPod>,
    pub container: ContainerName,
    pub attempt: u32,
    pub image: ImageFacts,
    /// The pod's address, for its hosts file; `None` for hostNetwork.
    pub ip: Option<IpAddr>,
}

/// All is in place, and the monitor waits for the loop's word.
#[derive(Debug)]
pub struct PreparedStart {
    /// `<run-dir>/containers/<id>`.
    pub dir: PathBuf,
    pub intent: Intent,
    pub monitor: Spawned,
}

#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("cannot make {path}")]
    MakeDirectory { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot get random bytes for the container's id")]
    Random(#[source] io::Error),
    #[error("cannot read the host's name")]
    HostName(#[source] io::Error),
    #[error(transparent)]
    Spec(#[from] spec::SpecError),
    #[error(transparent)]
    Files(#[from] pod_files::FilesError),
    #[error("cannot make the termination message's file")]
    Termination(#[source] io::Error),
    #[error(transparent)]
    Monitor(#[from] spawn::SpawnError),
    #[error("container {0} is not in the pod")]
    NoContainer(ContainerName),
}

impl PrepareError {
    fn reason(&self) -> StartFailureReason {
        match self {
            PrepareError::Spec(error) => error.reason(),
            PrepareError::MakeDirectory { .. }
            | PrepareError::Write { .. }
            | PrepareError::Random(_)
            | PrepareError::HostName(_)
            | PrepareError::Files(_)
            | PrepareError::Termination(_)
            | PrepareError::Monitor(_)
            | PrepareError::NoContainer(_) => StartFailureReason::CreateContainerError,
        }
    }
}

/// Worker: everything that a start needs on disk and in the run dir, and a monitor, which gets ready meanwhile.
pub fn prepare(node: &Node, order: &StartOrder) -> Outcome {
    let id = match clock::random_bytes().map_err(PrepareError::Random) {
        Ok(bytes) => ContainerId::from_bytes(bytes),
        Err(error) => return refused(order, ContainerId::from_bytes([0; 32]), &error),
    };
    let prepared = begin(node, order, &id).and_then(|start| match lay_out(node, order, &id, &start) {
        Ok(()) => Ok(start),
        Err(error) => {
            start.monitor.dismiss();
            Err(error)
        }
    });
    match prepared {
        Ok(start) => Outcome::StartPrepared(Box::new(start)),
        Err(error) => {
            remove_leavings(node, order, &id);
            refused(order, id, &error)
        }
    }
}

/// The intent record, and the monitor.
fn begin(node: &Node, order: &StartOrder, id: &ContainerId) -> Result<PreparedStart, PrepareError> {
    let pod = &*order.pod;
    let dir = node.paths.run_container(id);
    make_dir(&dir, 0o700)?;
    let root = &node.config.cgroup_root;
    let intent = Intent {
        version: record::VERSION,
        boot_id: node.boot.clone(),
        id: id.clone(),
        pod_uid: pod.uid.clone(),
        namespace: pod.key.namespace.clone(),
        pod_name: pod.key.name.clone(),
        container: order.container.clone(),
        attempt: order.attempt,
        cgroup_root: root.clone(),
        cgroup_pod: node.pod_cgroup(pod),
        monitor: None,
        image: order.image.reference.clone(),
        image_id: order.image.image_id.clone(),
        stop_signal: stop_signal::parse(&order.image.config.stop_signal).unwrap_or(stop_signal::DEFAULT),
        grace_seconds: pod.grace.as_secs(),
        created: now(),
        log: node.paths.container_log(&pod.key, &pod.uid, &order.container, order.attempt),
    };
    record::write_intent(&dir, &intent).map_err(|source| PrepareError::Write { path: dir.clone(), source })?;
    let monitor = spawn::spawn_monitor(&node.me, &node.hierarchies, root, &dir)?;
    Ok(PreparedStart { dir, intent, monitor })
}

fn refused(order: &StartOrder, id: ContainerId, error: &PrepareError) -> Outcome {
    let failure = StartFailure { reason: error.reason(), message: chain(error) };
    Outcome::Facts(vec![Event::StartFailed {
        uid: order.pod.uid.clone(),
        container: order.container.clone(),
        id,
        attempt: order.attempt,
        failure,
    }])
}

fn lay_out(node: &Node, order: &StartOrder, id: &ContainerId, start: &PreparedStart) -> Result<(), PrepareError> {
    let pod = &*order.pod;
    let container =
        pod.container(&order.container).ok_or_else(|| PrepareError::NoContainer(order.container.clone()))?;
    let PreparedStart { dir, intent, .. } = start;
    if let Some(parent) = intent.log.parent() {
        make_dir(parent, 0o755)?;
    }
    drop_old_logs(&intent.log, order.attempt);
    let layer = node.paths.writable_layer(&pod.uid, &container.name, id);
    make_dir(&layer, 0o711)?;

    let pod_paths = node.pod_paths(&pod.uid);
    pod_files::refresh(node, pod, order.ip)?;
    termination::create(&pod_paths, &container.name, id).map_err(PrepareError::Termination)?;
    let output = build_spec(node, order, container, id, dir)?;
    for warning in &output.warnings {
        log::warn!("{} container {}: {warning}", pod.key, container.name);
    }
    write_spec(dir, &output)?;
    let launch = Launch {
        version: launch::VERSION,
        id: id.clone(),
        pod_uid: pod.uid.clone(),
        namespace: pod.key.namespace.clone(),
        pod_name: pod.key.name.clone(),
        container: container.name.clone(),
        attempt: order.attempt,
        dir: dir.clone(),
        layers: order.image.layers.clone(),
        upper: layer.join("upper"),
        work: layer.join("work"),
        volumes: output.volumes.into_iter().map(|v| LaunchVolume { source: v.source, staging: v.staging }).collect(),
        user: output.user,
        cgroup: node.cgroup_plan(pod, Some(id), output.limits),
        oom_score_adj: output.oom_score_adj,
        log: LogTarget {
            path: intent.log.clone(),
            max_bytes: node.config.container_log_max_bytes,
            max_files: node.config.container_log_max_files,
        },
    };
    spawn::write_launch(&node.hierarchies, &launch)?;
    link_log(node, pod, container, id, &intent.log);
    Ok(())
}

fn build_spec(
    node: &Node,
    order: &StartOrder,
    container: &Container,
    id: &ContainerId,
    dir: &Path,
) -> Result<SpecOutput, PrepareError> {
    let cgroups_path =
        Path::new("/").join(&node.config.cgroup_root).join(node.pod_cgroup(&order.pod)).join(id.as_str());
    Ok(spec::build(&SpecInput {
        pod: &order.pod,
        container,
        id,
        image: &order.image.config,
        host: &node.host,
        node_hostname: &host_facts::kernel_hostname().map_err(PrepareError::HostName)?,
        paths: &node.pod_paths(&order.pod.uid),
        container_dir: dir,
        cgroups_path: &cgroups_path,
        policy: &node.policy,
    })?)
}

fn write_spec(dir: &Path, output: &SpecOutput) -> Result<(), PrepareError> {
    let path = dir.join("config.json");
    let written =
        serde_json::to_vec(&output.spec).map_err(io::Error::other).and_then(|b| file::write_atomic(&path, &b, 0o600));
    written.map_err(|source| PrepareError::Write { path, source })
}

/// The link is for people and log shippers; a container runs without it too.
fn link_log(node: &Node, pod: &StaticPod, container: &Container, id: &ContainerId, log: &Path) {
    let link = node.paths.log_symlink(&pod.key, &container.name, id);
    let made = fs::create_dir_all(&node.paths.container_logs).and_then(|()| std::os::unix::fs::symlink(log, &link));
    if let Err(error) = made {
        log::warn!("cannot link {}: {error}", link.display());
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), PrepareError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| PrepareError::MakeDirectory { path: path.to_owned(), source })
}

/// Kept are the log of this start and of the one before (kubelet: one dead container per name).
fn drop_old_logs(log: &Path, attempt: u32) {
    let Some(entries) = log.parent().and_then(|dir| fs::read_dir(dir).ok()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.split('.').next()).and_then(|n| n.parse::<u32>().ok());
        if number.is_some_and(|n| n.saturating_add(1) < attempt)
            && let Err(error) = fs::remove_file(entry.path())
        {
            log::warn!("cannot remove the old log {}: {error}", entry.path().display());
        }
    }
}

/// Worker: takes away what one start left: run dir, writable layer, termination message, symlink. The log stays.
pub fn remove_container(node: &Node, pod: &StaticPod, container: &ContainerName, id: &ContainerId) {
    let gone = [
        remove_tree(&node.paths.run_container(id)),
        remove_tree(&node.paths.writable_layer(&pod.uid, container, id)),
        remove_file(&node.pod_paths(&pod.uid).termination_message(container, id)),
        remove_file(&node.paths.log_symlink(&pod.key, container, id)),
    ];
    for error in gone.into_iter().filter_map(Result::err) {
        log::warn!("{} container {container}: cannot remove what is left of {id}: {error}", pod.key);
    }
}

fn remove_leavings(node: &Node, order: &StartOrder, id: &ContainerId) {
    remove_container(node, &order.pod, &order.container, id);
}

/// `rm -rf`; what is not there is fine. A record that is being written beside it may fill the directory once more.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            // A name that is too long for the file system (of a pod that could not start for it) cannot be there.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename) => {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir_all(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
