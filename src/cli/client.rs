//! The client's end of the socket: one request per connection, answers read within bounds.
//!
//! An agent that was stopped, or whose loop hangs, still has its socket: connecting works, and no answer ever comes. So
//! every answer has its time. What the loop answers by itself comes in microseconds and gets [`FIRST_ANSWER`]; what may
//! take the disk's time is asked for only after the loop has shown that it turns ([`Client::greet`]).

use crate::server::wire::SOCKET_NAME;
use crate::sys::unix_socket;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the first sign of life may take: far more than a busy machine needs, and no longer than people wait.
pub const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// For what needs the disk: more than the agent takes before it gives up itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);
/// A line of an answer's head, in bytes.
const LINE_MAX: u64 = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// The largest answer that is held in memory: far above a full node's pods.
const BODY_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach the agent at {path}")]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("lost the agent at {path}")]
    Lost { path: PathBuf, source: io::Error },
    /// Somebody holds the socket, and says nothing.
    #[error("the agent{} does not answer on {path}: waited {} s", of_pid(*pid), waited.as_secs_f64().ceil())]
    Mute { path: PathBuf, pid: Option<i32>, waited: Duration },
    /// In the agent's words.
    #[error("{message}")]
    Refused { status: u16, message: String },
    #[error("cannot understand the agent's answer")]
    Decode(#[source] serde_json::Error),
    #[error("cannot understand the agent's answer: {0}")]
    Malformed(&'static str),
}

fn of_pid(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl ClientError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ClientError::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("only root and the agent's own user may use its socket: try sudo")
            }
            ClientError::Unreachable { .. } => Some("is pinlet running, and with the same --run-dir?"),
            ClientError::Mute { .. } => {
                Some("it is stopped or hangs: restart it (systemctl restart pinlet), the pods go on meanwhile")
            }
            ClientError::Lost { .. }
            | ClientError::Refused { .. }
            | ClientError::Decode(_)
            | ClientError::Malformed(_) => None,
        }
    }

    /// True where no agent answers, be it absent or mute: what can be done without one is then done without it.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::Mute { .. })
    }
}

pub struct Client {
    path: PathBuf,
    patience: Duration,
}

/// An answer whose head has been read.
pub struct Response {
    pub status: u16,
    length: Length,
    stream: BufReader<UnixStream>,
    path: PathBuf,
    /// How long a piece of the body may take.
    timeout: Option<Duration>,
}

enum Length {
    Bytes(u64),
    Chunked,
    UntilEnd,
}

impl Client {
    pub fn new(run_dir: &Path) -> Client {
        Client { path: run_dir.join(SOCKET_NAME), patience: FIRST_ANSWER }
    }

    /// Waits no longer than `patience` for a first answer.
    pub fn with_patience(run_dir: &Path, patience: Duration) -> Client {
        Client { patience, ..Client::new(run_dir) }
    }

