//! What each file of the manifest directory stands for, across scans, bad versions and vanished directories. Pure.
//!
//! Scans and decoded answers are folded in; out come the pods that should run, what to tell of each file, and when to
//! scan again. Whoever runs it keeps one scan in flight at most and scans again at [`Table::wake_at`], at every event
//! of the watcher and at every rescan.
//!
//! INVARIANT: a pod leaves [`Table::desired`] only when its file was absent from two whole scans at least
//! [`DELETION_QUIET`] apart, or when a later version of its file takes its place.

mod owners;
mod report;
#[cfg(test)]
mod tests;

pub use report::{FileReport, FileState};

use super::decode::{DecodeFailure, DecodeRequest, Decoded, FieldValidation};
use super::path::ManifestPath;
use super::read::{Identity, Known, QUIET, Seen};
use super::scan::{Listing, ScanRequest, ScanResult};
use crate::model::id::{NodeName, PodUid};
use crate::model::pod::StaticPod;
use crate::model::time::{Mono, Now};
use crate::yaml::Problem;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file that is put back within this time was never away: editors and `mv` pairs.
const DELETION_QUIET: Duration = Duration::from_millis(250);
/// After a decoder that failed through no fault of the bytes.
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// While somebody writes a file: its close is an event, but not where the file is reached through a symlink.
const WRITTEN_FIRST: Duration = Duration::from_millis(250);
const WRITTEN_MAX: Duration = Duration::from_secs(20);
/// A file so young that a change may not show in its time stamps is read again after this.
const YOUNG: Duration = Duration::from_millis(50);
/// How long the first in byte order of files that came together may keep the others waiting.
const TOGETHER_MAX: Duration = Duration::from_secs(1);

/// A pod and the bytes that it was made of, which are kept durably beside it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub pod: Arc<StaticPod>,
    pub bytes: Arc<[u8]>,
}

/// Bytes to decode; the answer goes to [`Table::apply_decoded`] with the ticket.
#[derive(Clone, Debug)]
pub struct DecodeJob {
    pub ticket: Ticket,
    pub request: DecodeRequest,
    pub bytes: Arc<[u8]>,
}

/// Which bytes of which file an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    path: ManifestPath,
    digest: Digest,
}

type Digest = [u8; 32];

#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    single_file: bool,
    node_name: NodeName,
    field_validation: FieldValidation,
    files: BTreeMap<ManifestPath, File>,
    /// Why the directory could not be read by the last scan.
    missing: Option<String>,
    /// Whole scans so far: files of the same one came together.
    scans: u64,
}

#[derive(Debug)]
struct File {
    verdict: Verdict,
    since: Now,
    known: Option<Known>,
    /// Of the bytes that the verdict is about, or that are being decoded.
    digest: Option<Digest>,
    /// The pod that this file stands for: the last version that was accepted.
    active: Option<Kept>,
    /// The scan that saw the file first, and when that was.
    first_scan: u64,
    first_seen: Mono,
    missing_since: Option<Mono>,
    /// When the file wants another look.
    look_at: Option<Mono>,
    /// How long it waited last, where waits grow.
    waited: Option<Duration>,
    /// As it was last handed out by [`Table::take_changes`].
    told: Option<report::Words>,
    /// Something that is told of it may have changed since.
    touched: bool,
}

#[derive(Debug)]
enum Verdict {
    /// Known from an earlier run; not looked at yet.
    Restored,
    Ignored(&'static str),
    /// Not to be acted on, for the reason given.
    Unsettled(String),
    Unreadable(String),
    /// A child is at it.
    Decoding {
        bytes: Arc<[u8]>,
    },
    /// A valid pod, which may still not get its name.
    Good {
        kept: Kept,
        warnings: Vec<Problem>,
        refusal: Option<Refusal>,
    },
    Bad {
        problems: Vec<Problem>,
        more: usize,
    },
    /// The decoder failed, not the bytes.
    Failed(String),
}

/// Why a valid pod does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// The name or UID belongs to another file.
    Taken(String),
    /// A file that came with it and stands before it is not decoded yet (it waits `until` then), or the file that owns
    /// its name is away and may come back.
    Waits { reason: String, until: Option<Mono> },
}

impl Table {
    /// `path` is the directory or file, cleaned by `scan::clean`.
    pub fn new(path: PathBuf, node_name: NodeName, field_validation: FieldValidation) -> Table {
        Table { path, single_file: false, node_name, field_validation, files: BTreeMap::new(), missing: None, scans: 0 }
    }

    /// The pods of an earlier run, which own their names. Of several for one file or one name, the last counts.
    pub fn restore(&mut self, kept: Vec<Kept>, now: Now) {
        for one in kept {
            self.files.retain(|_, file| {
                file.active.as_ref().is_none_or(|own| own.pod.key != one.pod.key && own.pod.uid != one.pod.uid)
            });
            let path = ManifestPath::from(one.pod.source.clone());
            self.single_file |= *path == *self.path;
            let file = File { active: Some(one), ..File::new(Verdict::Restored, 0, now) };
            self.files.insert(path, file);
        }
    }

