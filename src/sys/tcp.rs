//! What std's TCP sockets do not offer: noticing a dead peer, and looking at an idle connection without touching it.

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// When a silent peer is asked whether it lives, and when it is taken for dead.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe; whole seconds.
    pub idle: Duration,
    /// Between probes; whole seconds.
    pub interval: Duration,
    pub probes: u32,
    /// Bytes that nobody acknowledges end the connection after this long.
    pub unacknowledged: Duration,
}

pub fn keep_alive(stream: &TcpStream, wanted: KeepAlive) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let milliseconds = u32::try_from(wanted.unacknowledged.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(wanted.idle))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(wanted.interval))?;
    setsockopt(stream, sockopt::TcpKeepCount, &wanted.probes)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &milliseconds)?;
    Ok(())
}

/// Open, and nothing waits to be read: neither bytes that nobody asked for, nor the end.
pub fn is_open_and_quiet(stream: &TcpStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    loop {
        match recv(stream.as_raw_fd(), &mut [0], flags) {
            Err(nix::Error::EINTR) => {}
            outcome => return outcome == Err(nix::Error::EAGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn the_options_reach_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let second = Duration::from_secs;
        let wanted = KeepAlive { idle: second(15), interval: second(5), probes: 3, unacknowledged: second(30) };
        keep_alive(&stream, wanted).unwrap();
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepIdle).unwrap(), 15);
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepInterval).unwrap(), 5);
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepCount).unwrap(), 3);
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 30_000);
    }

    #[test]
    fn bytes_and_the_end_are_seen_and_left_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        assert!(is_open_and_quiet(&stream));
        peer.write_all(b"x").unwrap();
        stream.peek(&mut [0]).unwrap();
        assert!(!is_open_and_quiet(&stream));
        assert!(!is_open_and_quiet(&stream));
        drop(peer);
        let (stream, peer) = (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener.accept().unwrap());
        drop(peer);
        stream.peek(&mut [0]).unwrap();
        assert!(!is_open_and_quiet(&stream));
    }
}
