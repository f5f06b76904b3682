//! Writing for people and pipes: a reader that has seen enough is no failure.

use super::Outcome;
use super::error::VerbError;
use std::io::{self, Write};

/// Writes to stdout. `false`: nobody reads any more, so stop quietly.
pub fn print(text: &[u8]) -> Result<bool, VerbError> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(VerbError::Output { source }),
    }
}

/// Writes a line to stderr; where that is closed there is nobody to tell.
pub fn complain(text: &str) {
    let line = format!("{}\n", text.trim_end_matches('\n'));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Prints and ends.
pub fn done(text: &str, code: u8) -> Outcome {
    Outcome::Done(print(text.as_bytes()).map_or_else(|error| error.report(), |_| code))
}
