//! inotify on a directory (or one file) and on what holds it. The only user of the inotify crate.
//!
//! An event only says "look again": nothing is read out of it but whether it concerns the watched path. Anything odd,
//! such as an overflow, says the same. Adding a watch walks a path and may hang on a dead file system, so that
//! [`Armer::arm`] is for workers; [`Watcher::drain`] never blocks.

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Room for some hundred events a read.
const BUFFER_BYTES: usize = 16 << 10;
/// Reads a drain makes at most: beyond, the next turn of the loop goes on.
const READS_MAX: usize = 64;

#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    armed: Arc<Mutex<Armed>>,
}

/// What is watched now.
#[derive(Debug, Default)]
struct Armed {
    /// The path itself.
    inside: Option<WatchDescriptor>,
    /// The nearest directory above that exists, and which of its names leads to the path.
    above: Option<(WatchDescriptor, OsString)>,
}

/// Sets the watches; for a worker.
#[derive(Clone, Debug)]
pub struct Armer {
    watches: Watches,
    armed: Arc<Mutex<Armed>>,
}

impl Watcher {
    pub fn new() -> io::Result<Watcher> {
        Ok(Watcher { inotify: Inotify::init()?, armed: Arc::default() })
    }

    pub fn armer(&self) -> Armer {
        Armer { watches: self.inotify.watches(), armed: Arc::clone(&self.armed) }
    }

    /// Takes all events that wait; whether one of them says "look again".
    pub fn drain(&mut self) -> bool {
        let mut buffer = [0; BUFFER_BYTES];
        let mut again = false;
        for _ in 0..READS_MAX {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return again,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return true,
            };
            let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                again |= armed.concerns(&event.wd, event.mask, event.name);
            }
        }
        again
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Armed {
    fn concerns(&self, from: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>) -> bool {
        if mask.intersects(EventMask::Q_OVERFLOW | EventMask::IGNORED | EventMask::UNMOUNT) {
            return true;
        }
        match &self.above {
            Some((above, leading)) if above == from && self.inside.as_ref() != Some(from) => {
                name.is_none_or(|name| name == leading)
            }
            Some(_) | None => true,
        }
    }
}

impl Armer {
    /// Watches `path` (absolute) and the nearest directory above it that exists. Watching anew what is watched changes
    /// nothing, so that every scan begins with this. A path that is not there is no error.
    pub fn arm(&mut self, path: &Path) -> io::Result<()> {
        let names = WatchMask::CREATE | WatchMask::MOVED_FROM | WatchMask::MOVED_TO | WatchMask::DELETE;
        let itself = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let inside_mask = names | itself | WatchMask::CLOSE_WRITE | WatchMask::ATTRIB;
        // What neighbours write wakes nobody.
        let above_mask = names | itself | WatchMask::ONLYDIR;
        let mut above = None;
        let mut below = path;
        while let (Some(parent), Some(name)) = (below.parent(), below.file_name()) {
            match self.watches.add(parent, above_mask) {
                Ok(watch) => {
                    above = Some((watch, name.to_owned()));
                    break;
                }
                Err(error) if is_absent(&error) => below = parent,
                Err(error) => return Err(error),
            }
        }
        let inside = match self.watches.add(path, inside_mask) {
            Ok(watch) => Some(watch),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error),
        };
        self.replace(Armed { inside, above });
        Ok(())
    }

    /// Forgets the watches of what was moved or replaced.
    fn replace(&mut self, armed: Armed) {
        let kept = [armed.inside.clone(), armed.above.as_ref().map(|(watch, _)| watch.clone())];
        let old = std::mem::replace(&mut *self.armed.lock().unwrap_or_else(PoisonError::into_inner), armed);
        for watch in [old.inside, old.above.map(|(watch, _)| watch)].into_iter().flatten() {
            if !kept.contains(&Some(watch.clone())) {
                // It may be gone with its directory already.
                let _ = self.watches.remove(watch);
            }
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("pinlet-watch-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("m")).expect("writable");
            Dir(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn armed(path: &Path) -> Watcher {
        let mut watcher = Watcher::new().expect("inotify");
        watcher.armer().arm(path).expect("watchable");
        assert!(!watcher.drain());
        watcher
    }

    #[test]
    fn every_change_of_the_directory_says_look_again() {
        let dir = Dir::new("changes");
        let path = dir.0.join("m");
        let mut watcher = armed(&path);
        let (file, other) = (path.join("a"), dir.0.join("elsewhere"));
        let changes: [(&str, &dyn Fn() -> io::Result<()>); 6] = [
            ("create and close", &|| fs::write(&file, "x")),
            ("rename within", &|| fs::rename(&file, path.join("b"))),
            ("chmod", &|| fs::set_permissions(path.join("b"), std::os::unix::fs::PermissionsExt::from_mode(0o600))),
            ("rename out", &|| fs::rename(path.join("b"), &other)),
            ("rename in", &|| fs::rename(&other, &file)),
            ("delete", &|| fs::remove_file(&file)),
        ];
        for (what, change) in changes {
            change().expect(what);
            assert!(watcher.drain(), "{what}");
            assert!(!watcher.drain(), "{what} is drained");
        }
    }

    #[test]
    fn reading_is_no_change_and_neither_is_a_neighbour() {
        let dir = Dir::new("quiet");
        let path = dir.0.join("m");
        fs::write(path.join("a"), "x").expect("writable");
        let mut watcher = armed(&path);
        assert_eq!(fs::read(path.join("a")).expect("readable"), b"x");
        assert_eq!(fs::read_dir(&path).expect("readable").count(), 1);
        fs::write(dir.0.join("neighbour"), "x").expect("writable");
        assert!(!watcher.drain());
    }

    #[test]
    fn a_directory_that_vanishes_and_comes_back_is_seen() {
        let dir = Dir::new("vanish");
        let path = dir.0.join("m");
        let mut watcher = armed(&path);
        fs::remove_dir(&path).expect("removable");
        assert!(watcher.drain());
        watcher.armer().arm(&path).expect("watchable");
        watcher.drain();
        fs::create_dir(&path).expect("writable");
        assert!(watcher.drain());
        watcher.armer().arm(&path).expect("watchable");
        watcher.drain();
        fs::write(path.join("a"), "x").expect("writable");
        assert!(watcher.drain());
    }

    #[test]
    fn a_path_that_is_not_there_yet_is_awaited_from_the_nearest_directory() {
        let dir = Dir::new("await");
        let path = dir.0.join("x/y/manifests");
        let mut watcher = armed(&path);
        for step in ["x", "x/y", "x/y/manifests"] {
            fs::create_dir(dir.0.join(step)).expect("writable");
            assert!(watcher.drain(), "{step}");
            watcher.armer().arm(&path).expect("watchable");
            watcher.drain();
        }
    }

    #[test]
    fn one_file_is_watched_through_its_directory_too() {
        let dir = Dir::new("file");
        let path = dir.0.join("m/pod.yaml");
        let mut watcher = armed(&path);
        fs::write(&path, "x").expect("writable");
        assert!(watcher.drain());
        watcher.armer().arm(&path).expect("watchable");
        watcher.drain();
        fs::write(dir.0.join("m/new"), "y").expect("writable");
        watcher.drain();
        fs::rename(dir.0.join("m/new"), &path).expect("movable");
        assert!(watcher.drain());
    }
}
