//! One run's log as a client asked for it: the kubelet's options, and following until the run has ended.
//!
//! Following polls: it costs nothing while nobody follows, and needs no watch that could overflow. The poll waits on
//! the connection, so a client that goes away is noticed at once.

use super::crilog::{LogReader, parse};
use super::http::Chunked;
use super::query::LogPlace;
use crate::model::id::ProcessRef;
use crate::model::time::Wall;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How soon a follower sees a new line, at the latest.
const FOLLOW_POLL: Duration = Duration::from_millis(200);
/// Lines are gathered into chunks of about this many bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// The kubelet's query parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    /// RFC 3339 in UTC with nanoseconds: what is older is not shown. Compares as text with a record's time.
    pub since: Option<String>,
    pub limit_bytes: Option<u64>,
}

impl LogOptions {
    /// Reads the query; the error is the text of a 400, or of a 422 where the kubelet has that.
    pub fn from_query(query: &[(String, String)], now: Wall) -> Result<LogOptions, (u16, String)> {
        let mut options = LogOptions::default();
        for (name, value) in query {
            let number = || {
                let wrong = |_| (422, format!("{name}: Invalid value: {value:?}: must be a number of at least 0"));
                value.parse::<u64>().map_err(wrong)
            };
            match name.as_str() {
                "follow" => options.follow = switch(name, value)?,
                "previous" => options.previous = switch(name, value)?,
                "timestamps" => options.timestamps = switch(name, value)?,
                "tailLines" | "tail" if value == "all" => options.tail_lines = None,
                "tailLines" | "tail" => options.tail_lines = Some(number()?),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let back = i64::try_from(number()?).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
                    options.since = Some(Wall(now.0.saturating_sub(back)).rfc3339_nanos());
                }
                "sinceTime" => options.since = Some(instant(value)?),
                // The kubelet ignores what it does not know.
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Go's ParseBool, and a bare `follow` is on.
fn switch(name: &str, value: &str) -> Result<bool, (u16, String)> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err((400, format!("{name}: {value:?} is not true or false"))),
    }
}

fn instant(value: &str) -> Result<String, (u16, String)> {
    let parsed: k8s_openapi::jiff::Timestamp =
        value.parse().map_err(|_| (400, format!("sinceTime: {value:?} is not an RFC 3339 time")))?;
    let nanos =
        i64::try_from(parsed.as_nanosecond()).map_err(|_| (400, format!("sinceTime: {value:?} is out of range")))?;
    Ok(Wall(nanos).rfc3339_nanos())
}

/// Opens the log before any answer is begun, so that a failure can still have a status of its own.
pub fn open(place: &LogPlace, options: &LogOptions) -> io::Result<LogReader> {
    match options.tail_lines {
        Some(lines) => LogReader::from_tail(&place.path, lines),
        None => LogReader::from_start(&place.path),
    }
}

/// Writes the log as the body of an answer.
pub fn stream(mut reader: LogReader, place: &LogPlace, options: &LogOptions, client: &UnixStream) -> io::Result<()> {
    let mut output = Output {
        options,
        body: Chunked::begin(client, "text/plain; charset=utf-8")?,
        buffer: Vec::new(),
        at_line_start: true,
        left: options.limit_bytes.unwrap_or(u64::MAX),
    };
    loop {
        // Asked before reading: what a living writer still adds is read in the next turn.
        let ended = !options.follow || !place.writer.is_some_and(is_alive);
        let more = reader.drain(&mut |line| output.line(line))?;
        output.flush()?;
        if !more || ended || !wait(client)? {
            break;
        }
    }
    output.body.finish()
}

struct Output<'a> {
    options: &'a LogOptions,
    body: Chunked<&'a UnixStream>,
    buffer: Vec<u8>,
    /// The next record begins a line of the container's, so it gets a time in front.
    at_line_start: bool,
    /// Bytes that may still be written.
    left: u64,
}

impl Output<'_> {
    /// False once the client has all that it asked for.
    fn line(&mut self, line: &[u8]) -> io::Result<bool> {
        let Some(record) = parse(line) else { return Ok(true) };
        if self.options.since.as_deref().is_some_and(|since| record.time < since) {
            return Ok(true);
        }
        if self.options.timestamps && self.at_line_start {
            self.put(record.time.as_bytes());
            self.put(b" ");
        }
        self.put(record.content);
        if !record.partial {
            self.put(b"\n");
        }
        self.at_line_start = !record.partial;
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(self.left > 0)
    }

    fn put(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..room]);
        self.left -= room as u64;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.body.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Waits for the poll's length; false if the client has gone. A client has nothing more to say after its request.
fn wait(client: &UnixStream) -> io::Result<bool> {
    client.set_read_timeout(Some(FOLLOW_POLL))?;
    let mut client = client;
    match client.read(&mut [0u8; 1]) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(true),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(false),
            _ => Err(error),
        },
    }
}

/// The very process that the reference names, not another one that got its pid.
fn is_alive(process: ProcessRef) -> bool {
    crate::sys::spawn::start_ticks(process.pid.0).is_ok_and(|ticks| ticks == process.start_ticks)
}
