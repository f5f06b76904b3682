//! A new agent finds what an old one left.

use super::fixture::{Bench, base_pod, id, name, running, termination, uid};
use crate::model::id::BootId;
use crate::model::pod::{RestartPolicy, StaticPod};
use crate::model::time::Wall;
use crate::reconcile::event::{AdoptedContainer, AdoptedPod, AdoptedSandbox, AdoptedState, BackoffMemo, Event};
use crate::reconcile::memo::{DurableMemo, Found, adopt_container};
use std::sync::Arc;
use std::time::Duration;

pub fn adopted(pod: &StaticPod, containers: Vec<AdoptedContainer>, sandbox: bool) -> AdoptedPod {
    AdoptedPod {
        pod: Arc::new(pod.clone()),
        created: Wall(1_600_000_000_000_000_000),
        started: Some(Wall(1_600_000_001_000_000_000)),
        ip: None,
        sandbox: sandbox.then(|| AdoptedSandbox { ip: Some("10.85.0.7".parse().expect("an address")) }),
        containers,
    }
}

fn container(state: AdoptedState, starts: u32) -> AdoptedContainer {
    AdoptedContainer { name: name("c"), state, last: None, next_attempt: starts, created: starts, backoff: None }
}

fn adopt(bench: &mut Bench, pod: &StaticPod, state: AdoptedState, starts: u32, sandbox: bool) -> Vec<String> {
    bench.after(Event::Adopted(Box::new(adopted(pod, vec![container(state, starts)], sandbox))))
}

#[test]
fn a_running_container_is_left_alone_and_keeps_count_address_and_times() {
    let mut bench = Bench::new();
    let pod = base_pod();
    let state = AdoptedState::Running(running("c", 3, bench.now));
    assert_eq!(adopt(&mut bench, &pod, state, 4, true), ["Persist one"]);
    assert_eq!(bench.desire(&[&pod]), [""; 0]);
    assert_eq!((bench.restarts(&pod), bench.container_state(&pod, "c").as_str()), (3, "Running"));
    let object = super::super::status::pod_object(bench.pod(&pod), &bench.state, bench.now);
    assert_eq!(object.metadata.creation_timestamp.map(|t| t.0.as_second()), Some(1_600_000_000));
    let status = object.status.expect("a status");
    assert_eq!(status.pod_ip.as_deref(), Some("10.85.0.7"));
    assert_eq!(status.start_time.map(|t| t.0.as_second()), Some(1_600_000_001));
}

#[test]
fn before_the_first_scan_nothing_is_terminated_and_what_ended_starts_again() {
    let mut bench = Bench::new();
    let pod = base_pod();
    let state = AdoptedState::Terminated(termination("c", 0, 1, bench.now));
    assert_eq!(adopt(&mut bench, &pod, state, 1, true), ["ResolveImage c"]);
    assert_eq!(bench.found(&pod, "c"), ["Start c 1"]);
    bench.started(&pod, "c", 1);
    assert_eq!(bench.desire(&[])[0], "Signal c 1 15", "the scan does not know it");
}

#[test]
fn a_pod_of_another_boot_starts_from_local_state_before_the_first_scan() {
    let mut bench = Bench::new();
    let pod = base_pod();
    let state = AdoptedState::Interrupted(termination("c", 4, 143, bench.now));
    assert_eq!(adopt(&mut bench, &pod, state, 5, false), ["Prepare one", "ResolveImage c"]);
    bench.make_sandbox(&pod);
    assert_eq!(bench.found(&pod, "c"), ["Start c 5"]);
    bench.started(&pod, "c", 5);
    assert_eq!(bench.restarts(&pod), 5);
}

