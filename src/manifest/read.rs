//! One file of the manifest directory: whether it counts, whether it is settled, and its bytes.
//!
//! It must never open a FIFO or a socket, wait for a writer, or hold a lease while it reads. Blocks on the file system:
//! workers only.

use super::decode::MANIFEST_BYTES_MAX;
use crate::model::time::Mono;
use crate::sys::clock;
use crate::sys::lease::{self, Writers};
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// Reads of a file that changes under the reader, before it counts as unsettled.
const READS_MAX: usize = 3;
/// Where the kernel does not know all writers, a file is settled when it looks the same after this long.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// Time stamps are taken from a clock that ticks: at least every 10 ms, on some file systems every 2 s. A file as young
/// as a tick may change again without a new time stamp.
const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_secs(2);

/// What tells that a file may have changed, without reading it. A symlink's is that of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    pub modified_ns: i128,
    pub changed_ns: i128,
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_young(&self) -> bool {
        let coarse = self.changed_ns % 1_000_000_000 == 0 && self.modified_ns % 1_000_000_000 == 0;
        let tick = if coarse { COARSE_TICK } else { TICK };
        (i128::from(clock::realtime_ns()) - self.changed_ns).unsigned_abs() < tick.as_nanos()
    }
}

/// What an earlier look saw of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its bytes were taken: it is read again only when its identity changes.
    Taken(Identity),
    /// Nobody can tell whether it is being written; this is what it looked like then.
    Watched { identity: Identity, since: Mono },
}

/// What a look at a file saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No manifest, for the reason given.
    Ignored(&'static str),
    /// As it was when its bytes were taken.
    Unchanged,
    Bytes {
        identity: Identity,
        bytes: Vec<u8>,
        /// So young that it may change again and look the same: worth another look soon.
        young: bool,
    },
    /// Somebody holds it open for writing, or it changes while it is read.
    Written,
    /// Nobody can tell whether it is being written: to be looked at again after [`QUIET`].
    Watched(Identity),
    /// It cannot be taken, for the reason given.
    Unreadable(String),
    /// Enough bytes were taken in this scan; the next one goes on.
    Later,
}

/// Why a name in the manifest directory is no manifest's: hidden files, and what editors and packagers leave behind.
pub fn ignored_name(name: &str) -> Option<&'static str> {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    if name.starts_with('.') {
        return Some("its name starts with a dot");
    }
    if name.ends_with('~') || (name.len() > 1 && name.starts_with('#') && name.ends_with('#')) || ends(&[".swp"]) {
        return Some("an editor's leaving");
    }
    if ends(&[".bak", ".orig", ".tmp", ".part"]) {
        return Some("a backup or an unfinished copy");
    }
    if name.contains(".dpkg-") || ends(&[".rpmnew", ".rpmsave"]) {
        return Some("a packager's leaving");
    }
    None
}

/// Looks at `path`, with what is known of it; `None`: it is not there. Bytes are taken only up to `budget`.
pub fn look(path: &Path, known: Option<&Known>, now: Mono, budget: u64) -> Option<Seen> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::symlink_metadata(path).is_ok().then(|| Seen::Unreadable("a dangling symlink".to_owned()));
        }
        Err(error) => return Some(unreadable(&error)),
    };
    if let Some(reason) = no_file(metadata.file_type()) {
        return Some(Seen::Ignored(reason));
    }
    let identity = Identity::of(&metadata);
    if known == Some(&Known::Taken(identity)) {
        return Some(Seen::Unchanged);
    }
    if identity.size > MANIFEST_BYTES_MAX as u64 {
        return Some(Seen::Unreadable("larger than 10 MiB".to_owned()));
    }
    if identity.size > budget {
        return Some(Seen::Later);
    }
    let file = match lease::open_quietly(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unreadable(&error)),
    };
    Some(take(path, file, known, now).unwrap_or_else(|error| unreadable(&error)))
}

fn unreadable(error: &io::Error) -> Seen {
    // "Permission denied (os error 13)": the number helps nobody.
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    Seen::Unreadable(format!("cannot be read: {}", text.to_lowercase()))
}

