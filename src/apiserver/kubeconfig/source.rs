//! Bytes that a kubeconfig holds, or names a file for, which may be replaced at any time.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Far above any certificate, bundle or token, in bytes.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct Source {
    /// The field that holds or names it, as `users[0].user.client-key`.
    field: String,
    from: From,
}

#[derive(Clone)]
enum From {
    Inline(Arc<[u8]>),
    File(PathBuf),
}

impl fmt::Debug for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            From::Inline(_) => f.write_str("inline"),
            From::File(path) => path.fmt(f),
        }
    }
}

/// Names the field, and the file where there is one.
#[derive(Debug, Error)]
#[error("{place}: {why}")]
pub struct SourceError {
    place: String,
    why: String,
}

/// Differs whenever a file was replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    Inline,
    File { device: u64, inode: u64, size: u64, modified: (i64, i64), changed: (i64, i64) },
    Missing,
}

impl Source {
    pub fn inline(field: String, bytes: Vec<u8>) -> Source {
        Source { field, from: From::Inline(bytes.into()) }
    }

    pub fn file(field: String, path: PathBuf) -> Source {
        Source { field, from: From::File(path) }
    }

    pub fn path(&self) -> Option<&Path> {
        match &self.from {
            From::Inline(_) => None,
            From::File(path) => Some(path),
        }
    }

    pub fn read(&self) -> Result<Vec<u8>, SourceError> {
        match &self.from {
            From::Inline(bytes) => Ok(bytes.to_vec()),
            From::File(path) => read(path).map_err(|error| self.fault(error)),
        }
    }

    pub fn fault(&self, why: impl fmt::Display) -> SourceError {
        let place = match &self.from {
            From::Inline(_) => self.field.clone(),
            From::File(path) => format!("{} {}", self.field, path.display()),
        };
        SourceError { place, why: why.to_string() }
    }

    pub(super) fn stamp(&self) -> Stamp {
        let From::File(path) = &self.from else { return Stamp::Inline };
        fs::metadata(path).map_or(Stamp::Missing, |found| Stamp::File {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
