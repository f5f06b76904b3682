//! The v1 Pod as users see it: what a kubelet 1.36 would post for the same facts.
//!
//! Wording, order and rules follow kubelet's `kubelet_pods.go` and `status/generate.go`; golden statuses recorded
//! from a kubelet are in `tests/data/status`.

use super::backoff::{self, go_duration};
use super::container::{ContainerState, Run, Trouble, TroubleKind};
use super::state::{NodeState, Phase, PodState, StopReason, WaitingFor};
use crate::model::observed::{ImageProblem, LinuxUser, Termination};
use crate::model::pod::StaticPod;
use crate::model::time::{Now, Wall};
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

/// For so long after a failure its own reason is shown, then that it backs off. The kubelet shows each until its next
/// sync, which takes 1 to 15 s.
pub const FAILURE_SHOWN: Duration = Duration::from_secs(5);
/// What is in flight for so long is said to be.
const LONG: Duration = Duration::from_secs(5);
/// The runtime's name in container ids.
const ID_PREFIX: &str = "pinlet://";
const SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";
const STOPPED_REASON: &str = "Stopped";
pub const STOPPED_MESSAGE: &str = "stop-pods was called: nothing is started until its marker is gone";

/// The whole object: the manifest as admitted, what the node adds to it, and the status.
pub fn pod_object(pod: &PodState, node: &NodeState, now: Now) -> v1::Pod {
    let mut object = pod.pod.object.clone();
    let meta = &mut object.metadata;
    meta.creation_timestamp = Some(pod.created.to_time());
    meta.annotations.get_or_insert_with(BTreeMap::new).insert(SEEN_ANNOTATION.to_owned(), pod.created.rfc3339_nanos());
    if let Some((since, grace)) = pod.deletion() {
        let grace_nanos = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
        meta.deletion_timestamp = Some(Wall(since.wall.0.saturating_add(grace_nanos)).to_time());
        meta.deletion_grace_period_seconds = i64::try_from(grace.as_secs()).ok();
    }
    object.status = Some(pod_status(pod, node, now));
    object
}

pub fn pod_status(pod: &PodState, node: &NodeState, now: Now) -> v1::PodStatus {
    let phase = phase(pod);
    let mut statuses: Vec<_> = pod.containers.iter().map(|c| container_status(c, pod, now)).collect();
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    let host_ip = node.node_address().map(|ip| ip.to_string());
    let pod_ip = if pod.pod.host_network { host_ip.clone() } else { pod.ip.map(|ip| ip.to_string()) };
    let stopped = matches!(
        pod.phase,
        Phase::Stopping { why: StopReason::Marker, .. }
            | Phase::TakingDown { why: StopReason::Marker }
            | Phase::Stopped { why: StopReason::Marker }
    );
    let (requests, limits) = pod_resources(&pod.pod);
    v1::PodStatus {
        allocated_resources: requests.clone(),
        conditions: Some(conditions(pod, phase)),
        container_statuses: Some(statuses),
        host_ips: host_ip.clone().map(|ip| vec![v1::HostIP { ip }]),
        host_ip,
        message: stopped.then(|| STOPPED_MESSAGE.to_owned()),
        phase: Some(phase.to_owned()),
        pod_ips: pod_ip.clone().map(|ip| vec![v1::PodIP { ip }]),
        pod_ip,
        qos_class: Some(pod.pod.qos.as_str().to_owned()),
        reason: stopped.then(|| STOPPED_REASON.to_owned()),
        resources: Some(v1::ResourceRequirements { claims: None, limits, requests }),
        start_time: Some(pod.started.to_time()),
        ..v1::PodStatus::default()
    }
}

/// kubelet: `getPhase`.
pub fn phase(pod: &PodState) -> &'static str {
    let never_ran = |c: &ContainerState| c.running().is_none() && c.last.is_none();
    if pod.containers.iter().any(never_ran) {
        "Pending"
    } else if !pod.all_done() {
        "Running"
    } else if pod.containers.iter().all(ended_well) {
        "Succeeded"
    } else {
        "Failed"
    }
}

