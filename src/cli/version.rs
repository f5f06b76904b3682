//! `version`: of this binary, and of the agent where one answers.

use super::client::{Client, ClientError};
use super::error::VerbError;
use super::output;
use crate::server::wire::VersionInfo;
use std::path::Path;

pub fn run(run_dir: &Path) -> u8 {
    let mut text = format!("pinlet {}\n", env!("CARGO_PKG_VERSION"));
    match Client::new(run_dir).get::<VersionInfo>("/pinlet/v1/version") {
        Ok(agent) => text += &format!("agent {} (pid {})\n", agent.version, agent.pid),
        Err(error @ ClientError::Mute { .. }) => drop(VerbError::from(error).report()),
        // Without an agent the first line is the whole answer.
        Err(_) => {}
    }
    output::print(text.as_bytes()).map_or_else(|error| error.report(), |_| 0)
}
