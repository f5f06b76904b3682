//! The API server's client: credentials that change, plugins, refusals, and watches.

use super::server::{Reply, Seen, Server, Tls, data, der, pem};
use pinlet::apiserver::kubeconfig::Kubeconfig;
use pinlet::apiserver::{ApiError, Client, EventKind};
use pinlet::http::{Method, TrustedTime};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pinlet-http-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        // By rename, as whoever rotates does.
        let aside = self.0.join(format!("{name}.new"));
        fs::write(&aside, bytes).expect("written");
        fs::rename(aside, self.0.join(name)).expect("renamed");
    }

    fn script(&self, name: &str, text: &str) {
        self.write(name, format!("#!/bin/sh\ncd {}\n{text}", self.0.display()).as_bytes());
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(0o755)).expect("executable");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client of `server`, with these fields of its user; relative files are the scratch's.
fn client(scratch: &Scratch, server: &Server, user: &str) -> Client {
    let url = server.url("");
    let ca = data("ca.pem");
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters:\n- name: k\n  cluster: \
         {{server: '{url}', certificate-authority: {}}}\nusers:\n- name: u\n  user: {user}\n",
        ca.display()
    );
    scratch.write("kubeconfig", text.as_bytes());
    let path = scratch.0.join("kubeconfig");
    Client::new(&path, "pinlet/test", Arc::new(TrustedTime::default())).expect("a kubeconfig")
}

fn get(client: &Client, path: &str) -> Result<serde_json::Value, ApiError> {
    client.request(Method::Get, path, &[], "", None)?.json()
}

