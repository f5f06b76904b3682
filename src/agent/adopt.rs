//! At start: what earlier agents and earlier boots left, joined from the run dir, the root dir, cgroups and `/proc`.
//!
//! Order matters: what nobody's record names is killed first, and only then is anything adopted, given an address or
//! started. A process counts as the recorded one only if a pidfd was opened first and boot id and start time agree.

use super::exits;
use super::manifests;
use super::monitors::{Monitor, Stage};
use super::newer::LeftAlone;
use super::node::Node;
use super::records::{self, PodRecord};
use super::spawning::{asked_marker, running_container};
use super::start::{remove_container, remove_tree};
use crate::error::chain;
use crate::manifest::table::Kept;
use crate::model::id::{ContainerId, Pid, PodUid, ProcessRef};
use crate::model::observed::{ExitStatus, TerminatedReason, Termination};
use crate::model::pod::StaticPod;
use crate::model::time::{Now, Wall};
use crate::reconcile::event::{AdoptedContainer, AdoptedPod, AdoptedSandbox};
use crate::reconcile::memo::{self, Found};
use crate::runtime::exec_files::ExecFiles;
use crate::runtime::record::{self, ExitRecord, FailedStage, Intent};
use crate::runtime::sandbox::{self, SandboxRecord};
use crate::sys::{poll, spawn};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A monitor between `go` and its first record takes milliseconds; this bounds the wait for a stuck one.
const SETTLE_TRIES: u32 = 200;
const SETTLE_PAUSE: Duration = Duration::from_millis(10);
/// What was killed may take so long to die before it is called stuck.
pub(super) const CLEAR_PATIENCE: Duration = Duration::from_secs(2);

/// What the new agent starts from.
#[derive(Debug, Default)]
pub struct Adoption {
    pub pods: Vec<AdoptedPod>,
    pub monitors: Vec<Monitor>,
    pub sandboxes: Vec<SandboxRecord>,
    /// The kept manifests, for the table of incumbents.
    pub kept: Vec<Kept>,
    /// What a newer pinlet runs.
    pub left_alone: LeftAlone,
}

/// One container that the run dir tells of.
struct Trace {
    intent: Intent,
    dir: PathBuf,
    found: Found,
    monitor: Option<Monitor>,
}

/// Blocks on the root dir: before the loop begins, when nothing is promised yet.
pub fn adopt(node: &Node, now: Now) -> Adoption {
    let left_alone = LeftAlone::find(node);
    let mut traces = read_traces(node, &left_alone);
    kill_unrecorded(node, &traces, &left_alone);
    let mut adoption = Adoption { left_alone, ..Adoption::default() };
    for uid in pod_dirs(node) {
        if adoption.left_alone.has_pod(&uid) {
            continue;
        }
        let own: Vec<Trace> = extract(&mut traces, &uid);
        match read_kept(node, &uid) {
            Some((record, kept)) => adopt_pod(node, &mut adoption, record, kept, own, now),
            None => abandon(node, &uid, own),
        }
    }
    // Containers of pods that have no directory: their file is gone, and so is what they were.
    for trace in traces {
        log::warn!("container {} of {} belongs to no pod that is known", trace.intent.id, trace.intent.pod_uid);
        kill_trace(node, &trace);
        take_pod_cgroup_away(node, &trace.intent.cgroup_root.join(&trace.intent.cgroup_pod));
    }
    let known: BTreeSet<PodUid> =
        adoption.pods.iter().map(|p| &p.pod.uid).chain(adoption.left_alone.pods.keys()).cloned().collect();
    sweep_sandboxes(node, &known, adoption.left_alone.pods.is_empty());
    adoption
}

/// Sandboxes that no record of a known pod names, and host ends of links that no sandbox has.
fn sweep_sandboxes(node: &Node, known: &BTreeSet<PodUid>, links_are_known: bool) {
    let swept = match sandbox::sweep(&node.paths.run_pods(), &node.boot, known) {
        Ok(swept) => swept,
        Err(error) => return log::warn!("{}", chain(&error)),
    };
    for gone in swept {
        match gone.outcome {
            Ok(()) => log::warn!("the sandbox of {} had no pod: removed", gone.name),
            Err(error) => log::warn!("{}", chain(&error)),
        }
    }
    let Some(bridge) = node.bridge.as_ref().filter(|_| links_are_known) else { return };
    let links = known.iter().filter_map(|uid| sandbox::read(&node.paths.run_pod(uid)).ok().flatten()?.link);
    let veths: Vec<String> = links.map(|link| link.veth).collect();
    if let Err(error) = bridge.sweep(&veths) {
        log::warn!("{}", chain(&error));
    }
}

