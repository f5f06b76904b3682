//! What verbs do without an agent: the agent's own code, run once, with what the file system tells.
//!
//! Nothing here starts a container. `main` calls it where a verb found no agent; it prints, and returns the exit code.

mod host;
mod manifests;
mod stop;

pub use manifests::{check, explain};

use crate::error::chain;
use std::path::Path;
use std::time::Duration;

/// `check --node`, for an agent with this cgroup root.
pub fn check_node(cgroup_root: &Path) -> u8 {
    let findings = host::look(cgroup_root);
    for finding in &findings {
        println!("{}", finding.line());
        if let Some(hint) = finding.hint {
            println!("hint: {hint}");
        }
    }
    u8::from(findings.iter().any(|f| f.state == host::State::Missing))
}

/// `stop-pods` where no agent answers.
pub fn stop_pods(run_dir: &Path, timeout: Option<Duration>) -> u8 {
    match stop::stop_pods(run_dir, timeout) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}", chain(&error));
            1
        }
    }
}