    /// What the next scan should look at.
    pub fn scan_request(&self, now: Mono) -> ScanRequest {
        let known = self.files.iter().filter_map(|(path, file)| Some((path.clone(), file.known_at(now)?)));
        ScanRequest { path: self.path.clone(), single_file: self.single_file, known: known.collect() }
    }

    /// Folds a scan in; what comes back is to be decoded.
    pub fn apply_scan(&mut self, result: ScanResult, now: Now) -> Vec<DecodeJob> {
        self.single_file = result.single_file;
        let mut jobs = Vec::new();
        match result.listing {
            Listing::Missing(reason) => self.lose_directory(reason, now),
            Listing::Whole(seen) => {
                if self.missing.take().is_some() {
                    self.files.values_mut().for_each(|file| file.touched = true);
                }
                self.scans += 1;
                self.note_absent(&seen, now);
                for (path, seen) in seen {
                    jobs.extend(self.see(path, seen, now));
                }
            }
        }
        self.settle(now);
        jobs
    }

    /// Folds an answer in. One about bytes that the file no longer has is dropped.
    pub fn apply_decoded(&mut self, ticket: &Ticket, answer: Result<Decoded, DecodeFailure>, now: Now) {
        let Some(file) = self.files.get_mut(&ticket.path) else { return };
        let Verdict::Decoding { bytes } = &file.verdict else { return };
        if file.digest != Some(ticket.digest) {
            return;
        }
        let bytes = Arc::clone(bytes);
        let verdict = match answer {
            Ok(Decoded::Accepted { pod, warnings }) => {
                Verdict::Good { kept: Kept { pod: Arc::from(pod), bytes }, warnings, refusal: None }
            }
            Ok(Decoded::Rejected { problems, more }) => Verdict::Bad { problems, more },
            Err(failure @ DecodeFailure::ByLimits(_)) => {
                Verdict::Bad { problems: vec![Problem::of_file(failure.to_string())], more: 0 }
            }
            Err(failure @ DecodeFailure::Transient(_)) => {
                file.look_again(now.mono, RETRY_FIRST, RETRY_MAX);
                file.set(Verdict::Failed(failure.to_string()), now);
                return self.settle(now);
            }
        };
        file.waited = None;
        file.set(verdict, now);
        self.settle(now);
    }

    /// The pods that should run, in the order of their files.
    pub fn desired(&self) -> Vec<Arc<StaticPod>> {
        self.files.values().filter_map(|file| Some(Arc::clone(&file.active.as_ref()?.pod))).collect()
    }

    /// The bytes that the pod was made of.
    pub fn bytes_of(&self, uid: &PodUid) -> Option<Arc<[u8]>> {
        let mut kept = self.files.values().filter_map(|file| file.active.as_ref());
        kept.find(|kept| kept.pod.uid == *uid).map(|kept| Arc::clone(&kept.bytes))
    }

    /// A scan was folded in, and all that it brought is decoded.
    pub fn is_settled(&self) -> bool {
        let decoding = self.files.values().any(|file| matches!(file.verdict, Verdict::Decoding { .. }));
        (self.scans > 0 || self.missing.is_some()) && !decoding
    }

    /// Why the directory could not be read by the last scan.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// When to scan again, though no event came. In the past while that scan is under way.
    pub fn wake_at(&self) -> Option<Mono> {
        self.files.values().filter_map(|file| file.wake_at(self.missing.is_some())).min()
    }

    fn lose_directory(&mut self, reason: String, now: Now) {
        self.missing = Some(reason);
        self.files.retain(|_, file| file.active.is_some());
        for file in self.files.values_mut() {
            file.missing_since = None;
            file.known = None;
            file.look_at = None;
            file.digest = None;
            file.touched = true;
            if !matches!(file.verdict, Verdict::Restored) {
                file.set(Verdict::Restored, now);
            }
        }
    }

    fn note_absent(&mut self, seen: &BTreeMap<ManifestPath, Seen>, now: Now) {
        self.files.retain(|path, file| {
            if seen.contains_key(path) {
                file.missing_since = None;
                return true;
            }
            file.look_at = None;
            let since = *file.missing_since.get_or_insert(now.mono);
            file.active.is_some() && now.mono.since(since) < DELETION_QUIET
        });
    }

