//! `check`, and what `explain` can tell without an agent: the agent's own decoding, in the same child.

use super::super::manifests::wire_report;
use super::super::paths::lexically_absolute;
use crate::cli::args::Offline;
use crate::manifest::check;
use crate::manifest::decode::FieldValidation;
use crate::model::id::NodeName;
use crate::runtime::host_facts;
use crate::server::wire::{ManifestReport, ManifestState, problem_lines};
use crate::sys::child::SelfImage;
use std::path::{Path, PathBuf};

/// `check FILE|DIR...`: exit code 1 if any file is rejected.
pub fn check(paths: &[PathBuf], offline: &Offline) -> u8 {
    match look(paths, offline) {
        Ok(reports) => u8::from(reports.iter().map(print).fold(false, |failed, rejected| failed | rejected)),
        Err(text) => fail(&text),
    }
}

/// `explain` beside a dead agent: what the files alone tell. Always 1.
pub fn explain(target: Option<&str>, manifest_path: &Path, offline: &Offline) -> u8 {
    let node = match node_name(offline) {
        Ok(node) => node,
        Err(text) => return fail(&text),
    };
    let reports = match look(&[manifest_path.to_owned()], offline) {
        Ok(reports) => reports,
        Err(text) => return fail(&text),
    };
    let fitting: Vec<&ManifestReport> = reports.iter().filter(|r| target.is_none_or(|t| fits(r, t, &node))).collect();
    if let (true, Some(target)) = (fitting.is_empty(), target) {
        eprintln!("pods {target:?} not found");
    }
    for report in fitting {
        println!("{}", report.line());
        print!("{}", problem_lines(&report.problems, report.more, "  "));
    }
    1
}

/// An argument with `/` is a path; else an exact file name; else a pod (contract 2).
fn fits(report: &ManifestReport, target: &str, node: &NodeName) -> bool {
    if target.contains('/') {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        return report.file == lexically_absolute(Path::new(target), &here);
    }
    let is_file = report.file.file_name().is_some_and(|name| name == target);
    let pod = report.pod.as_deref().and_then(|pod| pod.split_once('/')).map(|(_, name)| name);
    is_file || pod.is_some_and(|name| name == target || name == format!("{target}-{node}"))
}

fn fail(text: &str) -> u8 {
    eprintln!("{text}");
    1
}

/// True if the file is rejected.
fn print(report: &ManifestReport) -> bool {
    let file = report.file.display();
    eprint!("{}", problem_lines(&report.problems, report.more, ""));
    match report.state {
        ManifestState::Accepted => {
            println!("{file}: ok (pod {})", report.pod.as_deref().unwrap_or("-"));
            false
        }
        ManifestState::Ignored => false,
        ManifestState::Rejected | ManifestState::Unsettled => true,
    }
}

fn look(paths: &[PathBuf], offline: &Offline) -> Result<Vec<ManifestReport>, String> {
    let me = SelfImage::open().map_err(|error| format!("cannot open the running binary: {error}"))?;
    let validation = if offline.strict { FieldValidation::Strict } else { FieldValidation::Warn };
    let reports = check::check(&me, paths, &node_name(offline)?, validation);
    Ok(reports.into_iter().map(wire_report).collect())
}

/// As the agent would choose it.
fn node_name(offline: &Offline) -> Result<NodeName, String> {
    let kept = std::fs::read_to_string(offline.root_dir.join("node-name")).unwrap_or_default();
    let given = offline.hostname_override.clone().unwrap_or_default();
    let host = host_facts::kernel_hostname().unwrap_or_default();
    let name = [given, kept, host].iter().find_map(|name| NodeName::new(name));
    name.ok_or_else(|| "this host has no name; set --hostname-override".to_owned())
}
