//! The run dir as a shared mount of its own, so that pins made in it are seen wherever the host's mounts are.

use crate::sys::mount::{self, MountEntry};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Containers that run as other users reach nothing below it by its path; processes of the host may look for the
/// socket.
const MODE: u32 = 0o711;

#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
pub struct RunDirError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes the run dir and mounts it onto itself, shared. INVARIANT: it looks first: a second mount on top would hide
/// every pin of the agent before.
pub fn prepare(run: &Path) -> Result<(), RunDirError> {
    let wrong = |what: &'static str| move |source| RunDirError { what, path: run.to_owned(), source };
    DirBuilder::new().recursive(true).mode(MODE).create(run).map_err(wrong("make"))?;
    let run = &run.canonicalize().map_err(wrong("resolve"))?;
    let mounted = at(run).map_err(wrong("look for mounts at"))?;
    if mounted.is_none() {
        mount::bind(run, run).map_err(wrong("bind-mount"))?;
        // Where the file system below is shared, as systemd has it, so is the copy, with it: each pin would be mounted
        // a second time below the first.
        mount::make_private(run).map_err(wrong("make private the mount at"))?;
        mount::make_shared(run).map_err(wrong("share the mount at"))?;
    } else if mounted.is_some_and(|entry| !entry.shared) {
        mount::make_shared(run).map_err(wrong("share the mount at"))?;
    }
    Ok(())
}

/// Takes the mount away if it is ours and nothing is mounted below it any more; true if it did.
pub fn release(run: &Path) -> Result<bool, RunDirError> {
    let wrong = |what: &'static str| move |source| RunDirError { what, path: run.to_owned(), source };
    let run = match run.canonicalize() {
        Ok(run) => run,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(wrong("resolve")(error)),
    };
    let mounts = mount::mounts().map_err(wrong("look for mounts at"))?;
    let below = mounts.iter().any(|entry| entry.target != run && entry.target.starts_with(&run));
    let mounted = mounts.iter().any(|entry| entry.target == run);
    if below || !mounted || !is_self_bind(&run).map_err(wrong("look at"))? {
        return Ok(false);
    }
    mount::unmount_detach(&run).map_err(wrong("unmount"))?;
    Ok(true)
}

/// The topmost mount at exactly `path`.
fn at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mount::mounts()?.into_iter().rfind(|entry| entry.target == path))
}

/// A file system of the admin's own at the run dir is another device than its parent.
fn is_self_bind(run: &Path) -> io::Result<bool> {
    let parent = run.parent().unwrap_or(run);
    Ok(fs::metadata(run)?.dev() == fs::metadata(parent)?.dev())
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;

    fn mounts_at(path: &Path) -> usize {
        mount::mounts().expect("mountinfo").iter().filter(|entry| entry.target == path).count()
    }

    #[test]
    fn preparing_twice_mounts_once_and_releasing_leaves_nothing() {
        let dir = TempDir::new();
        let run = dir.path().canonicalize().expect("it is there").join("run");
        prepare(&run).expect("prepared");
        prepare(&run).expect("prepared again");
        assert_eq!(mounts_at(&run), 1);
        assert!(at(&run).expect("mountinfo").is_some_and(|entry| entry.shared));

        let inner = run.join("inner");
        fs::create_dir(&inner).expect("a directory");
        mount::tmpfs(&inner, "size=4k", true).expect("a mount below");
        assert!(!release(&run).expect("in use"));
        mount::unmount_detach(&inner).expect("unmounted");
        assert!(release(&run).expect("released"));
        assert_eq!(mounts_at(&run), 0);
        assert!(!release(&run).expect("nothing to do"));
    }

    #[test]
    fn below_a_shared_file_system_a_pin_is_mounted_once() {
        let dir = TempDir::new();
        let shared = dir.path().canonicalize().expect("it is there");
        mount::tmpfs(&shared, "size=64k", true).expect("a file system");
        mount::make_shared(&shared).expect("as under systemd");
        let run = shared.join("run");
        prepare(&run).expect("prepared");
        let pin = run.join("pin");
        fs::create_dir(&pin).expect("a directory");
        mount::tmpfs(&pin, "size=4k", true).expect("a pin");
        let count = mounts_at(&pin);
        for path in [&pin, &run, &shared] {
            mount::unmount_detach(path).expect("cleaned up");
        }
        assert_eq!(count, 1);
    }

    #[test]
    fn a_file_system_of_the_admins_is_used_and_never_unmounted() {
        let dir = TempDir::new();
        let run = dir.path().canonicalize().expect("it is there");
        mount::tmpfs(&run, "size=64k", true).expect("the admin's mount");
        prepare(&run).expect("prepared");
        let (count, released) = (mounts_at(&run), release(&run).expect("looked at"));
        mount::unmount_detach(&run).expect("cleaned up");
        assert_eq!((count, released), (1, false));
    }
}