fn no_file(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// The bytes of the open file, if it is settled and stays the same while it is read.
fn take(path: &Path, mut file: File, known: Option<&Known>, now: Mono) -> io::Result<Seen> {
    for _ in 0..READS_MAX {
        let metadata = file.metadata()?;
        if let Some(reason) = no_file(metadata.file_type()) {
            return Ok(Seen::Ignored(reason));
        }
        let identity = Identity::of(&metadata);
        match lease::writers(&file) {
            Writers::None => {}
            Writers::Some => return Ok(Seen::Written),
            Writers::Unknown => match known {
                Some(Known::Watched { identity: before, since })
                    if *before == identity && now.since(*since) >= QUIET => {}
                _ => return Ok(Seen::Watched(identity)),
            },
        }
        let mut bytes = Vec::with_capacity(usize::try_from(identity.size).unwrap_or(0).min(MANIFEST_BYTES_MAX));
        (&mut file).take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Ok(Seen::Unreadable("larger than 10 MiB".to_owned()));
        }
        if Identity::of(&file.metadata()?) == identity && Identity::of(&fs::metadata(path)?) == identity {
            return Ok(Seen::Bytes { identity, bytes, young: identity.is_young() });
        }
        file = lease::open_quietly(path)?;
    }
    Ok(Seen::Written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    const NOW: Mono = Mono(10_000_000_000);
    const BUDGET: u64 = 1 << 20;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("pinlet-read-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("writable");
            Dir(path)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).expect("writable");
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn leavings_do_not_count_whatever_else_does() {
        for name in [
            ".hidden",
            "a~",
            "#a#",
            "a.swp",
            "a.yaml.bak",
            "a.orig",
            "a.tmp",
            "a.part",
            "a.dpkg-dist",
            "a.yaml.dpkg-new",
            "a.rpmnew",
            "a.rpmsave",
            ".a.swp",
        ] {
            assert!(ignored_name(name).is_some(), "{name}");
        }
        for name in ["a", "a.yaml", "a.json", "a.txt", "#a", "bak", "a.swp.yaml", "dpkg-x", "tmp"] {
            assert_eq!(ignored_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_is_read_once_until_it_changes() {
        let dir = Dir::new("once");
        let path = dir.file("a", "one");
        let Some(Seen::Bytes { identity, bytes, .. }) = look(&path, None, NOW, BUDGET) else { panic!("not read") };
        assert_eq!(bytes, b"one");
        assert_eq!(look(&path, Some(&Known::Taken(identity)), NOW, BUDGET), Some(Seen::Unchanged));
        dir.file("a", "longer");
        assert!(matches!(look(&path, Some(&Known::Taken(identity)), NOW, BUDGET), Some(Seen::Bytes { .. })));
    }

    #[test]
    fn a_switched_symlink_is_another_file() {
        let dir = Dir::new("switch");
        let (one, two, link) = (dir.file("one", "same"), dir.file("two", "same"), dir.0.join("link"));
        symlink(&one, &link).expect("linkable");
        let Some(Seen::Bytes { identity, .. }) = look(&link, None, NOW, BUDGET) else { panic!("not read") };
        fs::remove_file(&link).and_then(|()| symlink(&two, &link)).expect("linkable");
        assert!(matches!(look(&link, Some(&Known::Taken(identity)), NOW, BUDGET), Some(Seen::Bytes { .. })));
    }

    #[test]
    fn an_open_writer_makes_a_file_unsettled() {
        let dir = Dir::new("writer");
        let path = dir.file("a", "half");
        let writer = OpenOptions::new().append(true).open(&path).expect("writable");
        assert_eq!(look(&path, None, NOW, BUDGET), Some(Seen::Written));
        drop(writer);
        assert!(matches!(look(&path, None, NOW, BUDGET), Some(Seen::Bytes { .. })));
    }

    #[test]
    fn what_is_no_regular_file_is_never_opened() {
        let dir = Dir::new("kinds");
        let socket = dir.0.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bindable");
        assert_eq!(look(&socket, None, NOW, BUDGET), Some(Seen::Ignored("a socket")));
        assert_eq!(look(&dir.0, None, NOW, BUDGET), Some(Seen::Ignored("a directory")));
        assert_eq!(look(Path::new("/dev/null"), None, NOW, BUDGET), Some(Seen::Ignored("a device")));
        let fifo = dir.0.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        assert_eq!(look(&fifo, None, NOW, BUDGET), Some(Seen::Ignored("a FIFO")));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = Dir::new("unreadable");
        let link = dir.0.join("link");
        symlink(dir.0.join("nowhere"), &link).expect("linkable");
        assert_eq!(look(&link, None, NOW, BUDGET), Some(Seen::Unreadable("a dangling symlink".to_owned())));
        assert_eq!(look(&dir.0.join("absent"), None, NOW, BUDGET), None);
        let circle = dir.0.join("circle");
        symlink(&circle, &circle).expect("linkable");
        assert!(matches!(look(&circle, None, NOW, BUDGET), Some(Seen::Unreadable(_))));
        let huge = dir.file("huge", "");
        File::options()
            .write(true)
            .open(&huge)
            .and_then(|f| f.set_len(MANIFEST_BYTES_MAX as u64 + 1))
            .expect("growable");
        let all = u64::MAX;
        assert_eq!(look(&huge, None, NOW, all), Some(Seen::Unreadable("larger than 10 MiB".to_owned())));
        assert_eq!(look(&dir.file("b", "12"), None, NOW, 1), Some(Seen::Later));
    }

    #[test]
    fn a_file_of_a_second_ago_is_not_young() {
        let now = i128::from(clock::realtime_ns());
        let identity = |changed_ns| Identity { device: 1, inode: 1, size: 1, modified_ns: 1, changed_ns };
        assert!(identity(now).is_young());
        assert!(!identity(now - 1_000_000_000).is_young());
        assert!(!identity(now + 3_600_000_000_000).is_young());
    }
}