fn extract(traces: &mut Vec<Trace>, uid: &PodUid) -> Vec<Trace> {
    let (own, others) = std::mem::take(traces).into_iter().partition(|t| t.intent.pod_uid == *uid);
    *traces = others;
    own
}

fn pod_dirs(node: &Node) -> Vec<PodUid> {
    let Ok(entries) = fs::read_dir(node.paths.root_pods()) else { return Vec::new() };
    let mut uids: Vec<PodUid> =
        entries.flatten().filter_map(|e| e.file_name().to_str().and_then(PodUid::new)).collect();
    uids.sort();
    uids
}

fn read_traces(node: &Node, left_alone: &LeftAlone) -> Vec<Trace> {
    let Ok(entries) = fs::read_dir(node.paths.run_containers()) else { return Vec::new() };
    let is_left = |dir: &Path| {
        let id = dir.file_name().and_then(|n| n.to_str()).and_then(ContainerId::new);
        id.is_some_and(|id| left_alone.has_container(&id))
    };
    let dirs = entries.flatten().map(|entry| entry.path()).filter(|dir| !is_left(dir));
    dirs.filter_map(|dir| read_trace(node, &dir)).collect()
}

/// `None`: there is nothing to adopt, and what there was of it has been cleared away.
fn read_trace(node: &Node, dir: &Path) -> Option<Trace> {
    let intent = match record::read_intent(dir) {
        Ok(Some(intent)) if intent.boot_id == node.boot => intent,
        Ok(_) | Err(_) => {
            log::warn!("{} holds no record of this boot: removed", dir.display());
            remove_dir(dir);
            return None;
        }
    };
    let alive = intent.monitor.and_then(|process| open_process(process).map(|pidfd| (process, pidfd)));
    let monitor = alive.filter(|_| settled(dir));
    let (found, monitor) = match (monitor, record::read_exit(dir), record::read_started(dir)) {
        (_, Ok(Some(exit)), _) => (ended(&intent, dir, &exit), None),
        (Some((_, pidfd)), Ok(None), Ok(Some(started))) => {
            let running = running_container(&intent, started.init, started.started_at, started.user);
            let monitor = Monitor {
                intent: intent.clone(),
                dir: dir.to_owned(),
                pidfd,
                handshake: None,
                stage: Stage::Running { init: started.init },
                exec_files: ExecFiles::open(dir),
            };
            (Found::Running(running), Some(monitor))
        }
        (_, _, Ok(Some(_))) => {
            kill_cgroup(node, &intent);
            (Found::Lost { id: intent.id.clone(), attempt: intent.attempt }, None)
        }
        _ => {
            // It never ran; whatever hangs between create and start is found by its cgroup.
            if let Some(process) = intent.monitor {
                kill_process(process);
            }
            kill_cgroup(node, &intent);
            remove_dir(dir);
            (Found::NotCreated { attempt: intent.attempt }, None)
        }
    };
    Some(Trace { intent, dir: dir.to_owned(), found, monitor })
}

/// Waits until a living monitor has written what tells how far it is.
fn settled(dir: &Path) -> bool {
    for _ in 0..SETTLE_TRIES {
        let told = matches!(record::read_started(dir), Ok(Some(_))) || matches!(record::read_exit(dir), Ok(Some(_)));
        if told {
            return true;
        }
        std::thread::sleep(SETTLE_PAUSE);
    }
    false
}

fn ended(intent: &Intent, dir: &Path, exit: &ExitRecord) -> Found {
    let termination = match &exit.failure {
        None => exits::termination_of(intent, exit, String::new()),
        Some(failure) if failure.stage == FailedStage::Run => start_error(intent, exit, failure.message.clone()),
        // It never became a container.
        Some(_) => {
            remove_dir(dir);
            return Found::NotCreated { attempt: intent.attempt };
        }
    };
    if asked_marker(dir).exists() { Found::Interrupted(termination) } else { Found::Exited(termination) }
}

fn start_error(intent: &Intent, exit: &ExitRecord, message: String) -> Termination {
    Termination {
        status: ExitStatus::Code(128),
        reason: TerminatedReason::StartError,
        started_at: Wall::EPOCH,
        ..exits::termination_of(intent, exit, message)
    }
}

