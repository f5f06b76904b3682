//! What std's unix sockets do not offer: who is at the other end, waking a thread that waits in accept, connecting
//! within a time, and paths longer than a socket address.

use nix::sys::socket::{
    self, AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, getsockopt, shutdown, sockopt::PeerCredentials,
};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `sun_path` holds 108 bytes with its NUL.
const PATH_MAX: usize = 107;

/// The user id that the other end had when it connected.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

/// The process that listens at the other end, where it has a number here (another pid namespace may hide it).
pub fn listener_pid(stream: &UnixStream) -> Option<i32> {
    let peer = getsockopt(stream, PeerCredentials).ok()?;
    (peer.pid() > 0).then_some(peer.pid())
}

/// Makes every accept on it fail, also one that already waits.
pub fn stop_listening(listener: &UnixListener) -> io::Result<()> {
    Ok(shutdown(listener.as_raw_fd(), Shutdown::Both)?)
}

/// The effective user id of this process.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Binds to `path`, however long it is.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    with_short_path(path, |short| UnixListener::bind(short))
}

/// Connects to `path`, however long it is, and bounds writing by `limit`. Connecting needs that bound itself: where
/// nobody accepts and the queue is full, it waits (`WouldBlock` when the time is over).
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    with_short_path(path, |short| {
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let stream = UnixStream::from(socket);
        stream.set_write_timeout(Some(limit))?;
        let address = UnixAddr::new(short)?;
        loop {
            match socket::connect(stream.as_raw_fd(), &address) {
                Err(nix::Error::EINTR) => {}
                outcome => return Ok(outcome.map(|()| stream)?),
            }
        }
    })
}

/// A long path is reached through its directory's descriptor.
fn with_short_path<T>(path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= PATH_MAX {
        return action(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::open(dir)?;
    action(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_longer_than_an_address_is_bound_and_reached() {
        let dir = std::env::temp_dir().join(format!("pinlet-socket-{}-{}", std::process::id(), "x".repeat(120)));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let path = dir.join("a.sock");
        let outcome = bind(&path).and_then(|listener| {
            let client = connect(&path, Duration::from_secs(10))?;
            let (server, _) = listener.accept()?;
            Ok((peer_uid(&server)?, peer_uid(&client)?, listener_pid(&client)))
        });
        let _ = std::fs::remove_dir_all(&dir);
        let pid = std::process::id().cast_signed();
        assert_eq!(outcome.expect("bound and reached"), (own_uid(), own_uid(), Some(pid)));
    }

    #[test]
    fn connecting_is_given_up_where_nobody_accepts() {
        let path = std::env::temp_dir().join(format!("pinlet-full-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = bind(&path).expect("bound");
        socket::listen(&listener, socket::Backlog::new(0).expect("a length")).expect("a queue for one");
        let _first = connect(&path, Duration::from_millis(50)).expect("the one");
        let second = connect(&path, Duration::from_millis(50));
        let _ = std::fs::remove_file(&path);
        assert_eq!(second.expect_err("the queue is full").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_thread_that_waits_in_accept_is_woken() {
        let path = std::env::temp_dir().join(format!("pinlet-accept-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = std::sync::Arc::new(bind(&path).expect("bound"));
        let waiting = std::sync::Arc::clone(&listener);
        let thread = std::thread::spawn(move || waiting.accept().is_err());
        stop_listening(&listener).expect("shut down");
        assert!(thread.join().expect("no panic"));
        let _ = std::fs::remove_file(&path);
    }
}
