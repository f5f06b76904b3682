//! What is told to the recorder, and what it makes of it.

mod golden;
mod posting;

use super::*;
use crate::model::id::{ContainerName, NodeName, PodKey, PodUid};
use crate::model::time::{Mono, Now, Wall};
use k8s_openapi::api::core::v1;

/// 2026-11-24T00:00:00Z.
const EPOCH: i64 = 1_795_478_400_000_000_000;

fn at_ms(ms: u64) -> Now {
    let nanos = ms * 1_000_000;
    Now { mono: Mono(nanos), wall: Wall(EPOCH + i64::try_from(nanos).expect("small")) }
}

fn at(seconds: u64) -> Now {
    at_ms(seconds * 1000)
}

fn recorder() -> Recorder {
    Recorder::new(node())
}

fn node() -> NodeName {
    NodeName::new("vm").expect("a name")
}

fn container_of(namespace: &str, pod: &str, container: &str) -> Subject {
    Subject::Container {
        key: PodKey { namespace: namespace.to_owned(), name: pod.to_owned() },
        uid: PodUid::new(&format!("uid-of-{pod}")).expect("a UID"),
        container: ContainerName::new(container).expect("a name"),
    }
}

fn subject() -> Subject {
    container_of("default", "web-vm", "c")
}

fn failed(message: &str) -> Happening {
    Happening::warning(subject(), "Failed", message.to_owned())
}

fn counts(events: &[v1::Event]) -> Vec<(&str, i32)> {
    events.iter().map(|e| (e.message.as_deref().unwrap_or_default(), e.count.unwrap_or_default())).collect()
}

#[test]
fn the_same_event_again_counts_up_and_moves_its_last_time() {
    let mut recorder = recorder();
    for second in [0, 7, 20] {
        recorder.record(Happening::normal(subject(), "Created", "Container created"), at(second));
        recorder.record(Happening::normal(subject(), "Started", "Container started"), at(second));
    }
    let events = recorder.events(at(21));
    assert_eq!(counts(&events), [("Container created", 3), ("Container started", 3)]);
    let event = &events[0];
    assert_eq!(event.first_timestamp, Some(at(0).wall.to_time()));
    assert_eq!(event.last_timestamp, Some(at(20).wall.to_time()));
    assert_eq!(event.metadata.name.as_deref(), Some(format!("web-vm.{EPOCH:x}").as_str()));
    assert_eq!(event.involved_object.field_path.as_deref(), Some("spec.containers{c}"));
}

#[test]
fn whatever_differs_is_an_event_of_its_own() {
    let mut recorder = recorder();
    let base = || failed("x");
    let key = PodKey { namespace: "default".to_owned(), name: "web-vm".to_owned() };
    let others = [
        base(),
        Happening { subject: container_of("default", "web-vm", "d"), ..base() },
        Happening { subject: container_of("other", "web-vm", "c"), ..base() },
        Happening { subject: Subject::Pod { key, uid: PodUid::new("uid-of-web-vm").expect("a UID") }, ..base() },
        Happening { subject: Subject::node(&node()), ..base() },
        Happening { severity: Severity::Normal, ..base() },
        Happening { reason: "BackOff", ..base() },
        Happening { message: "y".into(), ..base() },
    ];
    for happening in others.iter().chain(&others) {
        recorder.record(happening.clone(), at(0));
    }
    let events = recorder.events(at(0));
    assert_eq!(events.iter().filter(|e| e.count == Some(2)).count(), others.len());
    let mut names: Vec<_> = events.iter().map(|e| e.metadata.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), others.len(), "all happened in one turn of the loop, and are told apart by their names");
}

#[test]
fn the_tenth_message_of_a_kind_is_combined_with_all_that_follow() {
    let mut recorder = recorder();
    for n in 0..14 {
        recorder.record(failed(&format!("no {n}")), at(n));
    }
    recorder.record(failed("no 3"), at(20));
    let events = recorder.events(at(20));
    let combined = "(combined from similar events): no 13";
    assert_eq!(events.len(), 10);
    assert_eq!(counts(&events)[8..], [(combined, 5), ("no 3", 2)], "what is known keeps its own count");
    // Another object, another reason: apart. Another container of the pod: not.
    recorder.record(Happening { subject: container_of("default", "b-vm", "c"), ..failed("no 99") }, at(21));
    recorder.record(Happening { reason: "BackOff", ..failed("no 99") }, at(21));
    recorder.record(Happening { subject: container_of("default", "web-vm", "d"), ..failed("no 99") }, at(21));
    let events = recorder.events(at(21));
    let combined = "(combined from similar events): no 99";
    assert_eq!(counts(&events)[8..], [("no 3", 2), ("no 99", 1), ("no 99", 1), (combined, 6)]);
}

#[test]
fn ten_minutes_of_silence_tell_messages_apart_again() {
    let mut recorder = recorder();
    for n in 0..12 {
        recorder.record(failed(&format!("no {n}")), at(n));
    }
    recorder.record(failed("no 12"), at(11 + 600));
    recorder.record(failed("no 13"), at(11 + 600 + 601));
    let events = recorder.events(at(1300));
    assert_eq!(counts(&events)[9..], [("(combined from similar events): no 12", 4), ("no 13", 1)]);
}

#[test]
fn an_hour_later_it_is_forgotten() {
    let mut recorder = recorder();
    recorder.record(failed("old"), at(0));
    recorder.record(failed("again"), at(1));
    recorder.record(failed("again"), at(2000));
    assert_eq!(recorder.events(at(3599)).len(), 2);
    assert_eq!(counts(&recorder.events(at(3600))), [("again", 2)]);
    recorder.record(failed("old"), at(3601));
    assert_eq!(counts(&recorder.events(at(3601))), [("again", 2), ("old", 1)]);
}

#[test]
fn no_more_than_a_thousand_are_kept_and_none_is_longer_than_the_api_takes() {
    let mut recorder = recorder();
    for n in 0..2500 {
        let subject = container_of("default", &format!("p{n}-vm"), "c");
        recorder.record(Happening::warning(subject, "Failed", "\u{e4}".repeat(2000)), at_ms(n));
    }
    let events = recorder.events(at(3));
    assert_eq!(events.len(), 1000);
    assert_eq!(events[0].involved_object.name.as_deref(), Some("p1500-vm"), "the oldest went");
    assert!(events.iter().all(|e| e.message.as_ref().is_some_and(|m| m.len() == 1024)));
    let mut recorder = Recorder::new(node());
    (0..20).for_each(|n| recorder.record(failed(&format!("{n}{}", "x".repeat(2000))), at(n)));
    assert!(recorder.events(at(20)).iter().all(|e| e.message.as_ref().is_some_and(|m| m.len() == 1024)));
}

#[test]
fn a_clock_that_is_set_back_gives_no_name_twice() {
    let mut recorder = recorder();
    let mut names = std::collections::BTreeSet::new();
    for (n, wall) in [5_000_000_000_i64, 5_000_000_000, 4_999_999_999, 100, 100, 99].into_iter().enumerate() {
        let now = Now { mono: Mono(n as u64), wall: Wall(wall) };
        recorder.record(failed(&n.to_string()), now);
    }
    names.extend(recorder.events(at(0)).into_iter().filter_map(|e| e.metadata.name));
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names.contains("web-vm.64"), "a clock that was set is followed: {names:?}");
}