fn ended_well(container: &ContainerState) -> bool {
    container.last.as_ref().is_some_and(|last| last.termination.status.code() == 0)
}

/// kubelet: `status/generate.go`, in the order in which it posts them.
fn conditions(pod: &PodState, phase: &str) -> Vec<v1::PodCondition> {
    let unready: Vec<&str> = pod.containers.iter().filter(|c| c.running().is_none()).map(|c| c.name.as_str()).collect();
    let (reason, message) = match phase {
        "Succeeded" => (Some("PodCompleted"), None),
        "Failed" => (Some("PodFailed"), None),
        _ if unready.is_empty() => (None, None),
        _ => (Some("ContainersNotReady"), Some(format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let initialized_reason = (phase == "Succeeded").then_some("PodCompleted");
    let c = &pod.conditions;
    vec![
        condition("PodReadyToStartContainers", c.ready_to_start.value, c.ready_to_start.at, None, None),
        condition("Initialized", true, c.initialized, initialized_reason, None),
        condition("Ready", c.ready.value, c.ready.at, reason, message.clone()),
        condition("ContainersReady", c.ready.value, c.ready.at, reason, message),
        condition("PodScheduled", true, c.initialized, None, None),
    ]
}

fn condition(kind: &str, value: bool, at: Wall, reason: Option<&str>, message: Option<String>) -> v1::PodCondition {
    v1::PodCondition {
        type_: kind.to_owned(),
        status: if value { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(at.to_time()),
        reason: reason.map(str::to_owned),
        message,
        ..v1::PodCondition::default()
    }
}

/// kubelet: `convertToAPIContainerStatuses`.
fn container_status(container: &ContainerState, pod: &PodState, now: Now) -> v1::ContainerStatus {
    let spec = spec_of(container, &pod.pod);
    let running = container.running();
    let last = container.last.as_ref().map(|ended| &ended.termination);
    let latest = running.map(|r| (&r.id, &r.image, &r.image_id)).or(last.map(|t| (&t.id, &t.image, &t.image_id)));
    let (state, last_state) = states(container, pod, now);
    let created = latest.is_some();
    let spec_image = spec.and_then(|s| s.image.clone()).unwrap_or_default();
    let resources = spec.and_then(|s| s.resources.clone()).unwrap_or_default();
    v1::ContainerStatus {
        allocated_resources: resources.requests.clone().filter(|_| created),
        container_id: latest.map(|(id, ..)| format!("{ID_PREFIX}{id}")),
        image: latest.map(|(_, image, _)| image.clone()).filter(|i| !i.is_empty()).unwrap_or(spec_image),
        image_id: latest.map(|(.., image_id)| image_id.clone()).unwrap_or_default(),
        last_state: Some(last_state),
        name: container.name.as_str().to_owned(),
        ready: running.is_some(),
        resources: created.then_some(resources),
        restart_count: i32::try_from(container.restart_count()).unwrap_or(i32::MAX),
        started: Some(running.is_some()),
        state: Some(state),
        user: container.user.as_ref().filter(|_| created).map(container_user),
        volume_mounts: spec.and_then(|s| s.volume_mounts.as_ref()).map(|mounts| volume_mounts(mounts)),
        ..v1::ContainerStatus::default()
    }
}

fn spec_of<'a>(container: &ContainerState, pod: &'a StaticPod) -> Option<&'a v1::Container> {
    let spec = pod.object.spec.as_ref()?;
    spec.containers.iter().find(|c| c.name == container.name.as_str())
}

/// `state` and `lastState`.
fn states(container: &ContainerState, pod: &PodState, now: Now) -> (v1::ContainerState, v1::ContainerState) {
    let last = container.last.as_ref().map(|ended| &ended.termination);
    if let Some(running) = container.running() {
        let running = v1::ContainerStateRunning { started_at: Some(running.started_at.to_time()) };
        return (v1::ContainerState { running: Some(running), ..Default::default() }, terminated(last));
    }
    match (waiting(container, pod, now), last) {
        (Some(waiting), _) => (v1::ContainerState { waiting: Some(waiting), ..Default::default() }, terminated(last)),
        (None, Some(last)) => (terminated(Some(last)), terminated(container.previous.as_ref())),
        (None, None) => {
            let waiting = reason_message("ContainerCreating", None);
            (v1::ContainerState { waiting: Some(waiting), ..Default::default() }, v1::ContainerState::default())
        }
    }
}

/// Why a container that is to run again does not run; `None` if nothing is known that hinders it.
fn waiting(container: &ContainerState, pod: &PodState, now: Now) -> Option<v1::ContainerStateWaiting> {
    if matches!(container.run, Run::Done | Run::Interrupted) {
        return None;
    }
    let fresh = |trouble: &Trouble| now.mono.since(trouble.since) < FAILURE_SHOWN;
    match (&container.run, &container.trouble) {
        (Run::BackOff { .. }, Some(trouble)) if fresh(trouble) => Some(trouble_shown(trouble, container, pod, true)),
        (Run::BackOff { .. }, _) => {
            Some(reason_message("CrashLoopBackOff", Some(crash_loop_message(container, &pod.pod))))
        }
        (_, Some(trouble)) => Some(trouble_shown(trouble, container, pod, fresh(trouble))),
        (_, None) => None,
    }
}

fn trouble_shown(
    trouble: &Trouble,
    container: &ContainerState,
    pod: &PodState,
    fresh: bool,
) -> v1::ContainerStateWaiting {
    match &trouble.kind {
        TroubleKind::Start(failure) => reason_message(failure.reason.as_str(), Some(failure.message.clone())),
        TroubleKind::Image(problem) => {
            let image = spec_of(container, &pod.pod).and_then(|s| s.image.as_deref()).unwrap_or_default();
            image_problem(problem, image, fresh)
        }
    }
}

fn image_problem(problem: &ImageProblem, image: &str, fresh: bool) -> v1::ContainerStateWaiting {
    match problem {
        ImageProblem::ErrImageNeverPull { message } => reason_message("ErrImageNeverPull", Some(message.clone())),
        ImageProblem::InvalidImageName { message } => reason_message("InvalidImageName", Some(message.clone())),
        ImageProblem::ErrImagePull { message } if fresh => reason_message("ErrImagePull", Some(message.clone())),
        ImageProblem::ErrImagePull { message } => {
            let text = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
            reason_message("ImagePullBackOff", Some(text))
        }
    }
}

fn crash_loop_message(container: &ContainerState, pod: &StaticPod) -> String {
    let delay = go_duration(backoff::delay(container.backoff).unwrap_or_default());
    let (name, key, uid) = (&container.name, &pod.key, &pod.uid);
    format!("back-off {delay} restarting failed container={name} pod={}_{}({uid})", key.name, key.namespace)
}

fn reason_message(reason: &str, message: Option<String>) -> v1::ContainerStateWaiting {
    v1::ContainerStateWaiting { reason: Some(reason.to_owned()), message }
}

fn terminated(termination: Option<&Termination>) -> v1::ContainerState {
    let terminated = termination.map(|t| v1::ContainerStateTerminated {
        container_id: Some(format!("{ID_PREFIX}{}", t.id)),
        exit_code: t.status.code(),
        finished_at: Some(t.finished_at.to_time()),
        message: Some(t.message.clone()).filter(|m| !m.is_empty()),
        reason: Some(t.reason.as_str().to_owned()),
        signal: None,
        started_at: Some(t.started_at.to_time()),
    });
    v1::ContainerState { terminated, ..Default::default() }
}

fn container_user(user: &LinuxUser) -> v1::ContainerUser {
    let linux = v1::LinuxContainerUser {
        gid: i64::from(user.gid),
        supplemental_groups: Some(user.groups.iter().map(|g| i64::from(*g)).collect()),
        uid: i64::from(user.uid),
    };
    v1::ContainerUser { linux: Some(linux) }
}

fn volume_mounts(mounts: &[v1::VolumeMount]) -> Vec<v1::VolumeMountStatus> {
    let status = |m: &v1::VolumeMount| v1::VolumeMountStatus {
        mount_path: m.mount_path.clone(),
        name: m.name.clone(),
        read_only: m.read_only,
        // Mounts below a read-only volume stay writable, as with a runtime that cannot make them so.
        recursive_read_only: m.read_only.filter(|ro| *ro).map(|_| "Disabled".to_owned()),
        ..Default::default()
    };
    mounts.iter().map(status).collect()
}

type Quantities = Option<BTreeMap<String, Quantity>>;

/// Requests and limits of the pod: the sums over its containers (kubelet: `PodRequests`, `PodLimits`).
fn pod_resources(pod: &StaticPod) -> (Quantities, Quantities) {
    let containers = pod.object.spec.as_ref().map(|s| s.containers.as_slice()).unwrap_or_default();
    let resources = || containers.iter().filter_map(|c| c.resources.as_ref());
    (
        super::quantity::sum(resources().filter_map(|r| r.requests.as_ref())),
        super::quantity::sum(resources().filter_map(|r| r.limits.as_ref())),
    )
}

/// Why the pod is not running and ready, in plain words, most general first; empty if it is. For `explain`.
pub fn reasons(pod: &PodState, node: &NodeState, now: Now) -> Vec<String> {
    let mut lines = Vec::new();
    if node.stop_marker() && !pod.is_finished() {
        lines.push(STOPPED_MESSAGE.to_owned());
    }
    let doing = match pod.phase {
        Phase::Preparing => Some("its directories and volumes are being prepared"),
        Phase::Sandboxing => Some("its namespaces and network are being made"),
        Phase::Running => None,
        Phase::Stopping { .. } => Some("its containers are being stopped"),
        Phase::TakingDown { .. } => Some("its namespaces and network are being taken away"),
        Phase::Stopped { why: StopReason::Finished } => Some("all its containers have ended"),
        Phase::Stopped { .. } => Some("it is stopped"),
        Phase::Removing { .. } => Some("what is left of it is being removed"),
    };
    let lasting = pod.job.map(|job| lasting("", job.since, now)).unwrap_or_default();
    lines.extend(doing.map(|text| format!("{text}{lasting}")));
    if let Some(setback) = &pod.setback {
        lines.push(setback.message.clone());
    }
    for container in &pod.containers {
        lines.extend(container_reason(container, pod, now));
    }
    lines
}

fn container_reason(container: &ContainerState, pod: &PodState, now: Now) -> Option<String> {
    if container.running().is_some() {
        return None;
    }
    let name = &container.name;
    let (state, last) = states(container, pod, now);
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.map(|m| format!(": {m}")).unwrap_or_default();
        let lasting = match container.run {
            Run::Starting { since, .. } => lasting("its start has been ", since, now),
            Run::Resolving { since, .. } => lasting("the search for its image has been ", since, now),
            _ => String::new(),
        };
        let before = last.terminated.map(|last| format!("; its last run: {}", ended(last))).unwrap_or_default();
        return Some(format!("container {name}: {reason}{message}{lasting}{before}"));
    }
    Some(format!("container {name}: {}", ended(state.terminated?)))
}

fn ended(run: v1::ContainerStateTerminated) -> String {
    let message = run.message.map(|m| format!(": {}", m.trim_end())).unwrap_or_default();
    format!("{}, exit code {}{message}", run.reason.unwrap_or_default(), run.exit_code)
}

/// Names what has been in flight for long: mostly a file system that does not answer.
fn lasting(what: &str, since: Now, now: Now) -> String {
    let time = Duration::from_secs(now.mono.since(since.mono).as_secs());
    if time < LONG { String::new() } else { format!(" ({what}under way for {})", go_duration(time)) }
}

/// For `explain`, of a pod that has no place yet.
pub fn waiting_reason(why: &WaitingFor) -> String {
    match why {
        WaitingFor::Predecessor(uid) => {
            format!("waits until the pod that it replaces (UID {uid}) is removed")
        }
        WaitingFor::Room { max_pods } => {
            format!("waits: the node has as many pods as --max-pods allows ({max_pods})")
        }
    }
}
