//! The recorder beside what a kubelet posted: told the same, it keeps and sends the same.
//!
//! Ours differ by nature in three things: a node's event has the node's name as its UID, which `kubectl describe node`
//! looks for (recorded is none); `eventTime` is left out where the kubelet writes null; and a kubelet patches once for
//! each time, where ours tells all at once that happened while a request was under way.

use super::*;
use serde_json::{Value, json};

fn recorded(name: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events/");
    let text = std::fs::read_to_string(format!("{path}{name}")).expect("a recording");
    serde_json::from_str(&text).expect("JSON")
}

/// The happening that a kubelet told its recorder of; `None` for what we have no name for yet (init containers).
fn happening(event: &Value) -> Option<Happening> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let key = || PodKey {
        namespace: text("/involvedObject/namespace").to_owned(),
        name: text("/involvedObject/name").to_owned(),
    };
    let uid = || PodUid::new(text("/involvedObject/uid")).expect("a UID");
    let subject = match (text("/involvedObject/kind"), text("/involvedObject/fieldPath")) {
        ("Node", _) => Subject::node(&NodeName::new(text("/involvedObject/name")).expect("a name")),
        (_, "") => Subject::Pod { key: key(), uid: uid() },
        (_, path) => {
            let container = path.strip_prefix("spec.containers{")?.strip_suffix('}')?;
            Subject::Container { key: key(), uid: uid(), container: ContainerName::new(container)? }
        }
    };
    let severity = if text("/type") == "Warning" { Severity::Warning } else { Severity::Normal };
    // A test's texts may live as long as it does.
    let reason: &'static str = text("/reason").to_owned().leak();
    Some(Happening { subject, severity, reason, message: text("/message").to_owned().into() })
}

/// The time in an event's name.
fn named_at(event: &Value) -> Now {
    let name = event["metadata"]["name"].as_str().expect("a name");
    let stamp = i64::from_str_radix(name.rsplit('.').next().expect("a stamp"), 16).expect("hex digits");
    Now { mono: Mono(u64::try_from(stamp).expect("late enough")), wall: Wall(stamp) }
}

fn without_differences(mut event: Value) -> Value {
    let object = event.as_object_mut().expect("an object");
    object.remove("eventTime");
    object.remove("kind");
    object.remove("apiVersion");
    if event["involvedObject"]["kind"] == "Node" {
        event["involvedObject"].as_object_mut().expect("an object").remove("uid");
    }
    for key in ["uid", "resourceVersion", "creationTimestamp"] {
        event["metadata"].as_object_mut().expect("an object").remove(key);
    }
    event
}

#[test]
fn every_event_that_a_kubelet_left_is_made_of_the_same_happenings() {
    let list = recorded("kept.json");
    let mut compared = 0;
    for event in list["items"].as_array().expect("a list") {
        let Some(happening) = happening(event) else { continue };
        let mut recorder = recorder();
        let first = named_at(event);
        let last = event["lastTimestamp"].as_str().expect("a time");
        let count = event["count"].as_u64().expect("a number");
        recorder.record(happening.clone(), first);
        for n in 1..count {
            // The last time is known by its second only.
            let seconds = if n + 1 == count { seconds_between(event) } else { 0 };
            let now = Now {
                mono: first.mono,
                wall: Wall((first.wall.0 / 1_000_000_000 + seconds) * 1_000_000_000 + 999_999_999),
            };
            recorder.record(happening.clone(), now);
        }
        let ours = recorder.events(first).pop().expect("kept");
        assert_eq!(serde_json::to_value(&ours.last_timestamp).expect("JSON"), json!(last), "{event}");
        let ours = without_differences(serde_json::to_value(&ours).expect("JSON"));
        assert_eq!(ours, without_differences(event.clone()));
        compared += 1;
    }
    assert_eq!(compared, 50);
}

fn seconds_between(event: &Value) -> i64 {
    let time = |key: &str| -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
        serde_json::from_value(event[key].clone()).expect("a time")
    };
    time("lastTimestamp").0.as_second() - time("firstTimestamp").0.as_second()
}

#[test]
fn the_recorded_requests_are_those_that_we_send() {
    let requests = recorded("requests.json");
    let mut recorder = recorder();
    let mut known: Vec<(String, Happening)> = Vec::new();
    let start = Now { mono: Mono(0), wall: Wall(0) };
    recorder.begin_posting(start);
    // As if an outage were long over: one after the other.
    let (mut compared, mut last) = (0, start);
    for request in requests.as_array().expect("a list") {
        let (uri, body) = (request["requestURI"].as_str().expect("a path"), &request["request"]);
        let (now, happening, name) = match request["verb"].as_str() {
            Some("create") => {
                let happening = happening(body).expect("no init containers in these");
                let name = body["metadata"]["name"].as_str().expect("a name").to_owned();
                known.push((name.clone(), happening.clone()));
                (named_at(body), happening, name)
            }
            _ => {
                let name = uri.rsplit('/').next().expect("a name").to_owned();
                let Some((_, happening)) = known.iter().find(|(known, _)| *known == name) else { continue };
                (at_second(body["lastTimestamp"].as_str().expect("a time"), last), happening.clone(), name)
            }
        };
        last = now;
        // The kubelet's recording leaves some patches out: the count tells how often it happened.
        let told = recorder.events(now).iter().find(|e| e.metadata.name.as_ref() == Some(&name)).and_then(|e| e.count);
        let times = body["count"].as_i64().expect("a number") - i64::from(told.unwrap_or(0));
        (0..times).for_each(|_| recorder.record(happening.clone(), now));
        let later = Now { mono: Mono(now.mono.0 + 1_000_000_000), ..now };
        let post = recorder.due(later).expect("due");
        let (path, ours) = match &post.request {
            EventRequest::Create(event) => {
                let namespace = event.metadata.namespace.clone().expect("a namespace");
                let event = without_differences(serde_json::to_value(event).expect("JSON"));
                (format!("/api/v1/namespaces/{namespace}/events"), event)
            }
            EventRequest::Patch { namespace, name, body } => {
                (format!("/api/v1/namespaces/{namespace}/events/{name}"), body.clone())
            }
        };
        recorder.answered(post.id, EventAnswer::Posted { resource_version: "1".to_owned() }, later);
        let theirs = if body["metadata"].is_object() { without_differences(body.clone()) } else { body.clone() };
        assert_eq!((path.as_str(), ours), (uri, theirs));
        compared += 1;
    }
    assert!(compared >= 20, "{compared}");
}

/// The time in a patch, and monotonic time that goes on from `last`.
fn at_second(text: &str, last: Now) -> Now {
    let time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time =
        serde_json::from_value(json!(text)).expect("a time");
    let wall = Wall(time.0.as_second() * 1_000_000_000);
    Now { mono: Mono(last.mono.0.max(u64::try_from(wall.0).expect("late enough"))), wall }
}
