//! The client's terminal: raw mode, the window's size, and the signals that matter while it is raw.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Mutex;

/// Rows and columns of the terminal behind `fd`, in characters.
pub fn window_size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills one winsize; the descriptor is open for the length of the call.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (rc == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Standard input in raw mode. INVARIANT: [`RawInput::restore`] runs before the process ends, however it ends: a
/// terminal that stays raw is of no use to the shell.
#[derive(Debug)]
pub struct RawInput {
    before: Mutex<Option<Termios>>,
}

impl RawInput {
    pub fn enter() -> io::Result<RawInput> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(RawInput { before: Mutex::new(Some(before)) })
    }

    /// As it was before; a second call does nothing.
    pub fn restore(&self) {
        // A poisoned lock still holds the settings.
        let mut before = self.before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(settings) = before.take() {
            // The terminal may be gone, and then nothing needs to be restored.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &settings);
        }
    }
}

impl Drop for RawInput {
    fn drop(&mut self) {
        self.restore();
    }
}

/// What a client with a raw terminal is told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The window has another size.
    Resized,
    /// The signal's number: restore and leave.
    Leave(i32),
}

/// INVARIANT: made before the first thread starts, so that every thread inherits the blocked mask.
#[derive(Debug)]
pub struct TerminalSignals {
    fd: SignalFd,
}

impl TerminalSignals {
    pub fn take_over() -> io::Result<TerminalSignals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(TerminalSignals { fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)? })
    }

    /// Waits for the next one.
    pub fn wait(&self) -> io::Result<Told> {
        loop {
            let Some(info) = self.fd.read_signal()? else { continue };
            let signal = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
            return Ok(if signal == libc::SIGWINCH { Told::Resized } else { Told::Leave(signal) });
        }
    }
}

impl AsFd for TerminalSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
