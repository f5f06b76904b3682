//! What is sent when, and what follows from the answer.

use super::*;

fn posting() -> Recorder {
    let mut recorder = recorder();
    recorder.begin_posting(at(0));
    recorder
}

/// Sends all that is due at `now`, each with this answer; what was sent.
fn send(recorder: &mut Recorder, now: Now, answer: &EventAnswer) -> Vec<EventRequest> {
    let mut sent = Vec::new();
    while let Some(post) = recorder.due(now) {
        recorder.answered(post.id, answer.clone(), now);
        sent.push(post.request);
        assert!(sent.len() < 2000, "it ends");
    }
    sent
}

fn posted() -> EventAnswer {
    EventAnswer::Posted { resource_version: "7".to_owned() }
}

fn created(request: &EventRequest) -> &v1::Event {
    match request {
        EventRequest::Create(event) => event,
        EventRequest::Patch { .. } => panic!("no create: {request:?}"),
    }
}

#[test]
fn an_event_is_created_once_and_patched_then() {
    let mut recorder = posting();
    assert_eq!(recorder.due_at(), None, "with nothing to tell nothing wakes");
    recorder.record(failed("x"), at(1));
    let sent = send(&mut recorder, at(1), &posted());
    assert_eq!((sent.len(), created(&sent[0]).count), (1, Some(1)));
    let name = created(&sent[0]).metadata.name.clone().expect("a name");
    recorder.record(failed("x"), at(5));
    let body = serde_json::json!({"count": 2, "lastTimestamp": "2026-11-24T00:00:05Z", "message": "x"});
    let patch = EventRequest::Patch { namespace: "default".to_owned(), name, body };
    assert_eq!(send(&mut recorder, at(5), &posted()), [patch]);
    assert_eq!(recorder.due_at(), None);
    assert_eq!(recorder.events(at(5))[0].metadata.resource_version.as_deref(), Some("7"));
}

#[test]
fn without_an_api_server_nothing_is_due() {
    let mut recorder = recorder();
    recorder.record(failed("x"), at(1));
    assert_eq!((recorder.due_at(), recorder.due(at(1))), (None, None));
}

#[test]
fn what_happens_while_a_request_is_under_way_is_told_by_the_next() {
    let mut recorder = posting();
    recorder.record(failed("x"), at(1));
    let first = recorder.due(at(1)).expect("due");
    recorder.record(failed("x"), at(2));
    recorder.record(failed("x"), at(3));
    assert_eq!(recorder.due(at(3)), None, "one request of an event at a time");
    recorder.answered(first.id, posted(), at(4));
    let sent = send(&mut recorder, at(4), &posted());
    assert!(matches!(&sent[..], [EventRequest::Patch { body, .. }] if body["count"] == 3), "{sent:?}");
}

#[test]
fn an_object_tells_25_events_and_then_one_in_five_minutes() {
    let mut recorder = posting();
    for n in 0..40 {
        recorder.record(failed("x"), at(n));
    }
    recorder.record(Happening { subject: container_of("default", "b-vm", "c"), ..failed("x") }, at(40));
    let sent = |recorder: &mut Recorder, now| {
        let all = send(recorder, now, &posted());
        all.iter().map(|r| matches!(r, EventRequest::Patch { .. })).collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut recorder, at(41)), [false], "both are a backlog");
    assert_eq!(sent(&mut recorder, at(42)), [false]);
    assert_eq!(counts(&recorder.events(at(42))), [("x", 40), ("x", 1)], "what is not told is counted");
    recorder.record(failed("x"), at(299));
    assert_eq!(sent(&mut recorder, at(299)), [] as [bool; 0]);
    recorder.record(failed("x"), at(301));
    recorder.record(failed("x"), at(302));
    let one = send(&mut recorder, at(302), &posted());
    assert!(matches!(&one[..], [EventRequest::Patch { body, .. }] if body["count"] == 43), "{one:?}");
    recorder.record(failed("x"), at(400));
    assert_eq!(sent(&mut recorder, at(400)), [] as [bool; 0]);
}

