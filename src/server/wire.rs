//! What travels over the socket beside Kubernetes' own objects: the types that `server` and `cli` share.
//!
//! JSON; unknown fields are ignored, so that a client and an agent of different versions understand each other.

use crate::yaml;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The socket's name in the run dir, and the marker that stop-pods leaves there.
pub const SOCKET_NAME: &str = "pinlet.sock";
pub const STOP_MARKER_NAME: &str = "stopped";

/// Something that is wrong, with a file (`FILE:LINE:COL: field.path: what is wrong`) or else, and how to mend it.
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

    /// A problem of `file`, with its place where that is known.
    pub fn in_file(file: &Path, problem: &yaml::Problem) -> Problem {
        let file = file.display();
        let text = match problem.line {
            0 => format!("{file}: {problem}"),
            line => format!("{file}:{line}:{}: {problem}", problem.column),
        };
        Problem { text, hint: problem.hint.clone() }
    }

    /// For places that have one line only.
    pub fn one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; hint: {hint}", self.text),
            None => self.text.clone(),
        }
    }
}

/// Problems as users read them: each on a line of its own with its hint below, then `and N more`, each line behind
/// `indent`.
pub fn problem_lines(problems: &[Problem], more: usize, indent: &str) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(yaml::SHOWN_MAX) {
        text += &format!("{indent}{}\n", problem.text);
        if let Some(hint) = &problem.hint {
            text += &format!("{indent}hint: {hint}\n");
        }
    }
    let more = more + problems.len().saturating_sub(yaml::SHOWN_MAX);
    if more > 0 {
        text += &format!("{indent}and {more} more\n");
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
    /// Problems beyond those: the decoding child sends a bounded number.
    #[serde(default)]
    pub more: usize,
    /// An earlier version of the file makes the pod, because the present one cannot.
    #[serde(default)]
    pub last_good_runs: bool,
}

impl ManifestReport {
    /// `FILE  accepted|rejected|ignored|unsettled  POD`; `-` where there is no pod.
    pub fn line(&self) -> String {
        let pod = self.pod.as_deref().unwrap_or("-");
        format!("{}  {}  {pod}", self.file.display(), self.state.as_str())
    }

    /// `FILE rejected: <first problem>` for a rejected file, where the rest is told, and what runs.
    pub fn rejection(&self) -> Option<String> {
        if self.state != ManifestState::Rejected {
            return None;
        }
        let file = self.file.display().to_string();
        let Some(problem) = self.problems.first() else { return Some(format!("{file} rejected")) };
        let line = problem.one_line();
        // As every problem is written, place and all, for editors and scripts; without a place the file says nothing new.
        let line = line.strip_prefix(&format!("{file}: ")).unwrap_or(&line);
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let rest = match self.problems.len() - 1 + self.more {
            0 => String::new(),
            more => format!("; and {more} more: pinlet explain {name}"),
        };
        let runs = if self.last_good_runs { "; its last good version goes on" } else { "" };
        Some(format!("{file} rejected: {line}{rest}{runs}"))
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
    /// The normalised names that now point into the store: of an archive with an error, those of its other images.
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

/// How far stopping all pods is, since the stop marker was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopProgress {
    /// The agent has seen the marker: it stops pods and starts none.
    pub marker_seen: bool,
    /// `namespace/full-name` of the pods of which something still runs.
    pub left: Vec<String>,
    /// The largest grace period of all pods.
    pub largest_grace_seconds: u64,
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
    fn a_manifest_is_one_line_of_three_fields() {
        let mut report = ManifestReport {
            file: PathBuf::from("/etc/m/a.yaml"),
            state: ManifestState::Accepted,
            pod: Some("default/a-node".into()),
            problems: Vec::new(),
            more: 0,
            last_good_runs: false,
        };
        assert_eq!(report.line(), "/etc/m/a.yaml  accepted  default/a-node");
        report.state = ManifestState::Unsettled;
        report.pod = None;
        assert_eq!(report.line(), "/etc/m/a.yaml  unsettled  -");
    }

    #[test]
    fn a_rejection_is_one_line_with_the_place_where_there_is_one() {
        let file = Path::new("/m/a.yaml");
        let whole = yaml::Problem::of_file("cannot be decoded: time");
        let place =
            yaml::Problem { line: 3, column: 5, path: "spec.x".to_owned(), ..yaml::Problem::of_file("unknown field") };
        let mut report = ManifestReport {
            file: file.to_owned(),
            state: ManifestState::Rejected,
            pod: None,
            problems: vec![Problem::in_file(file, &whole)],
            more: 0,
            last_good_runs: false,
        };
        assert_eq!(report.rejection().as_deref(), Some("/m/a.yaml rejected: cannot be decoded: time"));
        report.problems = vec![Problem::in_file(file, &place.with_hint("did you mean y?"))];
        let line = "/m/a.yaml rejected: /m/a.yaml:3:5: spec.x: unknown field; hint: did you mean y?";
        assert_eq!(report.rejection().as_deref(), Some(line));
        report.problems.push(Problem::new("/m/a.yaml:4:5: spec.z: unknown field"));
        report.more = 3;
        assert_eq!(report.rejection(), Some(format!("{line}; and 4 more: pinlet explain a.yaml")));
        report.problems.truncate(1);
        (report.more, report.last_good_runs) = (0, true);
        assert_eq!(report.rejection(), Some(format!("{line}; its last good version goes on")));
        report.state = ManifestState::Accepted;
        assert_eq!(report.rejection(), None);
    }

    #[test]
    fn problems_are_shown_with_their_hints_and_cut_after_twenty() {
        let hint = Some("spell it y".to_owned());
        let mut problems = vec![Problem { text: "a.yaml:3:5: spec.x: unknown field".to_owned(), hint }];
        problems.extend((0..22).map(|n| Problem::new(format!("a.yaml:9:{n}: wrong"))));
        let text = problem_lines(&problems, 4, "  ");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["  a.yaml:3:5: spec.x: unknown field", "  hint: spell it y", "  a.yaml:9:0: wrong"]);
        assert_eq!((lines.len(), lines.last()), (20 + 1 + 1, Some(&"  and 7 more")));
    }
}