#[test]
fn an_adopted_crash_loop_waits_as_long_as_it_would_have_waited() {
    let mut bench = Bench::new();
    let pod = base_pod();
    let mut found = container(AdoptedState::Terminated(termination("c", 3, 1, bench.now)), 4);
    found.backoff = Some(BackoffMemo { delay_ms: 40_000, last_update: bench.now.mono });
    bench.pass_seconds(15);
    assert_eq!(bench.after(Event::Adopted(Box::new(adopted(&pod, vec![found], true)))), ["Persist one"]);
    assert_eq!(bench.container_state(&pod, "c"), "Waiting CrashLoopBackOff");
    assert_eq!(bench.wake_in, Some(Duration::from_secs(25)));
}

#[test]
fn an_adopted_back_off_is_cut_to_the_cap_of_this_agent() {
    let mut bench = Bench::with(|s| s.max_restart_period = Duration::from_secs(2));
    let pod = base_pod();
    let mut found = container(AdoptedState::Terminated(termination("c", 3, 1, bench.now)), 4);
    found.backoff = Some(BackoffMemo { delay_ms: 300_000, last_update: bench.now.mono });
    bench.after(Event::Adopted(Box::new(adopted(&pod, vec![found], true))));
    assert_eq!(bench.wake_in, Some(Duration::from_secs(2)));
}

#[test]
fn what_pinlet_or_a_shutdown_ended_runs_again_under_every_policy_without_back_off() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: policy, ..base_pod() };
        let mut found = container(AdoptedState::Interrupted(termination("c", 0, 0, bench.now)), 1);
        found.backoff = Some(BackoffMemo { delay_ms: 300_000, last_update: bench.now.mono });
        let emitted = bench.after(Event::Adopted(Box::new(adopted(&pod, vec![found], true))));
        assert_eq!(emitted, ["ResolveImage c"], "{policy:?}");
        assert_eq!(bench.found(&pod, "c"), ["Start c 1"]);
        bench.started(&pod, "c", 1);
        assert_eq!(bench.restarts(&pod), 1);
    }
}

#[test]
fn final_states_survive_a_reboot() {
    for (policy, code, phase) in [
        (RestartPolicy::Never, 0, "Succeeded"),
        (RestartPolicy::Never, 7, "Failed"),
        (RestartPolicy::OnFailure, 0, "Succeeded"),
    ] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: policy, ..base_pod() };
        let state = AdoptedState::Terminated(termination("c", 0, code, bench.now));
        assert_eq!(adopt(&mut bench, &pod, state, 1, false), ["Persist one"]);
        assert_eq!(bench.desire(&[&pod]), [""; 0]);
        assert_eq!(bench.phase(&pod), phase);
    }
}

#[test]
fn a_finished_pod_keeps_its_address_in_the_status_and_one_that_runs_again_does_not() {
    for (policy, ip) in [(RestartPolicy::Never, Some("10.85.0.9")), (RestartPolicy::Always, None)] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: policy, ..base_pod() };
        let ended = container(AdoptedState::Terminated(termination("c", 0, 0, bench.now)), 1);
        let ip_before = Some("10.85.0.9".parse().expect("an address"));
        let adopted = AdoptedPod { ip: ip_before, ..adopted(&pod, vec![ended], false) };
        bench.after(Event::Adopted(Box::new(adopted)));
        assert_eq!(bench.status(&pod).pod_ip.as_deref(), ip, "{policy:?}");
        assert_eq!(bench.pod(&pod).memo(&BootId::new("b")).ip.map(|ip| ip.to_string()).as_deref(), ip);
        assert_eq!(bench.state.addresses().count(), 0, "the address itself may be another pod's by now");
    }
}

#[test]
fn a_pod_that_finished_while_no_agent_looked_is_taken_down() {
    let mut bench = Bench::new();
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    let state = AdoptedState::Terminated(termination("c", 0, 0, bench.now));
    assert_eq!(adopt(&mut bench, &pod, state, 1, true), ["StopSandbox one", "Persist one"]);
    assert_eq!(bench.phase(&pod), "Succeeded");
}

