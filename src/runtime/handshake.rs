//! What agent and monitor say to each other over one SOCK_SEQPACKET socket: where to live and `go` down, one report up.
//!
//! One write per message, so that nobody reads half of one; no message is ever needed to find out about a container
//! (the records say the same), so a peer that is gone is never an error.

use super::cgroup::Hierarchies;
use super::record::{FailedStage, VERSION};
use crate::model::id::ProcessRef;
use crate::model::observed::LinuxUser;
use crate::model::time::Wall;
use crate::sys::socket;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A report is a few hundred bytes and a message text, which [`send_report`] cuts.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    Started {
        init: ProcessRef,
        started_at: Wall,
        warnings: Vec<String>,
        /// Who the program runs as.
        user: Option<LinuxUser>,
    },
    Failed {
        stage: FailedStage,
        message: String,
    },
    /// The monitor is gone, or closed its end, without a word.
    Gone,
}

#[derive(Serialize, Deserialize)]
struct Message<T> {
    version: u32,
    body: T,
}

/// Where monitors live.
#[derive(Serialize, Deserialize)]
struct Home<H> {
    cgroup_root: PathBuf,
    hierarchies: H,
}

/// The agent's word that the intent record names the monitor.
#[derive(Serialize, Deserialize)]
struct Go {}

/// Agent: lets the monitor create its container. INVARIANT: the intent record with the monitor's pid is written.
pub fn send_go(handshake: impl AsFd) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Message { version: VERSION, body: Go {} }).map_err(io::Error::other)?;
    socket::send(handshake, &bytes)
}

/// Agent: tells the monitor its cgroups, which it enters before it waits for `go`.
pub(super) fn send_home(handshake: impl AsFd, cgroup_root: &Path, hierarchies: &Hierarchies) -> io::Result<()> {
    let body = Home { cgroup_root: cgroup_root.to_owned(), hierarchies };
    let bytes = serde_json::to_vec(&Message { version: VERSION, body }).map_err(io::Error::other)?;
    socket::send(handshake, &bytes)
}

/// Monitor: `None` if the agent is gone.
pub(super) fn receive_home(handshake: impl AsFd) -> io::Result<Option<(PathBuf, Hierarchies)>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let n = socket::receive(handshake, &mut buffer)?;
    if n == 0 {
        return Ok(None);
    }
    let message: Message<Home<Hierarchies>> = serde_json::from_slice(&buffer[..n]).map_err(io::Error::other)?;
    Ok(Some((message.body.cgroup_root, message.body.hierarchies)))
}

/// Monitor: waits for `go`; false if the agent is gone.
pub(super) fn wait_go(handshake: impl AsFd) -> io::Result<bool> {
    let mut buffer = [0; 256];
    let n = socket::receive(handshake, &mut buffer)?;
    Ok(n > 0 && serde_json::from_slice::<Message<Go>>(&buffer[..n]).is_ok_and(|m| m.version == VERSION))
}

/// Monitor: tells the agent, if there still is one.
pub(super) fn send_report(handshake: impl AsFd, report: &Report) {
    let mut report = report.clone();
    if let Report::Failed { message, .. } = &mut report {
        let end = (0..=TEXT_BYTES_MAX.min(message.len())).rev().find(|i| message.is_char_boundary(*i));
        message.truncate(end.unwrap_or(0));
    }
    if let Ok(bytes) = serde_json::to_vec(&Message { version: VERSION, body: report }) {
        let _ = socket::send(handshake, &bytes);
    }
}

/// Agent: `None` while the monitor has not reported. Never blocks.
pub fn read_report(handshake: impl AsFd) -> io::Result<Option<Report>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    match socket::receive_now(handshake, &mut buffer) {
        Ok(0) => Ok(Some(Report::Gone)),
        Ok(n) => {
            let message: Message<Report> = serde_json::from_slice(&buffer[..n]).map_err(io::Error::other)?;
            Ok(Some(message.body))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Some(Report::Gone)),
        Err(error) => Err(error),
    }
}
