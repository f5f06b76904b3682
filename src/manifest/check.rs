//! `pinlet check`: the agent's own way with files and directories, without an agent.
//!
//! A directory is judged as a whole, so that files that claim one name are found; a file is judged alone. Blocks.

use super::decode::{self, FieldValidation};
use super::read::QUIET;
use super::scan::{self, Listing, ScanResult};
use super::table::{FileReport, FileState, Table};
use crate::model::id::NodeName;
use crate::model::time::{Mono, Now, Wall};
use crate::sys::child::SelfImage;
use crate::sys::clock;
use crate::yaml::Problem;
use std::path::{Path, PathBuf};

/// Looks at one path: a file that is being written, or one on a file system that cannot tell, gets a second look.
const LOOKS_MAX: usize = 3;

/// What an agent named `node_name` would say of `paths`, each named as the caller named it.
pub fn check(
    me: &SelfImage,
    paths: &[PathBuf],
    node_name: &NodeName,
    field_validation: FieldValidation,
) -> Vec<FileReport> {
    paths.iter().flat_map(|path| check_path(me, path, node_name, field_validation)).collect()
}

fn check_path(me: &SelfImage, path: &Path, node_name: &NodeName, field_validation: FieldValidation) -> Vec<FileReport> {
    let cleaned = match scan::clean(path) {
        Ok(cleaned) => cleaned,
        Err(error) => return vec![unreadable(path, &format!("cannot be read: {error}"))],
    };
    let mut table = Table::new(cleaned.clone(), node_name.clone(), field_validation);
    for look in 1..=LOOKS_MAX {
        let result = scan::scan(&table.scan_request(now().mono));
        if let ScanResult { listing: Listing::Missing(reason), .. } = &result {
            return vec![unreadable(path, reason)];
        }
        for job in table.apply_scan(result, now()) {
            let answer = decode::decode(me, &job.request, &job.bytes);
            table.apply_decoded(&job.ticket, answer, now());
        }
        let unsettled = table.reports().iter().any(|report| report.state == FileState::Unsettled);
        if !unsettled || look == LOOKS_MAX {
            break;
        }
        std::thread::sleep(QUIET);
    }
    let mut reports = table.reports();
    for report in &mut reports {
        if let Ok(below) = report.path.strip_prefix(&cleaned) {
            // Joining nothing would leave a slash behind.
            report.path = if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) };
        }
    }
    reports
}

fn unreadable(path: &Path, reason: &str) -> FileReport {
    FileReport {
        path: path.to_owned(),
        state: FileState::Rejected,
        pod: None,
        uid: None,
        manifest_name: None,
        problems: vec![Problem::of_file(reason)],
        more: 0,
        last_good_runs: false,
        since: now(),
    }
}

fn now() -> Now {
    Now { mono: Mono(clock::boottime_ns()), wall: Wall(clock::realtime_ns()) }
}
