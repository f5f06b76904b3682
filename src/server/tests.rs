//! The whole server against a loop that answers from a table.

use super::listen::{CONNECTIONS_MAX, Server};
use super::query::{Answer, Asker, LogPlace, Pending, Query, Session};
use super::wire::{
    ExecExit, ExplainReport, ImportOutcome, ManifestReport, ManifestState, ManifestsReport, StopProgress, VersionInfo,
};
use super::{frame, http};
use crate::model::id::{Pid, ProcessRef};
use crate::sys::poll::Waker;
use crate::sys::{spawn, unix_socket};
use k8s_openapi::api::core::v1::{Event, Pod};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

struct Fixture {
    dir: PathBuf,
    server: Option<Server>,
}

impl Fixture {
    fn new(name: &str, answer: impl Fn(Query) -> Option<Answer> + Send + 'static) -> Fixture {
        let dir = std::env::temp_dir().join(format!("pinlet-server-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("temporary directory");
        let (queries, pending) = channel();
        // Ends when the server and its threads have dropped their askers.
        thread::spawn(move || {
            for Pending { query, reply } in pending {
                if let Some(answer) = answer(query) {
                    reply.send(answer);
                }
            }
        });
        let server = Server::start(&dir, Asker::new(queries, Waker::new().expect("eventfd"))).expect("bound");
        Fixture { dir, server: Some(server) }
    }

    fn connect(&self) -> UnixStream {
        let stream = unix_socket::connect(&self.dir.join("pinlet.sock"), Duration::from_secs(10)).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("time-out");
        stream
    }

    fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        // A server that answers before it has read the request closes early: what it said can still be read.
        let sent = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        assert!(!bytes.is_empty(), "{sent:?}, {read:?}");
        String::from_utf8(bytes).expect("text")
    }

    fn get(&self, path: &str) -> (u16, String) {
        let text = self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.server = None;
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn pod(namespace: &str, name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.name = Some(name.to_owned());
    pod
}

fn event(namespace: &str) -> Event {
    let mut event = Event::default();
    event.metadata.namespace = Some(namespace.to_owned());
    event
}

fn table(query: Query) -> Option<Answer> {
    let report = || ManifestReport {
        file: PathBuf::from("/m/a.yaml"),
        state: ManifestState::Accepted,
        pod: Some("default/a-n".to_owned()),
        problems: Vec::new(),
        more: 0,
        last_good_runs: false,
    };
    match query {
        Query::Health => Some(Answer::Healthy),
        Query::Version => Some(Answer::Version(VersionInfo { version: "1".to_owned(), pid: 7 })),
        Query::Pods => Some(Answer::Pods(vec![pod("kube-system", "b"), pod("default", "c"), pod("default", "a")])),
        Query::Events => Some(Answer::Events(["kube-system", "default"].map(event).to_vec())),
        Query::Manifests => Some(Answer::Manifests(ManifestsReport { manifests: vec![report()], notes: Vec::new() })),
        Query::Explain(target) => {
            assert!(format!("{target:?}").contains("a b"), "{target:?}");
            let report = ExplainReport { manifest: report(), ok: true, reasons: Vec::new(), stages: Vec::new() };
            Some(Answer::Explain(Box::new(report)))
        }
        Query::Images => Some(Answer::Images(Vec::new())),
        Query::Node => {
            let mut node = k8s_openapi::api::core::v1::Node::default();
            node.metadata.name = Some("vm".to_owned());
            Some(Answer::Node(Box::new(node)))
        }
        Query::Import(paths) => {
            let outcome = |path| ImportOutcome { path, names: vec!["x".to_owned()], error: None };
            Some(Answer::Imported(paths.into_iter().map(outcome).collect()))
        }
        Query::Log(_) => Some(Answer::no_such_pod("x")),
        Query::StopProgress => {
            let left = vec!["default/a-n".to_owned()];
            Some(Answer::StopProgress(StopProgress { marker_seen: true, left, largest_grace_seconds: 30 }))
        }
        Query::Exec { .. } => None,
    }
}

#[test]
fn each_path_has_its_answer() {
    let fixture = Fixture::new("paths", table);
    assert_eq!(fixture.get("/healthz"), (200, "ok".to_owned()));
    let (status, body) = fixture.get("/api/v1/pods");
    let list: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!((status, list["kind"].as_str(), list["apiVersion"].as_str()), (200, Some("PodList"), Some("v1")));
    let names: Vec<_> =
        list["items"].as_array().expect("items").iter().map(|p| p["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["a", "c", "b"]);
    assert_eq!(fixture.get("/pods").1, body);
    let (_, body) = fixture.get("/api/v1/namespaces/kube-system/pods");
    assert!(body.contains("\"b\"") && !body.contains("\"a\""));
    let (_, body) = fixture.get("/api/v1/namespaces/none/pods");
    assert!(body.contains("\"items\":[]"), "{body}");
    assert!(fixture.get("/api/v1/namespaces/default/pods/a").1.contains("\"kind\":\"Pod\""));
    let (status, body) = fixture.get("/api/v1/namespaces/default/pods/x");
    assert_eq!(status, 404);
    assert!(body.contains("pods \\\"x\\\" not found") && body.contains("NotFound"), "{body}");
    let (_, body) = fixture.get("/api/v1/events");
    assert!(body.contains("\"kind\":\"EventList\"") && body.contains("kube-system"), "{body}");
    let (_, body) = fixture.get("/api/v1/namespaces/default/events");
    assert!(body.contains("\"default\"") && !body.contains("kube-system"), "{body}");
    assert!(fixture.get("/pinlet/v1/version").1.contains("\"pid\":7"));
    assert!(fixture.get("/pinlet/v1/manifests").1.contains("accepted"));
    assert!(fixture.get("/pinlet/v1/explain?name=a+b").1.contains("\"ok\":true"));
    assert_eq!(fixture.get("/pinlet/v1/explain?path=%2Fx%2Fa%20b").0, 200);
    assert!(fixture.get("/pinlet/v1/stop").1.contains("\"marker_seen\":true"));
    assert_eq!(fixture.get("/pinlet/v1/images").1, "[]");
    let (_, nodes) = fixture.get("/api/v1/nodes");
    let nodes: serde_json::Value = serde_json::from_str(&nodes).expect("json");
    assert_eq!((&nodes["kind"], &nodes["items"][0]["metadata"]["name"]), (&"NodeList".into(), &"vm".into()));
    assert!(fixture.get("/api/v1/nodes/vm").1.contains(r#""kind":"Node""#));
    let (status, missing) = fixture.get("/api/v1/nodes/other");
    assert!(status == 404 && missing.contains("not found"), "{missing}");
}

#[test]
fn wrong_requests_get_their_status() {
    let fixture = Fixture::new("wrong", table);
    assert_eq!(fixture.get("/nothing").0, 404);
    assert_eq!(fixture.get("/exec/default/a/c").0, 405);
    assert_eq!(fixture.get("/pinlet/v1/import").0, 405);
    assert_eq!(fixture.get("/pinlet/v1/explain").0, 400);
    assert_eq!(fixture.get("/pinlet/v1/explain?path=relative").0, 400);
    assert_eq!(fixture.get("/containerLogs/default/a/c").0, 404);
    assert_eq!(fixture.get("/containerLogs/default/a/c?tailLines=x").0, 422);
    let post = |body: &str| {
        let length = body.len();
        fixture.exchange(&format!("POST /pinlet/v1/import HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    assert!(post("{\"paths\":[\"/a.tar\"]}").starts_with("HTTP/1.1 200 "));
    assert!(post("{\"paths\":[\"a.tar\"]}").starts_with("HTTP/1.1 400 "));
    assert!(post("{").starts_with("HTTP/1.1 400 "));
    assert!(fixture.exchange("GET / HTTP/1.1\r\nbroken\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let exec = "POST /exec/default/a/c HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
    assert!(fixture.exchange(exec).contains("Upgrade: pinlet-exec/1"));
}

#[test]
fn a_question_that_the_loop_drops_is_an_error_not_a_hang() {
    let fixture = Fixture::new("dropped", |_| None);
    assert_eq!(fixture.get("/pods").0, 500);
}

#[test]
fn the_socket_is_private_and_taken_away_at_the_end() {
    let mut fixture = Fixture::new("mode", table);
    let path = fixture.dir.join("pinlet.sock");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    fixture.server = None;
    assert!(!path.exists());
}

#[test]
fn a_dead_agents_socket_is_replaced_and_a_wiped_directory_bound_again() {
    let mut fixture = Fixture::new("wiped", table);
    let wipe = |dir: &Path| {
        fs::remove_dir_all(dir).expect("wiped");
        fs::create_dir_all(dir).expect("made again");
    };
    assert!(fixture.server.as_ref().is_some_and(Server::is_bound));
    wipe(&fixture.dir);
    assert!(fixture.server.as_ref().is_some_and(|server| !server.is_bound()));
    fixture.server.as_mut().expect("a server").rebind().expect("bound again");
    assert!(fixture.server.as_ref().is_some_and(Server::is_bound));
    assert_eq!(fixture.get("/healthz").0, 200);
    // A second bind over a name that is still there, as after kill -9.
    fixture.server.as_mut().expect("a server").rebind().expect("bound over the old name");
    assert_eq!(fixture.get("/healthz").0, 200);
}

#[test]
fn connections_beyond_the_bound_are_told_so() {
    let fixture = Fixture::new("busy", table);
    let held: Vec<UnixStream> = (0..CONNECTIONS_MAX).map(|_| fixture.connect()).collect();
    let started = Instant::now();
    loop {
        // The last of them may not have been accepted yet.
        if fixture.get("/healthz").0 == 503 {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "never refused");
    }
    drop(held);
    while fixture.get("/healthz").0 != 200 {
        assert!(started.elapsed() < DEADLINE, "never taken again");
        thread::sleep(Duration::from_millis(10));
    }
}

fn own_process() -> ProcessRef {
    let pid = i32::try_from(std::process::id()).expect("a pid");
    ProcessRef { pid: Pid(pid), start_ticks: spawn::start_ticks(pid).expect("own start time") }
}

/// Undoes chunked transfer.
fn unchunked(body: &str) -> String {
    let (mut text, mut rest) = (String::new(), body);
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        text.push_str(&tail[..size]);
        rest = &tail[size + 2..];
    }
    text
}

#[test]
fn a_log_is_sent_as_it_was_asked_for() {
    let dir = std::env::temp_dir().join(format!("pinlet-logs-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("temporary directory");
    let path = dir.join("0.log");
    let text = "2026-11-23T23:06:01.000000000Z stdout F one\n\
                2026-11-23T23:06:02.000000000Z stderr P tw\n\
                2026-11-23T23:06:02.500000000Z stderr F o\n\
                2026-11-23T23:06:03.000000000Z stdout F three\n";
    fs::write(&path, text).expect("log");
    let place = LogPlace { path: path.clone(), writer: None };
    let fixture = Fixture::new("logs", move |query| match query {
        Query::Log(log) => {
            assert_eq!((log.pod.to_string().as_str(), log.container.as_str()), ("default/a-n", "c"));
            Some(Answer::Log(place.clone()))
        }
        _ => None,
    });
    for (query, expected) in [
        ("", "one\ntwo\nthree\n"),
        ("?tailLines=2", "two\nthree\n"),
        ("?tail=1&timestamps=true", "2026-11-23T23:06:03.000000000Z three\n"),
        ("?timestamps=1&tailLines=2", "2026-11-23T23:06:02.000000000Z two\n2026-11-23T23:06:03.000000000Z three\n"),
        ("?sinceTime=2026-11-23T23:06:02.1Z", "o\nthree\n"),
        ("?sinceSeconds=1", ""),
        ("?limitBytes=5", "one\nt"),
        ("?follow=true&previous", "one\ntwo\nthree\n"),
    ] {
        let (status, body) = fixture.get(&format!("/containerLogs/default/a-n/c{query}"));
        assert_eq!((status, unchunked(&body).as_str()), (200, expected), "{query}");
    }
    let _ = fs::remove_dir_all(&dir);
}

#[test]
fn a_followed_log_goes_on_until_the_client_leaves() {
    let dir = std::env::temp_dir().join(format!("pinlet-follow-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("temporary directory");
    let path = dir.join("0.log");
    let line = |n: u32| format!("2026-11-23T23:06:01.000000000Z stdout F line-{n}\n");
    fs::write(&path, line(1)).expect("log");
    let place = LogPlace { path: path.clone(), writer: Some(own_process()) };
    let fixture = Fixture::new("follow", move |_| Some(Answer::Log(place.clone())));
    let mut stream = fixture.connect();
    stream.write_all(b"GET /containerLogs/default/a/c?follow=1 HTTP/1.1\r\n\r\n").expect("sent");
    let mut seen = String::new();
    let mut until = |word: &str| {
        let started = Instant::now();
        while !seen.contains(word) {
            assert!(started.elapsed() < DEADLINE, "never saw {word}: {seen}");
            let mut buffer = [0u8; 1024];
            let n = stream.read(&mut buffer).expect("still open");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    until("line-1");
    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("log");
    file.write_all(line(2).as_bytes()).expect("written");
    until("line-2");
    fs::rename(&path, dir.join("0.log.20260101-000000")).expect("rotated");
    fs::write(&path, line(3)).expect("log");
    until("line-3");
    let _ = fs::remove_dir_all(&dir);
}

#[test]
fn an_exec_session_gets_the_connection() {
    let fixture = Fixture::new("exec", |query| match query {
        Query::Exec { pod, container, request } => {
            assert_eq!((pod.name.as_str(), container.as_str(), request.tty), ("a", "c", false));
            Some(Answer::Session(Session(Box::new(move |mut stream| {
                http::write_upgrade(&mut stream, frame::PROTOCOL).expect("sent");
                let input = frame::read(&mut stream).expect("a frame").expect("not the end");
                assert_eq!(input, frame::Frame::Stdin(b"hi".to_vec()));
                let exit = ExecExit { code: 3, error: None };
                frame::write(&mut stream, &frame::Frame::Exit(exit)).expect("sent");
            }))))
        }
        _ => None,
    });
    let mut stream = fixture.connect();
    let body = "{\"command\":[\"sh\"],\"stdin\":true,\"tty\":false}";
    let head =
        format!("POST /exec/default/a/c HTTP/1.1\r\nUpgrade: pinlet-exec/1\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("sent");
    // Frames may only follow once the connection has been turned over.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8; 1];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    frame::write(&mut stream, &frame::Frame::Stdin(b"hi".to_vec())).expect("sent");
    let exit = frame::read(&mut stream).expect("a frame");
    assert_eq!(exit, Some(frame::Frame::Exit(ExecExit { code: 3, error: None })));
}
