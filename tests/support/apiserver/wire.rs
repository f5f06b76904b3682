//! HTTP/1.1 on a stream: requests in, answers out, and how many bytes each took. Only what clients of an API server
//! use: bodies with a length or in chunks, one request after the other on a connection.

use super::{date, fresh};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::TcpStream;

const HEAD_MAX: usize = 64 * 1024;
const BODY_MAX: usize = 8 * 1024 * 1024;

/// A connection, encrypted or not.
pub trait Duplex: Read + Write + Send {
    /// The socket below.
    fn socket(&self) -> &TcpStream;

    /// Common name and organisations of the client's certificate, where it showed one that is trusted.
    fn certificate(&self) -> Option<(String, Vec<String>)> {
        None
    }
}

impl Duplex for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Decoded, in the order given.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Head and body, as they came.
    pub bytes: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.query(name), "true" | "1")
    }

    /// The body as JSON; null where there is none or it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The media type without its parameters.
    pub fn media_type(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default().trim()
    }

    pub fn wants_close(&self) -> bool {
        self.header("connection").eq_ignore_ascii_case("close")
    }
}

/// The next request; none where the client is done with the connection. `ahead` is what was read too far.
pub fn read(stream: &mut dyn Duplex, ahead: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(at) = ahead.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if ahead.len() > HEAD_MAX {
            return Err(io::Error::other("the head of the request is too long"));
        }
        if fill(stream, ahead)? == 0 {
            return if ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    let head = String::from_utf8_lossy(&ahead[..end]).into_owned();
    ahead.drain(..end);
    let mut request = parse_head(&head).ok_or_else(|| io::Error::other(format!("not a request: {head:?}")))?;
    request.bytes = end;
    if request.header("expect").eq_ignore_ascii_case("100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
        read_chunks(stream, ahead, &mut request)?;
    } else {
        let length: usize = request.header("content-length").parse().unwrap_or(0);
        request.body = take(stream, ahead, length)?;
        request.bytes += length;
    }
    Ok(Some(request))
}

fn fill(stream: &mut dyn Duplex, ahead: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 8192];
    let read = stream.read(&mut buffer)?;
    ahead.extend_from_slice(&buffer[..read]);
    Ok(read)
}

fn take(stream: &mut dyn Duplex, ahead: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_MAX {
        return Err(io::Error::other("the body of the request is too long"));
    }
    while ahead.len() < length {
        if fill(stream, ahead)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(ahead.drain(..length).collect())
}

fn read_chunks(stream: &mut dyn Duplex, ahead: &mut Vec<u8>, request: &mut Request) -> io::Result<()> {
    loop {
        let line = loop {
            if let Some(at) = ahead.windows(2).position(|w| w == b"\r\n") {
                break take(stream, ahead, at + 2)?;
            }
            if fill(stream, ahead)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let text = String::from_utf8_lossy(&line);
        let size = text.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("not a chunk: {text:?}")))?;
        let chunk = take(stream, ahead, size + 2)?;
        request.bytes += line.len() + chunk.len();
        if size == 0 {
            return Ok(());
        }
        request.body.extend_from_slice(&chunk[..size]);
    }
}

fn parse_head(head: &str) -> Option<Request> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    if !first.next()?.starts_with("HTTP/1.") {
        return None;
    }
    // A proxy gets the whole address as target.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Some(Request { method, path: decoded(path), query: query.collect(), headers, ..Request::default() })
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        410 => "Gone",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// The bytes of a head; `length` is none for a body in chunks.
pub fn head(code: u16, headers: &[(&str, String)], length: Option<usize>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {code} {}\r\n", phrase(code));
    text +=
        &format!("Audit-Id: {}\r\nCache-Control: no-cache, private\r\nDate: {}\r\n", fresh::audit_id(), date::http());
    if !headers.iter().any(|(name, _)| *name == "Content-Type") {
        text += "Content-Type: application/json\r\n";
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    match length {
        Some(length) => text += &format!("Content-Length: {length}\r\n\r\n"),
        None => text += "Transfer-Encoding: chunked\r\n\r\n",
    }
    text.into_bytes()
}

/// One chunk; an empty one ends the body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    out
}