#[test]
fn a_lost_container_restarts_by_policy_and_never_fails_the_pod() {
    for (policy, emitted, phase) in [
        (RestartPolicy::Always, &["ResolveImage c"][..], "Running"),
        (RestartPolicy::OnFailure, &["ResolveImage c"], "Running"),
        (RestartPolicy::Never, &["StopSandbox one", "Persist one"], "Failed"),
    ] {
        let mut bench = Bench::new();
        let pod = StaticPod { restart_policy: policy, ..base_pod() };
        let state = AdoptedState::Lost { id: id("c", 0), attempt: 0 };
        assert_eq!(adopt(&mut bench, &pod, state, 1, true), emitted, "{policy:?}");
        assert_eq!(bench.container_state(&pod, "c"), "Terminated ContainerStatusUnknown 137");
        assert_eq!(bench.phase(&pod), phase);
    }
}

#[test]
fn adopted_pods_that_the_scan_does_not_name_are_terminated() {
    let mut bench = Bench::new();
    let (gone, stays) = (base_pod(), {
        let mut pod = StaticPod { uid: uid("two"), hash: "two".to_owned(), ..base_pod() };
        pod.key.name = "other-vm".to_owned();
        pod
    });
    for pod in [&gone, &stays] {
        let state = AdoptedState::Running(running("c", 0, bench.now));
        adopt(&mut bench, pod, state, 1, true);
    }
    assert_eq!(bench.desire(&[&stays]), ["Signal c 0 15"]);
    assert!(bench.pod(&gone).is_terminating() && !bench.pod(&stays).is_terminating());
}

#[test]
fn a_container_that_runs_without_a_sandbox_is_left_alone_until_one_must_start() {
    let mut bench = Bench::new();
    let pod = base_pod();
    let state = AdoptedState::Running(running("c", 0, bench.now));
    assert_eq!(adopt(&mut bench, &pod, state, 1, false), [""; 0]);
    bench.pass_seconds(1);
    assert_eq!(bench.plan(), ["Persist one"]);
    assert_eq!(bench.exited(&pod, "c", 0, 1), ["Prepare one", "ResolveImage c"]);
}

#[test]
fn the_marker_also_stops_adopted_pods() {
    let mut bench = Bench::new();
    let pod = base_pod();
    bench.apply(Event::StopMarker(true));
    let state = AdoptedState::Running(running("c", 0, bench.now));
    assert_eq!(adopt(&mut bench, &pod, state, 1, true), ["Signal c 0 15", "Persist one"]);
}

fn rejoin(bench: &Bench, pod: &StaticPod, found: Vec<Found>, boot: &str) -> AdoptedContainer {
    let memo = bench.pod(pod).memo(&BootId::new("this-boot"));
    let text = serde_json::to_string(&memo).expect("a memo is written");
    let memo: DurableMemo = serde_json::from_str(&text).expect("and read again");
    let kept = memo.containers.iter().find(|c| c.name == name("c")).map(|c| (&memo, c));
    adopt_container(&name("c"), kept, found, &BootId::new(boot), bench.now)
}

#[test]
fn the_durable_memory_and_the_run_dir_together_tell_what_became_of_a_container() {
    let pod = base_pod();
    let mut bench = Bench::new();
    bench.run(&pod);
    let runs = running("c", 0, bench.now);
    let exit = termination("c", 0, 3, bench.now);

    let still = rejoin(&bench, &pod, vec![Found::Running(runs.clone())], "this-boot");
    assert_eq!((still.state, still.next_attempt, still.created), (AdoptedState::Running(runs), 1, 1));
    let exited = rejoin(&bench, &pod, vec![Found::Exited(exit.clone())], "this-boot");
    assert_eq!(exited.state, AdoptedState::Terminated(exit.clone()));
    let lost = rejoin(&bench, &pod, Vec::new(), "this-boot");
    assert_eq!(lost.state, AdoptedState::Lost { id: id("c", 0), attempt: 0 });
    let cut = rejoin(&bench, &pod, Vec::new(), "next-boot");
    assert!(matches!(cut.state, AdoptedState::Interrupted(t) if t.status.code() == 137));
}

