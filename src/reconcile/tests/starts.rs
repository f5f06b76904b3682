//! From a manifest to a running container.

use super::fixture::{Bench, base_pod, id, name, uid, with_containers};
use crate::model::observed::{StartFailure, StartFailureReason};
use crate::model::pod::{RestartPolicy, StaticPod};
use crate::reconcile::event::Event;
use crate::reconcile::timeline::StageName;
use std::time::Duration;

fn start_failed(bench: &mut Bench, pod: &StaticPod, attempt: u32, reason: StartFailureReason) -> Vec<String> {
    let failure = StartFailure { reason, message: "it broke".to_owned() };
    let event =
        Event::StartFailed { uid: pod.uid.clone(), container: name("c"), id: id("c", attempt), attempt, failure };
    bench.after(event)
}

#[test]
fn a_new_pod_is_prepared_and_its_image_looked_for_at_once() {
    let mut bench = Bench::new();
    let pod = base_pod();
    assert_eq!(bench.desire(&[&pod]), ["Prepare one", "ResolveImage c"]);
    assert_eq!(bench.after(Event::Prepared { uid: pod.uid.clone() }), ["EnsureSandbox one"]);
    assert_eq!(bench.found(&pod, "c"), [""; 0]);
    assert_eq!(bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None }), ["Start c 0"]);
    assert_eq!(bench.phase(&pod), "Pending");
    assert_eq!(bench.started(&pod, "c", 0), [""; 0]);
    assert_eq!(bench.phase(&pod), "Running");
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.plan(), ["Persist one"]);
    assert_eq!(bench.wake_in, None, "a running pod needs no waking");
}

#[test]
fn a_container_starts_only_when_directories_sandbox_and_image_are_there_in_whatever_order_they_come() {
    let pod = base_pod();
    for image_after in 0..3 {
        let mut bench = Bench::new();
        bench.desire(&[&pod]);
        let mut emitted = Vec::new();
        for step in 0..3 {
            if step == image_after {
                emitted = bench.found(&pod, "c");
            }
            assert!(step == 2 || !emitted.contains(&"Start c 0".to_owned()), "started after step {step}");
            match step {
                0 => emitted = bench.after(Event::Prepared { uid: pod.uid.clone() }),
                1 => emitted = bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None }),
                _ => {}
            }
        }
        assert_eq!(emitted, ["Start c 0"]);
    }
}

#[test]
fn all_containers_of_a_pod_start_side_by_side() {
    let mut bench = Bench::new();
    let pod = with_containers(&["b", "a"]);
    assert_eq!(bench.desire(&[&pod]), ["Prepare one", "ResolveImage b", "ResolveImage a"]);
    bench.make_sandbox(&pod);
    assert_eq!(bench.found(&pod, "a"), ["Start a 0"]);
    assert_eq!(bench.found(&pod, "b"), ["Start b 0"]);
}

#[test]
fn failed_directories_and_a_failed_sandbox_are_tried_again_after_ten_seconds() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.found(&pod, "c");
    let failed = Event::PrepareFailed { uid: pod.uid.clone(), message: "hostPath type check failed".to_owned() };
    assert_eq!(bench.after(failed), [""; 0]);
    assert_eq!(bench.container_state(&pod, "c"), "Waiting ContainerCreating");
    let reasons = super::super::status::reasons(bench.pod(&pod), &bench.state, bench.now);
    assert!(reasons.contains(&"hostPath type check failed".to_owned()), "{reasons:?}");
    assert_eq!(bench.wake_in.map(|d| d.as_secs()), Some(10));
    bench.pass_seconds(9);
    assert_eq!(bench.plan(), [""; 0]);
    bench.pass_seconds(1);
    assert_eq!(bench.plan(), ["Prepare one"]);
    assert_eq!(bench.after(Event::Prepared { uid: pod.uid.clone() }), ["EnsureSandbox one"]);
    let failed = Event::SandboxFailed { uid: pod.uid.clone(), message: "no address is free".to_owned() };
    assert_eq!(bench.after(failed), ["Persist one"]);
    bench.pass_seconds(10);
    assert_eq!(bench.plan(), ["EnsureSandbox one"]);
    assert_eq!(bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None }), ["Start c 0"]);
}

#[test]
fn a_start_that_fails_before_libcontainer_is_tried_again_after_ten_seconds_and_is_no_restart() {
    for reason in [StartFailureReason::CreateContainerError, StartFailureReason::CreateContainerConfigError] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
        bench.desire(&[&pod]);
        bench.make_sandbox(&pod);
        bench.found(&pod, "c");
        assert_eq!(start_failed(&mut bench, &pod, 0, reason), ["RemoveContainer c 0", "Persist one"]);
        assert_eq!(bench.container_state(&pod, "c"), format!("Waiting {}", reason.as_str()));
        assert_eq!(bench.phase(&pod), "Pending");
        bench.pass_seconds(10);
        assert_eq!(bench.plan(), ["ResolveImage c"]);
        assert_eq!(bench.container_state(&pod, "c"), format!("Waiting {}", reason.as_str()), "until it starts");
        assert_eq!(bench.found(&pod, "c"), ["Start c 1"], "no attempt is used twice: it names files");
        bench.started(&pod, "c", 1);
        assert_eq!((bench.restarts(&pod), bench.phase(&pod).as_str()), (0, "Running"));
    }
}

