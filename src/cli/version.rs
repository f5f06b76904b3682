//! `version`: of this binary, and of the agent where one answers.

use super::client::Client;
use super::output;
use crate::server::wire::VersionInfo;
use std::path::Path;

pub fn run(run_dir: &Path) -> u8 {
    let mut text = format!("pinlet {}\n", env!("CARGO_PKG_VERSION"));
    // Without an agent the first line is the whole answer.
    if let Ok(agent) = Client::new(run_dir).get::<VersionInfo>("/pinlet/v1/version") {
        text += &format!("agent {} (pid {})\n", agent.version, agent.pid);
    }
    output::print(text.as_bytes()).map_or_else(|error| error.report(), |_| 0)
}
