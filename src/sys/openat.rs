//! Files by directory descriptor: no step of a path can be led out of the directory that it started in.
//!
//! INVARIANT: every operation on a name takes exactly one component; paths of several are resolved by openat2, in the
//! kernel, beneath the directory.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// What a name stands for; symlinks are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    /// Device numbers, for devices.
    pub major: u64,
    pub minor: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// Seconds since the epoch, may be negative, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
}

impl Dir {
    pub fn open(path: &Path) -> io::Result<Dir> {
        owned(open(path, DIRECTORY, Mode::empty())?).map(|fd| Dir { fd })
    }

    /// As [`Dir::open`], without touching the access time where the owner allows that: for rescans.
    pub fn open_quietly(path: &Path) -> io::Result<Dir> {
        match open(path, DIRECTORY | OFlag::O_NOATIME, Mode::empty()) {
            Ok(fd) => owned(fd).map(|fd| Dir { fd }),
            Err(Errno::EPERM) => Dir::open(path),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory at `path` below this one. Symlinks on the way are followed as long as they stay below: one that
    /// is absolute or climbs out is `EXDEV`.
    pub fn beneath(&self, path: &Path) -> io::Result<Dir> {
        self.resolve(path, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    }

    /// The directory at `path` below this one; any symlink on the way is `ELOOP`.
    pub fn beneath_plain(&self, path: &Path) -> io::Result<Dir> {
        self.resolve(path, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, rule: ResolveFlag) -> io::Result<Dir> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match openat2(self.fd.as_raw_fd(), path, OpenHow::new().flags(DIRECTORY).resolve(rule)) {
                Ok(fd) => return owned(fd).map(|fd| Dir { fd }),
                // EAGAIN: something was renamed meanwhile, and the kernel could not be sure of `..` (openat2(2)).
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The path that the kernel knows this directory by.
    pub fn real_path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(self.proc_path())
    }

    fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// `None` if there is nothing of that name.
    pub fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        let name = component(name)?;
        match fstatat(self.raw(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(convert(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// This directory's own attributes.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(convert(&nix::sys::stat::fstat(self.fd.as_raw_fd())?))
    }

    pub fn make_dir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        Ok(nix::sys::stat::mkdirat(self.raw(), component(name)?, Mode::from_bits_truncate(mode))?)
    }

    /// A new file for writing; `AlreadyExists` if there is anything of that name, be it a dangling symlink.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(self.raw(), component(name)?, flags, Mode::from_bits_truncate(mode))?;
        owned(fd).map(File::from)
    }

    pub fn make_symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        Ok(symlinkat(target, self.raw(), component(name)?)?)
    }

    /// `name` becomes one more name of `target` in `target_dir`; a symlink there is itself linked, not followed.
    pub fn make_link(&self, name: &OsStr, target_dir: &Dir, target: &OsStr) -> io::Result<()> {
        let (target, name) = (component(target)?, component(name)?);
        Ok(linkat(target_dir.raw(), target, self.raw(), name, AtFlags::empty())?)
    }

    /// A device or FIFO.
    pub fn make_node(&self, name: &OsStr, kind: Kind, mode: u32, major: u64, minor: u64) -> io::Result<()> {
        let kind = match kind {
            Kind::CharDevice => SFlag::S_IFCHR,
            Kind::BlockDevice => SFlag::S_IFBLK,
            Kind::Fifo => SFlag::S_IFIFO,
            Kind::File | Kind::Directory | Kind::Symlink | Kind::Socket => return Err(Errno::EINVAL.into()),
        };
        let mode = Mode::from_bits_truncate(mode);
        let name = component(name)?;
        Ok(mknodat(self.raw(), name, kind, mode, makedev(major, minor))?)
    }

    /// A symlink's own owner is changed, not its target's.
    pub fn chown(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(fchownat(self.raw(), component(name)?, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Follows symlinks, as chmod must: only for a name that the caller knows to be none.
    pub fn chmod(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        Ok(fchmodat(self.raw(), component(name)?, mode, FchmodatFlags::FollowSymlink)?)
    }

    /// Sets the modification time, and the access time to the same; a symlink's own.
    pub fn set_mtime(&self, name: &OsStr, mtime: Timestamp) -> io::Result<()> {
        let time = TimeSpec::new(mtime.seconds, i64::from(mtime.nanos));
        Ok(utimensat(self.raw(), component(name)?, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets an extended attribute of what `name` itself is.
    pub fn set_xattr(&self, name: &OsStr, key: &OsStr, value: &[u8]) -> io::Result<()> {
        let (path, key) = (self.c_path(name)?, c_string(key)?);
        // SAFETY: both strings are NUL-terminated, `value` is valid for its length; all outlive the call.
        let rc = unsafe { libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// All extended attributes of what `name` itself is; none where the file system has none.
    pub fn xattrs(&self, name: &OsStr) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let path = self.c_path(name)?;
        let list = match read_sized(|buffer, len| {
            // SAFETY: the path is NUL-terminated and the buffer is valid for `len` bytes, or null with length 0.
            unsafe { libc::llistxattr(path.as_ptr(), buffer.cast(), len) }
        }) {
            Ok(list) => list,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let keys = list.split(|b| *b == 0).filter(|key| !key.is_empty());
        keys.map(|key| {
            let key = OsStr::from_bytes(key);
            let c_key = c_string(key)?;
            let value = read_sized(|buffer, len| {
                // SAFETY: both strings are NUL-terminated; the buffer is valid for `len` bytes, or null with length 0.
                unsafe { libc::lgetxattr(path.as_ptr(), c_key.as_ptr(), buffer.cast(), len) }
            })?;
            Ok((key.to_owned(), value))
        })
        .collect()
    }

    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(Some(self.fd.as_raw_fd()), component(name)?, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes `name` and all below it, following no symlink.
    pub fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        std::fs::remove_dir_all(self.proc_path().join(component(name)?))
    }

    /// The names in this directory, in byte order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut dir = nix::dir::Dir::openat(self.raw(), ".", DIRECTORY | OFlag::O_NOATIME, Mode::empty())
            .or_else(|_| nix::dir::Dir::openat(self.raw(), ".", DIRECTORY, Mode::empty()))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Writes everything of this directory's file system to the disk; an error that any of it met is reported here.
    pub fn sync_file_system(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for the length of the call.
        if unsafe { libc::syncfs(self.fd.as_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn raw(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }

    /// `/proc/self/fd/N/name`: for the calls that have no `*at` form (the xattr calls before 6.13).
    fn c_path(&self, name: &OsStr) -> io::Result<CString> {
        c_string(self.proc_path().join(component(name)?).as_os_str())
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// `.` is this directory itself; anything else of more than one component is refused.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno::EINVAL.into());
    }
    Ok(name)
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::other)
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks for the length first, as the xattr calls want it; again if the value grew in between.
fn read_sized(call: impl Fn(*mut u8, usize) -> isize) -> io::Result<Vec<u8>> {
    loop {
        let len = usize::try_from(call(std::ptr::null_mut(), 0)).map_err(|_| io::Error::last_os_error())?;
        let mut buffer = vec![0u8; len];
        if len == 0 {
            return Ok(buffer);
        }
        match usize::try_from(call(buffer.as_mut_ptr(), len)) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ERANGE) {
                    return Err(error);
                }
            }
        }
    }
}

fn convert(stat: &libc::stat) -> Stat {
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFCHR => Kind::CharDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::File,
    };
    Stat {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        major: nix::sys::stat::major(stat.st_rdev),
        minor: nix::sys::stat::minor(stat.st_rdev),
    }
}

/// True if a resolution was led out of the directory that it had to stay beneath.
pub fn is_escape(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EXDEV)
}

/// True if a path does not lead to a directory: something of it is missing, is a file, or is a loop of symlinks.
pub fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// Files that this process makes get exactly the mode that is asked for.
pub fn clear_umask() {
    nix::sys::stat::umask(Mode::empty());
}

/// A second, independent descriptor of an open file, with its own position: the path is not looked up again.
pub fn reopen(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens a file for reading without waiting for anybody: a FIFO without a writer or a device does not block.
pub fn open_nonblocking(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    owned(open(path, flags, Mode::empty())?).map(File::from)
}

/// One write to the file at `path` below an open directory, which need not be reachable by any path.
pub fn write_below(dir: &OwnedFd, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fd = openat(Some(dir.as_raw_fd()), path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    File::from(owned(fd)?).write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// A directory that is gone when the test ends, however it ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("pinlet-openat-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn os(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn beneath_follows_what_stays_below_and_refuses_what_climbs_out() {
        let scratch = Scratch::new("beneath");
        std::fs::create_dir_all(scratch.0.join("usr/lib")).unwrap();
        symlink("usr/lib", scratch.0.join("lib")).unwrap();
        symlink("/etc", scratch.0.join("absolute")).unwrap();
        symlink("../..", scratch.0.join("up")).unwrap();
        let dir = Dir::open(&scratch.0).unwrap();
        assert_eq!(dir.beneath(Path::new("lib")).unwrap().real_path().unwrap(), scratch.0.join("usr/lib"));
        for name in ["absolute", "up", "up/etc", "/etc", ".."] {
            assert_eq!(dir.beneath(Path::new(name)).unwrap_err().raw_os_error(), Some(libc::EXDEV), "{name}");
        }
        assert_eq!(dir.beneath_plain(Path::new("lib")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(dir.beneath(Path::new("")).unwrap().real_path().unwrap(), scratch.0);
    }

    #[test]
    fn names_of_several_components_are_refused_by_every_operation() {
        let scratch = Scratch::new("component");
        let dir = Dir::open(&scratch.0).unwrap();
        for name in ["", "..", "a/b", "/etc"] {
            assert!(dir.stat(os(name)).is_err(), "{name}");
            assert!(dir.create_file(os(name), 0o600).is_err(), "{name}");
            assert!(dir.make_dir(os(name), 0o700).is_err(), "{name}");
            assert!(dir.remove_tree(os(name)).is_err(), "{name}");
            assert!(dir.set_xattr(os(name), os("user.x"), b"").is_err(), "{name}");
        }
    }

    #[test]
    fn a_new_file_never_follows_a_symlink_that_has_its_name() {
        let scratch = Scratch::new("nofollow");
        symlink("target", scratch.0.join("link")).unwrap();
        let dir = Dir::open(&scratch.0).unwrap();
        assert_eq!(dir.create_file(os("link"), 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!scratch.0.join("target").exists());
    }

    #[test]
    fn owner_times_and_xattrs_are_those_of_the_name_itself() {
        let scratch = Scratch::new("attributes");
        let dir = Dir::open(&scratch.0).unwrap();
        drop(dir.create_file(os("file"), 0o600).unwrap());
        dir.make_symlink(os("link"), os("file")).unwrap();
        dir.chown(os("link"), 11, 12).unwrap();
        let mtime = Timestamp { seconds: -5, nanos: 250_000_000 };
        dir.set_mtime(os("link"), mtime).unwrap();
        let (link, file) = (dir.stat(os("link")).unwrap().unwrap(), dir.stat(os("file")).unwrap().unwrap());
        assert_eq!((link.kind, link.uid, link.gid, link.mtime), (Kind::Symlink, 11, 12, mtime));
        assert_eq!((file.kind, file.uid), (Kind::File, std::fs::metadata(&scratch.0).unwrap().uid()));
        dir.set_xattr(os("file"), os("trusted.x"), b"a\nb\0").unwrap();
        assert_eq!(dir.xattrs(os("file")).unwrap(), [(OsString::from("trusted.x"), b"a\nb\0".to_vec())]);
        assert_eq!(dir.names().unwrap(), ["file", "link"]);
    }
}
