//! Mounts as descriptors: trees cloned out of one namespace and attached in another, and overlay mounts.

use super::mount;
use nix::mount::{MntFlags, MsFlags, mount as nix_mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::ffi::{CStr, CString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOUNT_ATTR_NODEV: libc::c_uint = 4;

/// mount(2) copies one page of options and drops the rest without a word.
pub const OPTIONS_BYTES_MAX: usize = 4095;

/// A copy of the mount tree at `path`, attached nowhere, with its propagation as it is here.
pub fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: a NUL-terminated path that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned(fd)
}

/// Attaches a tree of [`clone_tree`] at `target`, in the caller's namespace.
pub fn attach(tree: impl AsFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: two NUL-terminated paths that outlive the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A mount namespace of the caller's own, which goes on receiving the host's mounts and gives none back.
pub fn enter_slave_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(nix_mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?)
}

/// A root of the caller's own, empty but for the directories `kept`, each at its path with whatever is mounted below it.
/// `at` is a directory of the caller's, and covered by one of `kept`. The process is in `/` then.
/// INVARIANT: the namespace is the caller's own, and a slave.
///
/// However much the host has mounted, it goes by one call, and so by one RCU grace period; and nothing but `kept` is
/// looked at, since a dead server's file system would not answer. One that is missing is missed by whoever uses it.
pub fn change_root(at: &Path, kept: &[&Path]) -> io::Result<()> {
    let mut trees = Vec::with_capacity(kept.len());
    for path in kept {
        match clone_tree(path) {
            Ok(tree) => trees.push((path, tree)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    mount::tmpfs(at, "mode=755", true)?;
    for (path, tree) in trees {
        let target = at.join(path.strip_prefix("/").unwrap_or(path));
        std::fs::create_dir_all(&target)?;
        attach(tree, &target)?;
    }
    std::env::set_current_dir(at)?;
    // The old root on top of the new one, as pivot_root(2) tells it: no directory is needed to put it.
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// overlayfs by mount(2). `options` are relative to the current directory where they are not absolute.
pub fn overlay(target: &Path, options: &str, nodev: bool) -> io::Result<()> {
    if options.len() > OPTIONS_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let flags = if nodev { MsFlags::MS_NODEV } else { MsFlags::empty() };
    Ok(nix_mount(Some("overlay"), target, Some("overlay"), flags, Some(options))?)
}

/// overlayfs layer by layer (`lowerdir+`), which knows no page. Kernels before 6.8 accept the options and fail at the
/// end with EINVAL.
pub fn overlay_by_layer(
    target: &Path,
    layers: &[impl AsRef<Path>],
    options: &[(&CStr, &CStr)],
    flags: &[&CStr],
    nodev: bool,
) -> io::Result<()> {
    // SAFETY: a NUL-terminated name; the call returns a new descriptor or -1.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC) })?;
    for layer in layers {
        let value = CString::new(layer.as_ref().as_os_str().as_bytes())?;
        configure(&context, FSCONFIG_SET_STRING, Some(c"lowerdir+"), Some(&value))?;
    }
    for (key, value) in options {
        configure(&context, FSCONFIG_SET_STRING, Some(key), Some(value))?;
    }
    for flag in flags {
        configure(&context, FSCONFIG_SET_FLAG, Some(flag), None)?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    let attributes = if nodev { MOUNT_ATTR_NODEV } else { 0 };
    // SAFETY: a configured context; the call returns a new descriptor or -1.
    let mounted = owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })?;
    attach(mounted, target)
}

fn configure(context: &OwnedFd, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are NUL-terminated or null, as the command has it, and outlive the call.
    let rc = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0 as c_int)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
