//! A directory taken as `/`: paths of a container's image are looked up inside it, whatever its symlinks say.

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A missing directory may be made by somebody else at the same time, or its parent replaced; then again, but not for
/// ever.
const TRIES: u32 = 3;

#[derive(Debug)]
pub struct Rooted {
    root: OwnedFd,
}

impl Rooted {
    pub fn open(root: &Path) -> io::Result<Rooted> {
        Ok(Rooted { root: File::open(root)?.into() })
    }

    /// The file's first `limit` bytes; `None` if there is no such file. Never waits for a FIFO and never opens a device.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let found = match self.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => File::from(other?),
        };
        if !found.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        found.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// mkdir -p: new directories belong to root, mode 0755. An existing last part may be anything but missing.
    pub fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let mut sofar = PathBuf::from("/");
        for part in path.strip_prefix("/").unwrap_or(path) {
            sofar.push(part);
            self.make_dir(&sofar, part.as_ref())?;
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path, name: &Path) -> io::Result<()> {
        for _ in 0..TRIES {
            match self.open_at(path, OFlag::O_PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other.map(drop),
            }
            let parent = self.open_at(path.parent().unwrap_or(path), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            match mkdirat(Some(parent.as_raw_fd()), name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => return Ok(()),
                // Also a dangling symlink: then the next look says that it leads nowhere.
                Err(nix::Error::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_at(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        loop {
            match openat2(self.root.as_raw_fd(), path, how) {
                // A rename somewhere on the way: the kernel asks to try again.
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
                // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
                Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn symlinks_lead_to_the_inside_whatever_they_say() {
        let dir = std::env::temp_dir().join(format!("pinlet-rooted-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/etc")).unwrap();
        std::fs::write(dir.join("root/etc/real"), "inside").unwrap();
        symlink("/etc/real", dir.join("root/etc/passwd")).unwrap();
        symlink("../../../../..", dir.join("root/up")).unwrap();
        symlink("/nowhere", dir.join("root/dangling")).unwrap();
        let rooted = Rooted::open(&dir.join("root")).unwrap();
        assert_eq!(rooted.read(Path::new("/etc/passwd"), 100).unwrap().unwrap(), b"inside");
        assert_eq!(rooted.read(Path::new("/etc/group"), 100).unwrap(), None);
        rooted.make_dirs(Path::new("/up/srv/app")).unwrap();
        assert!(dir.join("root/srv/app").is_dir());
        assert!(rooted.make_dirs(Path::new("/dangling/app")).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
