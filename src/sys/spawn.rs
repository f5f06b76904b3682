//! Starting processes below std: born in a cgroup, seen through a pidfd from the first instant, and without copying
//! the parent's page tables where the child execs at once.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

pub const SIGKILL: i32 = libc::SIGKILL;
pub const ESRCH: i32 = libc::ESRCH;
/// What waiting for somebody else's child says.
pub const NO_CHILD: i32 = libc::ECHILD;

/// The descriptor under which a role finds the socket to whoever started it.
pub const HANDSHAKE_FD: c_int = 3;
/// Descriptors that the child gives other numbers are kept above those numbers.
const LOWEST_FD: c_int = 100;
/// The child between clone and exec makes a dozen system calls from one function.
const CHILD_STACK_BYTES: usize = 64 * 1024;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child of ours, not yet waited for.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// What the child needs between clone and exec, all made before: it may not allocate.
struct ExecPlan {
    image: c_int,
    stdio: [c_int; 3],
    handshake: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
    errno: c_int,
}

/// Runs the executable that `image` is open on (O_PATH will do) in a session of its own, with an empty environment, `/`
/// as its directory, `stdio` (`None`: /dev/null) as descriptors 0 to 2, `handshake` as 3 and nothing else. Every signal
/// is blocked in it; dispositions are the parent's where that ignores. Returns once exec has happened or failed.
pub fn exec_detached(
    image: impl AsFd,
    argv: &[&CStr],
    stdio: [Option<BorrowedFd<'_>>; 3],
    handshake: impl AsFd,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let image = duplicate_above(image.as_fd())?;
    let handshake = duplicate_above(handshake.as_fd())?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let [first, second, third] = stdio.map(|fd| duplicate_above(fd.unwrap_or(null.as_fd())));
    let stdio = [first?, second?, third?];
    let argv: Vec<*const c_char> = argv.iter().map(|a| a.as_ptr()).chain([ptr::null()]).collect();
    let envp = [ptr::null()];
    let mut plan = ExecPlan {
        image: image.as_raw_fd(),
        stdio: [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()],
        handshake: handshake.as_raw_fd(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        errno: 0,
    };
    let child = vfork_into(cgroup, exec_child, ptr::from_mut(&mut plan).cast())?;
    // SAFETY: the child wrote through the pointer it was given; this keeps the compiler from assuming otherwise.
    let errno = unsafe { ptr::read_volatile(&plan.errno) };
    if errno == 0 {
        return Ok(child);
    }
    let _ = wait(&child.pidfd);
    Err(io::Error::from_raw_os_error(errno))
}

/// INVARIANT: runs in the parent's memory while the parent is suspended: system calls only, and never returns.
extern "C" fn exec_child(data: *mut c_void) -> ! {
    // SAFETY: `data` is the ExecPlan of `exec_detached`, which waits for this child; its pointers are NUL-terminated
    // strings and NULL-terminated arrays that live as long; the calls below touch only this child's own state.
    unsafe {
        let plan = &mut *data.cast::<ExecPlan>();
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        let [first, second, third] = plan.stdio;
        let failed = [(first, 0), (second, 1), (third, 2), (plan.handshake, HANDSHAKE_FD)]
            .iter()
            .any(|(from, to)| libc::dup2(*from, *to) < 0);
        if !failed {
            let first = HANDSHAKE_FD.unsigned_abs() + 1;
            libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            libc::syscall(libc::SYS_execveat, plan.image, c"".as_ptr(), plan.argv, plan.envp, libc::AT_EMPTY_PATH);
        }
        plan.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// clone3 that shares memory and suspends the caller until the child execs or exits.
fn vfork_into(
    cgroup: Option<BorrowedFd<'_>>,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> io::Result<Child> {
    let mut stack = vec![0u128; CHILD_STACK_BYTES / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    let mut args = clone_args(cgroup, &mut pidfd);
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = CHILD_STACK_BYTES as u64;

    // SAFETY: zeroed signal sets are filled by the calls. All signals stay blocked around the clone: a handler must
    // not run in the child, on a foreign stack and in our memory.
    let ret = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        // SAFETY (inner): args describe a stack that outlives the child's use of it, since CLONE_VFORK suspends us.
        let ret = clone3_with_stack(&args, entry, data);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        ret
    };
    drop(stack);
    child_of(ret, pidfd)
}

/// The raw call: the child starts on its own stack and enters `entry`; the parent gets pid or -errno.
///
/// # Safety
/// `args` must be valid and name a stack that `entry` may use until the child execs or exits.
unsafe fn clone3_with_stack(args: &CloneArgs, entry: extern "C" fn(*mut c_void) -> !, data: *mut c_void) -> c_long {
    let mut ret: c_long = libc::SYS_clone3;
    // SAFETY: the kernel preserves all registers but rax, rcx and r11; in the child nothing after the call is run.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") ret,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") data,
            in("r13") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    // SAFETY: the kernel preserves all registers but x0; in the child nothing after the call is run.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") ret,
            inlateout("x0") args => ret,
            in("x1") size_of::<CloneArgs>(),
            in("x20") data,
            in("x21") entry,
        );
    }
    ret
}

/// A plain fork, born in `cgroup`; the child runs `body` and exits with its value, without any clean-up of the
/// parent's. INVARIANT: the caller is single-threaded.
pub fn fork_into(cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> i32) -> io::Result<Child> {
    let mut pidfd: c_int = -1;
    let args = clone_args(cgroup, &mut pidfd);
    // SAFETY: without CLONE_VM this is fork: the child has its own copy of everything and only this thread. The
    // arguments are valid for their size, and the kernel writes one int through `pidfd`.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &args as *const CloneArgs, size_of::<CloneArgs>()) };
    if ret == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
        // SAFETY: ends the child at once; nothing of the parent's is flushed or dropped twice.
        unsafe { libc::_exit(code) };
    }
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    child_of(ret, pidfd)
}

fn clone_args(cgroup: Option<BorrowedFd<'_>>, pidfd: &mut c_int) -> CloneArgs {
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: ptr::from_mut(pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    args
}

fn child_of(ret: c_long, pidfd: c_int) -> io::Result<Child> {
    if ret < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-ret).unwrap_or(libc::EINVAL)));
    }
    let pid = i32::try_from(ret).map_err(io::Error::other)?;
    // SAFETY: CLONE_PIDFD has just made this descriptor for us; nobody else owns it.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

