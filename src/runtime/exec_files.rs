//! What only `exec` reads of a running container, held open: so that it can be put back where somebody wiped the run
//! dir. In memory it would be a dozen kB for each container; on disk, a dozen writes for each start.

use super::creator::{CONFIG, ROOTFS, STATE};
use super::launch;
use crate::sys::file;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// libcontainer's own names.
pub(super) const STATE_FILES: [&str; 2] = ["state.json", "youki_config.json"];
/// Many times what any of them has.
const BYTES_MAX: u64 = 4 << 20;

/// Paths relative to the container's directory. Those of libcontainer are rewritten in place, so that what is open
/// stays true.
#[derive(Debug, Default)]
pub struct ExecFiles {
    files: Vec<(PathBuf, File)>,
}

impl ExecFiles {
    /// What is there of them in `dir`, which is `<run-dir>/containers/<id>`.
    pub fn open(dir: &Path) -> ExecFiles {
        let own = [launch::FILE, CONFIG].map(PathBuf::from);
        let of_state = STATE_FILES.map(|name| Path::new(STATE).join(name));
        let open = |path: PathBuf| File::open(dir.join(&path)).ok().map(|file| (path, file));
        ExecFiles { files: own.into_iter().chain(of_state).filter_map(open).collect() }
    }

    /// Whether none is missing; only stats.
    pub fn are_in(&self, dir: &Path) -> bool {
        self.files.iter().all(|(path, _)| dir.join(path).exists())
    }

    /// Puts back those that are missing.
    pub fn restore(&self, dir: &Path) -> io::Result<()> {
        if !self.files.is_empty() {
            // libcontainer looks the spec's root up, though nothing is mounted there outside the container.
            fs::create_dir_all(dir.join(ROOTFS))?;
        }
        for (path, source) in &self.files {
            let target = dir.join(path);
            if target.exists() {
                continue;
            }
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            file::write_atomic(&target, &content(source)?, 0o600)?;
        }
        Ok(())
    }
}

fn content(source: &File) -> io::Result<Vec<u8>> {
    struct FromStart<'f>(&'f File, u64);
    impl Read for FromStart<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.read_at(buffer, self.1)?;
            self.1 += n as u64;
            Ok(n)
        }
    }
    let mut bytes = Vec::new();
    FromStart(source, 0).take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;

    #[test]
    fn what_was_removed_comes_back_and_what_is_there_stays() {
        let dir = TempDir::new();
        let dir = dir.path();
        fs::create_dir(dir.join(STATE)).expect("a directory");
        let state = dir.join(STATE).join(STATE_FILES[0]);
        fs::write(dir.join(CONFIG), "spec").expect("written");
        fs::write(&state, "created").expect("written");
        let files = ExecFiles::open(dir);
        fs::write(&state, "running").expect("in place");
        fs::remove_dir_all(dir.join(STATE)).expect("wiped");
        fs::write(dir.join(CONFIG), "mended").expect("written");
        assert!(!files.are_in(dir));
        for _ in 0..2 {
            files.restore(dir).expect("restored");
            assert_eq!(fs::read_to_string(&state).expect("it is back"), "running");
            assert_eq!(fs::read_to_string(dir.join(CONFIG)).expect("it is there"), "mended");
            assert!(files.are_in(dir));
        }
        assert!(!dir.join(launch::FILE).exists());
    }
}