#[test]
fn an_outage_holds_everything_and_is_made_good_at_five_a_second() {
    let mut recorder = posting();
    for n in 0..100 {
        recorder.record(Happening { subject: container_of("default", &format!("p{n}-vm"), "c"), ..failed("x") }, at(1));
    }
    let first = recorder.due(at(1)).expect("due");
    recorder.answered(first.id, EventAnswer::Failed, at(1));
    assert_eq!(recorder.due(at(10)), None);
    assert_eq!(recorder.due_at(), Some(at(11).mono));
    let mut sent = Vec::new();
    for ms in 11_000..12_000 {
        sent.extend(send(&mut recorder, at_ms(ms), &posted()));
    }
    assert_eq!(sent.len(), 5);
    assert_eq!(created(&sent[0]).involved_object.name.as_deref(), Some("p0-vm"), "the first is the first again");
    recorder.outage_over(at(12));
    for ms in 12_000..40_000 {
        sent.extend(send(&mut recorder, at_ms(ms), &posted()));
    }
    assert_eq!(sent.len(), 100);
    for n in 0..20 {
        recorder
            .record(Happening { subject: container_of("default", &format!("p{n}-vm"), "c"), ..failed("x") }, at(50));
    }
    assert_eq!(send(&mut recorder, at(50), &posted()).len(), 20, "the backlog is gone, and its pace with it");
}

#[test]
fn what_is_owed_outlives_the_hour() {
    let mut recorder = posting();
    recorder.record(failed("x"), at(1));
    recorder.record(Happening { reason: "Other", ..failed("y") }, at(9000));
    assert_eq!(recorder.events(at(9000)).len(), 1, "it is not shown any more");
    let sent = [send(&mut recorder, at(9000), &posted()), send(&mut recorder, at(9001), &posted())].concat();
    assert_eq!(sent.len(), 2);
    recorder.record(Happening { reason: "Other", ..failed("y") }, at(9002));
    assert_eq!(recorder.kept.len(), 1, "and is forgotten once it has been told");
}

#[test]
fn an_event_that_the_api_server_has_forgotten_is_created_anew() {
    let mut recorder = posting();
    recorder.record(failed("x"), at(1));
    send(&mut recorder, at(1), &posted());
    recorder.record(failed("x"), at(2));
    let patch = recorder.due(at(2)).expect("due");
    recorder.answered(patch.id, EventAnswer::NotFound, at(2));
    let sent = send(&mut recorder, at(2), &posted());
    assert_eq!((sent.len(), created(&sent[0]).count), (1, Some(2)));
}

#[test]
fn where_the_namespace_is_missing_the_node_tells_it_and_only_once() {
    let mut recorder = posting();
    let happening = Happening { subject: container_of("missing", "web-vm", "c"), ..failed("x") };
    recorder.record(happening.clone(), at(1));
    let first = recorder.due(at(1)).expect("due");
    recorder.answered(first.id, EventAnswer::NotFound, at(1));
    let sent = send(&mut recorder, at(2), &posted());
    let event = created(&sent[0]);
    assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    assert!(event.metadata.name.as_deref().is_some_and(|name| name.starts_with("vm.")), "{event:?}");
    let object = (event.involved_object.kind.as_deref(), event.involved_object.name.as_deref());
    assert_eq!((object, event.message.as_deref()), ((Some("Node"), Some("vm")), Some("pod missing/web-vm: x")));
    recorder.record(happening, at(3));
    let sent = send(&mut recorder, at(3), &EventAnswer::NotFound);
    assert!(matches!(&sent[0], EventRequest::Patch { namespace, .. } if namespace == "default"), "{sent:?}");
    assert_eq!(sent.len(), 2, "forgotten there, made there once more, and not for ever");
    assert_eq!(recorder.due_at(), None);
}

#[test]
fn what_is_refused_is_not_tried_again() {
    let mut recorder = posting();
    recorder.record(failed("x"), at(1));
    assert_eq!(send(&mut recorder, at(1), &EventAnswer::Refused).len(), 1);
    recorder.record(failed("x"), at(2));
    assert_eq!((recorder.due_at(), counts(&recorder.events(at(2)))), (None, vec![("x", 2)]));
}

#[test]
fn an_answer_for_a_forgotten_event_changes_nothing() {
    let mut recorder = posting();
    recorder.record(failed("x"), at(1));
    let post = recorder.due(at(1)).expect("due");
    recorder.answered(post.id, posted(), at(1));
    let before = format!("{recorder:?}");
    recorder.answered(post.id, EventAnswer::Failed, at(1));
    recorder.answered(EventId(99), EventAnswer::Failed, at(1));
    assert_eq!(format!("{recorder:?}"), before);
}
