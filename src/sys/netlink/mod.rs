//! Netlink: messages, a socket that speaks in questions and answers, and the two families that pod networks need.
//!
//! Synchronous, bounded in time, and only for talking to the kernel. [`route`] knows links, addresses and routes,
//! [`nftables`] one table; both encode their few messages by hand over [`Message`].

pub mod message;
pub mod nftables;
pub mod route;

use message::{Answer, Answers, Message};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The kernel answers at once; a lost answer (no buffer) must not hold a worker for ever.
const ANSWER_SECONDS: i64 = 10;
/// The largest piece that the kernel sends of a dump, in bytes, with room.
const PIECE_BYTES: usize = 64 * 1024;
/// How often a dump is repeated that changed under our hands.
const DUMP_ATTEMPTS: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    #[error("cannot talk to the kernel over netlink")]
    Talk(#[source] io::Error),
    /// The kernel's own words, if it had any.
    #[error("{}", said(.reason, .errno))]
    Refused { errno: i32, reason: String },
    #[error("the kernel's answer makes no sense")]
    Malformed,
    #[error("the kernel's answer changed while it was read")]
    Unsettled,
}

fn said(reason: &str, errno: &i32) -> String {
    let errno = io::Error::from_raw_os_error(*errno);
    if reason.is_empty() { errno.to_string() } else { format!("{reason}: {errno}") }
}

impl NetlinkError {
    fn is(&self, codes: &[i32]) -> bool {
        matches!(self, NetlinkError::Refused { errno, .. } if codes.contains(errno))
    }

    /// What was to be removed or looked up is not there.
    pub fn is_missing(&self) -> bool {
        self.is(&[libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL])
    }

    pub fn already_exists(&self) -> bool {
        self.is(&[libc::EEXIST])
    }

    /// The kernel was built without what would answer, or its module is missing.
    pub fn nobody_answers(&self) -> bool {
        match self {
            NetlinkError::Open(error) => {
                matches!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT))
            }
            other => other.is(&[libc::EOPNOTSUPP]),
        }
    }
}

/// One conversation with one family of the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    fn open(protocol: SockProtocol) -> Result<Socket, NetlinkError> {
        let opened = || -> io::Result<OwnedFd> {
            let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
            switch_on(&fd, libc::NETLINK_EXT_ACK)?;
            switch_on(&fd, libc::NETLINK_CAP_ACK)?;
            Ok(fd)
        };
        Ok(Socket { fd: opened().map_err(NetlinkError::Open)?, sequence: 0 })
    }

    /// Sends one order and waits until it is carried out.
    fn order(&mut self, message: Message) -> Result<(), NetlinkError> {
        let sequence = self.next();
        self.send(&message.finish(sequence, libc::NLM_F_REQUEST | libc::NLM_F_ACK))?;
        self.until_acknowledged(sequence, sequence)
    }

    /// Sends `bytes`, finished messages with sequence numbers up to `last`, as one transaction: nothing of it happens
    /// if one of them is refused.
    fn transaction(&mut self, bytes: &[u8], last: u32) -> Result<(), NetlinkError> {
        let first = self.sequence + 1;
        self.sequence = last;
        self.send(bytes)?;
        self.until_acknowledged(first, last)
    }

    /// Asks for one thing; `None` if it is not there.
    fn ask(&mut self, message: Message) -> Result<Option<Answer>, NetlinkError> {
        let sequence = self.next();
        self.send(&message.finish(sequence, libc::NLM_F_REQUEST | libc::NLM_F_ACK))?;
        let mut found = None;
        loop {
            for answer in Answers::of(&self.receive()?) {
                let answer = answer?;
                if answer.sequence != sequence {
                    continue;
                }
                match answer.outcome() {
                    None => found = Some(answer),
                    Some(Ok(())) => return Ok(found),
                    Some(Err(error)) if error.is_missing() => return Ok(None),
                    Some(Err(error)) => return Err(error),
                }
            }
        }
    }

    /// Asks for a list.
    fn dump(&mut self, message: &Message) -> Result<Vec<Answer>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(answers) = self.dump_once(message.clone())? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Unsettled)
    }

    /// `None`: the list changed while it was read.
    fn dump_once(&mut self, message: Message) -> Result<Option<Vec<Answer>>, NetlinkError> {
        let sequence = self.next();
        self.send(&message.finish(sequence, libc::NLM_F_REQUEST | libc::NLM_F_DUMP))?;
        let (mut found, mut settled) = (Vec::new(), true);
        loop {
            for answer in Answers::of(&self.receive()?) {
                let answer = answer?;
                if answer.sequence != sequence {
                    continue;
                }
                settled &= !answer.interrupted();
                match answer.outcome() {
                    None => found.push(answer),
                    Some(Ok(())) => return Ok(settled.then_some(found)),
                    Some(Err(error)) => return Err(error),
                }
            }
        }
    }

    /// Reads until `last` is acknowledged or one from `first` on is refused; answers to earlier questions are passed
    /// over. Number 0 is that of a transaction's frame.
    fn until_acknowledged(&mut self, first: u32, last: u32) -> Result<(), NetlinkError> {
        loop {
            for answer in Answers::of(&self.receive()?) {
                let answer = answer?;
                if answer.sequence != 0 && !(first..=last).contains(&answer.sequence) {
                    continue;
                }
                match answer.outcome() {
                    Some(Err(error)) => return Err(error),
                    Some(Ok(())) if answer.sequence == last => return Ok(()),
                    Some(Ok(())) | None => {}
                }
            }
        }
    }

    fn next(&mut self) -> u32 {
        // A socket lives for a handful of questions: no wrap.
        self.sequence += 1;
        self.sequence
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(NetlinkError::Talk(errno.into())),
        }
    }

    fn receive(&self) -> Result<Vec<u8>, NetlinkError> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            // With MSG_TRUNC the length is that of the message, so that a cut is noticed.
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => return Err(NetlinkError::Malformed),
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(NetlinkError::Talk(errno.into())),
            }
        }
    }
}

fn switch_on(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and size name one int that outlives the call; the descriptor is open.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), size) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tells that routes or addresses of this network namespace have changed, and nothing more.
#[derive(Debug)]
pub struct RouteEvents {
    fd: OwnedFd,
}

impl RouteEvents {
    pub fn open() -> io::Result<RouteEvents> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        // Not the IPv6 addresses: each router advertisement renews them, and nothing has changed.
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        Ok(RouteEvents { fd })
    }

    /// Empties the socket; true if there was anything, or more than it could hold.
    pub fn drain(&self) -> io::Result<bool> {
        // What it says is not read: the first bytes are enough to take a message away.
        let (mut scrap, mut any) = ([0u8; 64], false);
        loop {
            match recv(self.fd.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(nix::errno::Errno::ENOBUFS) => any = true,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Ok(any),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for RouteEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_told_from_what_it_refuses() {
        let refused = |errno| NetlinkError::Refused { errno, reason: String::new() };
        let opened = |errno| NetlinkError::Open(io::Error::from_raw_os_error(errno));
        // Without nfnetlink there is no such protocol; with it, a batch for a subsystem that is not there.
        for lacking in [opened(libc::EPROTONOSUPPORT), refused(libc::EOPNOTSUPP)] {
            assert!(lacking.nobody_answers(), "{lacking:?}");
        }
        for other in [opened(libc::EMFILE), refused(libc::EPERM), refused(libc::ENOENT), refused(libc::EINVAL)] {
            assert!(!other.nobody_answers(), "{other:?}");
        }
    }
}
