//! Restart policies and back-off.

use super::fixture::{Bench, base_pod, id, name, with_containers};
use crate::model::pod::{RestartPolicy, StaticPod};
use crate::reconcile::event::Event;
use std::time::Duration;

#[test]
fn the_first_exit_restarts_at_once_and_the_next_ones_wait_10_20_40_80_160_300_300_seconds() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.pass_seconds(5);
    assert_eq!(bench.exited(&pod, "c", 0, 3), ["ResolveImage c"]);
    assert_eq!(bench.found(&pod, "c"), ["Start c 1"]);
    bench.started(&pod, "c", 1);
    for (attempt, wait) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300)] {
        bench.pass_seconds(1);
        let emitted = bench.exited(&pod, "c", attempt, 3);
        assert_eq!(emitted, [format!("RemoveContainer c {}", attempt - 1), "Persist one".to_owned()]);
        assert_eq!(bench.wake_in, Some(Duration::from_secs(wait)));
        assert_eq!(bench.container_state(&pod, "c"), "Waiting CrashLoopBackOff");
        assert_eq!((bench.phase(&pod).as_str(), bench.restarts(&pod)), ("Running", attempt as i32));
        bench.pass(Duration::from_secs(wait) - Duration::from_millis(1));
        assert_eq!(bench.plan(), [""; 0]);
        bench.pass(Duration::from_millis(1));
        bench.restart(&pod, attempt + 1);
    }
}

#[test]
fn the_message_of_a_crash_loop_is_the_kubelets() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 3);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    bench.exited(&pod, "c", 1, 3);
    let status = bench.container_status(&pod, "c");
    let message = status.state.and_then(|s| s.waiting).and_then(|w| w.message);
    assert_eq!(message.as_deref(), Some("back-off 10s restarting failed container=c pod=web-vm_default(one)"));
    let last = status.last_state.and_then(|s| s.terminated).expect("the exit is the last state");
    assert_eq!((last.exit_code, status.ready, status.started), (3, false, Some(false)));
}

#[test]
fn exit_code_zero_backs_off_as_well_under_always() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    assert_eq!(bench.exited(&pod, "c", 0, 0), ["ResolveImage c"]);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    bench.exited(&pod, "c", 1, 0);
    assert_eq!(bench.wake_in, Some(Duration::from_secs(10)));
}

#[test]
fn a_container_that_ran_for_more_than_600_seconds_restarts_at_once_again() {
    for (ran, waits) in [(600, true), (601, false)] {
        let mut bench = Bench::new();
        let pod = base_pod();
        bench.run(&pod);
        bench.exited(&pod, "c", 0, 1);
        bench.found(&pod, "c");
        bench.started(&pod, "c", 1);
        bench.pass_seconds(ran);
        let emitted = bench.exited(&pod, "c", 1, 1);
        assert_eq!(!emitted.contains(&"ResolveImage c".to_owned()), waits, "after {ran} s");
    }
}

#[test]
fn a_restart_period_of_one_second_makes_every_wait_one_second() {
    let mut bench = Bench::with(|s| s.max_restart_period = Duration::from_secs(1));
    let pod = base_pod();
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 1);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    for attempt in 1..5 {
        bench.exited(&pod, "c", attempt, 1);
        assert_eq!(bench.wake_in, Some(Duration::from_secs(1)));
        bench.pass_seconds(1);
        bench.restart(&pod, attempt + 1);
    }
}

#[test]
fn on_failure_restarts_a_failure_and_finishes_with_success() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::OnFailure, ..base_pod() };
    bench.run(&pod);
    assert_eq!(bench.exited(&pod, "c", 0, 1), ["ResolveImage c"]);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    assert_eq!(bench.exited(&pod, "c", 1, 0), ["StopSandbox one", "RemoveContainer c 0", "Persist one"]);
    assert_eq!(bench.after(Event::SandboxStopped { uid: pod.uid.clone() }), [""; 0]);
    assert_eq!((bench.phase(&pod).as_str(), bench.restarts(&pod)), ("Succeeded", 1));
    assert_eq!(bench.container_state(&pod, "c"), "Terminated Completed 0");
    bench.pass_seconds(100_000);
    assert_eq!((bench.plan(), bench.wake_in), (Vec::new(), None), "and stays so");
}

#[test]
fn never_restarts_nothing_and_a_failure_fails_the_pod() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    bench.run(&pod);
    assert_eq!(bench.exited(&pod, "c", 0, 7), ["StopSandbox one", "Persist one"]);
    bench.after(Event::SandboxStopped { uid: pod.uid.clone() });
    assert_eq!(bench.phase(&pod), "Failed");
    assert_eq!(bench.status(&pod).pod_ip.as_deref(), Some("10.85.0.2"), "addresses stay in the status");
}

#[test]
fn a_pod_goes_on_while_one_of_its_containers_runs() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..with_containers(&["a", "b"]) };
    bench.run(&pod);
    assert_eq!(bench.exited(&pod, "a", 0, 0), ["Persist one"]);
    assert_eq!(bench.phase(&pod), "Running");
    assert_eq!(bench.exited(&pod, "b", 0, 1), ["StopSandbox one", "Persist one"]);
    assert_eq!(bench.phase(&pod), "Failed");
}

#[test]
fn a_container_that_nobody_saw_end_restarts_by_policy() {
    for (policy, emitted) in [
        (RestartPolicy::Always, &["ResolveImage c"][..]),
        (RestartPolicy::OnFailure, &["ResolveImage c"]),
        (RestartPolicy::Never, &["StopSandbox one", "Persist one"]),
    ] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: policy, ..base_pod() };
        bench.run(&pod);
        let lost = Event::Lost { uid: pod.uid.clone(), container: name("c"), id: id("c", 0), attempt: 0 };
        assert_eq!(bench.after(lost), emitted, "{policy:?}");
        assert_eq!(bench.container_state(&pod, "c"), "Terminated ContainerStatusUnknown 137");
    }
}

#[test]
fn of_the_dead_containers_of_a_name_only_the_latest_is_kept() {
    let mut bench = Bench::with(|s| s.max_restart_period = Duration::from_secs(1));
    let pod = base_pod();
    bench.run(&pod);
    let first = bench.exited(&pod, "c", 0, 1);
    assert!(!first.iter().any(|a| a.starts_with("RemoveContainer")), "{first:?}");
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    assert_eq!(bench.exited(&pod, "c", 1, 1)[0], "RemoveContainer c 0");
}

#[test]
fn a_sandbox_that_vanished_is_made_anew_for_the_next_start_and_disturbs_nobody() {
    let mut bench = Bench::new();
    let pod = with_containers(&["c", "d"]);
    bench.run(&pod);
    assert_eq!(bench.after(Event::SandboxLost { uid: pod.uid.clone() }), [""; 0]);
    assert_eq!(bench.exited(&pod, "c", 0, 1), ["Prepare one", "ResolveImage c"]);
    bench.found(&pod, "c");
    assert_eq!(bench.after(Event::Prepared { uid: pod.uid.clone() }), ["EnsureSandbox one"]);
    assert_eq!(bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None }), ["Start c 1"]);
    assert_eq!(bench.container_state(&pod, "d"), "Running");
}
