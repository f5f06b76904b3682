//! One connection as ureq drives it: a TCP socket, TLS over it where the URL says so, and the buffers. Every system call
//! is bounded by what is left of the request's time.

use super::error::Cause;
use super::tls::Tls;
use crate::sys::tcp;
use rustls::ClientConnection;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

/// In bytes, each way: objects are small and a watch sends little.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Secured>,
    buffers: LazyBuffers,
}

struct Secured {
    connection: Box<ClientConnection>,
    settings: Arc<Tls>,
}

impl Wire {
    pub fn plain(socket: TcpStream) -> Wire {
        Wire { socket, tls: None, buffers: LazyBuffers::new(BUFFER_BYTES, BUFFER_BYTES) }
    }

    /// Shakes hands with whoever should be `host`.
    pub fn secured(socket: TcpStream, settings: Arc<Tls>, host: &str, until: Until) -> Result<Wire, ureq::Error> {
        let mut connection = Box::new(settings.connection(host).map_err(Cause::carried)?);
        let mut bounded = Bounded { socket: &socket, until };
        while connection.is_handshaking() {
            connection.complete_io(&mut bounded).map_err(|error| carried(error, until, Some(&settings)))?;
        }
        let buffers = LazyBuffers::new(BUFFER_BYTES, BUFFER_BYTES);
        Ok(Wire { socket, tls: Some(Secured { connection, settings }), buffers })
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let until = Until::new(timeout.for_write());
        let mut bounded = Bounded { socket: &self.socket, until };
        let output = &self.buffers.output()[..amount];
        match &mut self.tls {
            None => bounded.write_all(output).map_err(|error| carried(error, until, None)),
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls.connection.as_mut(), &mut bounded);
                let sent = stream.write_all(output).and_then(|()| stream.flush());
                sent.map_err(|error| carried(error, until, Some(&tls.settings)))
            }
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let until = Until::new(timeout.for_read());
        let mut bounded = Bounded { socket: &self.socket, until };
        let room = self.buffers.input_append_buf();
        let read = match &mut self.tls {
            None => bounded.read(room).map_err(|error| carried(error, until, None)),
            Some(tls) => rustls::Stream::new(tls.connection.as_mut(), &mut bounded)
                .read(room)
                .map_err(|error| carried(error, until, Some(&tls.settings))),
        }?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        tcp::is_open_and_quiet(&self.socket)
    }

    fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.socket.peer_addr().ok()).field("tls", &self.tls.is_some()).finish()
    }
}

/// When a system call has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    at: Option<Instant>,
    timeout: NextTimeout,
}

impl Until {
    pub fn new(timeout: NextTimeout) -> Until {
        let at = (!timeout.after.is_not_happening()).then(|| Instant::now() + *timeout.after);
        Until { at, timeout }
    }

    /// `None` without a bound; an error where nothing is left.
    pub fn left(self) -> io::Result<Option<Duration>> {
        let Some(at) = self.at else { return Ok(None) };
        match at.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }

    pub fn over(self) -> ureq::Error {
        ureq::Error::Timeout(self.timeout.reason)
    }
}

/// A socket that keeps to a time.
pub(super) struct Bounded<'a> {
    pub socket: &'a TcpStream,
    pub until: Until,
}

impl Bounded<'_> {
    /// Until it is done, fails, or time is up; a signal only interrupts.
    fn retry(&mut self, mut call: impl FnMut(&TcpStream, Option<Duration>) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match call(self.socket, self.until.left()?) {
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                outcome => return outcome,
            }
        }
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(|mut socket, left| {
            socket.set_read_timeout(left)?;
            socket.read(buffer)
        })
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|mut socket, left| {
            socket.set_write_timeout(left)?;
            socket.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As ureq hands it on.
pub(super) fn carried(error: io::Error, until: Until, tls: Option<&Tls>) -> ureq::Error {
    // With a number it is the kernel's, which gave the peer up.
    if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
        return until.over();
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (inner, tls) {
        (Some(inner), Some(tls)) => tls.fault(inner).carried(),
        _ => ureq::Error::Io(error),
    }
}
