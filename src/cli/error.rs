//! Why a verb failed, and the one place where that is printed. Exit code 1, always: wrong usage never comes this far.

use super::client::ClientError;
use super::output;
use crate::error::chain;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// kubectl's words.
    #[error("pods {name:?} not found")]
    NoSuchPod { name: String },
    #[error("images {name:?} not found")]
    NoSuchImage { name: String },
    #[error("nodes {name:?} not found")]
    NoSuchNode { name: String },
    #[error("events {name:?} not found")]
    NoSuchEvent { name: String },
    #[error("pods {name:?} is ambiguous: {}", found.join(", "))]
    Ambiguous { name: String, found: Vec<String> },
    #[error("container {container:?} not found in pod {pod:?}")]
    NoSuchContainer { pod: String, container: String },
    #[error("cannot write to standard output")]
    Output { source: io::Error },
    #[error("cannot use {path}")]
    Path { path: PathBuf, source: io::Error },
    #[error("cannot pass data to and from the command")]
    Stream { source: io::Error },
    #[error("the agent went away before the command ended")]
    Cut,
    #[error("not stopped in time: {}", left.join(", "))]
    NotStopped { left: Vec<String> },
}

impl VerbError {
    /// Prints it with its hint and gives the exit code.
    pub fn report(&self) -> u8 {
        output::complain(&chain(self));
        if let Some(hint) = self.hint() {
            output::complain(&format!("hint: {hint}"));
        }
        1
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            VerbError::Client(error) => error.hint(),
            VerbError::Ambiguous { .. } => Some("name the namespace with -n"),
            VerbError::NoSuchPod { .. }
            | VerbError::NoSuchImage { .. }
            | VerbError::NoSuchNode { .. }
            | VerbError::NoSuchEvent { .. }
            | VerbError::NoSuchContainer { .. }
            | VerbError::Output { .. }
            | VerbError::Path { .. }
            | VerbError::Stream { .. }
            | VerbError::Cut
            | VerbError::NotStopped { .. } => None,
        }
    }
}