    /// A JSON document that the loop answers by itself.
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        let waits = Waits { head: Some(self.patience), body: Some(self.patience) };
        self.send("GET", target, &[], "", waits)?.success()?.json()
    }

    /// A JSON document for which the agent reads the disk.
    pub fn get_from_disk<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.greet()?;
        let waits = Waits { head: Some(ANSWER_TIMEOUT), body: Some(ANSWER_TIMEOUT) };
        self.send("GET", target, &[], "", waits)?.success()?.json()
    }

    /// A JSON document for a JSON document, as long as it takes.
    pub fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.greet()?;
        let body = serde_json::to_vec(body).map_err(ClientError::Decode)?;
        self.send("POST", target, &body, "", Waits { head: None, body: None })?.success()?.json()
    }

    /// An answer whose body is the caller's to read; `lasting`: for as long as it goes on. To be asked for after
    /// another answer, as [`Client::greet`] gives one.
    pub fn follow(&self, target: &str, lasting: bool) -> Result<Response, ClientError> {
        let body = if lasting { None } else { Some(ANSWER_TIMEOUT) };
        self.send("GET", target, &[], "", Waits { head: Some(ANSWER_TIMEOUT), body })?.success()
    }

    /// Turns the connection over to `protocol` and gives it back, with whatever has been read of it already. To be
    /// asked for after another answer, as [`Client::greet`] gives one.
    pub fn upgrade(
        &self,
        target: &str,
        body: &impl Serialize,
        protocol: &str,
    ) -> Result<BufReader<UnixStream>, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Decode)?;
        let header = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
        let response = self.send("POST", target, &body, &header, Waits { head: Some(ANSWER_TIMEOUT), body: None })?;
        match response.status {
            101 => Ok(response.stream),
            _ => Err(response.success().err().unwrap_or(ClientError::Malformed("the connection was not turned over"))),
        }
    }

    /// Makes sure that the agent's loop turns, before something is asked for that may take long.
    fn greet(&self) -> Result<(), ClientError> {
        let waits = Waits { head: Some(self.patience), body: Some(self.patience) };
        self.send("GET", "/healthz", &[], "", waits)?.success().map(drop)
    }

    fn send(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        headers: &str,
        waits: Waits,
    ) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: self.path.clone(), source };
        // Nobody is known yet where not even connecting works.
        let mute = |pid, waited| ClientError::Mute { path: self.path.clone(), pid, waited };
        let stream = unix_socket::connect(&self.path, self.patience).map_err(|source| match is_timeout(&source) {
            true => mute(None, self.patience),
            false => unreachable(source),
        })?;
        stream.set_read_timeout(waits.head).map_err(unreachable)?;
        let pid = unix_socket::listener_pid(&stream);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: pinlet\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        let sent = (&stream).write_all(&request);
        // An agent that is busy answers and closes before it has read the request: its answer counts.
        let mut stream = BufReader::new(stream);
        let source = match (read_head(&mut stream), sent) {
            (Ok((status, length)), _) => {
                let timeout = waits.body;
                let socket = stream.get_ref();
                socket.set_read_timeout(timeout).and_then(|()| socket.set_write_timeout(None)).map_err(unreachable)?;
                return Ok(Response { status, length, stream, path: self.path.clone(), timeout });
            }
            (Err(HeadError::Malformed(what)), _) => return Err(ClientError::Malformed(what)),
            (Err(HeadError::Read(_)), Err(source)) | (Err(HeadError::Read(source)), Ok(())) => source,
        };
        match waits.head {
            Some(waited) if is_timeout(&source) => Err(mute(pid, waited)),
            _ => Err(ClientError::Lost { path: self.path.clone(), source }),
        }
    }
}

/// How long an answer's head, and each piece of its body, may take.
struct Waits {
    head: Option<Duration>,
    body: Option<Duration>,
}

enum HeadError {
    Read(io::Error),
    Malformed(&'static str),
}

fn read_head(stream: &mut impl BufRead) -> Result<(u16, Length), HeadError> {
    let first = read_line(stream).map_err(HeadError::Read)?;
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|s| s.parse().ok());
    let status = status.ok_or(HeadError::Malformed("not a status line"))?;
    let mut length = Length::UntilEnd;
    for _ in 0..HEADERS_MAX {
        let line = read_line(stream).map_err(HeadError::Read)?;
        if line.is_empty() {
            return Ok((status, length));
        }
        let (name, value) = line.split_once(':').ok_or(HeadError::Malformed("not a header"))?;
        if name.eq_ignore_ascii_case("content-length") {
            let bytes = value.trim().parse().map_err(|_| HeadError::Malformed("not a content length"))?;
            length = Length::Bytes(bytes);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            length = Length::Chunked;
        }
    }
    Err(HeadError::Malformed("too many headers"))
}

