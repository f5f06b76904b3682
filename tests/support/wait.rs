//! Waiting for a state, never for a time: every wait has a deadline far above what is expected.

use std::time::{Duration, Instant};

/// Some thirty times what a start or a stop takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(40);

/// Polls `probe` until it yields a value. Panics with `what` and the probe's last complaint at the deadline.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() >= deadline => {
                panic!("waited {patience:?} in vain: {what}\nlast seen: {complaint}")
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Checks that `holds` stays true for `span`: for what must not happen.
#[track_caller]
pub fn stays(what: &str, span: Duration, mut holds: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + span;
    loop {
        if let Err(complaint) = holds() {
            panic!("{what}: {complaint}");
        }
        if Instant::now() >= end {
            return;
        }
        std::thread::sleep(POLL);
    }
}

/// `Ok` with the truth of `condition`, else the complaint: for use with [`wait_for`].
pub fn expect(condition: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(complaint()) }
}
