//! The HTTP client and the API server's client against servers in this process, over TCP and TLS as they are: trust,
//! names, dates, identities, proxies, bounds and deadlines.

mod api;
mod server;

use pinlet::http::{
    Cause, Certificates, Client, Error, Identity, Method, Proxies, Proxy, Request, Settings, TlsSettings, Trust,
    TrustedTime,
};
use server::{Reply, Server, Tls, TunnelProxy, der, pem};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for a busy machine, for what should end at once.
const DEADLINE: Duration = Duration::from_secs(10);

fn get(url: &str) -> Request<'_> {
    Request { method: Method::Get, url, headers: &[], body: None, deadline: DEADLINE, bytes_max: 1 << 16 }
}

fn ca() -> Trust {
    Trust::Only(Certificates::from_pem(&pem("ca.pem")).expect("an authority"))
}

fn client(tls: TlsSettings) -> Client {
    Client::new(&Settings { user_agent: "pinlet/test".to_owned(), tls, ..Settings::default() })
}

fn trusting(trust: Trust) -> Client {
    client(TlsSettings { trust, ..TlsSettings::default() })
}

fn ok() -> Reply {
    Reply::Whole(200, "text/plain", b"hello".to_vec())
}

fn body(client: &Client, url: &str) -> Result<String, String> {
    let answer = client.request(get(url)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(answer.body).expect("text"))
}

fn cause_of(outcome: Result<impl std::fmt::Debug, Error>) -> String {
    format!("{:?}", outcome.expect_err("an error").cause())
}

#[test]
fn many_requests_share_one_connection() {
    for tls in [Tls::PLAIN, Tls::USUAL] {
        let server = Server::start(tls, |_| ok());
        let client = trusting(ca());
        for _ in 0..5 {
            assert_eq!(body(&client, &server.url("/x?y=z")), Ok("hello".to_owned()));
        }
        assert_eq!(server.connections(), 1);
        let seen = &server.seen()[4];
        assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.connection), ("GET", "/x?y=z", 1));
        assert_eq!(seen.header("user-agent"), Some("pinlet/test"));
        assert_eq!(seen.header("accept-encoding"), None);
    }
}

#[test]
fn bodies_go_with_every_method_that_the_api_server_takes_them_for() {
    let server = Server::start(Tls::PLAIN, |_| ok());
    let client = trusting(ca());
    let headers = [("content-type", "application/json".to_owned()), ("authorization", "Bearer x".to_owned())];
    for method in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
        let url = server.url("/");
        let request = Request { method, headers: &headers, body: Some(b"{}"), ..get(&url) };
        assert_eq!(client.request(request).expect("an answer").head.status, 200);
        let seen = server.seen().pop().expect("a request");
        assert_eq!((seen.method.as_str(), seen.body.as_slice()), (method.name(), &b"{}"[..]));
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("authorization"), Some("Bearer x"));
    }
    let url = server.url("/");
    client.request(Request { method: Method::Delete, ..get(&url) }).expect("an answer");
    assert_eq!(server.seen().pop().expect("a request").body, b"");
    assert_eq!(server.connections(), 1);
}