/// Accepts exactly this bearer token.
fn only(token: &'static str) -> impl Fn(&Seen) -> Reply {
    move |seen| match seen.header("authorization") == Some(&format!("Bearer {token}")) {
        true => Reply::json(200, "{}"),
        false => Reply::json(401, r#"{"kind":"Status","message":"Unauthorized","reason":"Unauthorized","code":401}"#),
    }
}

#[test]
fn a_certificate_that_is_replaced_on_disk_is_used_without_a_restart() {
    let server = Server::start(Tls::asking(), |_| Reply::json(200, "{}"));
    let scratch = Scratch::new("rotation");
    let client = client(&scratch, &server, "{client-certificate: pair.pem, client-key: pair.pem}");
    let error = get(&client, "/version").expect_err("nobody wrote it yet").to_string();
    assert!(
        error.starts_with("users[0].user.client-certificate ") && error.contains("pair.pem: No such file"),
        "{error}"
    );
    scratch.write("pair.pem", &[pem("client-p256.pem"), pem("p256.pkcs8.key")].concat());
    for _ in 0..2 {
        get(&client, "/version").expect("an answer");
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(server.seen()[0].certificate, Some(der("client-p256.pem")));
    // The key is still on its way: the pair before it goes on.
    scratch.write("pair.pem", &[pem("client-ed25519.pem"), pem("p256.pkcs8.key")].concat());
    std::thread::sleep(Duration::from_millis(1100));
    get(&client, "/version").expect("an answer");
    assert_eq!(server.seen()[2].certificate, Some(der("client-p256.pem")));
    scratch.write("pair.pem", &[pem("client-second.pem"), pem("p256.sec1.key")].concat());
    std::thread::sleep(Duration::from_millis(1100));
    get(&client, "/version").expect("an answer");
    assert_eq!(server.seen()[3].certificate, Some(der("client-second.pem")));
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_token_that_rotated_is_read_again_on_a_refusal() {
    let server = Server::start(Tls::USUAL, only("second"));
    let scratch = Scratch::new("token");
    scratch.write("token", b"first\n");
    let client = client(&scratch, &server, "{tokenFile: token, token: unused}");
    assert!(matches!(get(&client, "/x"), Err(ApiError::Unauthorized(_))));
    assert_eq!(server.seen().len(), 1, "nothing newer was there");
    scratch.write("token", b"second\n");
    get(&client, "/x").expect("the new one");
    assert_eq!(server.seen().len(), 3);
    // A broken file leaves what works.
    scratch.write("token", b"");
    get(&client, "/x").expect("the last good one");
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_plugin_runs_once_and_again_on_a_refusal() {
    let server = Server::start(Tls::USUAL, only("token-2"));
    let scratch = Scratch::new("plugin");
    scratch.script(
        "login",
        r#"echo run >> runs; n=$(wc -l < runs)
printf '%s' "$KUBERNETES_EXEC_INFO" > info; printf '%s,%s' "$1" "$REGION" > told; cat > stdin
echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1",
"status":{"token":"token-'"$n"'","expirationTimestamp":"2099-01-01T00:00:00Z"}}'
"#,
    );
    let user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, args: [get-token], \
                env: [{name: REGION, value: eu}], interactiveMode: IfAvailable, provideClusterInfo: true}}";
    let client = client(&scratch, &server, user);
    for _ in 0..3 {
        get(&client, "/x").expect("an answer");
    }
    let read = |name: &str| fs::read_to_string(scratch.0.join(name)).expect("written by the plugin");
    assert_eq!(read("runs"), "run\nrun\n");
    assert_eq!(server.seen().len(), 4);
    assert_eq!((read("told").as_str(), read("stdin").as_str()), ("get-token,eu", ""));
    let info: serde_json::Value = serde_json::from_str(&read("info")).expect("JSON");
    assert_eq!(info["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(info["kind"], "ExecCredential");
    assert_eq!(info["spec"]["interactive"], false);
    assert_eq!(info["spec"]["cluster"]["server"], server.url("").as_str());
    assert!(info["spec"]["cluster"]["certificate-authority-data"].is_string());
}

#[test]
fn a_plugin_may_give_a_certificate_and_an_expiry_runs_it_again() {
    let server = Server::start(Tls::asking(), |_| Reply::json(200, "{}"));
    let scratch = Scratch::new("plugin-certificate");
    let line = |name: &str| String::from_utf8(pem(name)).expect("text").replace('\n', "\\n");
    scratch.write(
        "answer",
        format!(
            r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1","status":{{
            "clientCertificateData":"{}","clientKeyData":"{}","expirationTimestamp":"2020-01-01T00:00:00Z"}}}}"#,
            line("client-rsa.pem"),
            line("rsa.pkcs1.key")
        )
        .as_bytes(),
    );
    scratch.script("login", "echo run >> runs; cat answer\n");
    let user = "{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: ./login}}";
    let client = client(&scratch, &server, user);
    for _ in 0..2 {
        get(&client, "/x").expect("an answer");
    }
    assert_eq!(server.seen()[1].certificate, Some(der("client-rsa.pem")));
    assert_eq!(fs::read_to_string(scratch.0.join("runs")).expect("runs"), "run\nrun\n");
}

