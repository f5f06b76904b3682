//! What a role of ours does to itself: signals, identity, descriptors, limits, exec; and waiting for a few
//! descriptors without an epoll of its own.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub use libc::{EACCES, EDQUOT, EINVAL, EISDIR, ENOENT, ENOEXEC, ENOSPC, EPERM};

/// Signal numbers end here on Linux.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;

/// What `ps` and /proc/<pid>/comm show; cut to 15 bytes.
pub fn set_name(name: &CStr) {
    // SAFETY: PR_SET_NAME reads a NUL-terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Every signal that can be blocked is. What kills us then is SIGKILL, and a write to a dead pipe is an error.
pub fn block_signals() {
    // SAFETY: the set is filled before it is used.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

pub fn unblock_signals() {
    // SAFETY: the set is emptied before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Default dispositions, whatever the parent ignored (a SIGCHLD that is ignored has no status to wait for) or Rust's
/// start-up code did (SIGPIPE).
pub fn default_dispositions() {
    // The kernel's own structure, all zero: SIG_DFL, no flags, nothing masked. C libraries refuse to touch the two or
    // three numbers that they use themselves, which a parent may have left ignored all the same.
    let default = [0u64; 4];
    for signal in SIGNALS {
        let none: *mut u64 = std::ptr::null_mut();
        // SAFETY: reads 32 bytes; SIGKILL and SIGSTOP are refused without harm.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>()) };
    }
}

/// Readable whenever a child has ended. INVARIANT: SIGCHLD is blocked.
#[derive(Debug)]
pub struct ChildEvents {
    fd: nix::sys::signalfd::SignalFd,
}

impl ChildEvents {
    pub fn new() -> io::Result<ChildEvents> {
        use nix::sys::signalfd::{SfdFlags, SignalFd};
        let mut set = nix::sys::signal::SigSet::empty();
        set.add(nix::sys::signal::Signal::SIGCHLD);
        Ok(ChildEvents { fd: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)? })
    }

    /// To be called before reaping, so that no end is missed.
    pub fn clear(&self) {
        while let Ok(Some(_)) = self.fd.read_signal() {}
    }
}

impl AsFd for ChildEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub fn set_umask(mask: u32) {
    // SAFETY: umask cannot fail.
    unsafe { libc::umask(mask) };
}

/// No supplementary groups.
pub fn drop_groups() -> io::Result<()> {
    // SAFETY: a count of 0 reads nothing through the pointer.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })
}

/// Closes every descriptor from 3 up but `keep`.
///
/// # Safety of the caller's types
/// Owners of closed descriptors must be forgotten, not dropped: for processes that are about to exec or exit.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        close_range(first, fd.saturating_sub(1));
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: closes numbers that, by the contract of the callers, nobody uses any more.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Makes a descriptor that was inherited by number ours, close-on-exec.
///
/// INVARIANT: called once per number, by the role that the number was handed to.
pub fn adopt_fd(number: c_int) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number; an unused one is an error.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, and by the invariant nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Read end, write end; close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: plain flag operations on an open descriptor.
    unsafe {
        let flags = libc::fcntl(raw, libc::F_GETFL);
        check(flags)?;
        check(libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK))
    }
}

pub fn set_owner(fd: impl AsFd, uid: u32) -> io::Result<()> {
    // SAFETY: fchown on an open descriptor; the group, -1, stays.
    check(unsafe { libc::fchown(fd.as_fd().as_raw_fd(), uid, u32::MAX) })
}

/// Makes those of the descriptors 0 to 2 that are pipes belong to `uid`, who could not open them by /proc otherwise.
pub fn give_pipes_to(uid: u32) {
    for number in 0..=2 {
        // SAFETY: fills one stat; fchown on a number that the stat has just shown to be open.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            if libc::fstat(number, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFIFO {
                libc::fchown(number, uid, u32::MAX);
            }
        }
    }
}

/// Makes the terminal behind a pty's master belong to `uid`.
pub fn give_terminal_to(master: impl AsFd, uid: u32) -> io::Result<()> {
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor or -1.
    let other = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY) };
    check(other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    set_owner(unsafe { OwnedFd::from_raw_fd(other) }, uid)
}

/// Waits until one of `fds` can be read or is at its end, and says which. `None` in `fds` is skipped, `None` as
/// `timeout` waits for ever.
pub fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut items =
        fds.map(|fd| libc::pollfd { fd: fd.map_or(-1, |fd| fd.as_raw_fd()), events: libc::POLLIN, revents: 0 });
    let ms = timeout.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: the array is valid for its length.
    let rc = unsafe { libc::poll(items.as_mut_ptr(), items.len() as libc::nfds_t, ms) };
    match check(rc) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(items.map(|item| item.revents != 0)),
    }
}

/// read(2) without a `File` around the descriptor.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are the buffer's.
    let n = unsafe { libc::read(fd.as_fd().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// A session keyring of its own, so that the agent's keys are not within reach. Without keyrings: nothing to do.
pub fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
}

/// As large files as the hard limit allows: a soft limit of the agent's is not the log's.
pub fn raise_file_size() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_FSIZE) {
        let _ = setrlimit(Resource::RLIMIT_FSIZE, hard, hard);
    }
}

/// As many open files as the hard limit allows: an agent holds a dozen for each container.
pub fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// True if the effective user may execute the file.
pub fn may_execute(path: &CStr) -> bool {
    // SAFETY: reads a NUL-terminated path.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Replaces the process image; returns only to say why not.
pub fn exec(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> io::Error {
    let list = |texts: &[&CStr]| texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (list(argv), list(env));
    // SAFETY: NUL-terminated strings in NULL-terminated arrays, alive until the call returns or never does.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// The executable of a process, to be run again; never to be read or written.
pub fn open_executable(pid: i32) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = format!("/proc/{pid}/exe");
    Ok(std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}

/// Tells the terminal behind a pty's master how large its window is; its foreground gets SIGWINCH.
pub fn set_window_size(master: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) })
}

/// Ends the process without running anything else.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// The lowest priority, for work that nobody waits for.
pub fn be_nice() {
    // SAFETY: plain numbers; a failure leaves the priority as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

fn check(rc: c_int) -> io::Result<()> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_tells_which_descriptor_has_something_and_skips_what_is_not_there() {
        let (read_end, write_end) = pipe().unwrap();
        let (other, _held) = pipe().unwrap();
        let fds = || [None, Some(other.as_fd()), Some(read_end.as_fd())];
        assert_eq!(wait_readable(fds(), Some(Duration::ZERO)).unwrap(), [false, false, false]);
        drop(write_end);
        assert_eq!(wait_readable(fds(), None).unwrap(), [false, false, true]);
    }
}