#[test]
fn starts_after_the_memory_was_written_are_counted_from_the_run_dir() {
    let pod = base_pod();
    let mut bench = Bench::new();
    bench.run(&pod);
    let found = vec![
        Found::Exited(termination("c", 1, 9, bench.now)),
        Found::Running(running("c", 2, bench.now)),
        Found::Exited(termination("c", 0, 3, bench.now)),
    ];
    let joined = rejoin(&bench, &pod, found, "this-boot");
    assert_eq!((joined.next_attempt, joined.created), (3, 3));
    assert_eq!(joined.state, AdoptedState::Running(running("c", 2, bench.now)));
    assert_eq!(joined.last.map(|t| t.attempt), Some(1));
}

#[test]
fn only_the_memory_knows_that_pinlet_had_asked_for_an_exit() {
    let pod = StaticPod { restart_policy: RestartPolicy::Never, ..base_pod() };
    let mut bench = Bench::new();
    bench.run(&pod);
    bench.after(Event::StopMarker(true));
    bench.exited(&pod, "c", 0, 0);
    let exit = termination("c", 0, 0, bench.now);
    for (found, boot) in [(vec![Found::Exited(exit)], "this-boot"), (Vec::new(), "this-boot"), (Vec::new(), "next")] {
        let joined = rejoin(&bench, &pod, found, boot);
        assert!(matches!(joined.state, AdoptedState::Interrupted(_)), "{:?}", joined.state);
    }
}

#[test]
fn a_final_state_is_remembered_across_boots_and_back_off_is_not() {
    let pod = base_pod();
    let mut bench = Bench::new();
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 1);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    bench.exited(&pod, "c", 1, 1);
    let same = rejoin(&bench, &pod, Vec::new(), "this-boot");
    assert_eq!(same.backoff.map(|b| b.delay_ms), Some(10_000));
    assert_eq!(same.last.map(|t| t.attempt), Some(0));
    bench.now.mono.0 = 5;
    let next = rejoin(&bench, &pod, Vec::new(), "next-boot");
    assert_eq!(next.backoff, None);
    assert!(matches!(next.state, AdoptedState::Terminated(t) if t.finished_mono == bench.now.mono));
}

#[test]
fn what_ran_when_its_records_were_wiped_waits_for_no_back_off_and_what_lost_its_monitor_does() {
    let pod = base_pod();
    let mut bench = Bench::new();
    bench.run(&pod);
    bench.exited(&pod, "c", 0, 1);
    bench.found(&pod, "c");
    bench.started(&pod, "c", 1);
    let lost = Found::Lost { id: id("c", 1), attempt: 1 };
    // A start of which the run dir tells nothing but that it never was is no other end.
    let never = Found::NotCreated { attempt: 2 };
    for (found, state, at_once) in [
        (vec![], "Terminated ContainerStatusUnknown 137", true),
        (vec![never], "Terminated ContainerStatusUnknown 137", true),
        (vec![lost], "Waiting CrashLoopBackOff", false),
    ] {
        let joined = rejoin(&bench, &pod, found.clone(), "this-boot");
        assert_eq!((&joined.state, joined.created), (&AdoptedState::Lost { id: id("c", 1), attempt: 1 }, 2));
        let mut next = Bench::new();
        let adopted = adopted(&pod, vec![joined], true);
        let emitted = next.after(Event::Adopted(Box::new(adopted)));
        assert_eq!(emitted.contains(&"ResolveImage c".to_owned()), at_once, "{found:?}: {emitted:?}");
        assert_eq!(next.container_state(&pod, "c"), state, "{found:?}");
    }
}

#[test]
fn without_a_memory_the_run_dir_alone_is_believed() {
    let bench = Bench::new();
    let boot = BootId::new("this-boot");
    let found = vec![Found::Running(running("c", 5, bench.now))];
    let joined = adopt_container(&name("c"), None, found, &boot, bench.now);
    assert_eq!((joined.next_attempt, joined.created), (6, 6));
    let nothing = adopt_container(&name("c"), None, Vec::new(), &boot, bench.now);
    assert_eq!((nothing.state, nothing.next_attempt), (AdoptedState::None, 0));
}