#[test]
fn a_plugin_that_fails_is_named_with_its_last_words() {
    let server = Server::start(Tls::USUAL, |_| Reply::json(200, "{}"));
    let scratch = Scratch::new("plugin-fails");
    let answer = |fields: &str| format!("echo '{{\"kind\":\"ExecCredential\",{fields}}}'\n");
    for (script, why) in [
        ("echo no network >&2; exit 3\n".to_owned(), "exit status: 3: no network"),
        ("kill -9 $$\n".to_owned(), "signal: 9 (SIGKILL)"),
        ("yes\n".to_owned(), "prints more than 1048576 bytes"),
        ("echo hello\n".to_owned(), "prints no ExecCredential: expected value at line 1 column 1"),
        (answer("\"apiVersion\":\"v1\""), "its apiVersion is not client.authentication.k8s.io/v1"),
        (answer("\"apiVersion\":\"client.authentication.k8s.io/v1\""), "it has no status"),
        (
            answer("\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{}"),
            "neither a token nor a certificate",
        ),
    ] {
        scratch.script("login", &script);
        let user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, interactiveMode: Never}}";
        let error = get(&client(&scratch, &server, user), "/x").expect_err("no credential");
        assert!(matches!(error, ApiError::Credentials(_)));
        let text = error.to_string();
        assert!(text.starts_with("users[0].user.exec /") && text.contains(why), "{text}");
    }
    let user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, interactiveMode: Never, \
                installHint: install it}}";
    let text = get(&client(&scratch, &server, user), "/x").expect_err("not there").to_string();
    assert!(text.contains("no-such-plugin: cannot be run") && text.ends_with("; hint: install it"), "{text}");
    assert!(server.seen().is_empty());
    // Its child keeps the pipe; the plugin is done all the same.
    let good = "\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{\"token\":\"t\"}";
    scratch.script("login", &format!("sleep 5 & {}", answer(good)));
    let user = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, interactiveMode: Never}}";
    let begin = std::time::Instant::now();
    get(&client(&scratch, &server, user), "/x").expect("an answer");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn refusals_are_told_apart_and_captive_portals_are_none_of_them() {
    let status = |code: u16, reason: &str, more: &str| {
        format!(r#"{{"kind":"Status","status":"Failure","message":"why","reason":"{reason}","code":{code}{more}}}"#)
    };
    let details = r#","details":{"retryAfterSeconds":7}"#;
    let cases: Vec<(u16, &'static str, String, &str)> = vec![
        (400, "application/json", status(400, "BadRequest", ""), "Invalid"),
        (401, "application/json", status(401, "Unauthorized", ""), "Unauthorized"),
        (403, "application/json", status(403, "Forbidden", ""), "Forbidden"),
        (404, "application/json", status(404, "NotFound", ""), "NotFound"),
        (409, "application/json", status(409, "Conflict", ""), "Conflict"),
        (409, "application/json", status(409, "AlreadyExists", ""), "AlreadyExists"),
        (410, "application/json", status(410, "Expired", ""), "Gone"),
        (422, "application/json", status(422, "Invalid", ""), "Invalid"),
        (429, "application/json", status(429, "TooManyRequests", details), "TooManyRequests"),
        (503, "application/json", status(503, "ServiceUnavailable", details), "Server { code: 503"),
        (500, "text/plain", "etcd is away".to_owned(), "Server { code: 500"),
        (429, "text/plain", "Too many requests".to_owned(), "TooManyRequests"),
        (404, "text/html", "<html>no</html>".to_owned(), "Server { code: 404"),
        (410, "text/html", "<html>no</html>".to_owned(), "Server { code: 410"),
        (302, "text/html", String::new(), "Garbage"),
        (200, "text/html", "<html>log in</html>".to_owned(), "Garbage"),
        (200, "application/json", "<html>".to_owned(), "Garbage"),
    ];
    let replies: Vec<(u16, &'static str, String)> = cases.iter().map(|(c, k, b, _)| (*c, *k, b.clone())).collect();
    let server = Server::start(Tls::USUAL, move |seen| {
        let (code, kind, body) = &replies[seen.path.trim_start_matches('/').parse::<usize>().expect("a number")];
        Reply::Whole(*code, kind, body.clone().into_bytes())
    });
    let scratch = Scratch::new("refusals");
    let client = client(&scratch, &server, "{}");
    for (at, (code, _, body, variant)) in cases.iter().enumerate() {
        let error = get(&client, &format!("/{at}")).expect_err("refused");
        assert!(format!("{error:?}").starts_with(variant), "{error:?} {variant}");
        let text = error.to_string();
        let operation = format!("GET {}: ", server.url(&format!("/{at}")));
        assert!(text.starts_with(&operation) && text.matches("GET").count() == 1, "{text}");
        if body.contains("\"why\"") {
            assert_eq!(text, operation + "why");
        }
        let wait = body.contains("retryAfter").then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after(), wait, "{code}");
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn requests_and_queries_arrive_as_they_were_meant() {
    let server = Server::start(Tls::USUAL, |_| Reply::json(201, r#"{"a":1}"#));
    let scratch = Scratch::new("requests");
    let client = client(&scratch, &server, "{token: sesame}");
    let query = [("fieldSelector", "spec.nodeName=n1"), ("x", "a b&c")];
    let kind = "application/strategic-merge-patch+json";
    let answer = client.request(Method::Patch, "/api/v1/x", &query, kind, Some(b"{}")).expect("an answer");
    assert_eq!((answer.code, answer.json::<serde_json::Value>().expect("JSON")["a"].as_u64()), (201, Some(1)));
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/api/v1/x?fieldSelector=spec.nodeName%3Dn1&x=a%20b%26c");
    assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("PATCH", &b"{}"[..]));
    for (name, value) in [
        ("authorization", "Bearer sesame"),
        ("accept", "application/json"),
        ("content-type", kind),
        ("user-agent", "pinlet/test"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_watch_tells_events_and_why_it_ended() {
    let expired = br#"{"type":"ERROR","object":{"kind":"Status","message":"too old","reason":"Expired","code":410}}
"#;
    let server = Server::start(Tls::USUAL, move |seen| match seen.path.split('?').next().unwrap_or_default() {
        "/events" => Reply::Pieces(vec![
            b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\",\"n\":1}}\n{\"type\":\"BOOK",
            b"MARK\",\"object\":{\"kind\":\"Pod\"}}\n",
            b"{\"type\":\"DELETED\",\"object\":{\"n\":2}}\n",
        ]),
        "/expired" => Reply::Pieces(vec![expired]),
        "/odd" => Reply::Pieces(vec![b"{\"type\":\"SURPRISE\",\"object\":{}}\n"]),
        "/cut" => Reply::Raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"typ\r\n"
                .to_vec(),
        ),
        "/html" => Reply::Whole(200, "text/html", b"<html>".to_vec()),
        _ => Reply::json(410, r#"{"kind":"Status","message":"gone","reason":"Gone","code":410}"#),
    });
    let scratch = Scratch::new("watch");
    let client = client(&scratch, &server, "{}");
    let watch = |path: &str| client.watch(path, &[("resourceVersion", "7")], MINUTE);
    let events: Vec<_> = watch("/events").expect("a watch").map(|event| event.expect("an event")).collect();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Added, EventKind::Bookmark, EventKind::Deleted]);
    assert_eq!(events[0].object::<serde_json::Value>().expect("an object")["n"], 1);
    assert_eq!(server.seen()[0].path, "/events?resourceVersion=7&watch=true&timeoutSeconds=60");
    for (path, variant) in [("/expired", "Gone"), ("/odd", "Garbage"), ("/cut", "Unreachable")] {
        let mut watch = watch(path).expect("a watch");
        let error = watch.next().expect("an item").expect_err("an end");
        assert!(format!("{error:?}").starts_with(variant), "{error:?}");
        assert!(error.to_string().starts_with(&format!("GET {}", server.url(path))), "{error}");
        assert!(watch.next().is_none());
    }
    assert!(matches!(watch("/html"), Err(ApiError::Garbage(_))));
    assert!(matches!(watch("/else"), Err(ApiError::Gone(_))));
}

#[test]
fn a_server_below_a_path_and_a_proxy_of_the_kubeconfigs_are_used() {
    let server = Server::start(Tls::USUAL, |_| Reply::json(200, "{}"));
    let proxy = super::TunnelProxy::start("HTTP/1.1 200 OK\r\n\r\n", server.port());
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters:\n- name: k\n  cluster: \
         {{server: 'https://rancher.test/k8s/c-1/', tls-server-name: api.test, certificate-authority: {}, proxy-url: '{}'}}\n\
         users: [{{name: u, user: {{}}}}]\n",
        data("ca.pem").display(),
        proxy.url("")
    );
    let kubeconfig = Kubeconfig::parse(&text, Path::new("/")).expect("valid");
    let client = Client::of(kubeconfig, "x", Arc::new(TrustedTime::default())).expect("a client");
    get(&client, "/api").expect("an answer");
    assert_eq!(server.seen()[0].path, "/k8s/c-1/api");
    assert_eq!(server.seen()[0].name.as_deref(), Some("api.test"));
    assert!(proxy.heads()[0].starts_with("CONNECT rancher.test:443 "));
}
