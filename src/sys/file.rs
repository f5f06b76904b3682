//! Whole-file writes that a reader never sees half of, and locks that die with their holder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces `path` by rename: survives `kill -9` of the writer, not a power cut. For the run dir.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let aside = aside_of(path, ".new");
    write_new(&aside, bytes, mode)?;
    fs::rename(&aside, path)
}

/// Replaces `path` by rename with file and directory synced: survives a power cut. Blocks on the disk: workers only.
pub fn write_durable(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let aside = aside_of(path, ".sync");
    write_new(&aside, bytes, mode)?.sync_all()?;
    fs::rename(&aside, path)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Makes a file that is there survive a power cut, name included. Writes nothing that is on disk already.
pub fn make_durable(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Makes the directory's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub size: u64,
    /// What users other than root may still take.
    pub available: u64,
}

/// Of the file system that `path` is on. Blocks on the disk: workers only.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Ok(Space { size: bytes(stat.blocks()), available: bytes(stat.blocks_available()) })
}

/// One fixed name per target and way of writing: a record has one writer of each kind, which may meet, and a leaving of
/// a dead writer is reused.
fn aside_of(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// An exclusive `flock`; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at once or returns `None` if somebody else has it. The file is created if missing.
    pub fn try_take(path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the lock is free. Blocks without bound: only where the holder is bounded itself.
    pub fn wait(path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        loop {
            match flock(&file, libc::LOCK_EX) {
                Ok(()) => return Ok(Lock { file }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The inode of the locked file, by which a file that replaced it is told apart.
    pub fn inode(&self) -> io::Result<u64> {
        self.file.metadata().map(|meta| meta.ino())
    }

    /// Leaves a line in the lock's file, such as the owner's pid, for whoever finds it taken.
    pub fn write_owner(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all(text.as_bytes())
    }
}

fn flock(file: &File, operation: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_a_size() {
        let root = space(Path::new("/")).expect("the root");
        assert!(root.size > 1 << 20 && root.available <= root.size, "{root:?}");
        assert!(space(Path::new("/nonexistent")).is_err());
    }
}
