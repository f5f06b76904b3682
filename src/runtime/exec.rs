//! Agent side of `exec`: another process in a container that runs.
//!
//! The work is done by the role `internal-exec` of the monitor's own executable, taken from `/proc/<monitor>/exe`: so a
//! container is always entered by the build that made it, also after an upgrade of the agent.

use super::record;
use crate::model::id::ProcessRef;
use crate::model::observed::ExitStatus;
use crate::sys::{poll, process, socket, spawn};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

pub const EXEC_ROLE: &str = "internal-exec";
const EXEC_NAME: &str = "pinlet-exec";
/// Entering a container takes milliseconds; one that is frozen is never entered.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The command line, and what goes with it. The kernel's own bound for one argument is twice that.
pub(super) const ORDER_BYTES_MAX: usize = 64 * 1024;
const ANSWER_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// The version in the container's intent record.
    pub version: u32,
    /// `<run-dir>/containers/<id>`.
    pub container_dir: PathBuf,
    pub monitor: ProcessRef,
    pub argv: Vec<String>,
    /// Without it the process reads /dev/null (not with a terminal).
    pub stdin: bool,
    pub tty: bool,
    /// Rows and columns that the terminal has from the first instruction on.
    pub size: Option<(u16, u16)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("the container is not running")]
    NotRunning,
    #[error("the container belongs to a newer pinlet (version {0})")]
    Newer(u32),
    #[error("the command is longer than {ORDER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the exec process cannot be started")]
    Start(#[source] io::Error),
    #[error("the exec process did not answer")]
    Silent,
    #[error("{0}")]
    Failed(String),
}

/// What the role is asked, as one message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub version: u32,
    pub argv: Vec<String>,
    pub tty: bool,
    #[serde(default)]
    pub size: Option<(u16, u16)>,
}

/// What the role says, one message each; a terminal's master comes with `Started`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Started,
    Failed { message: String },
    Ended { status: ExitStatus },
}

/// A process that runs in a container. Dropping it kills the process.
#[derive(Debug)]
pub struct ExecChild {
    /// Drop it for end-of-file.
    pub stdin: Option<File>,
    pub stdout: Option<File>,
    pub stderr: Option<File>,
    /// The master of the terminal, in the place of the three.
    pub terminal: Option<File>,
    /// `None` once the role was told to end.
    control: Option<OwnedFd>,
    role: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    Exited(ExitStatus),
    /// Nobody saw how it ended: the role was killed.
    Lost,
}

/// Starts the process and returns when its program runs. Blocks for milliseconds: not for the agent's loop.
pub fn spawn_exec(request: &ExecRequest) -> Result<ExecChild, ExecError> {
    if request.version > record::VERSION {
        return Err(ExecError::Newer(request.version));
    }
    let order = Order { version: record::VERSION, argv: request.argv.clone(), tty: request.tty, size: request.size };
    let order = serde_json::to_vec(&order).map_err(|e| ExecError::Start(e.into()))?;
    if order.len() > ORDER_BYTES_MAX {
        return Err(ExecError::TooLong);
    }
    let executable = monitors_executable(request.monitor)?;
    let (mut child, streams, theirs) = make_child(request, &executable).map_err(ExecError::Start)?;
    drop((streams, theirs));
    let control = child.control.as_ref().ok_or(ExecError::Silent)?;
    socket::send(control, &order).map_err(ExecError::Start)?;
    child.terminal = await_start(control)?;
    Ok(child)
}

/// INVARIANT: the pidfd comes first and is looked at last; what lies between is then true of the monitor itself and
/// not of a later process under its pid.
fn monitors_executable(monitor: ProcessRef) -> Result<OwnedFd, ExecError> {
    let gone = |_| ExecError::NotRunning;
    let pidfd = poll::pidfd_open(monitor.pid.0).map_err(gone)?;
    let executable = process::open_executable(monitor.pid.0).map_err(gone)?;
    let same = spawn::start_ticks(monitor.pid.0).is_ok_and(|ticks| ticks == monitor.start_ticks);
    let [ended] = process::wait_readable([Some(pidfd.as_fd())], Some(Duration::ZERO)).map_err(gone)?;
    if same && !ended { Ok(executable) } else { Err(ExecError::NotRunning) }
}

/// The role's process, our ends and its ends.
type Made = (ExecChild, Vec<OwnedFd>, OwnedFd);

fn make_child(request: &ExecRequest, executable: &OwnedFd) -> io::Result<Made> {
    let (control, theirs) = socket::pair()?;
    let mut their_ends: [Option<OwnedFd>; 3] = [None, None, None];
    let mut our_ends: [Option<File>; 3] = [None, None, None];
    for (number, (their_end, our_end)) in their_ends.iter_mut().zip(&mut our_ends).enumerate() {
        if request.tty || (number == 0 && !request.stdin) {
            continue;
        }
        let (read_end, write_end) = process::pipe()?;
        let (theirs, ours) = if number == 0 { (read_end, write_end) } else { (write_end, read_end) };
        *their_end = Some(theirs);
        *our_end = Some(ours.into());
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let (name, role) = (text(EXEC_NAME.as_bytes())?, text(EXEC_ROLE.as_bytes())?);
    let dir = text(request.container_dir.as_os_str().as_bytes())?;
    let stdio = [0, 1, 2].map(|n: usize| their_ends[n].as_ref().map(|fd| fd.as_fd()));
    let started = spawn::exec_detached(executable, &[&name, &role, &dir], stdio, &theirs, None)?;
    let [stdin, stdout, stderr] = our_ends;
    let child = ExecChild { stdin, stdout, stderr, terminal: None, control: Some(control), role: started.pidfd };
    Ok((child, their_ends.into_iter().flatten().collect(), theirs))
}

fn await_start(control: &OwnedFd) -> Result<Option<File>, ExecError> {
    let [spoken] = process::wait_readable([Some(control.as_fd())], Some(START_TIMEOUT)).map_err(ExecError::Start)?;
    if !spoken {
        return Err(ExecError::Silent);
    }
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let (n, terminal) = socket::receive_with_fd(control, &mut buffer).map_err(ExecError::Start)?;
    match serde_json::from_slice(&buffer[..n]) {
        Ok(Answer::Started) => Ok(terminal.map(File::from)),
        Ok(Answer::Failed { message }) => Err(ExecError::Failed(message)),
        Ok(Answer::Ended { .. }) | Err(_) => Err(ExecError::Silent),
    }
}

impl ExecChild {
    /// Waits for the process to end. Its output may still be in the pipes.
    pub fn wait(&mut self) -> ExecOutcome {
        let Some(control) = &self.control else { return ExecOutcome::Lost };
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let n = socket::receive(control, &mut buffer).unwrap_or(0);
        match serde_json::from_slice(&buffer[..n]) {
            Ok(Answer::Ended { status }) => ExecOutcome::Exited(status),
            _ => ExecOutcome::Lost,
        }
    }

    /// Readable when [`ExecChild::wait`] would not block.
    pub fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(|fd| fd.as_fd())
    }

    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |terminal| process::set_window_size(terminal, rows, columns))
    }
}

impl Drop for ExecChild {
    fn drop(&mut self) {
        // The role takes the end of its control socket for the order to kill; it does not wait for the death.
        self.control = None;
        let _ = spawn::wait(&self.role);
    }
}
