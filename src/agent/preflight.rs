//! What must hold before the agent touches anything: the only owner of its directories, no kubelet beside it, and the
//! name that this node was first started under.

use super::paths::Paths;
use crate::model::id::NodeName;
use crate::sys::file::{self, Lock};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a killed agent may take to give its locks back: its memory is freed first.
const DYING: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    #[error("cannot make {path}")]
    MakeDirectory { path: PathBuf, source: io::Error },
    #[error("cannot lock {path}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("{path} is locked by another agent (pid {owner})")]
    Locked { path: PathBuf, owner: String },
    #[error("a kubelet (pid {pid}) runs on this node and would run the same pods")]
    Kubelet { pid: i32 },
    #[error("the host's name {name:?} cannot be a node name")]
    NoNodeName { name: String },
    #[error("cannot keep the node's name in {path}")]
    KeepNodeName { path: PathBuf, source: io::Error },
}

impl PreflightError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PreflightError::Locked { .. } => {
                Some("two agents need different --root-dir, --run-dir, --cgroup-root, --bridge-name and --pod-cidr")
            }
            PreflightError::Kubelet { .. } => Some(
                "stop it first (systemctl disable --now kubelet), or give it and pinlet different --cgroup-root values",
            ),
            PreflightError::NoNodeName { .. } => Some("set --hostname-override"),
            PreflightError::MakeDirectory { .. }
            | PreflightError::Lock { .. }
            | PreflightError::KeepNodeName { .. } => None,
        }
    }
}

/// The locks that make this agent the only one of its directories; held until the process ends.
#[derive(Debug)]
pub struct Ownership {
    _root: Lock,
    run: Lock,
}

impl Ownership {
    /// False once the run dir was wiped, or its lock alone: then nothing would keep a second agent out of it.
    pub fn holds_run_dir(&self, paths: &Paths) -> bool {
        let there = fs::symlink_metadata(paths.run_lock()).map(|meta| meta.ino());
        there.is_ok_and(|there| self.run.inode().is_ok_and(|ours| ours == there))
    }

    /// Takes the lock of a run dir that was wiped again.
    pub fn retake_run_dir(&mut self, paths: &Paths) -> Result<(), PreflightError> {
        if !self.holds_run_dir(paths) {
            self.run = own(&paths.run_lock())?;
        }
        Ok(())
    }
}

/// Makes the directories and takes both locks.
pub fn take_ownership(paths: &Paths) -> Result<Ownership, PreflightError> {
    // 0711: who checks a manifest without being root reads the node's name in it.
    make_directory(&paths.root, 0o711)?;
    // Mounts need no way to their source: no user of the host may run what a container or an image left there setuid.
    for dir in [paths.root_pods(), paths.images()] {
        make_directory(&dir, 0o700)?;
    }
    // Another place for preloaded images is the admin's to make.
    if paths.preload.starts_with(&paths.root) {
        make_directory(&paths.preload, 0o700)?;
    }
    make_directory(&paths.run, 0o711)?;
    let root = own_in_time(&paths.root_lock())?;
    Ok(Ownership { _root: root, run: own_in_time(&paths.run_lock())? })
}

pub fn make_directory(path: &Path, mode: u32) -> Result<(), PreflightError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| PreflightError::MakeDirectory { path: path.to_owned(), source })
}

