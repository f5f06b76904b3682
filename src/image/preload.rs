//! `--preload-images-dir`: every archive and layout in it is imported, once.
//!
//! An archive that is unchanged in path, inode, size and modification time is not read again, also after a restart.
//! One that failed is tried again when it changes, or after a while if it was not to blame.

use super::import::{ImportError, Unpack};
use super::store::{Store, StoreError, io_error};
use super::unpack;
use crate::error::chain;
use crate::sys::child::SelfImage;
use crate::sys::openat::Dir;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LEDGER: &str = "preload.json";
/// A failure that the archive is not to blame for is tried again after this, doubling up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Leavings of those who copy files in.
const UNFINISHED: &[&str] = &[".part", ".tmp", "~"];

/// One archive or layout, or the directory itself where it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreloadOutcome {
    pub path: PathBuf,
    /// The names that this scan imported (none if the archive is unchanged), or what is wrong.
    pub result: Result<Vec<String>, String>,
    /// The names that this scan imported although something else in the archive is wrong.
    pub imported: Vec<String>,
}

/// What tells a file from its next version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
}

/// Archives whose images are in the store.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ledger {
    version: u32,
    archives: BTreeMap<PathBuf, Done>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    identity: Identity,
    names: Vec<String>,
}

/// Archives that failed, since this process began: another pinlet may know more.
#[derive(Debug, Default)]
pub struct Retries(Mutex<BTreeMap<PathBuf, Failure>>);

#[derive(Clone, Debug)]
struct Failure {
    identity: Identity,
    text: String,
    tries: u32,
    /// `None`: only another version of the archive is worth a try.
    again_at: Option<Instant>,
}

/// Imports what is new in `dir`, in byte order, so that of two archives with one name the last one wins. Blocks: workers
/// only. A missing directory is an empty one.
pub fn scan(dir: &Path, store: &Store, me: &SelfImage) -> Vec<PreloadOutcome> {
    scan_by(dir, store, &|input, request| unpack::in_child(me, input, request))
}

fn scan_by(dir: &Path, store: &Store, unpack: &Unpack) -> Vec<PreloadOutcome> {
    let names = match Dir::open_quietly(dir).and_then(|dir| dir.names()) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return vec![failed(dir, chain(&io_error("read", dir)(error)))],
    };
    // A ledger that cannot be read costs a second reading of the archives, no more.
    let before: Ledger = store.read_json(LEDGER).ok().flatten().unwrap_or_default();
    let mut ledger = Ledger { version: 1, archives: BTreeMap::new() };
    let mut outcomes = Vec::new();
    for path in names.iter().filter(|name| !is_ignored(name)).map(|name| dir.join(name)) {
        let identity = match identity(&path) {
            Ok(Some(identity)) => identity,
            Ok(None) => continue,
            Err(error) => {
                outcomes.push(failed(&path, chain(&error)));
                continue;
            }
        };
        let known = before.archives.get(&path).filter(|done| done.identity == identity);
        let (outcome, done) = match known {
            Some(done) if has_all(store, &done.names) => (unchanged(&path), Some(done.clone())),
            _ => visit(&path, identity, store, unpack),
        };
        outcomes.push(outcome);
        ledger.archives.extend(done.map(|done| (path, done)));
    }
    store.retries.keep_only(&outcomes);
    if ledger.archives != before.archives
        && let Err(error) = store.write_json(LEDGER, &ledger)
    {
        log::warn!("{}", chain(&error));
    }
    outcomes
}

/// Imports an archive that is new, or changed, or whose images are gone; unless it is known to fail.
fn visit(path: &Path, identity: Identity, store: &Store, unpack: &Unpack) -> (PreloadOutcome, Option<Done>) {
    let earlier = store.retries.get(path).filter(|failure| failure.identity == identity);
    if let Some(failure) = &earlier
        && failure.again_at.is_none_or(|at| Instant::now() < at)
    {
        return (failed(path, failure.text.clone()), None);
    }
    match store.import_by(path, unpack) {
        Ok(imported) => {
            let done = Done { identity, names: imported.names.clone() };
            let outcome =
                PreloadOutcome { path: path.to_owned(), result: Ok(imported.names.clone()), imported: imported.names };
            (outcome, Some(done))
        }
        Err(error) => {
            let tries = earlier.map_or(0, |failure| failure.tries) + 1;
            let failure = Failure { identity, text: chain(&error), tries, again_at: again_at(&error, tries) };
            let imported = error.imported().to_vec();
            let outcome = PreloadOutcome { imported, ..failed(path, failure.text.clone()) };
            store.retries.set(path, failure);
            (outcome, None)
        }
    }
}