#[test]
fn every_kind_of_key_proves_who_the_client_is() {
    let server = Server::start(Tls::asking(), |_| ok());
    for (certificate, key) in [
        ("client-rsa.pem", "rsa.pkcs8.key"),
        ("client-rsa.pem", "rsa.pkcs1.key"),
        ("client-p256.pem", "p256.pkcs8.key"),
        ("client-p256.pem", "p256.sec1.key"),
        ("client-p256.pem", "p256.params.key"),
        ("client-p384.pem", "p384.pkcs8.key"),
        ("client-p384.pem", "p384.sec1.key"),
        ("client-ed25519.pem", "ed25519.pkcs8.key"),
    ] {
        let identity = Identity::from_pem(&pem(certificate), &pem(key)).expect(key);
        let client = client(TlsSettings { trust: ca(), identity: Some(identity), ..TlsSettings::default() });
        assert_eq!(body(&client, &server.url("/")), Ok("hello".to_owned()), "{key}");
        assert_eq!(server.seen().pop().expect("a request").certificate, Some(der(certificate)), "{key}");
    }
    let error = body(&trusting(ca()), &server.url("/")).expect_err("nobody");
    assert!(error.contains("CertificateRequired"), "{error}");
    for (certificate, key, why) in [
        ("client-p256.pem", "p384.pkcs8.key", "the private key belongs to another certificate"),
        ("client-p256.pem", "encrypted.key", "the private key is encrypted, and nobody here knows its password"),
        ("client-p256.pem", "ca.pem", "no PEM private key in it"),
        ("ca.pkcs8.key", "ca.pkcs8.key", "no PEM certificate in it"),
    ] {
        assert_eq!(Identity::from_pem(&pem(certificate), &pem(key)).expect_err(key).to_string(), why);
    }
}

#[test]
fn a_server_that_cannot_prove_itself_is_refused_in_plain_words() {
    let stranger = Trust::Only(Certificates::from_pem(&pem("other-ca.pem")).expect("an authority"));
    for (certificate, trust, why) in [
        ("server.pem", stranger, "the server's certificate is not signed by the configured certificate authority"),
        ("other-name.pem", ca(), "the server's certificate is not for 127.0.0.1; it is for elsewhere.test"),
        ("expired.pem", ca(), "the server's certificate expired "),
        ("early.pem", ca(), "the server's certificate becomes valid in "),
    ] {
        let server = Server::start(Tls::of(certificate), |_| ok());
        let error = body(&trusting(trust), &server.url("/x?secret=1")).expect_err("refused");
        let place = format!("GET {}: ", server.url("/x"));
        assert!(error.starts_with(&(place + why)), "{error}");
        assert_eq!(body(&trusting(Trust::Anybody), &server.url("/")), Ok("hello".to_owned()));
    }
    let plain = Server::start(Tls::PLAIN, |_| ok());
    let url = plain.url("/").replace("http:", "https:");
    let request = Request { deadline: Duration::from_millis(300), ..get(&url) };
    let error = trusting(ca()).request(request).expect_err("not TLS").to_string();
    assert!(error.starts_with("GET https://127.0.0.1"), "{error}");
}

#[test]
fn a_server_may_be_known_under_another_name() {
    let server = Server::start(Tls::of("other-name.pem"), |_| ok());
    let named = |name: &str| client(TlsSettings { trust: ca(), server_name: Some(name.to_owned()), identity: None });
    assert_eq!(body(&named("elsewhere.test"), &server.url("/")), Ok("hello".to_owned()));
    assert_eq!(server.seen()[0].name.as_deref(), Some("elsewhere.test"));
    let error = body(&named("api.test"), &server.url("/")).expect_err("another");
    assert!(error.contains("is not for api.test"), "{error}");
    assert!(body(&named("no name"), &server.url("/")).expect_err("none").contains("is no name"));
}

#[test]
fn a_server_that_is_its_own_authority_is_taken_by_name_and_dates() {
    let own = || Trust::Only(Certificates::from_pem(&pem("own.pem")).expect("an authority"));
    let server = Server::start(Tls::of("own.pem"), |_| ok());
    assert_eq!(body(&trusting(own()), &server.url("/")), Ok("hello".to_owned()));
    let named = TlsSettings { trust: own(), server_name: Some("elsewhere.test".to_owned()), identity: None };
    assert!(body(&client(named), &server.url("/")).expect_err("another").contains("is not for elsewhere.test"));
    let time = Arc::new(TrustedTime::default());
    // The year 2100.
    time.tell(4_102_444_801);
    let tls = TlsSettings { trust: own(), ..TlsSettings::default() };
    let late = Client::new(&Settings { tls, time, ..Settings::default() });
    assert!(body(&late, &server.url("/")).expect_err("late").contains("expired 2 s ago"));
    assert!(body(&trusting(ca()), &server.url("/")).is_err());
}

