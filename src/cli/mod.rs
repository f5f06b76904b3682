//! The client verbs: what an admin types. They ask the agent over its socket and print.
//!
//! What needs no agent, or must work without one (`check`, `explain` and `stop-pods` beside a dead agent), is done by
//! the agent's own code: such a verb comes back as an [`Outcome`] that `main` hands on. Exit codes: 0 done, 1 failed,
//! 2 wrong usage; `exec` has the command's.

pub mod args;
mod client;
mod command;
mod describe;
mod error;
mod events;
mod exec;
mod explain;
mod get;
mod import;
mod invocation;
mod logs;
mod node;
mod output;
mod pod_name;
mod pod_row;
mod stop;
mod table;
mod version;
mod yaml_text;

pub use invocation::{Invocation, classify};

use args::{NodeFlags, Offline, Usage, Verb};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How a verb ended, or what is left to do without an agent.
#[derive(Debug)]
pub enum Outcome {
    /// Everything has been printed; the exit code.
    Done(u8),
    /// `check FILE|DIR...`.
    Check { paths: Vec<PathBuf>, offline: Offline },
    /// `check --node`: what the host lacks.
    CheckNode(NodeFlags),
    /// `explain`, and no agent answers: that has been said; the exit code is 1 whatever is found.
    Explain { target: Option<String>, manifest_path: PathBuf, offline: Offline },
    /// `stop-pods`, and no agent answers, or it died meanwhile.
    StopPods(StopPods),
}

/// Stopping goes on without an agent.
#[derive(Debug)]
pub struct StopPods {
    pub run_dir: PathBuf,
    /// What is left of `--timeout`; `None`: the largest grace period and 5 s.
    pub timeout: Option<Duration>,
    /// The lock on the marker: held until the verb ends, so it must outlive the work.
    pub marker: crate::sys::file::Lock,
}

/// Runs the verb in `args` (without the program's name).
pub fn run(args: Vec<OsString>) -> Outcome {
    let parsed = match args::parse(args) {
        Ok(parsed) => parsed,
        Err(Usage { text, exit_code: 0 }) => return output::done(&text, 0),
        Err(Usage { text, exit_code }) => {
            output::complain(&text);
            return Outcome::Done(exit_code);
        }
    };
    let run_dir = parsed.run_dir;
    let ended = match parsed.verb {
        Verb::GetPods(options) => get::pods(&run_dir, &options),
        Verb::GetEvents { options, namespaces } => events::get(&run_dir, &options, namespaces),
        Verb::GetImages(options) => get::images(&run_dir, &options),
        Verb::GetNodes(options) => node::nodes(&run_dir, &options),
        Verb::DescribePod(pod) => describe::pod(&run_dir, &pod),
        Verb::DescribePods { namespace } => describe::pods(&run_dir, namespace.as_deref()),
        Verb::Explain { target, manifest_path, offline } => {
            return explain::run(&run_dir, target, manifest_path, offline);
        }
        Verb::Logs(options) => logs::run(&run_dir, &options),
        Verb::Exec(options) => exec::run(&run_dir, &options),
        Verb::StopPods { timeout } => return stop::run(run_dir, timeout),
        Verb::Import(paths) => import::run(&run_dir, paths),
        Verb::Version => Ok(version::run(&run_dir)),
        Verb::Check { paths, offline } => return Outcome::Check { paths, offline },
        Verb::CheckNode(flags) => return Outcome::CheckNode(flags),
    };
    Outcome::Done(ended.unwrap_or_else(|error| error.report()))
}
