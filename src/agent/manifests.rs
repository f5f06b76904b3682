//! The manifests' side of the loop: scans and decodings as jobs, the table of what each file stands for, and what the
//! core is told to want.

use super::node::Node;
use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use crate::config::value::FieldValidation;
use crate::error::chain;
use crate::manifest::decode::{self, DecodeFailure, DecodeRequest, Decoded};
use crate::manifest::scan::{self, ScanResult};
use crate::manifest::table::{DecodeJob, FileReport, FileState, Kept, Table, Ticket};
use crate::model::id::PodUid;
use crate::model::pod::StaticPod;
use crate::model::time::{Mono, Now};
use crate::reconcile::event::Event;
use crate::server::wire::{ManifestReport, ManifestState, Problem};
use crate::sys::watch::Watcher;
use crate::yaml;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Decoding children at once: each may take 256 MiB before its limit acts.
const DECODERS_MAX: usize = 2;
/// Bytes beyond which a manifest is a large one. A real pod has a few kB; what is meant to hurt has MBs, takes seconds
/// until its limit acts, and must not keep the others waiting: one decoder is left to them.
const LARGE: usize = 64 * 1024;

#[derive(Debug)]
pub struct Manifests {
    pub watcher: Watcher,
    table: Table,
    /// A scan is under way; something changed since it began.
    scanning: bool,
    again: bool,
    /// What the last scan saw, without bytes: the next one that sees the same is no news.
    seen: Option<ScanResult>,
    waiting: VecDeque<DecodeJob>,
    /// In flight, and whether it is a large one.
    decoding: Vec<(Ticket, bool)>,
    /// What the core was told last.
    wanted: Option<Vec<Arc<StaticPod>>>,
}

impl Manifests {
    /// `kept` are the pods of an earlier run, which own their names.
    pub fn new(node: &Node, watcher: Watcher, kept: Vec<Kept>, now: Now) -> Manifests {
        let mut table = Table::new(node.config.manifest_path.clone(), node.name.clone(), field_validation(node));
        table.restore(kept, now);
        Manifests {
            watcher,
            table,
            scanning: false,
            again: false,
            seen: None,
            waiting: VecDeque::new(),
            decoding: Vec::new(),
            wanted: None,
        }
    }

    /// The directory has been looked at, and all that it brought is decoded.
    pub fn is_settled(&self) -> bool {
        self.table.is_settled()
    }

    /// When the table wants another scan; not while one is under way.
    pub fn wake_at(&self) -> Option<Mono> {
        self.table.wake_at().filter(|_| !self.scanning)
    }

    /// The bytes that the pod was made of.
    pub fn bytes_of(&self, uid: &PodUid) -> Option<Arc<[u8]>> {
        self.table.bytes_of(uid)
    }

    pub fn reports(&self) -> Vec<ManifestReport> {
        self.table.reports().into_iter().map(wire_report).collect()
    }

    /// The first that waits; of large ones no second beside one that is being decoded.
    fn next_job(&mut self) -> Option<DecodeJob> {
        let occupied = self.decoding.iter().any(|(_, large)| *large);
        let next = self.waiting.iter().position(|job| !occupied || job.bytes.len() <= LARGE)?;
        self.waiting.remove(next)
    }
}

fn field_validation(node: &Node) -> decode::FieldValidation {
    match node.config.field_validation {
        FieldValidation::Strict => decode::FieldValidation::Strict,
        FieldValidation::Warn => decode::FieldValidation::Warn,
    }
}

/// Decodes a kept manifest as if it lay at `source` still. What was accepted once is not refused for an unknown field
/// by a stricter setting. Blocks.
pub fn decode_kept(node: &Node, source: &Path, bytes: &[u8]) -> Result<Arc<StaticPod>, String> {
    let request = DecodeRequest {
        path: source.to_owned(),
        node_name: node.name.as_str().to_owned(),
        field_validation: decode::FieldValidation::Warn,
    };
    match decode::decode(&node.me, &request, bytes) {
        Ok(Decoded::Accepted { pod, .. }) => Ok(Arc::from(pod)),
        Ok(Decoded::Rejected { problems, .. }) => {
            Err(problems.first().map(yaml::Problem::one_line).unwrap_or_else(|| "rejected".to_owned()))
        }
        Err(error) => Err(chain(&error)),
    }
}

