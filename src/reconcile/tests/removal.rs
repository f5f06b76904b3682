//! Pods that go: removed, edited, or put back.

use super::fixture::{Bench, base_pod, edited, uid, with_containers};
use crate::model::pod::{RestartPolicy, StaticPod};
use crate::reconcile::event::Event;
use crate::reconcile::state::WaitingFor;
use std::time::Duration;

fn removed(bench: &mut Bench, pod: &StaticPod) -> Vec<String> {
    bench.after(Event::Removed { uid: pod.uid.clone() })
}

#[test]
fn a_removed_file_signals_all_containers_at_once_and_kills_at_the_end_of_the_grace_period() {
    let mut bench = Bench::new();
    let pod = with_containers(&["a", "b"]);
    bench.run(&pod);
    assert_eq!(bench.desire(&[]), ["Signal a 0 15", "Signal b 0 15"]);
    assert_eq!(bench.wake_in, Some(Duration::from_secs(30)));
    bench.exited(&pod, "a", 0, 143);
    bench.pass_seconds(29);
    assert_eq!(bench.plan(), [""; 0]);
    bench.pass_seconds(1);
    assert_eq!(bench.plan(), ["Kill b 0"]);
    bench.pass_seconds(10);
    assert_eq!(bench.plan(), ["Kill b 0"], "until its exit is seen");
    assert_eq!(bench.exited(&pod, "b", 0, 137), ["RemoveContainer a 0", "RemoveContainer b 0", "Remove one"]);
    assert!(bench.state.pod(&pod.uid).is_some(), "listed until nothing of it is left");
    assert_eq!(removed(&mut bench, &pod), [""; 0]);
    assert!(bench.state.pod(&pod.uid).is_none());
}

#[test]
fn a_terminating_pod_shows_when_it_will_be_gone_and_how_it_stands() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.desire(&[]);
    bench.pass_seconds(3);
    let object = super::super::status::pod_object(bench.pod(&pod), &bench.state, bench.now);
    let asked = bench.now.wall.0 / 1_000_000_000 - 3;
    assert_eq!(object.metadata.deletion_timestamp.map(|t| t.0.as_second()), Some(asked + 30));
    assert_eq!(object.metadata.deletion_grace_period_seconds, Some(30));
    assert_eq!(object.metadata.creation_timestamp.map(|t| t.0.as_second()), Some(asked));
    let seen = object.metadata.annotations.and_then(|a| a.get("kubernetes.io/config.seen").cloned());
    assert_eq!(seen.as_deref(), Some("2023-11-14T22:13:20.000000000Z"));
    assert_eq!(bench.phase(&pod), "Running");
}

#[test]
fn a_removal_that_fails_is_tried_again_after_ten_seconds() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.desire(&[]);
    bench.exited(&pod, "c", 0, 143);
    let failed = Event::RemoveFailed { uid: pod.uid.clone(), message: "device busy".to_owned() };
    assert_eq!(bench.after(failed), [""; 0]);
    bench.pass_seconds(10);
    assert_eq!(bench.plan(), ["Remove one"]);
}

#[test]
fn an_edit_terminates_the_old_pod_fully_and_then_starts_the_new_one_at_once() {
    let mut bench = Bench::new();
    let old = base_pod();
    let new = edited(&old, "two");
    bench.run(&old);
    assert_eq!(bench.desire(&[&new]), ["Signal c 0 15"]);
    let waiting: Vec<_> = bench.state.waiting().map(|w| w.why).collect();
    assert_eq!(waiting, [WaitingFor::Predecessor(old.uid.clone())]);
    bench.exited(&old, "c", 0, 0);
    assert_eq!(removed(&mut bench, &old), ["Prepare two", "ResolveImage c"]);
    assert_eq!(bench.state.pods().count(), 1);
    assert_eq!(bench.state.waiting().count(), 0);
}

#[test]
fn of_many_edits_during_a_termination_only_the_last_ever_starts() {
    let mut bench = Bench::new();
    let old = base_pod();
    bench.run(&old);
    for n in 0..300 {
        bench.desire(&[&edited(&old, &format!("edit-{n}"))]);
    }
    bench.exited(&old, "c", 0, 0);
    assert_eq!(removed(&mut bench, &old), ["Prepare edit-299", "ResolveImage c"]);
}

#[test]
fn an_edit_under_a_given_uid_replaces_the_pod_and_forgets_its_counters() {
    let mut bench = Bench::new();
    let old = base_pod();
    let new = StaticPod { hash: "other".to_owned(), ..base_pod() };
    bench.run(&old);
    bench.exited(&old, "c", 0, 1);
    bench.found(&old, "c");
    bench.started(&old, "c", 1);
    assert_eq!(bench.desire(&[&new])[0], "Signal c 1 15");
    bench.exited(&old, "c", 1, 0);
    assert_eq!(removed(&mut bench, &old), ["Prepare one", "ResolveImage c"]);
    assert_eq!(bench.pod(&new).pod.hash, "other");
    assert_eq!(bench.restarts(&new), 0);
}

