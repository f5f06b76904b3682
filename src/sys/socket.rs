//! Message sockets between our own processes: one write, one message; descriptors can go along.

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recv, recvmsg,
    send as nix_send, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// Two ends, close-on-exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// An end that stays open until the process execs or ends, wherever it is copied to.
#[derive(Clone, Copy, Debug)]
pub struct Leaked {
    fd: BorrowedFd<'static>,
}

impl Leaked {
    pub fn new(fd: OwnedFd) -> Leaked {
        // SAFETY: the descriptor is given up by its owner and closed by nobody.
        Leaked { fd: unsafe { BorrowedFd::borrow_raw(fd.into_raw_fd()) } }
    }
}

impl AsFd for Leaked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// One message. A peer that is gone is an error (EPIPE), never a signal.
pub fn send(fd: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    retry(|| nix_send(fd.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)).map(drop)
}

/// One message, dropped where the receiver is behind: for what must never delay the sender.
pub fn send_or_drop(fd: impl AsFd, bytes: &[u8]) {
    let _ = nix_send(fd.as_fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
}

/// One message; 0 when the peer is gone. A longer message is cut to the buffer.
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| recv(fd.as_fd().as_raw_fd(), buffer, MsgFlags::empty()))
}

/// One message, or `WouldBlock` at once.
pub fn receive_now(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| recv(fd.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

/// One message with a descriptor.
pub fn send_with_fd(fd: impl AsFd, bytes: &[u8], passed: impl AsFd) -> io::Result<()> {
    let fds = [passed.as_fd().as_raw_fd()];
    let parts = [IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(&fds)];
    retry(|| sendmsg::<UnixAddr>(fd.as_fd().as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)).map(drop)
}

/// One message and the descriptor that came with it, if any, close-on-exec.
pub fn receive_with_fd(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let raw = fd.as_fd().as_raw_fd();
    let mut parts = [IoSliceMut::new(buffer)];
    loop {
        match recvmsg::<UnixAddr>(raw, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(message) => {
                let mut passed = None;
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(fds) = control {
                        for raw in fds {
                            // SAFETY: the kernel has just installed this descriptor for us; nobody else owns it.
                            passed = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                        }
                    }
                }
                return Ok((message.bytes, passed));
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders_and_carry_a_descriptor() {
        let (a, b) = pair().unwrap();
        send(&a, b"one").unwrap();
        send_with_fd(&a, b"two", std::fs::File::open("/dev/null").unwrap()).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(receive(&b, &mut buffer).unwrap(), 3);
        let (n, passed) = receive_with_fd(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..n], passed.is_some()), (&b"two"[..], true));
        assert_eq!(receive_now(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(receive(&b, &mut buffer).unwrap(), 0);
        assert_eq!(send(&b, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
