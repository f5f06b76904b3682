//! What is told of each file, in the words of `explain`.

use super::{File, Refusal, Table, Verdict};
use crate::model::id::{PodKey, PodUid};
use crate::model::time::Now;
use crate::yaml::Problem;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    Accepted,
    Rejected,
    Ignored,
    Unsettled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    pub path: PathBuf,
    pub state: FileState,
    /// The pod that the file makes, or whose last good version still runs.
    pub pod: Option<PodKey>,
    pub uid: Option<PodUid>,
    /// Its name without the node's suffix.
    pub manifest_name: Option<String>,
    /// Of an accepted file: warnings. Of any other: why.
    pub problems: Vec<Problem>,
    /// How many there are beyond those.
    pub more: usize,
    /// An earlier version runs, because the present one cannot.
    pub last_good_runs: bool,
    /// When this state began.
    pub since: Now,
}

/// What makes a report worth telling anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    state: FileState,
    uid: Option<PodUid>,
    problems: Vec<Problem>,
}

impl Table {
    /// Every file, in byte order.
    pub fn reports(&self) -> Vec<FileReport> {
        self.files.iter().map(|(path, file)| self.report(path, file)).collect()
    }

    /// The reports that changed in state, pod or words since the last call, for the log. A file that is being decoded
    /// is told when that is done, one of an earlier run when it is looked at, and one that is gone not at all.
    pub fn take_changes(&mut self) -> Vec<FileReport> {
        let mut changes = Vec::new();
        let mut told = Vec::new();
        for (path, file) in &self.files {
            let unseen = matches!(file.verdict, Verdict::Restored) && self.missing.is_none();
            if !file.touched || unseen || matches!(file.verdict, Verdict::Decoding { .. }) {
                continue;
            }
            let report = self.report(path, file);
            let words = Words { state: report.state, uid: report.uid.clone(), problems: report.problems.clone() };
            if file.told.as_ref() != Some(&words) {
                changes.push(report);
            }
            told.push((path.clone(), words));
        }
        for (path, words) in told {
            if let Some(file) = self.files.get_mut(&path) {
                file.told = Some(words);
                file.touched = false;
            }
        }
        changes
    }

    fn report(&self, path: &Path, file: &File) -> FileReport {
        let because = |text: &str| vec![Problem::of_file(text)];
        let mut more = 0;
        let (state, problems) = match &file.verdict {
            _ if self.missing.is_some() => {
                let reason = self.missing.as_deref().unwrap_or_default();
                (FileState::Rejected, because(&format!("the directory {} {reason}", self.path.display())))
            }
            Verdict::Restored => (FileState::Accepted, Vec::new()),
            Verdict::Ignored(reason) => (FileState::Ignored, because(reason)),
            Verdict::Unsettled(reason) => (FileState::Unsettled, because(reason)),
            Verdict::Unreadable(reason) => (FileState::Rejected, because(reason)),
            Verdict::Decoding { .. } => (FileState::Unsettled, because("being decoded")),
            Verdict::Good { refusal: Some(Refusal::Taken(reason)), .. } => (FileState::Rejected, because(reason)),
            Verdict::Good { refusal: Some(Refusal::Waits { reason, .. }), .. } => {
                (FileState::Unsettled, because(reason))
            }
            Verdict::Good { warnings, refusal: None, .. } => (FileState::Accepted, warnings.clone()),
            Verdict::Bad { problems, more: beyond } => {
                more = *beyond;
                (FileState::Rejected, problems.clone())
            }
            Verdict::Failed(reason) => (FileState::Unsettled, because(&format!("{reason}; it is tried again"))),
        };
        let present = match &file.verdict {
            Verdict::Good { kept, .. } => Some(&kept.pod),
            _ => None,
        };
        let active = file.active.as_ref().map(|active| &active.pod);
        let shown = active.or(present);
        FileReport {
            path: path.to_owned(),
            state,
            pod: shown.map(|pod| pod.key.clone()),
            uid: active.map(|pod| pod.uid.clone()),
            manifest_name: shown.map(|pod| pod.manifest_name.clone()),
            problems,
            more,
            last_good_runs: active.is_some() && state != FileState::Accepted,
            since: file.since,
        }
    }
}
