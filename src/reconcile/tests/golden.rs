//! Statuses that a kubelet posted (`tests/data/status`), rebuilt from the events that led to them.

use super::fixture::{Bench, SECOND, id, name, with_containers};
use crate::model::id::ContainerId;
use crate::model::image::ImageFacts;
use crate::model::observed::{
    ExitStatus, ImageProblem, LinuxUser, RunningContainer, StartFailure, StartFailureReason, TerminatedReason,
    Termination,
};
use crate::model::pod::{QosClass, RestartPolicy, StaticPod};
use crate::model::time::{Mono, Now, Wall};
use crate::reconcile::event::{BackoffMemo, Event};
use crate::reconcile::status;
use k8s_openapi::api::core::v1;
use serde_json::Value;
use std::path::Path;

/// A recorded pod, and a bench at the time when it was accepted.
struct Golden {
    bench: Bench,
    pod: StaticPod,
    recorded: v1::PodStatus,
}

impl Golden {
    fn new(case: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/status/{case}.json"));
        let text = std::fs::read_to_string(&path).expect("a recorded status");
        let recorded: v1::Pod = serde_json::from_str(&text).expect("a pod");
        let spec = recorded.spec.clone().expect("a spec");
        let names: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
        let mut pod = with_containers(&names);
        pod.uid = super::fixture::uid(recorded.metadata.uid.as_deref().expect("a uid"));
        pod.key.name = recorded.metadata.name.clone().expect("a name");
        pod.host_network = spec.host_network == Some(true);
        pod.restart_policy = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        };
        for (container, wire) in pod.containers.iter_mut().zip(&spec.containers) {
            container.image = wire.image.clone().unwrap_or_default();
        }
        let status = recorded.status.clone().expect("a status");
        pod.qos = match status.qos_class.as_deref() {
            Some("Burstable") => QosClass::Burstable,
            _ => QosClass::BestEffort,
        };
        pod.object = v1::Pod { status: None, ..recorded };
        let mut golden = Golden { bench: Bench::new(), pod, recorded: status };
        let start = golden.recorded.start_time.as_ref().map_or(0, |t| t.0.as_second());
        golden.bench.now = Now { mono: Mono(1000 * SECOND), wall: Wall(start * SECOND as i64) };
        golden.bench.apply(Event::NodeAddress(Some("192.0.2.2".parse().expect("an address"))));
        golden.bench.desire(&[&golden.pod.clone()]);
        golden
    }

    /// Goes to that second of the recording.
    fn at(&mut self, hh_mm_ss: &str) {
        let date = self.bench.now.wall.rfc3339_nanos();
        let to: v1::ContainerStateRunning =
            serde_json::from_value(serde_json::json!({ "startedAt": format!("{}T{hh_mm_ss}Z", &date[..10]) }))
                .expect("a time");
        let second = to.started_at.map_or(0, |t| t.0.as_second());
        self.bench.pass_seconds(u64::try_from(second - self.bench.now.wall.0 / SECOND as i64).expect("later"));
        self.bench.plan();
    }

    fn sandbox(&mut self) {
        let ip = (!self.pod.host_network).then(|| self.recorded.pod_ip.as_deref().expect("an address"));
        let ip = ip.map(|ip| ip.parse().expect("an address"));
        self.bench.after(Event::Prepared { uid: self.pod.uid.clone() });
        self.bench.after(Event::SandboxReady { uid: self.pod.uid.clone(), ip });
    }

    fn recorded_container(&self, container: &str) -> &v1::ContainerStatus {
        let statuses = self.recorded.container_statuses.as_ref().expect("statuses");
        statuses.iter().find(|s| s.name == container).expect("a status")
    }

    fn image(&self, container: &str) -> Box<ImageFacts> {
        let recorded = self.recorded_container(container);
        let (reference, image_id) = (recorded.image.clone(), recorded.image_id.clone());
        Box::new(ImageFacts { reference, image_id, layers: Vec::new(), config: Default::default() })
    }

    fn found(&mut self, container: &str) {
        let image = self.image(container);
        self.bench.after(Event::ImageFound { uid: self.pod.uid.clone(), container: name(container), image });
    }

    /// The id of the recording if this is the attempt that it shows.
    fn id(&self, container: &str, attempt: u32) -> ContainerId {
        let recorded = self.recorded_container(container);
        let text = recorded.container_id.as_deref().and_then(|t| t.strip_prefix("pinlet://")).expect("an id");
        let shown = u32::try_from(recorded.restart_count) == Ok(attempt);
        if shown { ContainerId::new(text).expect("64 hex digits") } else { id(container, attempt) }
    }

    fn start(&mut self, container: &str, attempt: u32) {
        let image = self.image(container);
        let running = RunningContainer {
            id: self.id(container, attempt),
            image: image.reference,
            image_id: image.image_id,
            user: Some(LinuxUser { uid: 0, gid: 0, groups: vec![0] }),
            ..super::fixture::running(container, attempt, self.bench.now)
        };
        self.bench.after(Event::Started { uid: self.pod.uid.clone(), container: name(container), running });
    }

    fn exit(&mut self, container: &str, attempt: u32, code: i32, message: &str) {
        let started_at = self.bench.pod(&self.pod).container(&name(container)).and_then(|c| c.running());
        let image = self.image(container);
        let termination = Termination {
            id: self.id(container, attempt),
            status: ExitStatus::Code(code),
            reason: if code == 0 { TerminatedReason::Completed } else { TerminatedReason::Error },
            message: message.to_owned(),
            started_at: started_at.map_or(Wall::EPOCH, |r| r.started_at),
            image: image.reference,
            image_id: image.image_id,
            ..super::fixture::termination(container, attempt, code, self.bench.now)
        };
        self.bench.after(Event::Exited { uid: self.pod.uid.clone(), container: name(container), termination });
    }

    fn miss(&mut self, container: &str, problem: ImageProblem) {
        self.bench.after(Event::ImageMissing { uid: self.pod.uid.clone(), container: name(container), problem });
    }

    fn check(&self) {
        let status = status::pod_status(self.bench.pod(&self.pod), &self.bench.state, self.bench.now);
        let json = |s: &v1::PodStatus| -> Value { serde_json::to_value(s).expect("json") };
        let (ours, theirs) = (json(&status), json(&self.recorded));
        let pretty = |v: &Value| serde_json::to_string_pretty(v).expect("json");
        assert_eq!(pretty(&ours), pretty(&theirs), "ours, then the kubelet's");
    }
}

