//! One look at the manifest directory (or at the one file): stats, and the bytes of what changed.
//!
//! Blocks on the file system: workers only. Without a change it reads no file and writes nothing.

use super::path::ManifestPath;
use super::read::{self, Known, Seen};
use crate::model::time::Mono;
use crate::sys::clock;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Names in one directory; with more, none is taken: it is not what it should be.
const NAMES_MAX: usize = 10_000;
/// Bytes that one scan takes; the next scan takes the rest.
const BYTES_MAX: u64 = 32 << 20;

#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Absolute and lexically cleaned: [`clean`].
    pub path: PathBuf,
    /// The path was a single file before: its absence is a deletion, where its directory is there.
    pub single_file: bool,
    pub known: BTreeMap<ManifestPath, Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanResult {
    pub listing: Listing,
    pub single_file: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All that is there.
    Whole(BTreeMap<ManifestPath, Seen>),
    /// The directory is not there, or cannot be read: nothing is known of its files.
    Missing(String),
}

impl ScanResult {
    /// What it saw, with every file whose bytes were taken as unchanged: equal to the next result if nothing happens.
    pub fn without_bytes(&self) -> ScanResult {
        let listing = match &self.listing {
            Listing::Missing(reason) => Listing::Missing(reason.clone()),
            Listing::Whole(files) => Listing::Whole(
                files
                    .iter()
                    .map(|(path, seen)| {
                        let seen = match seen {
                            Seen::Bytes { .. } | Seen::Unchanged => Seen::Unchanged,
                            Seen::Ignored(_) | Seen::Written | Seen::Watched(_) | Seen::Unreadable(_) | Seen::Later => {
                                seen.clone()
                            }
                        };
                        (path.clone(), seen)
                    })
                    .collect(),
            ),
        };
        ScanResult { listing, single_file: self.single_file }
    }
}

/// `path` made absolute, without `.`, `..` and repeated slashes; symlinks are not resolved.
pub fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut cleaned = PathBuf::from("/");
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::Normal(name) => cleaned.push(name),
        }
    }
    Ok(cleaned)
}

pub fn scan(request: &ScanRequest) -> ScanResult {
    let path = &request.path;
    let missing = |reason: String| Listing::Missing(reason);
    let (listing, single_file) = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => (directory(request).unwrap_or_else(missing), false),
        Ok(metadata) if metadata.is_file() => (file(request), true),
        Ok(_) => (missing("is neither a directory nor a file".to_owned()), request.single_file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let deleted = request.single_file && path.parent().is_some_and(Path::is_dir);
            let listing = if deleted { file(request) } else { missing("does not exist".to_owned()) };
            (listing, request.single_file)
        }
        Err(error) => (missing(format!("cannot be read: {error}")), request.single_file),
    };
    ScanResult { listing, single_file }
}

/// A single file counts whatever its name: somebody named it.
fn file(request: &ScanRequest) -> Listing {
    let path = ManifestPath::from(request.path.clone());
    let seen = read::look(&path, request.known.get(&path), now(), BYTES_MAX);
    Listing::Whole(seen.map(|seen| (path, seen)).into_iter().collect())
}

fn directory(request: &ScanRequest) -> Result<Listing, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let mut names = Vec::new();
    for entry in fs::read_dir(&request.path).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
        if names.len() > NAMES_MAX {
            return Err(format!("holds more than {NAMES_MAX} files"));
        }
    }
    names.sort();
    let mut budget = BYTES_MAX;
    let mut files = BTreeMap::new();
    for name in names {
        let path = ManifestPath::from(request.path.join(&name));
        let seen = match name.to_str() {
            // The decoding child is told the path, and its user reads it.
            None => Some(Seen::Unreadable("its name is not UTF-8".to_owned())),
            Some(text) => match read::ignored_name(text) {
                Some(reason) => Some(Seen::Ignored(reason)),
                None => read::look(&path, request.known.get(&path), now(), budget),
            },
        };
        if let Some(Seen::Bytes { bytes, .. }) = &seen {
            budget = budget.saturating_sub(bytes.len() as u64);
        }
        files.extend(seen.map(|seen| (path, seen)));
    }
    Ok(Listing::Whole(files))
}

fn now() -> Mono {
    Mono(clock::boottime_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &Path, single_file: bool) -> ScanRequest {
        ScanRequest { path: path.to_owned(), single_file, known: BTreeMap::new() }
    }

    fn temp_dir(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pinlet-scan-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("writable");
        path
    }

    #[test]
    fn a_path_is_cleaned_without_resolving_symlinks() {
        for (path, cleaned) in [("/a//b/./c/", "/a/b/c"), ("/a/../b", "/b"), ("/../a", "/a"), ("/", "/")] {
            assert_eq!(clean(Path::new(path)).expect("absolute"), Path::new(cleaned));
        }
        let here = std::env::current_dir().expect("somewhere");
        assert_eq!(clean(Path::new("x/../y")).expect("absolute"), here.join("y"));
    }

    #[test]
    fn a_directory_lists_what_counts_and_what_does_not() {
        let dir = temp_dir("list");
        fs::write(dir.join("b.yaml"), "b").expect("writable");
        fs::write(dir.join("a"), "a").expect("writable");
        fs::write(dir.join(".x"), "x").expect("writable");
        fs::create_dir(dir.join("sub")).expect("writable");
        let ScanResult { listing: Listing::Whole(files), single_file: false } = scan(&request(&dir, false)) else {
            panic!("not whole")
        };
        let names: Vec<_> = files.keys().map(|path| path.strip_prefix(&dir).expect("inside")).collect();
        assert_eq!(names, [".x", "a", "b.yaml", "sub"].map(Path::new));
        assert_eq!(files[dir.join("sub").as_os_str()], Seen::Ignored("a directory"));
        assert!(matches!(&files[dir.join("a").as_os_str()], Seen::Bytes { bytes, .. } if bytes == b"a"));
        fs::remove_dir_all(dir).expect("removable");
    }

    #[test]
    fn a_missing_directory_is_not_an_empty_one() {
        let dir = temp_dir("missing");
        let gone = dir.join("gone");
        assert_eq!(scan(&request(&gone, false)).listing, Listing::Missing("does not exist".to_owned()));
        // Of a single file, absence is a deletion as long as its directory is there.
        assert_eq!(scan(&request(&gone, true)).listing, Listing::Whole(BTreeMap::new()));
        assert!(matches!(scan(&request(&gone.join("x"), true)).listing, Listing::Missing(_)));
        assert!(matches!(scan(&request(Path::new("/dev/null"), false)).listing, Listing::Missing(_)));
        fs::remove_dir_all(dir).expect("removable");
    }
}
