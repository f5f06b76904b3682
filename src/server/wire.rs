//! What travels over the socket beside Kubernetes' own objects: the types that `server` and `cli` share.
//!
//! JSON; unknown fields are ignored, so that a client and an agent of different versions understand each other.

use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::PathBuf;

/// The socket's name in the run dir, and the marker that stop-pods leaves there.
pub const SOCKET_NAME: &str = "pinlet.sock";
pub const STOP_MARKER_NAME: &str = "stopped";

/// How many problems of one file are shown.
pub const PROBLEMS_SHOWN_MAX: usize = 20;

/// Something wrong with a file: `FILE:LINE:COL: field.path: what is wrong`, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(text: impl Into<String>) -> Problem {
        Problem { text: text.into(), hint: None }
    }

    /// For places that have one line only.
    pub fn one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; hint: {hint}", self.text),
            None => self.text.clone(),
        }
    }
}

/// Problems as users read them: each on a line of its own with its hint below, the first
/// [`PROBLEMS_SHOWN_MAX`] of them, each line behind `indent`.
pub fn problem_lines(problems: &[Problem], indent: &str) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(text, "{indent}{}", problem.text);
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "{indent}hint: {hint}");
        }
    }
    if problems.len() > PROBLEMS_SHOWN_MAX {
        let _ = writeln!(text, "{indent}and {} more", problems.len() - PROBLEMS_SHOWN_MAX);
    }
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestState {
    Accepted,
    Rejected,
    /// A name that does not count: dot files, editors' leavings, no regular file.
    Ignored,
    /// Somebody still writes it.
    Unsettled,
}

impl ManifestState {
    pub fn as_str(self) -> &'static str {
        match self {
            ManifestState::Accepted => "accepted",
            ManifestState::Rejected => "rejected",
            ManifestState::Ignored => "ignored",
            ManifestState::Unsettled => "unsettled",
        }
    }
}

/// One file of the manifest directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReport {
    pub file: PathBuf,
    pub state: ManifestState,
    /// `namespace/full-name` of the pod that the file makes, or whose last good version still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// In file order; empty for an accepted file without warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

impl ManifestReport {
    /// `FILE  accepted|rejected|ignored|unsettled  POD`; `-` where there is no pod.
    pub fn line(&self) -> String {
        let pod = self.pod.as_deref().unwrap_or("-");
        format!("{}  {}  {pod}", self.file.display(), self.state.as_str())
    }
}

/// `explain` without an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestsReport {
    /// In byte order of the file names.
    pub manifests: Vec<ManifestReport>,
    /// What concerns the whole node: the stop marker, archives that could not be imported, jobs that hang.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Problem>,
}

/// A step on the way of a pod to running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// `accepted`, `prepared`, `sandbox`, `image`, `started` ...
    pub name: String,
    /// RFC 3339 with fractional seconds.
    pub at: String,
    /// How long the step took; absent while it lasts or where it has no length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_micros: Option<u64>,
}

/// `explain` of one pod or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReport {
    pub manifest: ManifestReport,
    /// Accepted, running and ready: exit code 0.
    pub ok: bool,
    /// Why it is as it is, most important first. The manifest's own problems are not repeated here.
    #[serde(default)]
    pub reasons: Vec<Problem>,
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// An image of the local store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// As Node `status.images` has them: `docker.io/kalise/x:latest`, `docker.io/kalise/x@sha256:...`.
    pub names: Vec<String>,
    /// `sha256:<config digest>`.
    pub id: String,
    /// Of the manifest that the names point to, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    pub size_bytes: u64,
    #[serde(default)]
    pub pinned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    /// Absolute paths of archives or layouts.
    pub paths: Vec<PathBuf>,
}

/// What became of one archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOutcome {
    pub path: PathBuf,
    /// The normalised names that now point into the store; empty after an error.
    #[serde(default)]
    pub names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    pub version: String,
    pub pid: u32,
}

/// A window's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// The body of `POST /exec/{namespace}/{pod}/{container}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub stdin: bool,
    pub tty: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<WindowSize>,
}

/// The payload of an exit frame: how the command ended, or why it never began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    pub code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_with_their_hints_and_cut_after_twenty() {
        let mut problems =
            vec![Problem { text: "a.yaml:3:5: spec.x: unknown field".into(), hint: Some("spell it y".into()) }];
        problems.extend((0..22).map(|n| Problem::new(format!("a.yaml:9:{n}: wrong"))));
        let text = problem_lines(&problems, "  ");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["  a.yaml:3:5: spec.x: unknown field", "  hint: spell it y", "  a.yaml:9:0: wrong"]);
        assert_eq!(lines.len(), 20 + 1 + 1);
        assert_eq!(lines.last(), Some(&"  and 3 more"));
        assert_eq!(problems[0].one_line(), "a.yaml:3:5: spec.x: unknown field; hint: spell it y");
    }

    #[test]
    fn a_manifest_is_one_line_of_three_fields() {
        let mut report = ManifestReport {
            file: PathBuf::from("/etc/m/a.yaml"),
            state: ManifestState::Accepted,
            pod: Some("default/a-node".into()),
            problems: Vec::new(),
        };
        assert_eq!(report.line(), "/etc/m/a.yaml  accepted  default/a-node");
        report.state = ManifestState::Unsettled;
        report.pod = None;
        assert_eq!(report.line(), "/etc/m/a.yaml  unsettled  -");
    }
}
