//! `explain`: why each manifest, pod or file is as it is.

use super::args::Offline;
use super::client::{Client, ClientError, percent_encode};
use super::error::VerbError;
use super::{Outcome, output};
use crate::error::chain;
use crate::server::wire::{ExplainReport, ManifestsReport, problem_lines};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub fn run(run_dir: &Path, target: Option<String>, manifest_path: PathBuf, offline: Offline) -> Outcome {
    let client = Client::new(run_dir);
    let ended = match &target {
        None => all(&client),
        Some(target) => one(&client, target),
    };
    match ended {
        Ok(code) => Outcome::Done(code),
        Err(VerbError::Client(error)) if error.is_unreachable() => {
            output::complain(&format!("{}; what follows is checked without it", chain(&error)));
            if let Some(hint) = error.hint() {
                output::complain(&format!("hint: {hint}"));
            }
            Outcome::Explain { target, manifest_path, offline }
        }
        Err(error) => Outcome::Done(error.report()),
    }
}

/// One line per manifest on stdout, what concerns the node on stderr.
fn all(client: &Client) -> Result<u8, VerbError> {
    let report: ManifestsReport = client.get("/pinlet/v1/manifests")?;
    let text: String = report.manifests.iter().map(|manifest| manifest.line() + "\n").collect();
    if text.is_empty() {
        output::complain("No manifests found");
    }
    output::print(text.as_bytes())?;
    let notes = problem_lines(&report.notes, 0, "");
    if !notes.is_empty() {
        output::complain(&notes);
    }
    Ok(0)
}

fn one(client: &Client, target: &str) -> Result<u8, VerbError> {
    let query = match target.contains('/') {
        // A path is the caller's, so it is made absolute here.
        true => {
            let path = std::path::absolute(target).map_err(|source| VerbError::Path { path: target.into(), source })?;
            format!("path={}", percent_encode(&String::from_utf8_lossy(path.as_os_str().as_bytes())))
        }
        false => format!("name={}", percent_encode(target)),
    };
    match client.get::<ExplainReport>(&format!("/pinlet/v1/explain?{query}")) {
        Ok(report) => {
            output::print(report_text(&report).as_bytes())?;
            Ok(u8::from(!report.ok))
        }
        Err(error @ ClientError::Refused { .. }) => {
            output::complain(&error.to_string());
            Ok(1)
        }
        Err(error) => Err(error.into()),
    }
}

/// The manifest's line, then indented its problems, the reasons, and the stages with when and how long.
fn report_text(report: &ExplainReport) -> String {
    let mut text = report.manifest.line() + "\n";
    text += &problem_lines(&report.manifest.problems, report.manifest.more, "  ");
    text += &problem_lines(&report.reasons, 0, "  ");
    let width = report.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    if width > 0 {
        text += "  stages:\n";
    }
    for stage in &report.stages {
        let took = stage.took_micros.map(|micros| format!("  took {}", took_text(micros))).unwrap_or_default();
        text += &format!("    {:width$}  {}{took}\n", stage.name, stage.at);
    }
    text
}

/// Milliseconds with a digit behind the point, seconds with two.
fn took_text(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    if millis < 1000.0 { format!("{millis:.1}ms") } else { format!("{:.2}s", millis / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::{ManifestReport, ManifestState, Problem, Stage};

    #[test]
    fn a_report_is_a_line_and_what_belongs_to_it_indented() {
        let stage = |name: &str, took| Stage {
            name: name.to_owned(),
            at: "2026-11-23T23:06:09.865Z".to_owned(),
            took_micros: took,
        };
        let report = ExplainReport {
            manifest: ManifestReport {
                file: "/m/web.yaml".into(),
                state: ManifestState::Rejected,
                pod: Some("default/web-n".to_owned()),
                problems: vec![Problem {
                    text: "/m/web.yaml:3:1: spec.x: unknown field".to_owned(),
                    hint: Some("did you mean y?".to_owned()),
                }],
                more: 2,
                last_good_runs: true,
            },
            ok: false,
            reasons: vec![Problem::new("the last good version goes on")],
            stages: vec![stage("accepted", None), stage("sandbox", Some(1_234)), stage("started web", Some(4_321_987))],
        };
        let expected = "\
/m/web.yaml  rejected  default/web-n
  /m/web.yaml:3:1: spec.x: unknown field
  hint: did you mean y?
  and 2 more
  the last good version goes on
  stages:
    accepted     2026-11-23T23:06:09.865Z
    sandbox      2026-11-23T23:06:09.865Z  took 1.2ms
    started web  2026-11-23T23:06:09.865Z  took 4.32s
";
        assert_eq!(report_text(&report), expected);
    }
}
