//! One connection: its requests one after the other, each through the faults that were asked for.

use super::Shared;
use super::answer::{self, Answer};
use super::fault::Fault;
use super::status::Failure;
use super::wire::{self, Duplex, Request};
use serde_json::Value;
use std::io;
use std::time::{Duration, Instant};

/// A client that does not read what it asked for is given up after this.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// The way out of a connection: counts what goes, and stops where the connection is frozen.
pub struct Out<'a> {
    pub shared: &'a Shared,
    pub stream: &'a mut dyn Duplex,
    connection: u64,
    entry: usize,
    dribble: Option<(usize, Duration)>,
}

impl Out<'_> {
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        let (piece, pause) = self.dribble.unwrap_or((data.len().max(1), Duration::ZERO));
        for part in data.chunks(piece) {
            if self.shared.is_frozen(self.connection) {
                self.shared.park(self.connection);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            // Before it goes: who has read it must find it counted.
            self.shared.journal.note(self.entry, |entry| entry.bytes_out += part.len());
            self.stream.write_all(part)?;
            self.stream.flush()?;
            self.shared.pause(pause);
        }
        Ok(())
    }

    /// Whether the client has gone, or there is nothing more to say to it. It sends nothing during a watch.
    pub fn is_gone(&mut self) -> bool {
        if self.shared.is_frozen(self.connection) {
            self.shared.park(self.connection);
            return true;
        }
        let socket = self.stream.socket();
        let _ = socket.set_nonblocking(true);
        let peeked = socket.peek(&mut [0]);
        let _ = socket.set_nonblocking(false);
        !matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    fn json(&mut self, failure: Option<&Failure>, code: u16, body: &Value, cut: bool) -> io::Result<()> {
        let mut text = body.to_string().into_bytes();
        text.push(b'\n');
        let mut headers = Vec::new();
        if let Some(seconds) = failure.and_then(|f| f.retry_after) {
            headers.push(("Retry-After", seconds.to_string()));
        }
        self.whole(code, &headers, &text, cut)
    }

    fn whole(&mut self, code: u16, headers: &[(&str, String)], body: &[u8], cut: bool) -> io::Result<()> {
        self.shared.journal.note(self.entry, |entry| entry.status = code);
        let mut data = wire::head(code, headers, Some(body.len()));
        data.extend_from_slice(if cut { &body[..body.len() / 2] } else { body });
        self.send(&data)?;
        if cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// Serves until the client is done, the double goes down, or a fault ends it.
pub fn serve(shared: &Shared, stream: &mut dyn Duplex, connection: u64) -> io::Result<()> {
    stream.socket().set_write_timeout(Some(WRITE_LIMIT))?;
    stream.socket().set_nodelay(true)?;
    let mut ahead = Vec::new();
    loop {
        if shared.is_frozen(connection) {
            shared.park(connection);
            return Ok(());
        }
        let Some(request) = wire::read(stream, &mut ahead)? else { return Ok(()) };
        let entry = shared.journal.begin(connection, &request);
        let mut out = Out { shared, stream, connection, entry, dribble: None };
        let served = respond(&mut out, &request);
        shared.journal.note(entry, |entry| entry.done = true);
        served?;
        if request.wants_close() {
            return Ok(());
        }
    }
}

fn respond(out: &mut Out, request: &Request) -> io::Result<()> {
    let shared = out.shared;
    let fault = shared.faults.meets(request);
    let aborted = || Err(io::ErrorKind::ConnectionAborted.into());
    if shared.is_frozen(out.connection) || matches!(fault, Some(Fault::Hang)) {
        shared.park(out.connection);
        return aborted();
    }
    let mut cut = false;
    match &fault {
        Some(Fault::Close) => return aborted(),
        Some(Fault::Status { code, reason, message, retry_after }) => {
            let mut failure = Failure::new(*code, reason, message.as_str());
            failure.retry_after = *retry_after;
            if let Some(seconds) = retry_after {
                failure.body["details"] = serde_json::json!({ "retryAfterSeconds": seconds });
            }
            return out.json(Some(&failure), *code, &failure.body, false);
        }
        Some(Fault::Garbage(bytes)) => return out.whole(200, &[], bytes, false),
        Some(Fault::Delay(time)) => shared.pause(*time),
        Some(Fault::Dribble { piece, pause }) => out.dribble = Some((*piece, *pause)),
        Some(Fault::Truncate) => cut = true,
        Some(Fault::LoseAnswer | Fault::Hang) | None => {}
    }
    let answer = decide(out, request);
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return aborted();
    }
    match answer {
        Ok(Answer::Json { code, body }) => out.json(None, code, &body, cut),
        Ok(Answer::Text(text)) => out.whole(200, &[("Content-Type", "text/plain".to_owned())], text.as_bytes(), cut),
        Ok(Answer::Watch(plan)) => {
            shared.journal.note(out.entry, |entry| entry.status = 200);
            if cut { aborted() } else { plan.run(shared, out) }
        }
        Err(failure) => out.json(Some(&failure), failure.code, &failure.body, cut),
    }
}

fn decide(out: &mut Out, request: &Request) -> Result<Answer, Failure> {
    let shared = out.shared;
    let mut state = shared.state();
    let user = state.users.identify(request, out.stream);
    shared.journal.note(out.entry, |entry| entry.user = user.as_ref().map_or(String::new(), |u| u.name.clone()));
    let before = state.store.version();
    let answer = answer::answer(&mut state, request, user.as_ref());
    state.store.after(before).for_each(|change| shared.rooms.ring(change));
    answer
}

/// Waits that a stop interrupts.
impl Shared {
    pub fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !time.is_zero() && Instant::now() < end && !self.is_stopping() {
            std::thread::sleep((end - Instant::now()).min(Duration::from_millis(20)));
        }
    }

    /// Holds the connection open and silent until it is closed from outside.
    pub fn park(&self, connection: u64) {
        while !self.is_stopping() && self.is_open(connection) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
