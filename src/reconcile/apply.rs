//! Folds one fact into the state. Facts may be late, repeated or of pods that are gone: then they change nothing.

use super::backoff::STEP_RETRY;
use super::container::{ContainerState, Fate};
use super::event::{AdoptedPod, Event};
use super::state::{JobKind, NodeState, Phase, PodState, Sandbox, Setback, StopReason, Wanted};
use super::timeline::StageName;
use crate::model::id::{ContainerName, PodUid};
use crate::model::pod::StaticPod;
use crate::model::time::Now;
use std::net::IpAddr;
use std::sync::Arc;

pub fn apply(state: &mut NodeState, event: Event, now: Now) {
    match event {
        Event::Desired(pods) => desired(state, pods, now),
        Event::Adopted(pod) => adopted(state, *pod, now),
        Event::StopMarker(there) => state.stop_marker = there,
        Event::NodeAddress(address) => state.node_address = address,
        Event::ImagesChanged => {
            for container in state.pods.values_mut().flat_map(|p| &mut p.containers) {
                container.images_changed();
            }
        }
        Event::Removed { uid } => {
            if finish_job(state, &uid, JobKind::Remove).is_some() {
                state.forget(&uid, now);
                state.admit(now);
            }
        }
        Event::Prepared { uid } => prepared(state, &uid, now),
        Event::SandboxReady { uid, ip } => sandbox_ready(state, &uid, ip, now),
        Event::SandboxStopped { uid } => {
            if let Some((pod, _)) = finish_job(state, &uid, JobKind::StopSandbox) {
                pod.sandbox = Sandbox::Absent;
                pod.settle(now);
            }
        }
        Event::SandboxLost { uid } => {
            if let Some(pod) = state.pods.get_mut(&uid).filter(|p| p.sandbox == Sandbox::Ready) {
                // Half of it may be left, so it is still to be taken down.
                pod.sandbox = Sandbox::Partial;
                pod.settle(now);
            }
        }
        Event::PrepareFailed { uid, message } => failed(state, &uid, JobKind::Prepare, message, now),
        Event::SandboxFailed { uid, message } => failed(state, &uid, JobKind::EnsureSandbox, message, now),
        Event::SandboxStopFailed { uid, message } => failed(state, &uid, JobKind::StopSandbox, message, now),
        Event::RemoveFailed { uid, message } => failed(state, &uid, JobKind::Remove, message, now),
        Event::ImageFound { uid, container, image } => {
            on_container(state, &uid, &container, now, |c, _| {
                c.image_found(image).map(|since| (StageName::Image, since))
            });
        }
        Event::ImageMissing { uid, container, problem } => {
            on_container(state, &uid, &container, now, |c, _| {
                c.image_missing(problem, now);
                None
            });
        }
        Event::Started { uid, container, running } => {
            on_container(state, &uid, &container, now, |c, _| {
                c.started(running).map(|since| (StageName::Started, since))
            });
        }
        Event::StartFailed { uid, container, id, attempt, failure } => {
            on_container(state, &uid, &container, now, |c, fate| {
                c.start_failed(id, attempt, failure, fate, now).map(|since| (StageName::StartFailed, since))
            });
        }
        Event::Exited { uid, container, termination } => {
            on_container(state, &uid, &container, now, |c, fate| {
                c.exited(termination, fate.policy).then_some((StageName::Exited, now))
            });
        }
        Event::Lost { uid, container, id, attempt } => {
            on_container(state, &uid, &container, now, |c, fate| {
                c.lost(&id, attempt, fate, now).then_some((StageName::Exited, now))
            });
        }
    }
}

fn desired(state: &mut NodeState, pods: Vec<Arc<StaticPod>>, now: Now) {
    let before = state.desired.take().unwrap_or_default();
    let wanted = pods.into_iter().map(|pod| {
        let known = before.get(&pod.uid).filter(|w| w.pod.hash == pod.hash);
        let since = known.map_or(now, |w| w.since);
        (pod.uid.clone(), Wanted { pod, since })
    });
    let wanted: std::collections::BTreeMap<_, _> = wanted.collect();
    for (uid, pod) in &mut state.pods {
        match wanted.get(uid) {
            // The same content read anew, maybe by a newer pinlet with other defaults.
            Some(wanted) if pod.is(&wanted.pod) => pod.pod = wanted.pod.clone(),
            Some(_) | None => pod.begin_stop(StopReason::Deleted, now),
        }
    }
    state.desired = Some(wanted);
    state.admit(now);
}

fn adopted(state: &mut NodeState, adopted: AdoptedPod, now: Now) {
    let uid = adopted.pod.uid.clone();
    let limits = state.limits();
    state.pods.entry(uid).or_insert_with(|| PodState::adopted(adopted, limits, now));
}

fn prepared(state: &mut NodeState, uid: &PodUid, now: Now) {
    let Some((pod, since)) = finish_job(state, uid, JobKind::Prepare) else { return };
    pod.prepared = true;
    pod.timeline.mark(StageName::Prepared, None, now, now.mono.since(since.mono));
    if pod.phase == Phase::Preparing {
        pod.phase = Phase::Sandboxing;
    }
    pod.settle(now);
}

fn sandbox_ready(state: &mut NodeState, uid: &PodUid, ip: Option<IpAddr>, now: Now) {
    let Some((pod, since)) = finish_job(state, uid, JobKind::EnsureSandbox) else { return };
    pod.sandbox = Sandbox::Ready;
    pod.ip = ip;
    pod.timeline.mark(StageName::Sandbox, None, now, now.mono.since(since.mono));
    if pod.phase == Phase::Sandboxing {
        pod.phase = Phase::Running;
    }
    pod.settle(now);
}

fn failed(state: &mut NodeState, uid: &PodUid, kind: JobKind, message: String, now: Now) {
    if let Some((pod, _)) = finish_job(state, uid, kind) {
        pod.setback = Some(Setback { message, since: now, retry_at: now.mono + STEP_RETRY });
    }
}

/// Takes the job that this answers; `None` if no such job is in flight.
fn finish_job<'a>(state: &'a mut NodeState, uid: &PodUid, kind: JobKind) -> Option<(&'a mut PodState, Now)> {
    let pod = state.pods.get_mut(uid)?;
    let job = pod.job.take_if(|job| job.kind == kind)?;
    pod.setback = None;
    Some((pod, job.since))
}

/// Lets one container take in a fact, and notes the stage that it passed by it.
fn on_container(
    state: &mut NodeState,
    uid: &PodUid,
    name: &ContainerName,
    now: Now,
    fact: impl FnOnce(&mut ContainerState, Fate) -> Option<(StageName, Now)>,
) {
    let Some(pod) = state.pods.get_mut(uid) else { return };
    let fate = Fate { policy: pod.pod.restart_policy, stopping: !pod.may_start() };
    let Some(container) = pod.container_mut(name) else { return };
    if let Some((stage, since)) = fact(container, fate) {
        pod.timeline.mark(stage, Some(name), now, now.mono.since(since.mono));
        // Where an image was found is not kept.
        pod.unsaved |= stage != StageName::Image;
    }
    pod.settle(now);
}
