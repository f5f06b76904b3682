//! What a real kubelet sent and a real API server v1.36 answered, sent again: the double must answer the same.
//!
//! `tests/data/apiserver/recorded.jsonl` has one request a line, in order; some of the hour are missing, so each one
//! finds the objects as the last answer before it showed them.

use crate::apiserver::resource::{NODES, Resource};
use crate::apiserver::{ADMIN, ApiServer};
use crate::client::{Client, Reply};
use serde_json::Value;
use std::collections::BTreeMap;

struct Record {
    number: u64,
    verb: String,
    uri: String,
    code: u16,
    request: Value,
    response: Value,
}

pub fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/apiserver/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recordings");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn records() -> Vec<Record> {
    let read = lines("recorded.jsonl").into_iter().map(|mut line| {
        let text = |line: &Value, field: &str| line[field].as_str().expect("text").to_owned();
        Record {
            number: line["number"].as_u64().expect("a number"),
            verb: text(&line, "verb"),
            uri: text(&line, "uri"),
            code: u16::try_from(line["code"].as_u64().expect("a code")).expect("a code"),
            request: line["request"].take(),
            response: line["response"].take(),
        }
    });
    read.collect()
}

/// The object's path: of a creation, the collection with its name.
fn place(record: &Record) -> String {
    let path = record.uri.split('?').next().unwrap_or_default().trim_end_matches("/status");
    let name = record.request["metadata"]["name"].as_str().filter(|_| record.verb == "create");
    name.map_or(path.to_owned(), |name| format!("{path}/{name}"))
}

/// Without what differs from one run to the next. What a delete shows of the status may come from a missing request.
fn comparable(object: &Value, verb: &str) -> Value {
    let mut object = object.clone();
    if verb == "delete" && object["kind"] == "Pod" {
        object["status"] = Value::Null;
    }
    let Some(meta) = object["metadata"].as_object_mut() else { return object };
    for field in ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"] {
        meta.remove(field);
    }
    object
}

fn send(client: &mut Client, record: &Record, stored: Option<&Value>) -> Reply {
    let mut body = record.request.clone();
    match record.verb.as_str() {
        "create" => client.post(&record.uri, &body),
        "patch" => client.patch(&record.uri, &body),
        "update" => {
            body["metadata"]["resourceVersion"] = stored.expect("it is there")["metadata"]["resourceVersion"].clone();
            client.replace(&record.uri, &body)
        }
        "delete" => client.delete(&record.uri, &body),
        other => panic!("{other} in the recordings"),
    }
}

/// Lines that differ, as `pointer: theirs -> ours`.
fn differences(at: &str, theirs: &Value, ours: &Value, out: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (a, b) = (a.get(key), b.get(key));
                match (a, b) {
                    (Some(a), Some(b)) => differences(&format!("{at}/{key}"), a, b, out),
                    (a, b) => out.push(format!("{at}/{key}: {a:?} -> {b:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{index}"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{at}: {a} -> {b}")),
    }
}

#[test]
fn a_real_servers_answers_are_given_again() {
    let server = ApiServer::start();
    let mut node = Client::new(&server, &server.node_token("vm"));
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut problems = Vec::new();
    for record in records() {
        let place = place(&record);
        let resource = Resource::of(&record.response);
        let before = match (record.verb.as_str(), known.get(&place)) {
            ("create", _) => None,
            (_, Some(object)) => Some(object.clone()),
            (_, None) => resource.map(|_| record.response.clone()),
        };
        let stored = before.as_ref().map(|object| server.put(object));
        if let (None, Some(resource)) = (&before, resource) {
            let meta = &record.request["metadata"];
            let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
            server.remove(resource, &text("namespace"), &text("name"));
        }
        let reply = send(&mut node, &record, stored.as_deref());
        let mut lines = Vec::new();
        if reply.code != record.code {
            lines.push(format!("{} -> {}: {}", record.code, reply.code, reply.text));
        }
        let (theirs, ours) = (comparable(&record.response, &record.verb), comparable(&reply.body, &record.verb));
        differences("", &theirs, &ours, &mut lines);
        problems.extend(lines.into_iter().map(|line| format!("{} {} {line}", record.number, record.uri)));
        if resource.is_some() && record.verb != "delete" {
            if resource == Some(&NODES) && record.verb == "create" {
                server.put(&record.response);
            }
            known.insert(place, record.response);
        }
    }
    assert!(problems.is_empty(), "{} differences:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn objects_of_a_real_server_come_back_as_they_were() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let mut problems = Vec::new();
    let objects = lines("objects.jsonl");
    assert!(objects.len() > 20, "pods in every state, a node, a lease, events");
    for object in objects {
        let resource = Resource::of(&object).expect("a resource that is served");
        server.put(&object);
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let root = if resource.group.is_empty() { "/api" } else { "/apis" };
        let space = if resource.namespaced { format!("/namespaces/{}", text("namespace")) } else { String::new() };
        let path = format!("{root}/{}{space}/{}/{}", resource.api_version(), resource.plural, text("name"));
        let mut found = Vec::new();
        differences("", &comparable(&object, "get"), &comparable(&admin.get(&path).code(200).body, "get"), &mut found);
        problems.extend(found.into_iter().map(|line| format!("{path} {line}")));
    }
    assert!(problems.is_empty(), "{} differences:\n{}", problems.len(), problems.join("\n"));
}
