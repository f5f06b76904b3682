//! Servers in this process: HTTP/1.1 over plain TCP or TLS, answering as a test says, and a proxy that only tunnels.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

pub fn pem(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).expect("a file of tests/data/tls")
}

pub fn der(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(&pem(name)).expect("a certificate").to_vec()
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Counted from 1.
    pub connection: usize,
    /// The client's certificate, if it showed one.
    pub certificate: Option<Vec<u8>>,
    /// The name that the client asked for in its TLS handshake.
    pub name: Option<String>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub enum Reply {
    /// Status, type, body.
    Whole(u16, &'static str, Vec<u8>),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// A chunked body of these pieces, with a rest between them; then its end.
    Pieces(Vec<&'static [u8]>),
    /// The same, and then silence.
    PiecesAndSilence(Vec<&'static [u8]>),
    Silence,
}

impl Reply {
    pub fn json(status: u16, body: &str) -> Reply {
        Reply::Whole(status, "application/json", body.as_bytes().to_vec())
    }
}

/// A certificate of `tests/data/tls` with its key; `ask`: the client must show one that `ca.pem` signed.
#[derive(Clone, Copy)]
pub struct Tls {
    pub certificate: &'static str,
    pub key: &'static str,
    pub ask: bool,
}

impl Tls {
    pub const PLAIN: Option<Tls> = None;
    pub const USUAL: Option<Tls> = Some(Tls { certificate: "server.pem", key: "server.pkcs8.key", ask: false });

    pub fn of(certificate: &'static str) -> Option<Tls> {
        Some(Tls { certificate, key: "server.pkcs8.key", ask: false })
    }

    pub fn asking() -> Option<Tls> {
        Some(Tls { certificate: "server.pem", key: "server.pkcs8.key", ask: true })
    }

    fn config(self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = if self.ask {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&pem("ca.pem")).expect("a certificate")).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(&pem(self.certificate)).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(&pem(self.key)).expect("a key");
        Arc::new(builder.with_single_cert(chain, key).expect("a pair"))
    }
}

pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

impl Server {
    pub fn start(tls: Option<Tls>, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            seen: Mutex::new(Vec::new()),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let (config, reply) = (tls.map(Tls::config), Arc::new(reply));
        let theirs = shared.clone();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if theirs.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = theirs.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (config, reply, shared) = (config.clone(), reply.clone(), theirs.clone());
                thread::spawn(move || {
                    let _ = serve(socket, config, number, &*reply, &shared);
                });
            }
        });
        Server { address, scheme: if tls.is_some() { "https" } else { "http" }, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic").clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    socket: TcpStream,
    config: Option<Arc<ServerConfig>>,
    number: usize,
    reply: &dyn Fn(&Seen) -> Reply,
    shared: &Shared,
) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let Some(config) = config else {
        return converse(socket, number, (None, None), reply, shared);
    };
    let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let certificate = stream.conn.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    let name = stream.conn.server_name().map(str::to_owned);
    converse(stream, number, (certificate, name), reply, shared)
}

fn converse(
    mut stream: impl Read + Write,
    connection: usize,
    (certificate, name): (Option<Vec<u8>>, Option<String>),
    reply: &dyn Fn(&Seen) -> Reply,
    shared: &Shared,
) -> io::Result<()> {
    while let Some((head, body)) = read_request(&mut stream)? {
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned()));
        let seen = Seen {
            method: first.next().unwrap_or_default(),
            path: first.next().unwrap_or_default(),
            headers: headers.collect(),
            body,
            connection,
            certificate: certificate.clone(),
            name: name.clone(),
        };
        shared.seen.lock().expect("no panic").push(seen.clone());
        let (pieces, silent) = match reply(&seen) {
            Reply::Whole(status, kind, body) => {
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")?;
                stream.write_all(&body)?;
                stream.flush()?;
                continue;
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes)?;
                return stream.flush();
            }
            Reply::Pieces(pieces) => (pieces, false),
            Reply::PiecesAndSilence(pieces) => (pieces, true),
            Reply::Silence => return silence(),
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for piece in pieces {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            stream.write_all(b"\r\n")?;
            stream.flush()?;
            thread::sleep(Duration::from_millis(20));
        }
        if silent {
            return silence();
        }
        stream.write_all(b"0\r\n\r\n")?;
        stream.flush()?;
    }
    Ok(())
}

/// Longer than any deadline here.
fn silence() -> io::Result<()> {
    thread::sleep(Duration::from_secs(20));
    Ok(())
}

/// Head and body; `None` at the end of the connection.
fn read_request(stream: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let mut length =
        length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.parse());
    let mut body = vec![0; length.next_back().and_then(Result::ok).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some((head, body)))
}

/// An HTTP proxy: each CONNECT is kept, answered with `answer`, and tunnelled to `target` where that is a 200.
pub struct TunnelProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl TunnelProxy {
    pub fn start(answer: &'static str, target: u16) -> TunnelProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let theirs = heads.clone();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let Ok(Some((head, _))) = read_request(&mut client) else { continue };
                theirs.lock().expect("no panic").push(head);
                let _ = client.write_all(answer.as_bytes());
                if answer.contains(" 200 ") {
                    let server = TcpStream::connect(("127.0.0.1", target)).expect("the target");
                    copy(client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                    copy(server, client);
                }
            }
        });
        TunnelProxy { address, heads }
    }

    pub fn url(&self, user: &str) -> String {
        format!("http://{user}{}", self.address)
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