fn again_at(error: &ImportError, tries: u32) -> Option<Instant> {
    let delay = RETRY_FIRST.saturating_mul(1 << (tries - 1).min(16)).min(RETRY_MAX);
    (!error.is_final()).then(|| Instant::now() + delay)
}

fn has_all(store: &Store, names: &[String]) -> bool {
    names.iter().all(|name| matches!(store.find(name), Ok(Some(_))))
}

fn unchanged(path: &Path) -> PreloadOutcome {
    PreloadOutcome { path: path.to_owned(), result: Ok(Vec::new()), imported: Vec::new() }
}

fn failed(path: &Path, text: String) -> PreloadOutcome {
    PreloadOutcome { path: path.to_owned(), result: Err(text), imported: Vec::new() }
}

fn is_ignored(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes.starts_with(b".") || UNFINISHED.iter().any(|ending| bytes.ends_with(ending.as_bytes()))
}

/// `None` for what is no archive and no layout: other directories, sockets, FIFOs.
fn identity(path: &Path) -> Result<Option<Identity>, StoreError> {
    let meta = std::fs::metadata(path).map_err(io_error("read", path))?;
    if meta.is_file() {
        return Ok(Some(Identity::of(&meta)));
    }
    // A layout changes with its index; a blob alone is nobody's image.
    let index = ["index.json", "manifest.json"].iter().find_map(|name| std::fs::metadata(path.join(name)).ok());
    Ok(index.map(|meta| Identity::of(&meta)))
}

impl Identity {
    fn of(meta: &Metadata) -> Identity {
        Identity { inode: meta.ino(), size: meta.size(), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl Retries {
    fn get(&self, path: &Path) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn set(&self, path: &Path, failure: Failure) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), failure);
    }

    /// Forgets what succeeded or is gone.
    fn keep_only(&self, outcomes: &[PreloadOutcome]) {
        let failing = |path: &PathBuf| outcomes.iter().any(|outcome| outcome.path == *path && outcome.result.is_err());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| failing(path));
    }
}

