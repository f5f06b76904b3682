//! Namespaces that outlive whoever made them: pinned by a bind mount, entered by a thread that ends afterwards.
//!
//! A thread has namespaces of its own, so no fork of a threaded process is needed. INVARIANT: a thread that has
//! changed its namespaces is never used for anything else; both functions end it before they return.

use super::mount;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// The kinds that a pod's containers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Net,
    Ipc,
    Uts,
}

impl Kind {
    fn flag(self) -> CloneFlags {
        match self {
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }

    fn proc_name(self) -> &'static str {
        match self {
            Kind::Net => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
        }
    }
}

/// A fresh namespace of each kind in `pins`, bound to the file beside it, which is made. `inside` runs in them before
/// they are bound. If anything fails, pins made so far stay: the caller removes them as it removes whole ones.
pub fn create_pinned<T: Send>(pins: &[(Kind, &Path)], inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let flags = pins.iter().fold(CloneFlags::empty(), |flags, (kind, _)| flags | kind.flag());
    on_own_thread(|| {
        unshare(flags)?;
        let result = inside()?;
        for (kind, pin) in pins {
            // A leaving of a failed attempt is fine: what matters is the mount.
            OpenOptions::new().write(true).create(true).truncate(false).open(pin)?;
            mount::bind(Path::new(&format!("/proc/thread-self/ns/{}", kind.proc_name())), pin)?;
        }
        Ok(result)
    })
}

/// Runs `inside` in the network namespace that is pinned at `pin`. A socket that it opens stays there for ever.
pub fn within_net<T: Send>(pin: &Path, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(pin)?;
    on_own_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(inside())
    })
}

/// Names the host of the calling thread's UTS namespace. INVARIANT: called from `inside` of [`create_pinned`] alone,
/// else it renames the machine.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(nix::unistd::sethostname(name)?)
}

/// True for a file that is a bind mount of a namespace, and not what is left of one.
pub fn is_pinned(pin: &Path) -> io::Result<bool> {
    match nix::sys::statfs::statfs(pin) {
        Ok(stat) => Ok(stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
