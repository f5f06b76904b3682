//! Killing and removing: the only way in which a pod's processes are found, since a pid alone proves nothing.

use super::{CgroupError, Hierarchies, KUBEPODS, PROCS, Version, write};
use crate::model::id::Pid;
use crate::sys::{poll, spawn};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a v1 freezer is asked whether it has frozen all; each time a millisecond.
const FREEZE_TRIES: u32 = 5;
/// How long to wait before looking again whether a killed cgroup is empty, at first and at last.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(100);

impl Hierarchies {
    /// Every process in the cgroup `path` or below it, in any hierarchy.
    pub fn pids(&self, path: &Path) -> Vec<Pid> {
        let mut found = Vec::new();
        for hierarchy in &self.all {
            collect(&hierarchy.at(path), &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// False if nobody is left in the cgroup or below it, or if there is no such cgroup.
    pub fn populated(&self, path: &Path) -> bool {
        self.all.iter().any(|hierarchy| {
            let dir = hierarchy.at(path);
            match hierarchy.version {
                Version::V2 => {
                    fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|t| t.lines().any(|l| l == "populated 1"))
                }
                Version::V1 => {
                    let mut found = Vec::new();
                    collect(&dir, &mut found);
                    !found.is_empty()
                }
            }
        })
    }

    /// SIGKILL for all of the cgroup and below. Does not wait: see [`Hierarchies::populated`], and call it again while
    /// that is true, since on v1 a process may fork while it is being looked for.
    pub fn kill(&self, path: &Path) -> Result<(), CgroupError> {
        let mut all_at_once = false;
        if let Some(v2) = self.v2() {
            all_at_once = write(&v2.at(path).join("cgroup.kill"), "1").is_ok();
        }
        if all_at_once && self.is_pure_v2() {
            return Ok(());
        }
        let freezer = self.v1("freezer").map(|h| h.at(path).join("freezer.state"));
        if let Some(state) = freezer.as_ref().filter(|_| !all_at_once) {
            freeze(state);
        }
        let killed = self.pids(path).into_iter().try_for_each(|pid| self.kill_one(pid, path));
        if let Some(state) = &freezer {
            // Whoever froze it: what is frozen on v1 does not die.
            let _ = write(state, "THAWED");
        }
        killed
    }

    /// By pidfd, and only if the process that it names is (still) in the cgroup.
    fn kill_one(&self, pid: Pid, path: &Path) -> Result<(), CgroupError> {
        let Ok(pidfd) = poll::pidfd_open(pid.0) else { return Ok(()) };
        let place = fs::read_to_string(format!("/proc/{}/cgroup", pid.0)).unwrap_or_default();
        let path = path.strip_prefix("/").unwrap_or(path);
        let inside = |line: &str| line.splitn(3, ':').nth(2).is_some_and(|p| ends_inside(Path::new(p), path));
        if !place.lines().any(inside) {
            return Ok(());
        }
        match spawn::signal(&pidfd, spawn::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(spawn::ESRCH) => Err(CgroupError::Kill(pid.0, error)),
            _ => Ok(()),
        }
    }

    /// Kills all of the cgroup `path` and takes it away, looking again until `patience` is over: for workers, since it
    /// waits for the dying. `Ok` if nothing of it is left, or never was.
    pub fn clear(&self, path: &Path, patience: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + patience;
        let mut pause = LOOK_FIRST;
        loop {
            self.kill(path)?;
            // Whoever is dying is still inside for a moment.
            match self.remove(path) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// Takes the cgroup and all below it away in every hierarchy, depth first. Fails while somebody is in it.
    pub fn remove(&self, path: &Path) -> Result<(), CgroupError> {
        self.all.iter().try_for_each(|hierarchy| remove_tree(&hierarchy.at(path)))
    }

    /// Takes an empty pod's cgroup away, then its QoS parent and `kubepods` where nothing else is in them.
    pub fn remove_pod(&self, root: &Path, pod: &Path) -> Result<(), CgroupError> {
        self.remove(&root.join(pod))?;
        for parent in pod.ancestors().skip(1).filter(|p| p.starts_with(KUBEPODS)) {
            for hierarchy in &self.all {
                // Busy: another pod lives there.
                let _ = fs::remove_dir(hierarchy.at(&root.join(parent)));
            }
        }
        Ok(())
    }
}

/// `place` as /proc shows it starts at the hierarchy's root, which may lie above our mount.
fn ends_inside(place: &Path, path: &Path) -> bool {
    place.ancestors().any(|a| a.ends_with(path))
}

fn collect(dir: &Path, found: &mut Vec<Pid>) {
    let text = fs::read_to_string(dir.join(PROCS)).unwrap_or_default();
    // 0 stands for a process that our pid namespace does not show.
    found.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid));
    for child in children(dir) {
        collect(&child, found);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CgroupError::Remove(dir.to_owned(), error)),
        _ => Ok(()),
    }
}

/// Stops the cgroup from forking while it is killed. Children of frozen processes are born frozen, so a freezer that
/// has not got hold of everybody yet still helps.
fn freeze(state: &Path) {
    if write(state, "FROZEN").is_err() {
        return;
    }
    for _ in 0..FREEZE_TRIES {
        if fs::read_to_string(state).is_ok_and(|text| text.trim() == "FROZEN") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_if_it_is_the_path_or_below_it_wherever_the_mount_starts() {
        let path = Path::new("t/kubepods/podx/c");
        assert!(ends_inside(Path::new("/t/kubepods/podx/c"), path));
        assert!(ends_inside(Path::new("/docker/1/t/kubepods/podx/c/nested/deep"), path));
        assert!(!ends_inside(Path::new("/t/kubepods/podx/c2"), path));
        assert!(!ends_inside(Path::new("/"), path));
    }
}