/// pidfd first, then the comparison: a pid that was used again in between shows another start time.
fn open_process(process: ProcessRef) -> Option<OwnedFd> {
    let pidfd = poll::pidfd_open(process.pid.0).ok()?;
    (spawn::start_ticks(process.pid.0).ok()? == process.start_ticks).then_some(pidfd)
}

fn kill_process(process: ProcessRef) {
    if let Some(pidfd) = open_process(process)
        && let Err(error) = spawn::signal(&pidfd, spawn::SIGKILL)
    {
        log::warn!("process {} cannot be killed: {error}", process.pid.0);
    }
}

fn kill_cgroup(node: &Node, intent: &Intent) {
    let path = intent.cgroup_path();
    if let Err(error) = node.hierarchies.clear(&path, CLEAR_PATIENCE) {
        log::warn!("{}: {}", path.display(), chain(&error));
    }
}

fn kill_trace(node: &Node, trace: &Trace) {
    if let Some(process) = trace.intent.monitor {
        kill_process(process);
    }
    kill_cgroup(node, &trace.intent);
    remove_dir(&trace.dir);
}

fn remove_dir(dir: &Path) {
    if let Err(error) = remove_tree(dir) {
        log::warn!("cannot remove {}: {error}", dir.display());
    }
}

/// Processes among the monitors, and cgroups of our pods' containers, that no record names (contract 4).
fn kill_unrecorded(node: &Node, traces: &[Trace], left_alone: &LeftAlone) {
    let root = &node.config.cgroup_root;
    let monitors: BTreeSet<Pid> = traces.iter().filter_map(|t| t.intent.monitor).map(|p| p.pid).collect();
    for pid in node.hierarchies.monitors(root) {
        if !monitors.contains(&pid) && !left_alone.has_monitor(pid, node) {
            log::warn!("process {} among the monitors has no record: killed", pid.0);
            if let Ok(start_ticks) = spawn::start_ticks(pid.0) {
                kill_process(ProcessRef { pid, start_ticks });
            }
        }
    }
    let recorded: BTreeSet<&str> = traces.iter().map(|t| t.intent.id.as_str()).collect();
    for (uid, path) in node.hierarchies.pods_present(root) {
        if !node.paths.root_pod(&uid).is_dir() || left_alone.has_pod(&uid) {
            continue;
        }
        for leaf in node.hierarchies.leaves(&path) {
            let name = leaf.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if ContainerId::new(name).is_some() && !recorded.contains(name) {
                log::warn!("the cgroup of container {name} of pod {uid} has no record: killed");
                if let Err(error) = node.hierarchies.clear(&leaf, CLEAR_PATIENCE) {
                    log::warn!("{}: {}", leaf.display(), chain(&error));
                }
            }
        }
    }
}

fn read_kept(node: &Node, uid: &PodUid) -> Option<(PodRecord, Kept)> {
    let record = match records::read(node, uid) {
        Ok(Some(record)) => record,
        Ok(None) => return None,
        Err(error) => {
            log::error!("{}", chain(&error));
            return None;
        }
    };
    let path = node.paths.kept_manifest(uid);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            log::error!("cannot read {}: {error}", path.display());
            return None;
        }
    };
    let bytes: Arc<[u8]> = bytes.into();
    let why = match manifests::decode_kept(node, &record.source, &bytes) {
        Ok(pod) if pod.uid == *uid => return Some((record, Kept { pod, bytes })),
        Ok(pod) => format!("it makes pod {}, not {uid}", pod.uid),
        Err(problem) => problem,
    };
    // Another version of pinlet took it, or the decoder fails today: what runs is no less running for that.
    log::warn!("the kept manifest {} is not taken any more: {why}", path.display());
    let admitted = record.pod.clone().filter(|pod| pod.uid == *uid)?;
    Some((record, Kept { pod: Arc::from(admitted), bytes }))
}

