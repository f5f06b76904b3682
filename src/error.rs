//! The one place where an error becomes what a user reads: the chain of causes on one line, then a hint.

use std::error::Error;
use std::fmt::Write;

/// `outermost: cause: cause of the cause`, each text once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // A foreign error may already repeat its source's text at its end.
        let words = inner.to_string();
        if !text.ends_with(&words) {
            let _ = write!(text, ": {words}");
        }
        cause = inner.source();
    }
    text
}