pub(super) fn wire_report(report: FileReport) -> ManifestReport {
    let file = report.path.display().to_string();
    ManifestReport {
        state: match report.state {
            FileState::Accepted => ManifestState::Accepted,
            FileState::Rejected => ManifestState::Rejected,
            FileState::Ignored => ManifestState::Ignored,
            FileState::Unsettled => ManifestState::Unsettled,
        },
        pod: report.pod.map(|key| key.to_string()),
        problems: report.problems.iter().map(|problem| wire_problem(&file, problem)).collect(),
        more: report.more,
        last_good_runs: report.last_good_runs,
        file: report.path,
    }
}

pub(super) fn wire_problem(file: &str, problem: &yaml::Problem) -> Problem {
    let place = match problem.line {
        0 => String::new(),
        line => format!(":{line}:{}", problem.column),
    };
    Problem { text: format!("{file}{place}: {problem}"), hint: problem.hint.clone() }
}

impl Agent {
    /// Looks at the directory, now or as soon as the look under way is done.
    pub(super) fn scan_manifests(&mut self, now: Now) {
        if self.manifests.scanning {
            self.manifests.again = true;
            return;
        }
        self.manifests.scanning = true;
        let request = self.manifests.table.scan_request(now.mono);
        let mut armer = self.manifests.watcher.armer();
        // A table that waits for something draws conclusions from an unchanged directory too.
        let before = self.manifests.seen.clone().filter(|_| self.manifests.table.wake_at().is_none());
        self.workers.submit(Lane::Manifests, "scan", now.mono, move || {
            // Armed before the look, so that nothing changes unseen in between.
            if let Err(error) = armer.arm(&request.path) {
                log::warn!("cannot watch {}: {error}; the rescan goes on", request.path.display());
            }
            let result = scan::scan(&request);
            let news = before != Some(result.without_bytes());
            Outcome::Scanned { result, news }
        });
    }

    pub(super) fn take_scan(&mut self, result: ScanResult, now: Now) {
        self.manifests.scanning = false;
        self.manifests.seen = Some(result.without_bytes());
        let missing_before = self.manifests.table.missing().map(str::to_owned);
        let jobs = self.manifests.table.apply_scan(result, now);
        if let Some(reason) = self.manifests.table.missing()
            && missing_before.as_deref() != Some(reason)
        {
            log::warn!("{} {reason}; what runs goes on", self.node.config.manifest_path.display());
        }
        self.manifests.waiting.extend(jobs);
        self.decode_waiting(now);
        self.want(now);
        if std::mem::take(&mut self.manifests.again) {
            self.scan_manifests(now);
        }
    }

    fn decode_waiting(&mut self, now: Now) {
        while self.manifests.decoding.len() < DECODERS_MAX {
            let Some(job) = self.manifests.next_job() else { return };
            self.manifests.decoding.push((job.ticket.clone(), job.bytes.len() > LARGE));
            let node = Arc::clone(&self.node);
            let lane = Lane::Decoding(job.request.path.clone());
            self.workers.submit(lane, "decode", now.mono, move || {
                let answer = decode::decode(&node.me, &job.request, &job.bytes);
                Outcome::Decoded(Box::new((job.ticket, answer)))
            });
        }
    }

    pub(super) fn take_decoded(&mut self, ticket: &Ticket, answer: Result<Decoded, DecodeFailure>, now: Now) {
        self.manifests.decoding.retain(|(decoded, _)| decoded != ticket);
        self.manifests.table.apply_decoded(ticket, answer, now);
        self.decode_waiting(now);
        self.want(now);
    }

    /// Tells the core what should run, if that has changed, and the log what each file now stands for.
    fn want(&mut self, _now: Now) {
        for report in self.manifests.table.take_changes() {
            log_change(&report);
        }
        let mut wanted = self.manifests.table.desired();
        wanted.retain(|pod| !self.left_alone.has_pod(&pod.uid) && !self.left_alone.keys.contains(&pod.key));
        if self.manifests.wanted.as_ref() != Some(&wanted) {
            self.facts.push(Event::Desired(wanted.clone()));
            self.manifests.wanted = Some(wanted);
        }
    }
}

fn log_change(report: &FileReport) {
    let file = report.path.display();
    let first = report.problems.first().map(yaml::Problem::one_line);
    let because = first.map(|problem| format!(": {problem}")).unwrap_or_default();
    match report.state {
        FileState::Accepted => {
            let pod = report.pod.as_ref().map(ToString::to_string).unwrap_or_default();
            log::info!("{file}: accepted as pod {pod}{because}");
        }
        FileState::Ignored => log::info!("{file}: ignored{because}"),
        FileState::Unsettled => log::info!("{file}: not acted on yet{because}"),
        FileState::Rejected if report.last_good_runs => {
            log::error!("{file} rejected{because}; its last good version goes on");
        }
        FileState::Rejected => log::error!("{file} rejected{because}"),
    }
}
