//! Every way in which the double can be told to fail, as a client meets it.

use crate::apiserver::{ADMIN, ApiServer, Fault, Request, raise_descriptor_limit};
use crate::client::Client;
use crate::watching::pod;
use serde_json::json;
use std::time::{Duration, Instant};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SOON: Duration = Duration::from_millis(300);

fn posts(request: &Request) -> bool {
    request.method == "POST"
}

#[test]
fn a_status_is_answered_as_often_as_asked() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    server.fail(Some(2), Fault::status(500), posts);
    admin.get(PODS).code(200);
    for _ in 0..2 {
        assert_eq!(admin.post(PODS, &pod("a", "n")).code(500).body["reason"], "InternalError");
    }
    admin.post(PODS, &pod("a", "n")).code(201);
    let id = server.fail(None, Fault::too_many(7), |_| true);
    let busy = admin.get(PODS).code(429);
    assert!(busy.headers.contains("Retry-After: 7\r\n"), "{}", busy.headers);
    assert_eq!(busy.body["details"]["retryAfterSeconds"], 7);
    admin.get(PODS).code(429);
    server.heal(id);
    admin.get(PODS).code(200);
    let quota = "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    server.fail(Some(1), Fault::says(403, "Forbidden", quota), posts);
    assert_eq!(admin.post(PODS, &pod("a", "n")).code(403).message(), quota);
}

#[test]
fn answers_are_garbled_cut_and_lost() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    server.fail(Some(1), Fault::Garbage(b"<html>".to_vec()), |_| true);
    assert_eq!(admin.get(PODS).code(200).text, "<html>");
    server.fail(Some(1), Fault::Truncate, |_| true);
    assert!(admin.try_ask("GET", PODS, "", "").is_err());
    server.fail(Some(1), Fault::LoseAnswer, posts);
    let mut admin = Client::new(&server, ADMIN);
    assert!(admin.try_ask("POST", PODS, "application/json", &pod("a", "n").to_string()).is_err());
    assert!(server.pod("default", "a").is_some(), "it was served");
    server.fail(Some(1), Fault::Close, posts);
    let mut admin = Client::new(&server, ADMIN);
    assert!(admin.try_ask("POST", PODS, "application/json", &pod("b", "n").to_string()).is_err());
    assert!(server.pod("default", "b").is_none(), "it was not");
}

#[test]
fn answers_are_slow() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    server.fail(Some(1), Fault::Delay(SOON), |_| true);
    let start = Instant::now();
    admin.get(PODS).code(200);
    assert!(start.elapsed() >= SOON);
    server.fail(Some(1), Fault::Dribble { piece: 64, pause: Duration::from_millis(100) }, |_| true);
    let start = Instant::now();
    admin.get(PODS).code(200);
    assert!(start.elapsed() >= SOON);
}

#[test]
fn silence_is_silence() {
    let server = ApiServer::start();
    let silent = |client: &mut Client| {
        client.set_patience(SOON);
        let error = client.try_ask("GET", PODS, "", "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "neither an answer nor an end");
    };
    server.fail(Some(1), Fault::Hang, |_| true);
    silent(&mut Client::new(&server, ADMIN));
    let mut old = Client::new(&server, ADMIN);
    old.get(PODS).code(200);
    let mut watch =
        Client::new(&server, ADMIN).watch(&format!("/api/v1/pods?watch=1&resourceVersion={}", server.version()));
    server.freeze();
    silent(&mut old);
    server.put(&pod("a", "n"));
    watch.set_patience(SOON);
    assert_eq!(watch.next().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    Client::new(&server, ADMIN).get(PODS).code(200);
    server.hang();
    silent(&mut Client::new(&server, ADMIN));
    server.heal_all();
    Client::new(&server, ADMIN).get(PODS).code(200);
}

#[test]
fn down_is_refused_and_up_has_everything() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    admin.post(PODS, &pod("a", "n")).code(201);
    for _ in 0..3 {
        server.down();
        assert!(Client::connect(&server, ADMIN).is_err());
        assert!(admin.try_ask("GET", PODS, "", "").is_err(), "what was open is closed");
        server.up();
        admin = Client::new(&server, ADMIN);
        assert_eq!(admin.get(PODS).code(200).body["items"][0]["metadata"]["name"], "a");
    }
}

#[test]
fn the_journal_has_what_came_and_what_was_answered() {
    let server = ApiServer::start();
    let mut admin = Client::new(&server, ADMIN);
    let mark = server.journal().mark();
    admin.post(&format!("{PODS}?timeout=10s"), &pod("a", "n")).code(201);
    admin.get("/api/v1/nodes/none").code(404);
    let entries = server.journal().since(mark);
    let [made, missed] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((made.line(), made.query("timeout"), made.status), (format!("POST {PODS}"), "10s", 201));
    assert_eq!((made.user.as_str(), made.user_agent.as_str()), ("kubernetes-admin", "test"));
    assert_eq!(made.content_type, "application/json");
    assert_eq!(made.body["metadata"]["name"], "a");
    assert!(made.bytes_in > 200 && made.bytes_out > 400 && made.done, "{made:?}");
    assert_eq!((missed.line().as_str(), missed.status), ("GET /api/v1/nodes/none", 404));
    assert_eq!(made.connection, missed.connection);
    assert!(made.at <= missed.at);
    assert_eq!(server.connections(), 1);
    let path = format!("/api/v1/pods?watch=1&resourceVersion={}", server.version());
    let mut watch = Client::new(&server, ADMIN).watch(&path);
    server.put(&json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "w", "namespace": "default" }, "spec": { "containers": [] } }));
    watch.event();
    let entry = server.journal().all().pop().unwrap();
    assert!(entry.is_watch() && !entry.done && entry.status == 200 && entry.bytes_out > 200, "{entry:?}");
    drop((watch, admin));
    let end = Instant::now() + Duration::from_secs(10);
    while server.connections() > 0 {
        assert!(Instant::now() < end, "an end of the client is noticed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.connections_total(), 2);
}

#[test]
fn a_thousand_clients_are_served() {
    const CLIENTS: usize = 1000;
    raise_descriptor_limit();
    let server = ApiServer::start();
    let path = |at: usize| format!("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn{at}&resourceVersion=0");
    let mut watches: Vec<_> = (0..CLIENTS).map(|at| Client::new(&server, ADMIN).watch(&path(at))).collect();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = Client::new(server, ADMIN);
                for at in (part..CLIENTS).step_by(4) {
                    let name = format!("p{at}");
                    client.post(PODS, &pod(&name, &format!("n{at}"))).code(201);
                    let status = json!({ "status": { "phase": "Running" } });
                    client.patch(&format!("{PODS}/{name}/status"), &status).code(200);
                }
            });
        }
    });
    for watch in &mut watches {
        assert!(watch.line().starts_with("ADDED p"));
        assert!(watch.line().starts_with("MODIFIED p"));
    }
    assert_eq!(server.journal().all().len(), 3 * CLIENTS);
}
