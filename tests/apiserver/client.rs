//! The smallest client that shows what the double does on the wire.

use crate::apiserver::{ApiServer, Identity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(10);

/// What a connection is made of: a socket, or TLS over one.
trait Link: Read + Write + Send {}

impl<T: Read + Write + Send> Link for T {}

/// One connection, as one user.
pub struct Client {
    stream: BufReader<Box<dyn Link>>,
    socket: TcpStream,
    token: String,
}

#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub headers: String,
    pub body: Value,
    pub text: String,
}

impl Reply {
    /// The message of a `Status`.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn code(self, code: u16) -> Reply {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }
}

impl Client {
    pub fn new(server: &ApiServer, token: &str) -> Client {
        Client::connect(server, token).expect("the double listens")
    }

    pub fn connect(server: &ApiServer, token: &str) -> io::Result<Client> {
        let socket = TcpStream::connect(("127.0.0.1", server.port()))?;
        socket.set_read_timeout(Some(LIMIT))?;
        let link: Box<dyn Link> = Box::new(socket.try_clone()?);
        Ok(Client { stream: BufReader::new(link), socket, token: token.to_owned() })
    }

    /// Over TLS, trusting the double's authority, as whom the certificate names.
    pub fn secure(server: &ApiServer, name: &str, identity: Option<&Identity>) -> io::Result<Client> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(server.ca().as_bytes()).expect("a certificate");
        roots.add(ca).expect("a root");
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
                config.with_client_auth_cert(vec![chain], key).expect("an identity")
            }
        };
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(("127.0.0.1", server.port()))?;
        socket.set_read_timeout(Some(LIMIT))?;
        let link: Box<dyn Link> = Box::new(StreamOwned::new(session, socket.try_clone()?));
        Ok(Client { stream: BufReader::new(link), socket, token: String::new() })
    }

    pub fn token(mut self, token: &str) -> Client {
        self.token = token.to_owned();
        self
    }

    pub fn set_patience(&mut self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).expect("a timeout");
    }

    pub fn send(&mut self, method: &str, path: &str, kind: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let auth =
            if self.token.is_empty() { String::new() } else { format!("Authorization: Bearer {}\r\n", self.token) };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: double\r\nUser-Agent: test\r\nAccept: application/json\r\n{auth}\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(head.as_bytes())
    }

    fn head(&mut self) -> io::Result<(u16, String)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let code = head.split(' ').nth(1).and_then(|c| c.parse().ok());
        Ok((code.ok_or_else(|| io::Error::other(head.clone()))?, head))
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let (code, headers) = self.head()?;
        let length = headers.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|l| l.parse().ok()).ok_or_else(|| io::Error::other("no length"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { code, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }

    pub fn try_ask(&mut self, method: &str, path: &str, kind: &str, body: &str) -> io::Result<Reply> {
        self.send(method, path, kind, body)?;
        self.reply()
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Reply {
        self.try_ask("GET", path, "", "").expect("an answer")
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.try_ask("POST", path, "application/json", &body.to_string()).expect("an answer")
    }

    #[track_caller]
    pub fn replace(&mut self, path: &str, body: &Value) -> Reply {
        self.try_ask("PUT", path, "application/json", &body.to_string()).expect("an answer")
    }

    /// A strategic merge patch.
    #[track_caller]
    pub fn patch(&mut self, path: &str, body: &Value) -> Reply {
        let kind = "application/strategic-merge-patch+json";
        self.try_ask("PATCH", path, kind, &body.to_string()).expect("an answer")
    }

    #[track_caller]
    pub fn merge(&mut self, path: &str, body: &Value) -> Reply {
        self.try_ask("PATCH", path, "application/merge-patch+json", &body.to_string()).expect("an answer")
    }

    #[track_caller]
    pub fn delete(&mut self, path: &str, options: &Value) -> Reply {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.try_ask("DELETE", path, "application/json", &body).expect("an answer")
    }

    /// Begins a watch on a connection of its own.
    #[track_caller]
    pub fn watch(mut self, path: &str) -> Watch {
        self.send("GET", path, "", "").expect("sent");
        let (code, headers) = self.head().expect("a head");
        assert_eq!(code, 200, "{headers}");
        Watch { client: self, rest: String::new() }
    }
}

/// A watch that was accepted.
pub struct Watch {
    client: Client,
    rest: String,
}

impl Watch {
    /// The next event; none at the end of the body. An error where it broke off.
    pub fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            if let Some(at) = self.rest.find('\n') {
                let line: String = self.rest.drain(..=at).collect();
                return Ok(Some(serde_json::from_str(&line).map_err(io::Error::other)?));
            }
            let mut size = String::new();
            if self.client.stream.read_line(&mut size)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            self.client.stream.read_exact(&mut chunk)?;
            if size == 0 {
                return Ok(None);
            }
            self.rest += &String::from_utf8_lossy(&chunk[..size]);
        }
    }

    /// `TYPE name@version`, or `end`.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.next().expect("an event or an end") {
            None => "end".to_owned(),
            Some(event) => format!(
                "{} {}",
                event["type"].as_str().unwrap_or_default(),
                event["object"]["metadata"]["name"].as_str().unwrap_or("-")
            ),
        }
    }

    #[track_caller]
    pub fn event(&mut self) -> Value {
        self.next().expect("an event").expect("not the end")
    }

    pub fn set_patience(&mut self, time: Duration) {
        self.client.set_patience(time);
    }
}
