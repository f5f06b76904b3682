//! Rotation as the kubelet does it: the live file is renamed to `N.log.YYYYMMDD-HHMMSS` (UTC; `-001` and on where
//! that name is taken), the oldest files go, and all rotated ones but the newest are compressed, by a child of the
//! monitor's that dies with its work.

use super::LogTarget;
use super::stamp::Civil;
use crate::sys::{clock, process, spawn};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Renames the live file away, removes what is too much, and opens a new live file.
pub(super) fn rotate(target: &LogTarget) -> io::Result<File> {
    // With the one that is about to be rotated and the new live file: `max_files`.
    let keep = usize::try_from(target.max_files.max(2) - 2).unwrap_or(usize::MAX);
    let rotated = rotated_files(target)?;
    let aside = with_suffix(&target.path, &format!(".{}", next_stamp(&rotated, clock::realtime_ns())));
    for (_, old) in rotated.iter().take(rotated.len().saturating_sub(keep)) {
        let _ = fs::remove_file(old);
    }
    fs::rename(&target.path, &aside)?;
    super::open_live(&target.path).inspect_err(|_| {
        // The old file goes on being the live one.
        let _ = fs::rename(&aside, &target.path);
    })
}

/// Behind every stamp of the same second, so that names go on sorting by age.
fn next_stamp(rotated: &[(String, PathBuf)], realtime_ns: i64) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::of(realtime_ns.div_euclid(1_000_000_000));
    let base = format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}");
    let taken = rotated.iter().filter_map(|(stamp, _)| stamp.strip_prefix(&base));
    let next = taken.map(|rest| rest.trim_start_matches('-').parse().unwrap_or(0u32) + 1).max();
    next.map_or(base.clone(), |sequence| format!("{base}-{sequence:03}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Stamps and paths, oldest first; a stamp is the same whether its file is compressed or not.
fn rotated_files(target: &LogTarget) -> io::Result<Vec<(String, PathBuf)>> {
    Ok(files(target)?.into_iter().filter(|(stamp, _)| !stamp.ends_with(".tmp")).collect())
}

/// With what a compressor has begun.
fn files(target: &LogTarget) -> io::Result<Vec<(String, PathBuf)>> {
    let (Some(dir), Some(live)) = (target.path.parent(), target.path.file_name().and_then(|n| n.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{live}.");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stamp = name.to_str().and_then(|n| n.strip_prefix(&prefix)).map(|s| s.strip_suffix(".gz").unwrap_or(s));
        if let Some(stamp) = stamp.filter(|s| s.starts_with(|c: char| c.is_ascii_digit())) {
            found.push((stamp.to_owned(), dir.join(&name)));
        }
    }
    found.sort();
    Ok(found)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gz")
}

/// A child that compresses rotated files.
#[derive(Debug)]
pub(super) struct Compressor {
    child: spawn::Child,
}

impl Compressor {
    /// `None`: nothing to compress, or no process to be had; the files stay as they are then.
    pub fn start(target: &LogTarget) -> Option<Compressor> {
        let waiting = uncompressed(target);
        if waiting.is_empty() {
            return None;
        }
        let work = || {
            process::close_all_but(&[]);
            process::be_nice();
            compress_all(&waiting);
            0
        };
        spawn::fork_into(None, work).ok().map(|child| Compressor { child })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Kills and reaps it, and removes what it had begun.
    pub fn stop(self, target: &LogTarget) {
        let _ = spawn::signal(&self.child.pidfd, spawn::SIGKILL);
        let _ = spawn::wait(&self.child.pidfd);
        for (_, path) in files(target).unwrap_or_default().into_iter().filter(|(stamp, _)| stamp.ends_with(".tmp")) {
            let _ = fs::remove_file(path);
        }
    }
}

/// All rotated files but the newest, which readers may still follow.
pub(super) fn uncompressed(target: &LogTarget) -> Vec<PathBuf> {
    let mut rotated = rotated_files(target).unwrap_or_default();
    rotated.pop();
    rotated.into_iter().map(|(_, path)| path).filter(|path| !is_compressed(path)).collect()
}

/// What fails stays as it is, and is tried again at the next rotation.
pub(super) fn compress_all(paths: &[PathBuf]) {
    for path in paths {
        let _ = compress(path);
    }
}

/// As readable as the log that goes into it.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(super::LOG_MODE).open(path)
}

fn compress(path: &Path) -> io::Result<()> {
    // First: what a rotation has removed meanwhile must not leave an empty file aside.
    let mut plain = File::open(path)?;
    let aside = with_suffix(path, ".tmp");
    let mut encoder = GzEncoder::new(create_private(&aside)?, Compression::default());
    let outcome = io::copy(&mut plain, &mut encoder).and_then(|_| encoder.finish());
    // A rotation may have removed it as one too many meanwhile: then it does not come back.
    let outcome = outcome.and_then(|_| fs::metadata(path)).and_then(|_| fs::rename(&aside, with_suffix(path, ".gz")));
    match outcome {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            let _ = fs::remove_file(&aside);
            Err(error)
        }
    }
}