#[test]
fn a_uid_that_moves_to_another_name_waits_for_its_old_pod() {
    let mut bench = Bench::new();
    let old = base_pod();
    let mut new = StaticPod { hash: "other".to_owned(), ..base_pod() };
    new.key.name = "renamed-vm".to_owned();
    bench.run(&old);
    bench.desire(&[&new]);
    assert_eq!(bench.state.waiting().count(), 1);
    bench.exited(&old, "c", 0, 0);
    assert_eq!(removed(&mut bench, &old), ["Prepare one", "ResolveImage c"]);
}

#[test]
fn the_same_file_put_back_while_the_pod_terminates_is_the_same_pod_with_one_restart_more() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.desire(&[]);
    assert_eq!(bench.desire(&[&pod]), [""; 0], "the termination goes on");
    bench.exited(&pod, "c", 0, 143);
    assert_eq!(removed(&mut bench, &pod), ["Prepare one", "ResolveImage c"]);
    bench.make_sandbox(&pod);
    assert_eq!(bench.found(&pod, "c"), ["Start c 1"]);
    bench.started(&pod, "c", 1);
    assert_eq!(bench.restarts(&pod), 1);
}

#[test]
fn the_same_file_put_back_within_ten_minutes_continues_its_count_and_later_begins_anew() {
    for (away, restarts) in [(599, 1), (601, 0)] {
        let mut bench = Bench::new();
        let pod = base_pod();
        bench.run(&pod);
        bench.desire(&[]);
        bench.exited(&pod, "c", 0, 143);
        removed(&mut bench, &pod);
        bench.pass_seconds(away);
        bench.desire(&[&pod]);
        bench.make_sandbox(&pod);
        bench.start_all(&pod, restarts);
        assert_eq!(bench.container_state(&pod, "c"), "Running");
        assert_eq!(bench.restarts(&pod), restarts as i32, "after {away} s");
    }
}

#[test]
fn a_finished_one_shot_whose_file_was_away_runs_again() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 0);
    bench.after(Event::SandboxStopped { uid: pod.uid.clone() });
    assert_eq!(bench.desire(&[]), ["RemoveContainer c 0", "Remove one"]);
    removed(&mut bench, &pod);
    assert_eq!(bench.desire(&[&pod]), ["Prepare one", "ResolveImage c"]);
}

#[test]
fn a_pod_that_goes_while_a_step_is_in_flight_waits_for_the_steps_answer() {
    let pod = base_pod();
    let mut bench = Bench::new();
    bench.desire(&[&pod]);
    assert_eq!(bench.desire(&[]), [""; 0], "directories are being made");
    assert_eq!(bench.after(Event::Prepared { uid: pod.uid.clone() }), ["Remove one"]);

    let mut bench = Bench::new();
    bench.desire(&[&pod]);
    bench.after(Event::Prepared { uid: pod.uid.clone() });
    assert_eq!(bench.desire(&[]), [""; 0], "the sandbox is being made");
    let failed = Event::SandboxFailed { uid: pod.uid.clone(), message: String::new() };
    assert_eq!(bench.after(failed), ["Remove one"]);

    let mut bench = Bench::new();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    bench.found(&pod, "c");
    assert_eq!(bench.desire(&[]), [""; 0], "a start is in flight");
    assert_eq!(bench.started(&pod, "c", 0), ["Signal c 0 15"]);
}

#[test]
fn a_start_that_ends_after_the_deadline_is_killed_at_once() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.desire(&[&pod]);
    bench.make_sandbox(&pod);
    bench.found(&pod, "c");
    bench.desire(&[]);
    bench.pass_seconds(31);
    assert_eq!(bench.plan(), [""; 0]);
    assert_eq!(bench.started(&pod, "c", 0)[0], "Kill c 0");
}

#[test]
fn two_pods_of_one_name_left_by_a_power_cut_never_run_beside_each_other() {
    let mut bench = Bench::new();
    let (old, new) = (base_pod(), edited(&base_pod(), "two"));
    for pod in [&old, &new] {
        bench.apply(Event::Adopted(Box::new(super::adoption::adopted(pod, Vec::new(), false))));
    }
    assert_eq!(bench.plan(), [""; 0]);
    assert_eq!(bench.desire(&[&new]), ["Remove one"]);
    assert_eq!(bench.after(Event::Removed { uid: uid("one") }), ["Prepare two", "ResolveImage c"]);
}
