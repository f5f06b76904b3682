//! Signals as something to read: the agent blocks those it acts on and takes them from a descriptor.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What the agent is told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// SIGTERM or SIGINT.
    Leave,
    /// SIGHUP.
    Rescan,
}

/// INVARIANT: made before the first thread starts, so that every thread inherits the blocked mask.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    pub fn take_over() -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(Signals { fd: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)? })
    }

    /// What has arrived since the last call.
    pub fn drain(&self) -> io::Result<Vec<Told>> {
        let mut told = Vec::new();
        while let Some(info) = self.fd.read_signal()? {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            told.push(if signal == libc::SIGHUP { Told::Rescan } else { Told::Leave });
        }
        Ok(told)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes SIGTERM and SIGINT back to their defaults for this thread, for a client verb run by a blocked parent.
pub fn unblock_all() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