    fn see(&mut self, path: ManifestPath, seen: Seen, now: Now) -> Option<DecodeJob> {
        let scans = self.scans;
        let file = self.files.entry(path.clone()).or_insert_with(|| File::new(Verdict::Restored, scans, now));
        match seen {
            Seen::Unchanged => None,
            Seen::Ignored(reason) => file.leave(Verdict::Ignored(reason), now),
            Seen::Unreadable(reason) => file.leave(Verdict::Unreadable(reason), now),
            Seen::Written => {
                file.look_again(now.mono, WRITTEN_FIRST, WRITTEN_MAX);
                file.unsettle("somebody holds it open for writing".to_owned(), now)
            }
            Seen::Watched(identity) => {
                file.watch(identity, now);
                file.unsettle("waiting until it stays the same for a second".to_owned(), now)
            }
            Seen::Later => {
                file.look_at = Some(now.mono);
                file.unsettle("waiting to be read".to_owned(), now)
            }
            Seen::Bytes { identity, bytes, young } => {
                let digest = Digest::from(Sha256::digest(&bytes));
                file.known = Some(Known::Taken(identity));
                file.look_at = young.then_some(now.mono + YOUNG);
                if matches!(file.verdict, Verdict::Unsettled(_)) {
                    file.waited = None;
                }
                let judged = !matches!(file.verdict, Verdict::Unsettled(_) | Verdict::Failed(_) | Verdict::Restored);
                if file.digest == Some(digest) && judged {
                    return None;
                }
                let bytes: Arc<[u8]> = bytes.into();
                file.digest = Some(digest);
                file.set(Verdict::Decoding { bytes: Arc::clone(&bytes) }, now);
                Some(DecodeJob { ticket: Ticket { path: path.clone(), digest }, request: self.request(&path), bytes })
            }
        }
    }

    fn request(&self, path: &Path) -> DecodeRequest {
        DecodeRequest {
            path: path.to_owned(),
            node_name: self.node_name.as_str().to_owned(),
            field_validation: self.field_validation,
        }
    }

    /// Gives every name to one file, and each file the pod that it stands for.
    fn settle(&mut self, now: Now) {
        let decisions = owners::decide(&self.files, self.missing.is_none(), now.mono);
        for (path, decision) in decisions {
            let Some(file) = self.files.get_mut(&path) else { continue };
            let Verdict::Good { kept, refusal, .. } = &mut file.verdict else { continue };
            if decision.is_none() && file.active.as_ref().is_none_or(|own| own.pod != kept.pod) {
                file.active = Some(kept.clone());
                file.touched = true;
            }
            if *refusal != decision {
                *refusal = decision;
                file.since = now;
                file.touched = true;
            }
        }
    }
}

impl File {
    fn new(verdict: Verdict, scan: u64, now: Now) -> File {
        File {
            verdict,
            since: now,
            known: None,
            digest: None,
            active: None,
            first_scan: scan,
            first_seen: now.mono,
            missing_since: None,
            look_at: None,
            waited: None,
            told: None,
            touched: true,
        }
    }

    fn set(&mut self, verdict: Verdict, now: Now) {
        self.verdict = verdict;
        self.since = now;
        self.touched = true;
    }

    /// The file is no longer what it was, and there is nothing to decode.
    fn leave(&mut self, verdict: Verdict, now: Now) -> Option<DecodeJob> {
        let same = match (&self.verdict, &verdict) {
            (Verdict::Ignored(old), Verdict::Ignored(new)) => old == new,
            (Verdict::Unreadable(old), Verdict::Unreadable(new)) => old == new,
            _ => false,
        };
        self.known = None;
        self.digest = None;
        self.look_at = None;
        if !same {
            self.set(verdict, now);
        }
        None
    }

    fn unsettle(&mut self, reason: String, now: Now) -> Option<DecodeJob> {
        if !matches!(&self.verdict, Verdict::Unsettled(old) if *old == reason) {
            self.set(Verdict::Unsettled(reason), now);
        }
        None
    }

    fn watch(&mut self, identity: Identity, now: Now) {
        if !matches!(self.known, Some(Known::Watched { identity: old, .. }) if old == identity) {
            self.known = Some(Known::Watched { identity, since: now.mono });
        }
        if let Some(Known::Watched { since, .. }) = self.known {
            self.look_at = Some(since + QUIET);
        }
    }

    /// Another look later, each time twice as late.
    fn look_again(&mut self, now: Mono, first: Duration, max: Duration) {
        let wait = self.waited.map_or(first, |waited| (waited * 2).clamp(first, max));
        self.waited = Some(wait);
        self.look_at = Some(now + wait);
    }

    /// What the next scan may take for granted. A look that is due takes nothing for granted, but for how long a
    /// watched file has been the same.
    fn known_at(&self, now: Mono) -> Option<Known> {
        let due = self.look_at.is_some_and(|at| at <= now);
        self.known.filter(|known| !due || matches!(known, Known::Watched { .. }))
    }

    fn wake_at(&self, directory_missing: bool) -> Option<Mono> {
        let deleted = self.missing_since.map(|since| since + DELETION_QUIET);
        let waiting = match &self.verdict {
            Verdict::Good { refusal: Some(Refusal::Waits { until, .. }), .. } => *until,
            _ => None,
        };
        [deleted, waiting, self.look_at].into_iter().flatten().min().filter(|_| !directory_missing)
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
