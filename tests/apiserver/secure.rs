//! TLS: who a certificate says a client is, and how a node gets one.

use crate::apiserver::{ADMIN, ApiServer, BOOTSTRAP, Identity};
use crate::client::Client;
use k8s_openapi::ByteString;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const HERE: &str = "127.0.0.1";
const DAY: Duration = Duration::from_secs(86400);
const SOON: Duration = Duration::from_millis(300);

/// The handshake is part of the first request.
fn whoami(server: &ApiServer, client: &mut Client) -> std::io::Result<(u16, String)> {
    let mark = server.journal().mark();
    let reply = client.try_ask("GET", "/api/v1/nodes/n", "", "")?;
    Ok((reply.code, server.journal().since(mark)[0].user.clone()))
}

#[test]
fn a_certificate_says_who_asks() {
    let server = ApiServer::start_tls();
    let now = SystemTime::now();
    let node = server.node_certificate("n", now - DAY, DAY * 2);
    let mut client = Client::secure(&server, HERE, Some(&node)).unwrap();
    assert_eq!(whoami(&server, &mut client).unwrap(), (404, "system:node:n".to_owned()));
    let admin = server.client_certificate("root", "system:masters");
    let mut client = Client::secure(&server, "localhost", Some(&admin)).unwrap();
    assert_eq!(whoami(&server, &mut client).unwrap(), (404, "root".to_owned()));
    let mut client = Client::secure(&server, HERE, None).unwrap();
    assert_eq!(whoami(&server, &mut client).unwrap(), (401, String::new()));
    let mut client = Client::secure(&server, HERE, Some(&node)).unwrap().token(ADMIN);
    assert_eq!(whoami(&server, &mut client).unwrap().1, "system:node:n", "a certificate is looked at first");
    for (begin, what) in [(now - DAY * 3, "expired"), (now + DAY, "not yet valid")] {
        let bad = server.node_certificate("n", begin, DAY);
        let refused = Client::secure(&server, HERE, Some(&bad)).and_then(|mut c| whoami(&server, &mut c));
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    let stranger = ApiServer::start().client_certificate("root", "system:masters");
    let refused = Client::secure(&server, HERE, Some(&stranger)).and_then(|mut c| whoami(&server, &mut c));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_certificate_for_another_name_is_seen_by_clients() {
    let server = ApiServer::start_tls_as(&["api.example"]);
    let ask = |name| {
        Client::secure(&server, name, None).and_then(|mut c| c.try_ask("GET", "/healthz", "", "")).map(|r| r.text)
    };
    assert_eq!(ask("api.example").unwrap(), "ok");
    assert!(ask(HERE).is_err());
}

#[test]
fn watches_and_failures_work_under_tls() {
    let server = ApiServer::start_tls();
    let client = || Client::secure(&server, HERE, None).unwrap().token(ADMIN);
    let path = format!("/api/v1/pods?watch=1&resourceVersion={}", server.version());
    let mut watch = client().watch(&path);
    server.put(&crate::watching::pod("a", "n"));
    assert_eq!(watch.line(), "ADDED a");
    server.freeze();
    server.put(&crate::watching::pod("b", "n"));
    watch.set_patience(SOON);
    assert!(watch.next().is_err());
    server.down();
    assert!(Client::secure(&server, HERE, None).is_err());
    server.up();
    client().get("/api/v1/pods").code(200);
    let watch = client().watch(&path);
    drop(watch);
    let end = SystemTime::now() + Duration::from_secs(10);
    while server.connections() > 0 {
        assert!(SystemTime::now() < end, "an end of the client is noticed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A signing request as a kubelet makes it, and its key.
fn csr(name: &str, node: &str, organisation: &str, names: &[&str]) -> (Value, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = json!({
        "metadata": { "name": name },
        "spec": {
            "request": ByteString(pem.into_bytes()), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    (request, key.serialize_pem())
}

fn certificate(object: &Value) -> Option<String> {
    let bytes: ByteString = serde_json::from_value(object["status"].get("certificate")?.clone()).ok()?;
    String::from_utf8(bytes.0).ok()
}

#[test]
fn a_bootstrap_token_becomes_a_certificate() {
    let server = ApiServer::start_tls();
    server.approve_automatically(DAY);
    let mut client = Client::secure(&server, HERE, None).unwrap().token(BOOTSTRAP);
    let (request, key) = csr("csr-1", "n", "system:nodes", &[]);
    let made = client.post(REQUESTS, &request).code(201).body;
    assert_eq!(made["spec"]["username"], "system:bootstrap:abcdef");
    assert_eq!(made["status"], json!({}), "the answer is of before the approval");
    let signed = client.get(&format!("{REQUESTS}/csr-1")).code(200).body;
    assert_eq!(signed["status"]["conditions"][0]["type"], "Approved");
    let identity = Identity { certificate: certificate(&signed).expect("it is signed"), key };
    let mut node = Client::secure(&server, HERE, Some(&identity)).unwrap();
    assert_eq!(whoami(&server, &mut node).unwrap(), (404, "system:node:n".to_owned()));
    let (request, _) = csr("csr-2", "n", "system:nodes", &[]);
    node.post(REQUESTS, &request).code(201);
    assert!(certificate(&node.get(&format!("{REQUESTS}/csr-2")).code(200).body).is_some(), "its own, again");
    let (request, _) = csr("csr-3", "other", "system:nodes", &[]);
    node.post(REQUESTS, &request).code(201);
    let other = node.get(&format!("{REQUESTS}/csr-3")).code(200).body;
    assert_eq!(other["status"], json!({}), "another node's is for somebody to decide");
}

#[test]
fn what_no_signer_signs_is_not_signed() {
    let server = ApiServer::start_tls();
    let mut admin = Client::secure(&server, HERE, None).unwrap().token(ADMIN);
    let mut usages = csr("usages", "n", "system:nodes", &[]).0;
    usages["spec"]["usages"] = json!(["client auth", "server auth"]);
    let mut forged = csr("forged", "n", "system:nodes", &[]).0;
    let ByteString(pem) = serde_json::from_value(forged["spec"]["request"].clone()).unwrap();
    let mut lines: Vec<String> = String::from_utf8(pem).unwrap().lines().map(str::to_owned).collect();
    // The last whole line is of the signature.
    let at = lines.len() - 3;
    lines[at] = lines[at].chars().rev().collect();
    forged["spec"]["request"] = serde_json::to_value(ByteString(lines.join("\n").into_bytes())).unwrap();
    let cases = [
        (csr("group", "n", "system:masters", &[]).0, "organisation"),
        (csr("names", "n", "system:nodes", &["n.example"]).0, "alternative names"),
        (csr("nobody", "", "system:nodes", &[]).0, "common name"),
        (usages, "usages"),
        (forged, ""),
    ];
    for (request, why) in cases {
        let name = request["metadata"]["name"].as_str().unwrap();
        admin.post(REQUESTS, &request).code(201);
        assert!(server.approve(name));
        let object = admin.get(&format!("{REQUESTS}/{name}")).code(200).body;
        assert!(certificate(&object).is_none(), "{name}");
        assert_eq!(object["status"]["conditions"][1]["type"], "Failed", "{object}");
        let message = object["status"]["conditions"][1]["message"].as_str().unwrap();
        assert!(message.contains(why), "{name}: {message}");
    }
    let (request, _) = csr("late", "n", "system:nodes", &[]);
    admin.post(REQUESTS, &request).code(201);
    let path = format!("{REQUESTS}?watch=1&fieldSelector=metadata.name%3Dlate&resourceVersion={}", server.version());
    let mut watch = Client::secure(&server, HERE, None).unwrap().token(ADMIN).watch(&path);
    assert!(server.approve("late"));
    assert!(certificate(&watch.event()["object"]).is_none());
    assert!(certificate(&watch.event()["object"]).is_some(), "first approved, then signed");
    let (request, _) = csr("no", "n", "system:nodes", &[]);
    admin.post(REQUESTS, &request).code(201);
    assert!(server.deny("no") && !server.approve("none"));
    let denied = admin.get(&format!("{REQUESTS}/no")).code(200).body;
    assert_eq!(denied["status"]["conditions"][0]["type"], "Denied");
}