#[test]
fn a_start_that_fails_inside_libcontainer_counts_as_a_crash() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    bench.found(&pod, "c");
    let failed = start_failed(&mut bench, &pod, 0, StartFailureReason::RunContainerError);
    assert_eq!(failed, ["ResolveImage c"], "the first is tried again at once");
    assert_eq!(bench.container_state(&pod, "c"), "Waiting RunContainerError");
    assert_eq!(bench.found(&pod, "c"), ["Start c 1"]);
    let failed = start_failed(&mut bench, &pod, 1, StartFailureReason::RunContainerError);
    assert_eq!(failed, ["RemoveContainer c 0", "Persist one"]);
    assert_eq!((bench.restarts(&pod), bench.phase(&pod).as_str()), (1, "Running"));
    bench.pass_seconds(6);
    assert_eq!(bench.container_state(&pod, "c"), "Waiting CrashLoopBackOff");
    let last = bench.container_status(&pod, "c").last_state.and_then(|s| s.terminated).expect("a last state");
    assert_eq!((last.reason.as_deref(), last.exit_code), (Some("StartError"), 128));
    assert_eq!(last.message.as_deref(), Some("it broke"));
    assert_eq!(last.started_at.map(|t| t.0.as_second()), Some(0));
    bench.pass_seconds(4);
    assert_eq!(bench.plan(), ["ResolveImage c"]);
}

#[test]
fn with_never_a_start_that_fails_inside_libcontainer_fails_the_pod() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    bench.found(&pod, "c");
    let failed = start_failed(&mut bench, &pod, 0, StartFailureReason::RunContainerError);
    assert_eq!(failed, ["StopSandbox one", "Persist one"]);
    assert_eq!(bench.container_state(&pod, "c"), "Terminated StartError 128");
    assert_eq!(bench.phase(&pod), "Failed");
}

#[test]
fn an_exit_that_overtakes_the_news_of_its_start_is_that_containers_exit() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    bench.found(&pod, "c");
    assert_eq!(bench.exited(&pod, "c", 0, 3), ["StopSandbox one", "Persist one"]);
    assert_eq!(bench.started(&pod, "c", 0), [""; 0], "it came too late");
    assert_eq!(bench.container_state(&pod, "c"), "Terminated Error 3");
}

#[test]
fn a_monitor_that_dies_before_it_tells_how_the_start_went_counts_as_a_crash() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    bench.found(&pod, "c");
    let lost = Event::Lost { uid: pod.uid.clone(), container: name("c"), id: id("c", 0), attempt: 0 };
    assert_eq!(bench.after(lost), ["ResolveImage c"]);
    assert_eq!(bench.container_state(&pod, "c"), "Terminated ContainerStatusUnknown 137");
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    assert_eq!(bench.restarts(&pod), 1);
}

#[test]
fn facts_of_unknown_pods_and_containers_and_repeated_facts_change_nothing() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    let before = format!("{:?}", bench.state);
    let stranger = StaticPod { uid: uid("stranger"), ..base_pod() };
    let stale = [
        Event::Prepared { uid: pod.uid.clone() },
        Event::PrepareFailed { uid: pod.uid.clone(), message: String::new() },
        Event::SandboxReady { uid: pod.uid.clone(), ip: None },
        Event::SandboxFailed { uid: pod.uid.clone(), message: String::new() },
        Event::SandboxStopped { uid: pod.uid.clone() },
        Event::Removed { uid: pod.uid.clone() },
        Event::Lost { uid: pod.uid.clone(), container: name("c"), id: id("c", 9), attempt: 9 },
        Event::Prepared { uid: stranger.uid.clone() },
        Event::Removed { uid: stranger.uid.clone() },
    ];
    for event in stale {
        assert_eq!(bench.after(event.clone()), [""; 0], "{event:?}");
    }
    bench.started(&pod, "c", 0);
    bench.started(&pod, "other", 0);
    bench.exited(&pod, "c", 7, 1);
    bench.exited(&stranger, "c", 0, 1);
    bench.found(&pod, "c");
    assert_eq!(format!("{:?}", bench.state), before);
}

#[test]
fn the_stages_of_a_start_are_noted_with_their_times() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.pass_seconds(1);
    bench.after(Event::Prepared { uid: pod.uid.clone() });
    bench.pass_seconds(2);
    bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None });
    bench.pass_seconds(3);
    bench.found(&pod, "c");
    bench.pass_seconds(4);
    bench.started(&pod, "c", 0);
    let stages: Vec<_> =
        bench.pod(&pod).timeline.stages().iter().map(|s| (s.name, s.took.as_secs(), s.container.is_some())).collect();
    let expected = [
        (StageName::Accepted, 0, false),
        (StageName::Prepared, 1, false),
        (StageName::Sandbox, 2, false),
        (StageName::Image, 6, true),
        (StageName::Started, 4, true),
    ];
    assert_eq!(stages, expected);
}
