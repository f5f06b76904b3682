//! Agent side of a start: one monitor per container.

use super::cgroup::{CgroupError, Hierarchies};
use super::handshake;
pub use super::handshake::{Report, read_report, send_go};
use super::launch::{Launch, LaunchFile};
use crate::model::id::{Pid, ProcessRef};
use crate::sys::child::SelfImage;
use crate::sys::{socket, spawn};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The hidden role; the name that `ps` shows stands before it.
pub const MONITOR_ROLE: &str = "internal-monitor";
const MONITOR_NAME: &str = "pinlet-monitor";

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("launch.json cannot be written")]
    Launch(#[source] io::Error),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("the monitor cannot be started")]
    Start(#[source] io::Error),
}

/// A monitor that waits for [`send_go`].
#[derive(Debug)]
pub struct Spawned {
    pub process: ProcessRef,
    /// Readable when the monitor has ended; it is our child, to be reaped with `sys::spawn::try_wait`.
    pub pidfd: OwnedFd,
    /// Readable when there is a report for [`read_report`].
    pub handshake: OwnedFd,
}

/// What the monitor is told to run. INVARIANT: written before [`send_go`].
pub fn write_launch(hierarchies: &Hierarchies, launch: &Launch) -> Result<(), SpawnError> {
    let file = LaunchFile { launch: launch.clone(), hierarchies: hierarchies.clone() };
    file.write().map_err(SpawnError::Launch)
}

/// Starts the monitor of the container whose directory is `dir`. It enters its cgroups, and does nothing else before
/// [`send_go`]; nothing at all if the handshake is dropped before. INVARIANT: the intent record is in place.
pub fn spawn_monitor(
    image: &SelfImage,
    hierarchies: &Hierarchies,
    cgroup_root: &Path,
    dir: &Path,
) -> Result<Spawned, SpawnError> {
    let birthplace = hierarchies.monitors_birthplace(cgroup_root)?;
    let dir = CString::new(dir.as_os_str().as_bytes()).map_err(|e| SpawnError::Start(e.into()))?;
    let role = CString::new(MONITOR_ROLE).unwrap_or_default();
    let name = CString::new(MONITOR_NAME).unwrap_or_default();

    let (ours, theirs) = socket::pair().map_err(SpawnError::Start)?;
    let argv = [name.as_c_str(), role.as_c_str(), dir.as_c_str()];
    let cgroup = birthplace.as_ref().map(|fd| fd.as_fd());
    let child = spawn::exec_detached(image, &argv, [None; 3], &theirs, cgroup).map_err(SpawnError::Start)?;
    drop(theirs);
    // One that is gone already is noticed as any other.
    if let Err(error) = handshake::send_home(&ours, cgroup_root, hierarchies) {
        log::debug!("monitor {}: {error}", child.pid);
    }
    let start_ticks = spawn::start_ticks(child.pid).map_err(SpawnError::Start)?;
    let process = ProcessRef { pid: Pid(child.pid), start_ticks };
    Ok(Spawned { process, pidfd: child.pidfd, handshake: ours })
}

impl Spawned {
    /// Ends a monitor that was not told to go, and reaps it. Blocks for the moment that it takes.
    pub fn dismiss(self) {
        drop(self.handshake);
        if let Err(error) = spawn::wait(&self.pidfd) {
            log::warn!("monitor {}: {error}", self.process.pid.0);
        }
    }
}
