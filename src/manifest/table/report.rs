//! What is told of each file, in the words of `explain`.

use super::{File, Refusal, Table, Verdict};
use crate::model::id::{PodKey, PodUid};
use crate::model::time::Now;
use crate::yaml::Problem;
use std::collections::BTreeMap;
use std::path::PathBuf;

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

impl Table {
    /// Every file, in byte order.
    pub fn reports(&self) -> Vec<FileReport> {
        self.files.iter().map(|(path, file)| self.report(path.clone(), file)).collect()
    }

    /// The reports that changed in state, pod or words since the last call, for the log. A file that is being decoded
    /// is told when that is done, and one that is gone not at all.
    pub fn take_changes(&mut self) -> Vec<FileReport> {
        let mut told = BTreeMap::new();
        let mut changes = Vec::new();
        for (path, file) in &self.files {
            let old = self.told.remove(path);
            if matches!(file.verdict, Verdict::Decoding { .. }) {
                told.extend(old.map(|old| (path.clone(), old)));
                continue;
            }
            let report = self.report(path.clone(), file);
            let same = |old: &FileReport| {
                (old.state, &old.uid, &old.problems) == (report.state, &report.uid, &report.problems)
            };
            if !old.as_ref().is_some_and(same) {
                changes.push(report.clone());
            }
            told.insert(path.clone(), report);
        }
        self.told = told;
        changes
    }

    fn report(&self, path: PathBuf, file: &File) -> FileReport {
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
            path,
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