/// An agent that was killed a moment ago has its locks until the kernel is done with it: it is no second agent.
fn own_in_time(path: &Path) -> Result<Lock, PreflightError> {
    let deadline = Instant::now() + DYING;
    loop {
        match own(path) {
            Err(PreflightError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
}

fn own(path: &Path) -> Result<Lock, PreflightError> {
    let wrong = |source| PreflightError::Lock { path: path.to_owned(), source };
    match Lock::try_take(path).map_err(wrong)? {
        Some(mut lock) => {
            lock.write_owner(&format!("{}\n", std::process::id())).map_err(wrong)?;
            Ok(lock)
        }
        None => {
            let owner = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            Err(PreflightError::Locked { path: path.to_owned(), owner })
        }
    }
}

/// Looks for a kubelet of this host (contract 4): uid 0, in our pid namespace's view of the host, outside our
/// kubepods, and not told to use another cgroup root.
pub fn refuse_beside_kubelet(cgroup_root: &Path) -> Result<(), PreflightError> {
    let Ok(entries) = fs::read_dir("/proc") else { return Ok(()) };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if is_rival(&entry.path(), cgroup_root) {
            return Err(PreflightError::Kubelet { pid });
        }
    }
    Ok(())
}

fn is_rival(proc_dir: &Path, cgroup_root: &Path) -> bool {
    // A process that ends meanwhile is no rival.
    let text = |name: &str| fs::read(proc_dir.join(name)).unwrap_or_default();
    if text("comm") != b"kubelet\n" {
        return false;
    }
    let status = String::from_utf8_lossy(&text("status")).into_owned();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let root_user = field("Uid:").split_whitespace().next() == Some("0");
    // More than one number: it lives in a pid namespace below ours.
    let host_namespace = field("NSpid:").split_whitespace().count() <= 1;
    let cgroups = String::from_utf8_lossy(&text("cgroup")).into_owned();
    let in_a_pod = cgroups.lines().any(|line| line.contains("/kubepods/") || line.contains("/kubepods.slice/"));
    root_user && host_namespace && !in_a_pod && !names_other_cgroup_root(&text("cmdline"), cgroup_root)
}

/// `--cgroup-root X` or `--cgroup-root=X` with another X than ours.
fn names_other_cgroup_root(cmdline: &[u8], ours: &Path) -> bool {
    let words: Vec<String> =
        cmdline.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let value = words.iter().enumerate().find_map(|(at, word)| {
        let flag = word.trim_start_matches('-');
        if flag.len() == word.len() {
            return None;
        }
        match flag.strip_prefix("cgroup-root") {
            Some("") => words.get(at + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        }
    });
    let clean = |path: &Path| super::paths::lexically_absolute(path, Path::new("/"));
    value.is_some_and(|theirs| clean(Path::new(&theirs)) != clean(ours))
}

/// Pins made in another mount namespace than pid 1's are not seen by the host. Only where that can be read.
pub fn warn_of_foreign_mount_namespace() {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    if let (Ok(own), Ok(first)) = (namespace("self"), namespace("1"))
        && own != first
    {
        log::warn!(
            "the agent runs in a mount namespace of its own: pods' volumes do not follow the host's mounts \
             (a unit with PrivateTmp=, ProtectSystem= and the like makes one; the shipped unit does not)"
        );
    }
}

/// The node's name: the override, else the one kept at first start, else the host's (contract 3). A host's name that
/// is not settled yet is used but not kept.
pub fn node_name(paths: &Paths, given: Option<&str>, host_name: &str) -> Result<NodeName, PreflightError> {
    let no_name = || PreflightError::NoNodeName { name: given.unwrap_or(host_name).to_owned() };
    if let Some(given) = given {
        return NodeName::new(given).ok_or_else(no_name);
    }
    let path = paths.node_name();
    let kept = fs::read_to_string(&path).ok().and_then(|text| NodeName::new(&text));
    let current = NodeName::new(host_name);
    if let Some(kept) = kept {
        if current.as_ref() != Some(&kept) {
            log::warn!("the host is now called {host_name:?}; the node stays {kept}, as it was first started");
        }
        return Ok(kept);
    }
    let current = current.ok_or_else(no_name)?;
    let settled = current.as_str() != "(none)" && !current.as_str().starts_with("localhost");
    if settled {
        file::write_durable(&path, format!("{current}\n").as_bytes(), 0o644)
            .map_err(|source| PreflightError::KeepNodeName { path, source })?;
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_with_another_cgroup_root_is_no_rival() {
        let other = |line: &[u8]| names_other_cgroup_root(line, Path::new("/"));
        assert!(!other(b"kubelet\0--config\0x\0"));
        assert!(other(b"kubelet\0--cgroup-root=/k\0"));
        assert!(other(b"kubelet\0--cgroup-root\0/k/\0"));
        assert!(!other(b"kubelet\0--cgroup-root\0/\0"));
    }
}