fn adopt_pod(node: &Node, adoption: &mut Adoption, record: PodRecord, kept: Kept, traces: Vec<Trace>, now: Now) {
    let pod = Arc::clone(&kept.pod);
    let memo = Some(&record.memo).filter(|m| m.hash == pod.hash);
    let mut by_container: BTreeMap<_, Vec<Found>> = BTreeMap::new();
    let mut dead = Vec::new();
    for mut trace in without_doubles(node, traces) {
        if !matches!(trace.found, Found::Running(_)) {
            dead.push((trace.intent.container.clone(), trace.intent.id.clone()));
        }
        if let Found::Exited(termination) | Found::Interrupted(termination) = &mut trace.found {
            termination.message = exits::message(node, &pod, &trace.intent, termination.status);
        }
        by_container.entry(trace.intent.container.clone()).or_default().push(trace.found);
        adoption.monitors.extend(trace.monitor);
    }
    let containers = pod.containers.iter().map(|container| {
        let found = by_container.remove(&container.name).unwrap_or_default();
        let kept = memo.and_then(|m| Some((m, m.containers.iter().find(|c| c.name == container.name)?)));
        memo::adopt_container(&container.name, kept, found, &node.boot, now)
    });
    let containers: Vec<AdoptedContainer> = containers.collect();
    // The core takes away what it knows of. Older runs, of which the last agent had yet to clear away or to keep what
    // became of them, it will never hear of.
    for (container, id) in dead.iter().filter(|(_, id)| !containers.iter().any(|c| c.names(id))) {
        remove_container(node, &pod, container, id);
    }
    let sandbox = adopt_sandbox(node, &pod);
    adoption.pods.push(AdoptedPod {
        containers,
        created: record.memo.created,
        started: Some(record.memo.started),
        ip: memo.and_then(|m| m.ip),
        sandbox: sandbox.as_ref().map(|record| AdoptedSandbox { ip: record.ip }),
        pod,
    });
    adoption.sandboxes.extend(sandbox);
    adoption.kept.push(kept);
}

/// Of one container's living records only the newest is adopted: two agents must have been at it, and a container never
/// runs twice.
fn without_doubles(node: &Node, mut traces: Vec<Trace>) -> Vec<Trace> {
    traces.sort_by_key(|trace| std::cmp::Reverse(trace.intent.attempt));
    let mut living = BTreeSet::new();
    let (kept, doubles): (Vec<Trace>, Vec<Trace>) = traces.into_iter().partition(|trace| match trace.found {
        Found::Running(_) => living.insert(trace.intent.container.clone()),
        Found::Exited(_) | Found::Interrupted(_) | Found::Lost { .. } | Found::NotCreated { .. } => true,
    });
    for double in doubles {
        log::warn!("container {} runs beside a newer one of its name: killed", double.intent.id);
        kill_trace(node, &double);
    }
    kept
}

/// A sandbox of which only half is there is taken away; the pod gets a new one.
fn adopt_sandbox(node: &Node, pod: &StaticPod) -> Option<SandboxRecord> {
    let dir = node.paths.run_pod(&pod.uid);
    let record = sandbox::read(&dir).ok().flatten()?;
    if sandbox::is_whole(&record, &dir, &node.boot).unwrap_or(false) && link_is_there(node, &record) {
        return Some(record);
    }
    log::warn!("{}: its sandbox is not whole and is made again", pod.key);
    super::pods::take_sandbox_away(node, pod);
    None
}

fn link_is_there(node: &Node, record: &SandboxRecord) -> bool {
    match (&record.link, &node.bridge) {
        (Some(link), Some(bridge)) => bridge.is_attached(&link.veth).unwrap_or(true),
        (Some(_), None) => false,
        (None, Some(_)) => !record.pod_network,
        (None, None) => true,
    }
}

/// The cgroup of a pod of which nothing runs any more, and those above it that were there for it alone.
fn take_pod_cgroup_away(node: &Node, path: &Path) {
    let root = &node.config.cgroup_root;
    let Ok(pod) = path.strip_prefix(root) else { return };
    if let Err(error) = node.hierarchies.remove_pod(root, pod) {
        log::warn!("{}: {}", path.display(), chain(&error));
    }
}

/// A pod's directory without a usable record: nothing of it may run unseen, and nothing can be known of it.
fn abandon(node: &Node, uid: &PodUid, traces: Vec<Trace>) {
    log::warn!("pod {uid} has no usable record: what is left of it is removed");
    for trace in &traces {
        kill_trace(node, trace);
    }
    for (_, path) in node.hierarchies.pods_present(&node.config.cgroup_root).iter().filter(|(of, _)| of == uid) {
        if let Err(error) = node.hierarchies.clear(path, CLEAR_PATIENCE) {
            log::warn!("{}: {}", path.display(), chain(&error));
        }
        take_pod_cgroup_away(node, path);
    }
    // The root directory last: while it is there, the pod is known to be ours.
    for dir in node.paths.pod_log_dirs(uid).into_iter().chain([node.paths.root_pod(uid)]) {
        if let Err(error) = remove_tree(&dir) {
            log::warn!("cannot remove {}: {error}", dir.display());
        }
    }
}
