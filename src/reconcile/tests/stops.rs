//! `stop-pods`: the stop marker.

use super::fixture::{Bench, base_pod, edited, with_containers};
use crate::model::pod::{RestartPolicy, StaticPod};
use crate::reconcile::event::Event;
use std::time::Duration;

fn stopped(bench: &mut Bench, pod: &StaticPod) -> Vec<String> {
    bench.after(Event::SandboxStopped { uid: pod.uid.clone() })
}

#[test]
fn the_marker_stops_every_pod_takes_its_sandbox_away_and_keeps_its_directories() {
    let mut bench = Bench::new();
    let pod = with_containers(&["a", "b"]);
    bench.run(&pod);
    assert_eq!(bench.after(Event::StopMarker(true)), ["Signal a 0 15", "Signal b 0 15", "Persist one"]);
    assert!(!bench.state.all_stopped());
    bench.exited(&pod, "a", 0, 143);
    assert_eq!(bench.exited(&pod, "b", 0, 0), ["StopSandbox one", "Persist one"]);
    assert_eq!(stopped(&mut bench, &pod), [""; 0]);
    assert!(bench.state.all_stopped());
    assert_eq!(bench.status(&pod).reason.as_deref(), Some("Stopped"));
    assert_eq!(bench.phase(&pod), "Running", "it will run again");
    assert!(!bench.pod(&pod).is_terminating());
    bench.pass_seconds(100_000);
    assert_eq!((bench.plan(), bench.wake_in), (Vec::new(), None));
}

#[test]
fn when_the_marker_goes_the_pods_start_again_without_back_off_and_with_one_restart_more() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: policy, ..base_pod() };
        bench.run(&pod);
        bench.after(Event::StopMarker(true));
        bench.exited(&pod, "c", 0, 0);
        stopped(&mut bench, &pod);
        assert_eq!(bench.after(Event::StopMarker(false)), ["Prepare one", "ResolveImage c"], "{policy:?}");
        bench.make_sandbox(&pod);
        assert_eq!(bench.found(&pod, "c"), ["Start c 1"]);
        bench.started(&pod, "c", 1);
        assert_eq!((bench.restarts(&pod), bench.phase(&pod).as_str()), (1, "Running"));
    }
}

#[test]
fn a_container_in_back_off_starts_at_once_when_the_marker_goes() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 1);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    bench.exited(&pod, "c", 1, 1);
    assert_eq!(bench.after(Event::StopMarker(true)), ["StopSandbox one"]);
    stopped(&mut bench, &pod);
    bench.pass_seconds(60);
    assert_eq!(bench.plan(), [""; 0], "its back-off is over, but the marker is there");
    assert_eq!(bench.after(Event::StopMarker(false)), ["Prepare one", "ResolveImage c"]);
    bench.make_sandbox(&pod);
    assert_eq!(bench.found(&pod, "c"), ["Start c 2"]);
}

#[test]
fn a_finished_pod_stays_finished_through_the_marker() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 0);
    stopped(&mut bench, &pod);
    assert_eq!(bench.after(Event::StopMarker(true)), [""; 0]);
    assert_eq!(bench.after(Event::StopMarker(false)), [""; 0]);
    assert_eq!(bench.phase(&pod), "Succeeded");
}

#[test]
fn a_container_that_ended_by_itself_before_the_marker_is_final_and_the_others_run_again() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..with_containers(&["a", "b"]) };
    bench.run(&pod);
    bench.exited(&pod, "a", 0, 0);
    bench.after(Event::StopMarker(true));
    bench.exited(&pod, "b", 0, 143);
    stopped(&mut bench, &pod);
    assert_eq!(bench.after(Event::StopMarker(false)), ["Prepare one", "ResolveImage b"]);
}

#[test]
fn under_the_marker_new_pods_are_taken_in_and_nothing_of_them_is_started() {
    let mut bench = Bench::new();
    bench.after(Event::StopMarker(true));
    let pod = base_pod();
    assert_eq!(bench.desire(&[&pod]), [""; 0]);
    assert!(bench.state.all_stopped());
    assert_eq!(bench.phase(&pod), "Pending");
    assert_eq!(bench.desire(&[]), ["Remove one"]);
}

#[test]
fn a_pod_that_is_being_made_when_the_marker_comes_is_taken_down_when_the_step_is_over() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.after(Event::Prepared { uid: pod.uid.clone() });
    assert_eq!(bench.after(Event::StopMarker(true)), ["Persist one"]);
    assert_eq!(bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None }), ["StopSandbox one"]);
}

#[test]
fn the_grace_period_only_shrinks() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.after(Event::StopMarker(true));
    bench.pass_seconds(20);
    assert_eq!(bench.desire(&[]), [""; 0], "signalled already");
    assert_eq!(bench.wake_in, Some(Duration::from_secs(10)));
}

#[test]
fn an_edit_under_the_marker_removes_the_old_pod_and_holds_the_new_one() {
    let mut bench = Bench::new();
    let (old, new) = (base_pod(), edited(&base_pod(), "two"));
    bench.run(&old);
    bench.after(Event::StopMarker(true));
    bench.exited(&old, "c", 0, 143);
    stopped(&mut bench, &old);
    assert_eq!(bench.desire(&[&new]), ["RemoveContainer c 0", "Remove one"]);
    assert_eq!(bench.after(Event::Removed { uid: old.uid.clone() }), [""; 0]);
    assert_eq!(bench.after(Event::StopMarker(false)), ["Prepare two", "ResolveImage c"]);
}

#[test]
fn a_marker_that_goes_while_pods_still_stop_lets_them_stop_and_then_start() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.after(Event::StopMarker(true));
    assert_eq!(bench.after(Event::StopMarker(false)), [""; 0]);
    bench.exited(&pod, "c", 0, 143);
    assert_eq!(stopped(&mut bench, &pod), ["Prepare one", "ResolveImage c"]);
}
