//! `stop-pods`: leaves the marker, and waits until the agent has stopped all pods; goes on alone where no agent is, or
//! one that does not answer: a machine that goes down must not lose its pods' grace to an agent that hangs. An agent
//! that comes to itself later finds the marker.
//!
//! INVARIANT: the marker is locked before anything else and until the verb ends: an agent that starts meanwhile waits
//! for that lock before it takes the marker away, so it never starts a pod that is being stopped.

use super::client::{Client, ClientError, FIRST_ANSWER};
use super::error::VerbError;
use super::{Outcome, StopPods, output};
use crate::server::wire::{STOP_MARKER_NAME, StopProgress};
use crate::sys::file::Lock;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Beyond the largest grace period.
const SLACK: Duration = Duration::from_secs(5);
/// However short the time-out, the agent gets this long for an answer: it is not passed by for being busy.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// How often the agent is asked: nobody notices a tenth of a second, and it ends soon.
const POLL: Duration = Duration::from_millis(100);

pub fn run(run_dir: PathBuf, timeout: Option<Duration>) -> Outcome {
    let started = Instant::now();
    let marker = match mark(&run_dir) {
        Ok(Some(marker)) => marker,
        Ok(None) => {
            output::complain(&format!("nothing has run in this boot: {} does not exist", run_dir.display()));
            return Outcome::Done(0);
        }
        Err(source) => return Outcome::Done(VerbError::Path { path: run_dir.join(STOP_MARKER_NAME), source }.report()),
    };
    // What is left is for doing it alone.
    let patience = timeout.map_or(FIRST_ANSWER, |timeout| (timeout / 2).clamp(PATIENCE_MIN, FIRST_ANSWER));
    match watch(&Client::with_patience(&run_dir, patience), started, timeout) {
        Ok(Watched::Stopped) => Outcome::Done(0),
        Ok(Watched::Alone) => {
            let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            Outcome::StopPods(StopPods { run_dir, timeout: left, marker })
        }
        Err(error) => Outcome::Done(error.report()),
    }
}

/// Writes the marker and locks it; `None` where there is no run dir. Another stop-pods is waited for: it is bounded.
fn mark(run_dir: &Path) -> io::Result<Option<Lock>> {
    let path = run_dir.join(STOP_MARKER_NAME);
    loop {
        let lock = match Lock::try_take(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                output::complain("another stop-pods is under way; waiting for it");
                Lock::wait(&path)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // An agent that started meanwhile may have removed the file whose lock we got: then there is no marker.
        match fs::symlink_metadata(&path) {
            Ok(there) if there.ino() == lock.inode()? => return Ok(Some(lock)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

enum Watched {
    Stopped,
    /// No agent answers.
    Alone,
}

fn watch(client: &Client, started: Instant, timeout: Option<Duration>) -> Result<Watched, VerbError> {
    let mut limit = timeout;
    loop {
        let progress: StopProgress = match client.get("/pinlet/v1/stop") {
            Ok(progress) => progress,
            Err(error @ ClientError::Mute { .. }) => {
                output::complain(&format!("{error}; the pods are stopped without it"));
                return Ok(Watched::Alone);
            }
            Err(error) if error.is_unreachable() => return Ok(Watched::Alone),
            Err(error) => return Err(error.into()),
        };
        if progress.marker_seen && progress.left.is_empty() {
            return Ok(Watched::Stopped);
        }
        // Fixed by the first answer: a pod that is gone no longer counts.
        let limit = *limit.get_or_insert(Duration::from_secs(progress.largest_grace_seconds) + SLACK);
        if started.elapsed() >= limit {
            return Err(VerbError::NotStopped { left: progress.left });
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_run_dir_there_is_nothing_to_stop() {
        let ended = run("/nonexistent/run".into(), None);
        assert!(matches!(ended, Outcome::Done(0)));
    }

    #[test]
    fn without_an_agent_the_marker_is_left_locked_and_the_work_handed_on() {
        let dir = std::env::temp_dir().join(format!("pinlet-stop-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("temporary directory");
        let ended = run(dir.clone(), Some(Duration::from_secs(60)));
        let marker = dir.join(STOP_MARKER_NAME);
        let locked = matches!(Lock::try_take(&marker), Ok(None));
        let there = marker.exists();
        let _ = fs::remove_dir_all(&dir);
        assert!(there && locked);
        let Outcome::StopPods(stop) = ended else { panic!("not handed on: {ended:?}") };
        assert!(stop.timeout.is_some_and(|left| left <= Duration::from_secs(60)));
    }
}