#[test]
fn dates_are_checked_at_the_newest_time_that_is_known() {
    let server = Server::start(Tls::of("early.pem"), |_| ok());
    let time = Arc::new(TrustedTime::default());
    let tls = TlsSettings { trust: ca(), ..TlsSettings::default() };
    let client = Client::new(&Settings { tls, time: time.clone(), ..Settings::default() });
    assert!(body(&client, &server.url("/")).is_err());
    // Some time in 2098.
    time.tell(4_050_000_000);
    assert_eq!(body(&client, &server.url("/")), Ok("hello".to_owned()));
}

#[test]
fn a_proxy_is_gone_through_and_says_why_not() {
    let server = Server::start(Tls::USUAL, |_| ok());
    let proxy = TunnelProxy::start("HTTP/1.1 200 OK\r\nX: y\r\n\r\n", server.port());
    let through = |proxy: &TunnelProxy, user: &str| {
        let proxies = Proxies::Fixed(Proxy::parse(&proxy.url(user)).expect("a proxy"));
        let tls = TlsSettings { trust: ca(), ..TlsSettings::default() };
        Client::new(&Settings { tls, proxies, ..Settings::default() })
    };
    let client = through(&proxy, "us%40er:pass@");
    // The name is the proxy's to resolve.
    for _ in 0..2 {
        assert_eq!(body(&client, "https://api.test:6443/"), Ok("hello".to_owned()));
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("CONNECT api.test:6443 HTTP/1.1\r\nHost: api.test:6443\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("Proxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n"), "{}", heads[0]);
    assert_eq!(server.seen()[0].header("proxy-authorization"), None);
    for (answer, why) in [
        ("HTTP/1.1 407 No\r\n\r\n", "wants other credentials"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "refuses the connection: 502 Bad Gateway"),
        ("SSH-2.0-x\r\n\r\n", "does not answer CONNECT as an HTTP proxy does"),
    ] {
        let proxy = TunnelProxy::start(answer, server.port());
        let error = body(&through(&proxy, "u:secret@"), "https://api.test/").expect_err("refused");
        assert!(error.contains(why) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn answers_beyond_their_bound_are_not_read() {
    let announced = Server::start(Tls::PLAIN, |_| Reply::Whole(200, "text/plain", vec![b'x'; 1 << 20]));
    let lying = Server::start(Tls::PLAIN, |_| {
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nx".to_vec())
    });
    let chunked = Server::start(Tls::PLAIN, |_| Reply::Pieces(vec![&[b'x'; 40_000], &[b'x'; 40_000]]));
    for server in [&announced, &lying, &chunked] {
        let outcome = trusting(ca()).request(get(&server.url("/")));
        assert_eq!(cause_of(outcome), "TooLarge { max: 65536 }");
    }
    let url = chunked.url("/");
    let exact = Request { bytes_max: 80_000, ..get(&url) };
    assert_eq!(trusting(ca()).request(exact).expect("just fits").body.len(), 80_000);
    let huge_head = Server::start(Tls::PLAIN, |_| {
        Reply::Raw([b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 1 << 17]].concat())
    });
    assert!(trusting(ca()).request(get(&huge_head.url("/"))).is_err());
    let garbage = Server::start(Tls::PLAIN, |_| Reply::Raw(b"\x16\x03garbage\r\n\r\n".to_vec()));
    assert!(cause_of(trusting(ca()).request(get(&garbage.url("/")))).starts_with("Protocol"));
}

#[test]
fn whoever_hangs_meets_the_deadline() {
    let head_only = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";
    let silent = Server::start(Tls::PLAIN, |_| Reply::Silence);
    let half = Server::start(Tls::PLAIN, |_| Reply::PiecesAndSilence(vec![b"half"]));
    // Accepts, and says nothing: the TLS handshake hangs.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute_url = format!("https://{}/", mute.local_addr().expect("an address"));
    for url in [silent.url("/"), half.url("/"), mute_url] {
        let begin = Instant::now();
        let request = Request { deadline: Duration::from_millis(300), ..get(&url) };
        let error = trusting(ca()).request(request).expect_err("late");
        assert!(matches!(error.cause(), Cause::Deadline(_)), "{error}");
        assert!(error.to_string().ends_with(": no answer within 0.3 s"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{url} took {:?}", begin.elapsed());
    }
    let cut = Server::start(Tls::PLAIN, move |_| Reply::Raw(head_only.to_vec()));
    assert_eq!(cause_of(trusting(ca()).request(get(&cut.url("/")))), "Closed");
}

#[test]
fn lines_come_as_they_are_sent_and_silence_ends_at_the_deadline() {
    for tls in [Tls::PLAIN, Tls::USUAL] {
        let server = Server::start(tls, |_| Reply::PiecesAndSilence(vec![b"{\"a\":1}\n{\"b\"", b":2}\n"]));
        let (url, begin) = (server.url("/"), Instant::now());
        let request = Request { deadline: Duration::from_millis(800), ..get(&url) };
        let mut stream = trusting(ca()).stream(request).expect("a head");
        assert_eq!(stream.head.status, 200);
        assert_eq!(stream.next().expect("a line").expect("read"), b"{\"a\":1}");
        assert!(begin.elapsed() < Duration::from_millis(700), "the first line waits for nobody");
        assert_eq!(stream.next().expect("a line").expect("read"), b"{\"b\":2}");
        let error = stream.next().expect("an error").expect_err("silence");
        assert!(matches!(error.cause(), Cause::Deadline(_)), "{error}");
        assert!(stream.next().is_none());
        assert!(begin.elapsed() < Duration::from_secs(4));
    }
    let ended = Server::start(Tls::USUAL, |_| Reply::Pieces(vec![b"a\n", b"b\ncut"]));
    let lines: Vec<_> = trusting(ca()).stream(get(&ended.url("/"))).expect("a head").map(Result::ok).collect();
    assert_eq!(lines, [Some(b"a".to_vec()), Some(b"b".to_vec())]);
    let endless = Server::start(Tls::PLAIN, |_| Reply::Pieces(vec![&[b'x'; 40_000], &[b'x'; 40_000]]));
    let mut stream = trusting(ca()).stream(get(&endless.url("/"))).expect("a head");
    let error = stream.next().expect("an error").expect_err("too long");
    assert!(matches!(error.cause(), Cause::LineTooLong { max: 65536 }), "{error}");
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_replaced() {
    // Closes after each answer, without having said so.
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = Server::start(Tls::PLAIN, move |_| Reply::Raw(reply.to_vec()));
    let client = trusting(ca());
    for _ in 0..3 {
        assert_eq!(body(&client, &server.url("/")), Ok("ok".to_owned()));
    }
    // Says nothing at all: what can be repeated is, once.
    let rude = Server::start(Tls::PLAIN, |_| Reply::Raw(Vec::new()));
    assert_eq!(cause_of(client.request(get(&rude.url("/")))), "Closed");
    assert_eq!(rude.connections(), 2);
    let url = rude.url("/");
    let post = Request { method: Method::Post, body: Some(b"{}"), ..get(&url) };
    assert_eq!(cause_of(client.request(post)), "Closed");
    assert_eq!(rude.connections(), 3);
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let error = body(&trusting(ca()), &format!("http://{free}/x")).expect_err("nobody");
    assert_eq!(error, format!("GET http://{free}/x: no connection to {free}: Connection refused (os error 111)"));
    let error = body(&trusting(ca()), "https://no-such-host.invalid/").expect_err("nobody");
    assert!(
        error.starts_with("GET https://no-such-host.invalid/: the name no-such-host.invalid does not resolve"),
        "{error}"
    );
    let redirect = b"HTTP/1.1 302 X\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(Tls::PLAIN, move |_| Reply::Raw(redirect.to_vec()));
    assert_eq!(trusting(ca()).request(get(&server.url("/"))).expect("an answer").head.status, 302);
}
