//! Limits of the node: how many pods, how many starts at once.

use super::fixture::{Bench, base_pod, uid};
use crate::model::pod::StaticPod;
use crate::reconcile::event::Event;
use crate::reconcile::plan::MAX_ACTIONS;
use crate::reconcile::reconcile;
use crate::reconcile::state::WaitingFor;
use std::sync::Arc;
use std::time::Duration;

fn pods(count: usize) -> Vec<StaticPod> {
    let pod = |n: usize| {
        let mut pod = StaticPod { uid: uid(&format!("p{n:03}")), hash: format!("h{n}"), ..base_pod() };
        pod.key.name = format!("web{n}-vm");
        pod
    };
    (0..count).map(pod).collect()
}

#[test]
fn no_more_starts_are_in_flight_at_once_than_allowed() {
    let mut bench = Bench::with(|s| s.max_starts = 2);
    let pods = pods(5);
    bench.desire(&pods.iter().collect::<Vec<_>>());
    for pod in &pods {
        bench.make_sandbox(pod);
    }
    let mut starts = Vec::new();
    for pod in &pods {
        starts.extend(bench.found(pod, "c"));
    }
    assert_eq!(starts, ["Start c 0", "Start c 0"]);
    assert_eq!(bench.wake_in, Some(Duration::from_secs(1)), "the answer of a start wakes the rest, or its hanging");
    let next = bench.started(&pods[0], "c", 0);
    assert_eq!(next.iter().filter(|a| a.starts_with("Start")).count(), 1);
}

#[test]
fn a_start_that_hangs_gives_its_place_back_after_a_second() {
    let mut bench = Bench::with(|s| s.max_starts = 1);
    let pods = pods(2);
    bench.desire(&pods.iter().collect::<Vec<_>>());
    for pod in &pods {
        bench.make_sandbox(pod);
        bench.found(pod, "c");
    }
    bench.pass_seconds(1);
    assert_eq!(bench.plan(), ["Start c 0", "Persist p000"]);
    assert_eq!(bench.wake_in, None);
    let reasons = super::super::status::reasons(bench.pod(&pods[0]), &bench.state, bench.now);
    assert_eq!(reasons, ["container c: ContainerCreating"]);
    bench.pass_seconds(30);
    let reasons = super::super::status::reasons(bench.pod(&pods[0]), &bench.state, bench.now);
    assert_eq!(reasons, ["container c: ContainerCreating (its start has been under way for 31s)"]);
}

#[test]
fn a_turn_emits_a_bounded_number_of_actions_and_the_next_is_due_at_once() {
    let mut bench = Bench::with(|s| s.max_pods = 500);
    bench.apply(Event::Desired(pods(200).into_iter().map(Arc::new).collect()));
    let mut total = 0;
    loop {
        let plan = reconcile(&mut bench.state, bench.now);
        assert!(plan.actions.len() <= MAX_ACTIONS);
        total += plan.actions.len();
        if plan.actions.len() < MAX_ACTIONS {
            assert_eq!(plan.wake_at, None);
            break;
        }
        assert_eq!(plan.wake_at, Some(bench.now.mono));
    }
    assert_eq!(total, 400);
}

#[test]
fn pods_beyond_max_pods_wait_for_room_in_the_order_in_which_they_came() {
    let mut bench = Bench::with(|s| s.max_pods = 2);
    let pods = pods(4);
    bench.desire(&[&pods[3]]);
    bench.pass_seconds(1);
    bench.desire(&[&pods[3], &pods[2]]);
    bench.pass_seconds(1);
    bench.desire(&[&pods[3], &pods[2], &pods[1]]);
    bench.pass_seconds(1);
    bench.desire(&pods.iter().collect::<Vec<_>>());
    let waiting: Vec<_> = bench.state.waiting().map(|w| (w.wanted.pod.uid.clone(), w.why)).collect();
    let room = WaitingFor::Room { max_pods: 2 };
    assert_eq!(waiting, [(uid("p000"), room.clone()), (uid("p001"), room)]);
    bench.desire(&[&pods[0], &pods[1], &pods[2]]);
    bench.after(Event::Prepared { uid: pods[3].uid.clone() });
    bench.after(Event::Removed { uid: pods[3].uid.clone() });
    assert!(bench.state.pod(&pods[1].uid).is_some(), "it waits longer than the other");
    assert!(bench.state.pod(&pods[0].uid).is_none());
}

#[test]
fn durable_writes_wait_until_nothing_is_on_its_way_to_a_start() {
    let mut bench = Bench::new();
    let pod = base_pod();
    let mut before_start = bench.desire(&[&pod]);
    before_start.extend(bench.after(Event::Prepared { uid: pod.uid.clone() }));
    before_start.extend(bench.after(Event::SandboxReady { uid: pod.uid.clone(), ip: None }));
    before_start.extend(bench.found(&pod, "c"));
    assert!(!before_start.contains(&"Persist one".to_owned()), "{before_start:?}");
    assert_eq!(bench.started(&pod, "c", 0), [""; 0]);
    bench.pass(Duration::from_millis(199));
    assert_eq!(bench.plan(), [""; 0]);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.plan(), ["Persist one"]);
}

#[test]
fn first_starts_that_follow_each_other_put_durable_writes_off_but_not_for_long() {
    let mut bench = Bench::new();
    let pods = pods(20);
    let mut kept_after = Vec::new();
    for n in 0..pods.len() {
        bench.desire(&pods[..=n].iter().collect::<Vec<_>>());
        bench.make_sandbox(&pods[n]);
        bench.start_all(&pods[n], 0);
        bench.pass(Duration::from_millis(150));
        kept_after.extend(bench.plan().into_iter().filter(|a| a.starts_with("Persist")).map(|a| (n, a)));
    }
    let first: Vec<_> = kept_after.iter().take(2).map(|(n, a)| (*n, a.as_str())).collect();
    assert_eq!(first, [(13, "Persist p000"), (14, "Persist p001")], "two seconds each");
    bench.pass(Duration::from_millis(50));
    assert_eq!(bench.plan().len(), pods.len() - kept_after.len(), "quiet at last");
}

#[test]
fn a_restart_is_kept_at_once() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 1);
    bench.found(&pod, "c");
    assert!(bench.started(&pod, "c", 1).contains(&"Persist one".to_owned()));
}
