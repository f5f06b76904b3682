//! Our own binary again, in another role: opened once, through a mount that nobody can write to.
//!
//! `/proc/self/exe` of a process made this way never leads to the file on the host's disk for writing
//! (CVE-2019-5736), and replacing that file disturbs nobody. INVARIANT: [`SelfImage::open`] runs before the first
//! container starts and lives as long as the agent.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_RDONLY: u64 = 1;
/// Above every descriptor that a child is given by number, so that a `dup2` in the child never closes it.
const LOWEST_FD: libc::c_int = 100;

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// The running binary on a detached read-only mount.
#[derive(Debug)]
pub struct SelfImage {
    fd: OwnedFd,
}

impl SelfImage {
    /// Clones `/proc/self/exe` onto a detached mount and makes it read-only. Needs CAP_SYS_ADMIN; without it
    /// (client verbs of an ordinary user) the plain executable is opened.
    pub fn open() -> io::Result<SelfImage> {
        match open_detached() {
            Ok(fd) => Ok(SelfImage { fd }),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let file = std::fs::File::open("/proc/self/exe")?;
                above(OwnedFd::from(file)).map(|fd| SelfImage { fd })
            }
            Err(error) => Err(error),
        }
    }

    /// Another file on disk, as it is, in the place of ours: tests run the built binary so.
    pub fn open_path(path: &std::path::Path) -> io::Result<SelfImage> {
        above(OwnedFd::from(std::fs::File::open(path)?)).map(|fd| SelfImage { fd })
    }

    pub fn as_raw_fd(&self) -> libc::c_int {
        self.fd.as_raw_fd()
    }

    /// A command that runs this binary as `role` (its first argument), with an empty environment.
    pub fn command(&self, role: &str) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        command.arg0("pinlet").arg(role).env_clear();
        command
    }
}

impl std::os::fd::AsFd for SelfImage {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_detached() -> io::Result<OwnedFd> {
    let path = CString::new("/proc/self/exe").map_err(io::Error::other)?;
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    let attr = MountAttr { attr_set: MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the empty path is NUL-terminated, `attr` is valid for its size, both outlive the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attr as *const MountAttr,
            std::mem::size_of::<MountAttr>(),
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    above(fd)
}

/// The same file under a number of at least [`LOWEST_FD`], close-on-exec.
fn above(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an open descriptor and a number.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LOWEST_FD) };
    if high < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `high` is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

/// The C libraries do not agree about it.
#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

/// What a child may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub address_space_bytes: u64,
    pub cpu_seconds: u64,
}

impl Limits {
    /// Resource, soft and hard limit.
    fn triples(self) -> [(Resource, u64, u64); 3] {
        // Where both limits on the cpu are equal the kernel sends SIGKILL, which anybody may have sent.
        [
            (libc::RLIMIT_AS, self.address_space_bytes, self.address_space_bytes),
            (libc::RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds + 1),
            (libc::RLIMIT_CORE, 0, 0),
        ]
    }
}

/// Makes `command`'s child run under `limits`, die with its parent, and dump no core.
pub fn limit(command: &mut Command, limits: Limits) {
    let set = move || {
        for (resource, soft, hard) in limits.triples() {
            let value = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: setrlimit reads one rlimit; it is async-signal-safe, as pre_exec demands.
            if unsafe { libc::setrlimit(resource, &value) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: plain prctl with a signal number.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(set) };
}

/// Puts `limits` on a child that runs already, and waits for its input. A child without a closure before its exec is
/// started without a copy of our page tables, which takes half the time.
pub fn limit_running(child: &std::process::Child, limits: Limits) -> io::Result<()> {
    for (resource, soft, hard) in limits.triples() {
        let value = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: prlimit reads one rlimit and writes none; the child is ours and not waited for, so the pid is its own.
        let rc = unsafe { libc::prlimit(child.id().cast_signed(), resource, &value, std::ptr::null_mut()) };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// For the child itself: it dies with its parent, and by SIGALRM after `seconds`, however it spends them.
pub fn die_with_parent_or_after(seconds: u32) {
    // SAFETY: prctl with a signal number, and alarm with a number.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(seconds);
    }
}

/// For the child itself, once it has said all: whoever reads that need not wait for the process to be taken apart.
pub fn close_output() {
    // SAFETY: nothing of this process writes to these any more, and no owner of theirs is dropped.
    unsafe {
        libc::close(libc::STDOUT_FILENO);
        libc::close(libc::STDERR_FILENO);
    }
}

/// Why a child with limits was killed by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The limit on cpu time that [`limit`] set.
    CpuLimit,
    /// The time that [`die_with_parent_or_after`] set.
    Alarm,
    /// A signal that a process brings upon itself: abort, segmentation fault, illegal instruction and such.
    Fault,
    /// Sent by somebody else, the kernel's OOM killer included.
    Foreign,
}

impl Death {
    pub fn of(signal: i32) -> Death {
        match signal {
            libc::SIGXCPU => Death::CpuLimit,
            libc::SIGALRM => Death::Alarm,
            libc::SIGABRT
            | libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGTRAP
            | libc::SIGSYS => Death::Fault,
            _ => Death::Foreign,
        }
    }
}