fn duplicate_above(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an open descriptor and a number.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LOWEST_FD) };
    if high < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `high` is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

/// Signals the very process that the pidfd was opened for.
pub fn signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let null: *const libc::siginfo_t = ptr::null();
    // SAFETY: a null siginfo means the same as kill(2) would send.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, null, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for a child and reaps it.
pub fn wait(pidfd: impl AsFd) -> io::Result<Ended> {
    loop {
        match wait_on(libc::P_PIDFD, pidfd.as_fd().as_raw_fd().unsigned_abs(), 0) {
            Ok(Some((_, ended))) => return Ok(ended),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reaps the child if it has ended.
pub fn try_wait(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    Ok(wait_on(libc::P_PIDFD, pidfd.as_fd().as_raw_fd().unsigned_abs(), libc::WNOHANG)?.map(|(_, ended)| ended))
}

/// Reaps any one child that has ended: pid and end; `None` when there is none (left).
pub fn reap_any() -> Option<(i32, Ended)> {
    wait_on(libc::P_ALL, 0, libc::WNOHANG).ok().flatten()
}

fn wait_on(kind: libc::idtype_t, id: libc::id_t, flags: c_int) -> io::Result<Option<(i32, Ended)>> {
    // SAFETY: an all-zero siginfo is valid and is filled by the call; its fields are read only if it was.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(kind, id, &mut info, libc::WEXITED | flags) != 0 {
            return Err(io::Error::last_os_error());
        }
        if info.si_pid() == 0 {
            return Ok(None);
        }
        let status = info.si_status();
        let ended = if info.si_code == libc::CLD_EXITED { Ended::Code(status) } else { Ended::Signal(status) };
        Ok(Some((info.si_pid(), ended)))
    }
}

/// Field 22 of /proc/<pid>/stat: with the pid it names a process within one boot.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    // The name, field 2, is in parentheses and may hold blanks and parentheses itself.
    let after_name = text.iter().rposition(|b| *b == b')').map(|at| &text[at + 1..]);
    let fields = after_name.and_then(|rest| std::str::from_utf8(rest).ok());
    let ticks = fields.and_then(|rest| rest.split_ascii_whitespace().nth(19)).and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::child::SelfImage;

    #[test]
    fn the_start_time_of_a_process_does_not_change() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_ticks(own).unwrap(), start_ticks(own).unwrap());
        assert!(start_ticks(own).unwrap() > 0);
    }

    #[test]
    fn a_failed_exec_is_told_with_its_errno_and_leaves_no_child() {
        let directory = SelfImage::open_path(std::path::Path::new("/etc/passwd")).unwrap();
        let (_ours, theirs) = super::super::socket::pair().unwrap();
        let error = exec_detached(&directory, &[c"x"], [None; 3], &theirs, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn a_detached_child_has_the_handshake_and_nothing_else() {
        let shell = SelfImage::open_path(std::path::Path::new("/bin/busybox")).unwrap();
        let (ours, theirs) = super::super::socket::pair().unwrap();
        let script =
            c"cd /proc/self/fd; for f in *; do readlink $f; done | sort -u >&3; echo $$ $PPID $(pwd) >&3; exit 7";
        let child = exec_detached(&shell, &[c"sh", c"-c", script], [None; 3], &theirs, None).unwrap();
        drop(theirs);
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = super::super::socket::receive(&ours, &mut buffer) {
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        assert_eq!(wait(&child.pidfd).unwrap(), Ended::Code(7));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"/dev/null"), "{text}");
        let strange = |l: &&&str| !l.starts_with("/dev/null") && !l.starts_with("socket:") && !l.starts_with("pipe:");
        let rest: Vec<&&str> = lines.iter().filter(strange).collect();
        assert!(rest.iter().all(|l| l.starts_with("/proc/") || l.starts_with(&child.pid.to_string())), "{text}");
    }
}
