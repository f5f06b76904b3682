//! As much of HTTP/1.1 as a local API needs: one request per connection, a bounded head, a body only with a length.
//!
//! What a peer sends is read under a deadline and never kept beyond the bounds below. There are no chunked requests,
//! no keep-alive, no trailers and no folding; answers that have no length yet are sent in chunks.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// The request line and all headers, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;
/// The largest body we take: an exec's arguments (the kernel's own bound for one is 128 KiB).
pub const BODY_MAX: usize = 1024 * 1024;
/// A peer on this machine that has not sent its request by then never will.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read at once.
const READ_BYTES: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Decoded, without the query: `["api", "v1", "pods"]`.
    pub path: Vec<String>,
    /// In order; a name may repeat.
    pub query: Vec<(String, String)>,
    pub upgrade: Option<String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of `name` in the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no request; [`RequestError::status`] says what to answer, if anything.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Closed before a whole request came: nobody to answer.
    #[error("the connection was closed before the request was complete")]
    Closed,
    #[error("the request did not come in time")]
    Late,
    #[error("the request's head is larger than {HEAD_MAX} bytes")]
    HeadTooLarge,
    #[error("the request's body is larger than {BODY_MAX} bytes")]
    BodyTooLarge,
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("cannot read the request")]
    Read(#[source] io::Error),
}

impl RequestError {
    pub fn status(&self) -> Option<u16> {
        match self {
            RequestError::Closed | RequestError::Read(_) => None,
            RequestError::Late => Some(408),
            RequestError::HeadTooLarge => Some(431),
            RequestError::BodyTooLarge => Some(413),
            RequestError::Malformed(_) => Some(400),
        }
    }
}

/// Reads one request. `from` must have a read time-out of its own, so that a silent peer is noticed: each read that
/// times out looks at the clock, and so does each that brings something.
pub fn read_request(from: &mut impl Read) -> Result<Request, RequestError> {
    let started = Instant::now();
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = head_end(&bytes) {
            break end;
        }
        if bytes.len() >= HEAD_MAX {
            return Err(RequestError::HeadTooLarge);
        }
        let room = HEAD_MAX - bytes.len();
        more(from, &mut bytes, room, started)?;
    };
    let (mut request, length) = parse_head(&bytes[..head])?;
    let mut body = bytes.split_off(head);
    if body.len() > length {
        return Err(RequestError::Malformed("more than one request"));
    }
    while body.len() < length {
        let room = length - body.len();
        more(from, &mut body, room, started)?;
    }
    request.body = body;
    Ok(request)
}

/// Where the empty line ends.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn more(from: &mut impl Read, bytes: &mut Vec<u8>, room: usize, started: Instant) -> Result<(), RequestError> {
    let mut buffer = [0u8; READ_BYTES];
    let room = room.min(READ_BYTES);
    loop {
        if started.elapsed() > REQUEST_TIMEOUT {
            return Err(RequestError::Late);
        }
        match from.read(&mut buffer[..room]) {
            Ok(0) => return Err(RequestError::Closed),
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                return Ok(());
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                _ => return Err(RequestError::Read(error)),
            },
        }
    }
}

/// The request without its body, and the body's length.
fn parse_head(head: &[u8]) -> Result<(Request, usize), RequestError> {
    let text = std::str::from_utf8(head).map_err(|_| RequestError::Malformed("the head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(RequestError::Malformed("not a request line"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(RequestError::Malformed("not HTTP/1"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: decode_path(path)?,
        query: decode_query(query)?,
        upgrade: None,
        body: Vec::new(),
    };
    let mut length = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(RequestError::Malformed("not a header"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let wrong = || RequestError::Malformed("not a content length");
            if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong());
            }
            length = value.parse().map_err(|_| RequestError::BodyTooLarge)?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(RequestError::Malformed("a body needs a content length"));
        } else if name.eq_ignore_ascii_case("upgrade") {
            request.upgrade = Some(value.to_owned());
        }
    }
    if length > BODY_MAX { Err(RequestError::BodyTooLarge) } else { Ok((request, length)) }
}

fn decode_path(path: &str) -> Result<Vec<String>, RequestError> {
    if !path.starts_with('/') {
        return Err(RequestError::Malformed("the path is not absolute"));
    }
    path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect()
}

fn decode_query(query: &str) -> Result<Vec<(String, String)>, RequestError> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((percent_decode(&name.replace('+', " "))?, percent_decode(&value.replace('+', " "))?))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn percent_decode(text: &str) -> Result<String, RequestError> {
    let wrong = || RequestError::Malformed("a wrong percent-escape");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok()).ok_or_else(wrong)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