#[test]
fn a_running_pod_on_the_hosts_network_with_resources() {
    let mut golden = Golden::new("running");
    golden.sandbox();
    golden.found("httpd");
    golden.start("httpd", 0);
    golden.check();
}

#[test]
fn a_running_pod_with_an_address_of_its_own_and_a_normalised_image() {
    let mut golden = Golden::new("pod-network");
    golden.at("23:06:10");
    golden.sandbox();
    golden.found("nodejs");
    golden.start("nodejs", 0);
    // The recorded pod has a readiness probe that took a second.
    golden.recorded.conditions.iter_mut().flatten().filter(|c| c.type_.ends_with("Ready")).for_each(|c| {
        c.last_transition_time = Some(golden.bench.now.wall.to_time());
    });
    golden.check();
}

#[test]
fn a_crash_loop_with_a_termination_message() {
    let mut golden = Golden::new("crash-loop");
    golden.at("23:06:10");
    golden.sandbox();
    golden.found("c");
    let starts = ["23:06:10", "23:06:11", "23:06:22", "23:06:43", "23:07:44"];
    let exits = ["23:06:11", "23:06:12", "23:06:23", "23:06:44", "23:07:45"];
    for (attempt, (start, exit)) in (0..).zip(starts.into_iter().zip(exits)) {
        golden.at(start);
        golden.found("c");
        golden.start("c", attempt);
        golden.at(exit);
        golden.exit("c", attempt, 3, "bye\n");
    }
    golden.check();
}

#[test]
fn a_pod_that_completed() {
    let mut golden = Golden::new("completed");
    golden.sandbox();
    golden.found("c");
    golden.at("23:09:39");
    golden.start("c", 0);
    golden.at("23:09:40");
    golden.exit("c", 0, 0, "");
    // The kubelet noticed the exit a second later.
    golden.at("23:09:42");
    golden.bench.after(Event::SandboxStopped { uid: golden.pod.uid.clone() });
    golden.recorded.conditions.iter_mut().flatten().filter(|c| c.type_.ends_with("Ready")).for_each(|c| {
        c.last_transition_time = c.last_transition_time.take().map(|_| Wall(1_795_475_380 * SECOND as i64).to_time());
    });
    golden.check();
}

#[test]
fn a_pod_that_failed() {
    let mut golden = Golden::new("failed");
    golden.sandbox();
    golden.found("c");
    golden.at("23:09:38");
    golden.start("c", 0);
    golden.exit("c", 0, 7, "");
    golden.at("23:09:39");
    golden.bench.after(Event::SandboxStopped { uid: golden.pod.uid.clone() });
    golden.check();
}

#[test]
fn images_that_cannot_be_had_beside_a_container_that_runs() {
    let mut golden = Golden::new("no-image");
    golden.sandbox();
    golden.at("23:09:38");
    let error = "rpc error: code = NotFound desc = failed to pull and unpack image \"example.com/none:1\": \
                 failed to resolve image: example.com/none:1: not found";
    golden.miss("c", ImageProblem::ErrImagePull { message: error.to_owned() });
    golden.found("d");
    golden.start("d", 0);
    let error = "Container image \"localhost/nopull:1\" is not present with pull policy of Never";
    golden.miss("e", ImageProblem::ErrImageNeverPull { message: error.to_owned() });
    golden.at("23:09:45");
    golden.check();
}

#[test]
fn a_command_that_is_not_in_the_image() {
    let mut golden = Golden::new("start-error");
    golden.at("23:09:38");
    golden.sandbox();
    let message = golden.recorded_container("c").last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let message = message.and_then(|t| t.message.clone()).expect("a message");
    for (attempt, time) in (0..).zip(["23:09:38", "23:09:39", "23:09:49"]) {
        golden.at(time);
        golden.found("c");
        let failure = StartFailure { reason: StartFailureReason::RunContainerError, message: message.clone() };
        let id = golden.id("c", attempt);
        let (uid, container) = (golden.pod.uid.clone(), name("c"));
        golden.bench.after(Event::StartFailed { uid, container, id, attempt, failure });
    }
    golden.at("23:09:55");
    // containerd knows the user of a container that never ran; nobody tells us.
    golden.recorded.container_statuses.iter_mut().flatten().for_each(|s| s.user = None);
    golden.check();
    let memo = golden.bench.pod(&golden.pod).container(&name("c")).and_then(|c| c.backoff);
    assert_eq!(memo.map(|BackoffMemo { delay_ms, .. }| delay_ms), Some(20_000));
}