/// Without its line end.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LINE_MAX).read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Response {
    /// The answer, unless it is a refusal.
    fn success(mut self) -> Result<Response, ClientError> {
        if self.status == 200 {
            return Ok(self);
        }
        let mut body = Vec::new();
        self.read(&mut |bytes| {
            body.extend_from_slice(bytes);
            Ok(true)
        })?;
        let text = String::from_utf8_lossy(&body);
        let status = serde_json::from_str::<serde_json::Value>(&text).ok();
        let message = status.as_ref().and_then(|status| status["message"].as_str()).unwrap_or(text.trim_end());
        Err(ClientError::Refused { status: self.status, message: message.to_owned() })
    }

    fn json<T: DeserializeOwned>(mut self) -> Result<T, ClientError> {
        let mut body = Vec::new();
        self.read(&mut |bytes| {
            body.extend_from_slice(bytes);
            Ok(body.len() as u64 <= BODY_MAX)
        })?;
        if body.len() as u64 > BODY_MAX {
            return Err(ClientError::Malformed("it is too large"));
        }
        serde_json::from_slice(&body).map_err(ClientError::Decode)
    }

    /// Hands the body over piece by piece until it ends or `take` has had enough.
    pub fn read(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<bool>) -> Result<(), ClientError> {
        let (pid, timeout) = (unix_socket::listener_pid(self.stream.get_ref()), self.timeout);
        let path = self.path.clone();
        let lost = move |source: io::Error| match timeout {
            Some(waited) if is_timeout(&source) => ClientError::Mute { path: path.clone(), pid, waited },
            _ => ClientError::Lost { path: path.clone(), source },
        };
        match self.length {
            Length::Bytes(bytes) => copy(&mut (&mut self.stream).take(bytes), bytes, take).map_err(&lost).map(drop),
            Length::UntilEnd => copy(&mut self.stream, 0, take).map_err(&lost).map(drop),
            Length::Chunked => loop {
                let size = read_line(&mut self.stream).map_err(&lost)?;
                let size = u64::from_str_radix(&size, 16).map_err(|_| ClientError::Malformed("not a chunk"))?;
                if !copy(&mut (&mut self.stream).take(size), size, take).map_err(&lost)? {
                    return Ok(());
                }
                read_line(&mut self.stream).map_err(&lost)?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }
}

/// Until the end, which must not come before `expected` bytes; false if `take` had enough.
fn copy(from: &mut impl Read, expected: u64, take: &mut impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<bool> {
    let mut buffer = [0u8; 8192];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) if total < expected => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(true),
            Ok(n) => {
                total += n as u64;
                if !take(&buffer[..n])? {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A text as one component of a path or a query.
pub fn percent_encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Answers one connection with `answer`, after the request's head was read.
    fn answered(name: &str, answer: &'static str) -> (PathBuf, thread::JoinHandle<String>) {
        let dir = std::env::temp_dir().join(format!("pinlet-client-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let listener = UnixListener::bind(dir.join(SOCKET_NAME)).expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut head = Vec::new();
            let mut byte = [0u8; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("readable") == 1 {
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).expect("sent");
            String::from_utf8_lossy(&head).into_owned()
        });
        (dir, server)
    }

    fn get(name: &str, answer: &'static str) -> Result<serde_json::Value, ClientError> {
        let (dir, server) = answered(name, answer);
        let outcome = Client::new(&dir).get("/x");
        let head = server.join().expect("no panic");
        let _ = std::fs::remove_dir_all(&dir);
        assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
        outcome
    }

    #[test]
    fn an_answer_is_read_by_length_or_in_chunks() {
        let value = get("length", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
        assert_eq!(value.expect("an answer")["a"], 1);
        let value =
            get("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n");
        assert_eq!(value.expect("an answer")["a"], 1);
    }

    #[test]
    fn a_refusal_speaks_in_the_agents_words() {
        let text =
            get("text", "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nno such pod\n").expect_err("refused");
        assert!(matches!(&text, ClientError::Refused { status: 404, .. }));
        assert_eq!(text.to_string(), "no such pod");
        let body = "HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}";
        assert_eq!(get("status", body).expect_err("refused").to_string(), "no");
    }

    #[test]
    fn a_cut_or_strange_answer_is_an_error() {
        for (name, answer) in [
            ("cut", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\""),
            ("cut-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n"),
            ("empty", ""),
        ] {
            assert!(matches!(get(name, answer), Err(ClientError::Lost { .. })), "{name}");
        }
        for (name, answer) in [("strange", "SSH-2.0\r\n"), ("header", "HTTP/1.1 200 OK\r\nx\r\n\r\n")] {
            assert!(matches!(get(name, answer), Err(ClientError::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn no_socket_means_unreachable() {
        let error = Client::new(Path::new("/nonexistent")).get::<()>("/x").expect_err("nobody there");
        assert!(error.is_unreachable() && error.hint().is_some());
        assert_eq!(error.to_string(), "cannot reach the agent at /nonexistent/pinlet.sock");
    }

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(percent_encode("a-b_c.d~/ %\u{e9}"), "a-b_c.d~%2F%20%25%C3%A9");
    }
}