/// A whole answer in one write.
pub fn write_response(to: &mut impl Write, status: u16, content_type: &str, body: &[u8]) -> io::Result<()> {
    let mut bytes = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reason(status),
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    to.write_all(&bytes)
}

/// The head that turns the connection over to `protocol`.
pub fn write_upgrade(to: &mut impl Write, protocol: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 101 {}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n", reason(101));
    to.write_all(head.as_bytes())
}

/// An answer whose length nobody knows yet. Dropped without [`Chunked::finish`] it is cut, which the peer notices.
pub struct Chunked<W: Write> {
    to: W,
}

impl<W: Write> Chunked<W> {
    pub fn begin(mut to: W, content_type: &str) -> io::Result<Chunked<W>> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        to.write_all(head.as_bytes())?;
        Ok(Chunked { to })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // An empty chunk would be the end.
        if bytes.is_empty() {
            return Ok(());
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.to.write_all(&chunk)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.to.write_all(b"0\r\n\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, RequestError> {
        read_request(&mut text.as_bytes())
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request = read(
            "POST /exec/default/web%2d1/c?tailLines=5&a=b+c&a=%C3%A9&flag HTTP/1.1\r\nHost: x\r\nUPGRADE: pinlet-exec/1\r\nContent-Length: 3\r\n\r\n{}\n",
        )
        .expect("well formed");
        assert_eq!(request.method, "POST");
        assert_eq!(request.path, ["exec", "default", "web-1", "c"]);
        assert_eq!(request.parameter("tailLines"), Some("5"));
        assert_eq!(request.parameter("a"), Some("b c"));
        assert_eq!(request.query[2], ("a".to_owned(), "\u{e9}".to_owned()));
        assert_eq!(request.parameter("flag"), Some(""));
        assert_eq!(request.upgrade.as_deref(), Some("pinlet-exec/1"));
        assert_eq!(request.body, b"{}\n");
    }

    #[test]
    fn a_request_may_come_byte_by_byte() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
                buffer[0] = *first;
                self.0 = rest;
                Ok(1)
            }
        }
        let request = read_request(&mut Slow(b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok")).expect("well formed");
        assert_eq!((request.path.len(), request.body.as_slice()), (0, &b"ok"[..]));
    }

    #[test]
    fn what_is_malformed_or_too_large_gets_its_status() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        let rows: [(&str, Option<u16>); 14] = [
            ("", None),
            ("GET / HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", None),
            ("GET /\r\n\r\n", Some(400)),
            ("GET / HTTP/2\r\n\r\n", Some(400)),
            ("GET  / HTTP/1.1\r\n\r\n", Some(400)),
            ("GET http://x/ HTTP/1.1\r\n\r\n", Some(400)),
            ("GET /%zz HTTP/1.1\r\n\r\n", Some(400)),
            ("GET /%+1 HTTP/1.1\r\n\r\n", Some(400)),
            ("GET / HTTP/1.1\r\nnothing\r\n\r\n", Some(400)),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Some(400)),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Some(400)),
            ("GET / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", Some(413)),
            (&long, Some(431)),
        ];
        for (text, status) in rows {
            let error = read(text).expect_err("must be refused");
            assert_eq!(error.status(), status, "{:?}: {error}", &text[..text.len().min(40)]);
        }
        assert!(matches!(read("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(RequestError::Malformed(_))));
    }

    #[test]
    fn answers_have_a_length_or_come_in_chunks() {
        let mut out = Vec::new();
        write_response(&mut out, 404, "text/plain", b"no").expect("vec");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.starts_with("HTTP/1.1 404 Not Found\r\n")
                && text.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\nno")
        );
        let mut out = Vec::new();
        let mut chunked = Chunked::begin(&mut out, "text/plain").expect("vec");
        chunked.write(b"").expect("vec");
        chunked.write(&[b'x'; 17]).expect("vec");
        chunked.finish().expect("vec");
        assert!(out.ends_with(b"\r\n\r\n11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n"));
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_take_more_than_its_bounds() {
        let seed =
            b"POST /exec/default/web/c?a=%41&b HTTP/1.1\r\nHost: x\r\nUpgrade: y\r\nContent-Length: 4\r\n\r\nbody";
        // A linear congruential generator: the same bytes in every run.
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % below
        };
        for _ in 0..20_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = u8::try_from(random(256)).expect("a byte"),
                    1 => bytes.truncate(at.max(1)),
                    2 => drop(bytes.remove(at.min(bytes.len() - 1))),
                    _ => bytes.insert(at, b"\r\n%:/ 0"[random(7)]),
                }
                if bytes.is_empty() {
                    bytes.push(b'G');
                }
            }
            if let Ok(request) = read_request(&mut bytes.as_slice()) {
                assert!(request.body.len() <= BODY_MAX && request.path.len() <= HEAD_MAX);
            }
        }
    }
}