impl Store {
    /// Makes the next scan read every archive.
    pub(super) fn forget_preloads(&self) -> Result<(), StoreError> {
        self.remove(&self.path(LEDGER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture::{Image, Member, Scratch, oci, tar};
    use crate::image::unpack::{Request, UnpackFailure, in_process};
    use std::cell::Cell;
    use std::fs::File;

    struct Node {
        scratch: Scratch,
        store: Store,
        dir: PathBuf,
        /// Layers that were unpacked.
        unpacked: Cell<u32>,
        /// What unpacking comes to, if it is to fail.
        fault: Cell<bool>,
    }

    impl Node {
        fn new(name: &str) -> Node {
            let scratch = Scratch::new(&format!("preload-{name}"));
            let (store, dir) = (Store::open(&scratch.0.join("images")).unwrap(), scratch.0.join("preload"));
            std::fs::create_dir(&dir).unwrap();
            Node { scratch, store, dir, unpacked: Cell::new(0), fault: Cell::new(false) }
        }

        fn scan(&self) -> Vec<(String, Result<Vec<String>, String>)> {
            let unpack = |input: File, request: &Request| {
                self.unpacked.set(self.unpacked.get() + 1);
                if self.fault.get() {
                    return Err(UnpackFailure::Failed("the disk is full".into()));
                }
                in_process(input, request)
            };
            let outcomes = scan_by(&self.dir, &self.store, &unpack);
            outcomes.into_iter().map(|o| (o.path.file_name().unwrap().to_str().unwrap().to_owned(), o.result)).collect()
        }

        fn put(&self, name: &str, image: &Image) {
            std::fs::write(self.dir.join(name), oci(std::slice::from_ref(image)).to_tar()).unwrap();
        }
    }

    fn image(name: &str, content: &str) -> Image {
        Image::new(name, &[tar(&[Member::file("f", content.as_bytes())])])
    }

    fn ok(name: &str, images: &[&str]) -> (String, Result<Vec<String>, String>) {
        (name.to_owned(), Ok(images.iter().map(|i| i.to_string()).collect()))
    }

    #[test]
    fn an_unchanged_archive_is_not_read_again_also_after_a_restart() {
        let node = Node::new("unchanged");
        node.put("a.tar", &image("a", "1"));
        oci(&[image("b", "2")]).write_to(&node.dir.join("layout"));
        let first = [ok("a.tar", &["docker.io/library/a:latest"]), ok("layout", &["docker.io/library/b:latest"])];
        assert_eq!(node.scan(), first);
        assert_eq!(node.unpacked.get(), 2);
        // A read would fail now: the bytes are others, and nobody can tell.
        let meta = std::fs::metadata(node.dir.join("a.tar")).unwrap();
        let damaged = vec![0; usize::try_from(meta.len()).unwrap()];
        std::fs::write(node.dir.join("a.tar"), damaged).unwrap();
        File::options()
            .write(true)
            .open(node.dir.join("a.tar"))
            .unwrap()
            .set_modified(meta.modified().unwrap())
            .unwrap();
        let restarted = Node { store: Store::open(&node.scratch.0.join("images")).unwrap(), ..node };
        assert_eq!(restarted.scan(), [ok("a.tar", &[]), ok("layout", &[])]);
        assert_eq!(restarted.unpacked.get(), 2);
    }

    #[test]
    fn a_changed_archive_moves_its_name_and_a_lost_image_is_imported_again() {
        let node = Node::new("changed");
        node.put("a.tar", &image("a", "1"));
        node.scan();
        let before = node.store.find("a").unwrap().unwrap();
        node.put("a.tar", &image("a", "2, and longer"));
        assert_eq!(node.scan(), [ok("a.tar", &["docker.io/library/a:latest"])]);
        assert_ne!(node.store.find("a").unwrap().unwrap().image_id, before.image_id);
        std::fs::remove_file(node.store.path("index.json")).unwrap();
        assert_eq!(node.scan(), [ok("a.tar", &["docker.io/library/a:latest"])]);
        assert_eq!(node.scan(), [ok("a.tar", &[])]);
    }

    #[test]
    fn a_bad_archive_is_named_until_it_is_mended_and_read_only_once() {
        let node = Node::new("bad");
        std::fs::write(node.dir.join("bad.tar"), "hello").unwrap();
        node.put("good.tar", &image("good", "1"));
        let bad = ("bad.tar".to_owned(), Err("not a tar archive".to_owned()));
        assert_eq!(node.scan(), [bad.clone(), ok("good.tar", &["docker.io/library/good:latest"])]);
        assert_eq!(node.scan(), [bad, ok("good.tar", &[])]);
        node.put("bad.tar", &image("bad", "2"));
        assert_eq!(node.scan(), [ok("bad.tar", &["docker.io/library/bad:latest"]), ok("good.tar", &[])]);
        assert!(node.store.retries.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_failure_that_may_pass_is_tried_again_after_a_while() {
        let node = Node::new("passing");
        node.put("a.tar", &image("a", "1"));
        node.fault.set(true);
        let failure = node.scan();
        assert!(failure[0].1.as_ref().unwrap_err().ends_with("the disk is full"), "{failure:?}");
        node.fault.set(false);
        // Not at once: nothing says that the disk has room now.
        assert_eq!(node.scan(), failure);
        assert_eq!(node.unpacked.get(), 1);
        let past = Instant::now();
        node.store.retries.0.lock().unwrap().values_mut().for_each(|failure| failure.again_at = Some(past));
        assert_eq!(node.scan(), [ok("a.tar", &["docker.io/library/a:latest"])]);
    }

    #[test]
    fn what_is_no_archive_by_its_name_or_kind_is_passed_over() {
        let node = Node::new("ignored");
        for name in [".hidden.tar", "copying.tar.part", "x.tmp", "backup~"] {
            std::fs::write(node.dir.join(name), "junk").unwrap();
        }
        std::fs::create_dir_all(node.dir.join("lost+found")).unwrap();
        let dir = Dir::open(&node.dir).unwrap();
        dir.make_node(OsStr::new("fifo"), crate::sys::openat::Kind::Fifo, 0o600, 0, 0).unwrap();
        assert_eq!(node.scan(), []);
        std::os::unix::fs::symlink("nowhere", node.dir.join("dangling.tar")).unwrap();
        let outcomes = node.scan();
        assert!(outcomes[0].1.as_ref().unwrap_err().contains("cannot read"), "{outcomes:?}");
    }

    #[test]
    fn a_missing_directory_is_empty_and_an_unreadable_one_says_why() {
        let node = Node::new("missing");
        std::fs::remove_dir(&node.dir).unwrap();
        assert_eq!(node.scan(), []);
        std::fs::write(&node.dir, "").unwrap();
        assert!(node.scan()[0].1.is_err());
    }

    #[test]
    fn delays_double_up_to_a_bound() {
        let error = ImportError::Decompress(UnpackFailure::Failed(String::new()));
        let delay = |tries| again_at(&error, tries).unwrap().duration_since(Instant::now()).as_secs_f64();
        for (tries, seconds) in [(1, 10.0), (2, 20.0), (5, 160.0), (6, 300.0), (4_000_000, 300.0)] {
            assert!((delay(tries) - seconds).abs() < 5.0, "{tries}: {}", delay(tries));
        }
        assert!(again_at(&ImportError::Decompress(UnpackFailure::Refused(String::new())), 1).is_none());
    }
}
