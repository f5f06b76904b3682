//! `import FILE...`: the agent reads the archives itself, so they are named by absolute paths.

use super::client::Client;
use super::error::VerbError;
use super::output;
use crate::server::wire::{ImportOutcome, ImportRequest};
use std::path::{Path, PathBuf};

pub fn run(run_dir: &Path, files: Vec<PathBuf>) -> Result<u8, VerbError> {
    let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|source| VerbError::Path { path, source });
    let paths = files.into_iter().map(absolute).collect::<Result<Vec<PathBuf>, VerbError>>()?;
    // Unpacking takes as long as it takes; the agent bounds it.
    let outcomes: Vec<ImportOutcome> = Client::new(run_dir).post("/pinlet/v1/import", &ImportRequest { paths })?;
    let mut code = 0;
    for outcome in outcomes {
        let path = outcome.path.display();
        if let Some(error) = outcome.error {
            output::complain(&format!("{path}: {error}"));
            code = 1;
        } else {
            let names =
                if outcome.names.is_empty() { "an image without a name".to_owned() } else { outcome.names.join(", ") };
            output::print(format!("{path}: imported {names}\n").as_bytes())?;
        }
    }
    Ok(code)
}
