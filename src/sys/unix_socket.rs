//! What std's unix sockets do not offer: who is at the other end, waking a thread that waits in accept, and paths
//! longer than a socket address.

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// `sun_path` holds 108 bytes with its NUL.
const PATH_MAX: usize = 107;

/// The user id that the other end had when it connected.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
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

/// Connects to `path`, however long it is.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, |short| UnixStream::connect(short))
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
            let client = connect(&path)?;
            let (server, _) = listener.accept()?;
            Ok((peer_uid(&server)?, peer_uid(&client)?))
        });
        let _ = std::fs::remove_dir_all(&dir);
        assert_eq!(outcome.expect("bound and reached"), (own_uid(), own_uid()));
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
