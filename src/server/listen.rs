//! The socket and its threads: one accepts, each connection has a short-lived one of its own, all bounded.

use super::connection;
use super::http;
use super::query::Asker;
use super::wire::SOCKET_NAME;
use crate::sys::unix_socket as socket;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Connections at once; the next one is told to come again. Each holds a thread.
pub const CONNECTIONS_MAX: usize = 64;
/// Of them, those that last: followed logs and exec sessions. The rest stay free for short questions.
pub const STREAMS_MAX: usize = 48;
/// Enough for the deepest JSON that serde_json writes; only touched pages count.
const STACK_BYTES: usize = 512 * 1024;
/// How long accepting pauses after a failure that is not ours (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Counts what is under way, so that it stays within a bound.
#[derive(Debug)]
pub struct Gate {
    open: AtomicUsize,
    max: usize,
}

/// A place behind a [`Gate`], given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

impl Gate {
    pub fn new(max: usize) -> Arc<Gate> {
        Arc::new(Gate { open: AtomicUsize::new(0), max })
    }

    pub fn enter(self: &Arc<Gate>) -> Option<Place> {
        let enter = |open: usize| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok().map(|_| Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot bind {path}")]
    Bind { path: PathBuf, source: io::Error },
    #[error("cannot start a thread for {path}")]
    Thread { path: PathBuf, source: io::Error },
}

/// The bound socket. Dropped, it stops accepting and takes the socket away; connections under way end by themselves.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    asker: Asker,
    connections: Arc<Gate>,
    streams: Arc<Gate>,
    bound: Bound,
}

#[derive(Debug)]
struct Bound {
    listener: Arc<UnixListener>,
    /// Device and inode of the socket's name, by which a foreign one is told from ours.
    identity: (u64, u64),
}

impl Server {
    /// Binds `<run-dir>/pinlet.sock` for root and this user alone, and starts accepting. The caller holds the run
    /// dir's lock, so a socket that is already there is a dead agent's and is replaced.
    pub fn start(run_dir: &Path, asker: Asker) -> Result<Server, ServerError> {
        let path = run_dir.join(SOCKET_NAME);
        let (connections, streams) = (Gate::new(CONNECTIONS_MAX), Gate::new(STREAMS_MAX));
        let bound = open(&path, &asker, &connections, &streams)?;
        Ok(Server { path, asker, connections, streams, bound })
    }

    /// False once the socket's name is gone or names another one: the run dir was wiped.
    pub fn is_bound(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.bound.identity)
    }

    /// Binds again, in a run dir that was wiped and exists again. Connections of before go on.
    pub fn rebind(&mut self) -> Result<(), ServerError> {
        let bound = open(&self.path, &self.asker, &self.connections, &self.streams)?;
        close(&std::mem::replace(&mut self.bound, bound));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_bound() {
            // A name that stays is replaced by the next agent.
            let _ = fs::remove_file(&self.path);
        }
        close(&self.bound);
    }
}

fn close(bound: &Bound) {
    // The accepting thread then ends. It cannot fail on a socket that listens.
    let _ = socket::stop_listening(&bound.listener);
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

fn open(path: &Path, asker: &Asker, connections: &Arc<Gate>, streams: &Arc<Gate>) -> Result<Bound, ServerError> {
    let failed = |source| ServerError::Bind { path: path.to_owned(), source };
    let listener = Arc::new(bind_private(path).map_err(failed)?);
    let identity = identity(path).map_err(failed)?;
    let accepting = Accepting {
        listener: Arc::clone(&listener),
        asker: asker.clone(),
        connections: Arc::clone(connections),
        streams: Arc::clone(streams),
    };
    thread::Builder::new()
        .name("api".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || accepting.run())
        .map_err(|source| ServerError::Thread { path: path.to_owned(), source })?;
    Ok(Bound { listener, identity })
}

/// Bound aside and renamed, so that the name always leads to a socket that has its mode.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let aside = path.with_extension("sock.new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = socket::bind(&aside)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&aside, path)?;
    Ok(listener)
}

struct Accepting {
    listener: Arc<UnixListener>,
    asker: Asker,
    connections: Arc<Gate>,
    streams: Arc<Gate>,
}

impl Accepting {
    fn run(&self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream),
                // What accept says once the listener is shut down.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn take(&self, stream: UnixStream) {
        // The mode keeps others out; this holds also in the instant before the mode was set.
        let allowed = |uid: u32| uid == 0 || uid == socket::own_uid();
        if !socket::peer_uid(&stream).is_ok_and(allowed) {
            return;
        }
        let Some(place) = self.connections.enter() else {
            busy(stream);
            return;
        };
        let (asker, streams) = (self.asker.clone(), Arc::clone(&self.streams));
        let spawned = thread::Builder::new().name("api".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            connection::serve(stream, &asker, &streams);
            drop(place);
        });
        if let Err(error) = spawned {
            log::warn!("cannot start a thread for a connection: {error}");
        }
    }
}

/// Said without waiting for the request, and without waiting for the peer.
fn busy(mut stream: UnixStream) {
    if stream.set_nonblocking(true).is_ok() {
        let _ = http::write_response(&mut stream, 503, "text/plain; charset=utf-8", b"too many connections\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_in_no_more_than_its_bound() {
        let gate = Gate::new(2);
        let (first, second) = (gate.enter(), gate.enter());
        assert!(first.is_some() && second.is_some() && gate.enter().is_none());
        drop(first);
        assert!(gate.enter().is_some());
    }
}
