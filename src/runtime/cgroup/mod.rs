//! The cgroups of pods and monitors: ours alone, in every hierarchy of `/proc/self/cgroup`.
//!
//! The kubelet's cgroupfs layout, `kubepods/[burstable|besteffort/]pod<uid>/<container id>`, beside it one leaf
//! `pinlet-monitors`. systemd's own hierarchies (`name=systemd`, a hybrid host's v2) are joined too: systemd kills by
//! them, and a process that is in none of a unit's cgroups is never touched by stopping that unit. The agent's loop
//! calls what is here, so nothing waits for longer than a v1 freezer's few milliseconds.

mod detect;
mod empty;
mod limits;

use super::launch::CgroupPlan;
use crate::model::id::{Pid, PodUid};
use crate::sys::openat;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const KUBEPODS: &str = "kubepods";
const MONITORS: &str = "pinlet-monitors";
const PROCS: &str = "cgroup.procs";
/// v1's list of threads.
const TASKS: &str = "tasks";
/// What a pod's cgroups are to have on v2; the first three carry limits, the others are for accounting.
const CONTROLLERS: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("{0} cannot be read")]
    Proc(&'static str, #[source] io::Error),
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    #[error("cgroup {0} cannot be made")]
    Make(PathBuf, #[source] io::Error),
    #[error("cgroup {0} cannot be entered")]
    Join(PathBuf, #[source] io::Error),
    #[error("cgroup file {path} does not take {value}")]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error("{limit} cannot be limited: no {controller} controller in the cgroup hierarchies of this host")]
    NoController { limit: &'static str, controller: &'static str },
    #[error("cgroup {0} cannot be removed")]
    Remove(PathBuf, #[source] io::Error),
    #[error("process {0} cannot be killed")]
    Kill(i32, #[source] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    pub mount: PathBuf,
    pub version: Version,
    /// v1: the controllers (or `name=systemd`) of the mount; v2: none, they differ from directory to directory.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// `path` is relative to the mount, with or without a leading `/`.
    fn at(&self, path: &Path) -> PathBuf {
        self.mount.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Every hierarchy that this process is in and that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies {
    all: Vec<Hierarchy>,
}

impl Hierarchies {
    pub fn all(&self) -> &[Hierarchy] {
        &self.all
    }

    /// The v2 hierarchy; on a hybrid host it is there too, without the controllers that matter.
    fn v2(&self) -> Option<&Hierarchy> {
        self.all.iter().find(|h| h.version == Version::V2)
    }

    fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.all.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// cgroup v2 alone.
    pub fn is_pure_v2(&self) -> bool {
        self.all.len() == 1 && self.v2().is_some()
    }

    /// Makes `kubepods` and `pinlet-monitors` below `root` and, on v2, hands the controllers down to kubepods.
    /// Cheap when all is there; the warnings name controllers that could not be had.
    pub fn prepare_roots(&self, root: &Path) -> Result<Vec<String>, CgroupError> {
        for hierarchy in &self.all {
            for leaf in [KUBEPODS, MONITORS] {
                make_below(hierarchy, &root.join(leaf))?;
            }
        }
        Ok(self.hand_down(&root.join(KUBEPODS)))
    }

    /// The pod's cgroup with its limits, its parents made as needed. Does nothing to what is as it should be.
    pub fn ensure_pod(&self, plan: &CgroupPlan) -> Result<Vec<String>, CgroupError> {
        for hierarchy in &self.all {
            make_below(hierarchy, &plan.pod_path())?;
        }
        let warnings = self.hand_down(&plan.pod_path());
        if plan.pod.starts_with("kubepods/besteffort") {
            let share = super::launch::Limits { cpu_shares: Some(limits::SHARES_MIN), ..Default::default() };
            limits::apply(self, &plan.root.join(KUBEPODS).join("besteffort"), &share)?;
        }
        limits::apply(self, &plan.pod_path(), &plan.pod_limits)?;
        Ok(warnings)
    }

    /// Where the container's creator can be born: its own cgroup in v2, in the pod's, which is mostly there.
    pub fn begin_leaf(&self, plan: &CgroupPlan) -> Result<Vec<String>, CgroupError> {
        let pod_is_there = self.all.iter().all(|hierarchy| hierarchy.at(&plan.pod_path()).is_dir());
        let warnings = if pod_is_there { Vec::new() } else { self.ensure_pod(plan)? };
        match self.v2() {
            Some(v2) => make_below(v2, &plan.leaf_path()).map(|()| warnings),
            None => Ok(warnings),
        }
    }

    /// The container's cgroup in every other hierarchy, and its limits. INVARIANT: before its program runs.
    pub fn complete_leaf(&self, plan: &CgroupPlan) -> Result<(), CgroupError> {
        let leaf = plan.leaf_path();
        for hierarchy in self.all.iter().filter(|h| h.version == Version::V1) {
            make_below(hierarchy, &leaf)?;
        }
        limits::apply(self, &leaf, &plan.limits)?;
        limits::kill_as_one(self, &leaf);
        Ok(())
    }

    /// Whether there is a cgroup of burstable pods in every hierarchy that has cpu shares.
    pub fn has_burstable(&self, root: &Path) -> bool {
        let path = root.join(KUBEPODS).join("burstable");
        let with_cpu = self.all.iter().filter(|h| h.controllers.iter().any(|c| c == "cpu"));
        with_cpu.map(|h| h.at(&path)).all(|dir| dir.is_dir())
    }

    /// The share of all burstable pods together: the kubelet sets it to the sum of their requests.
    pub fn set_burstable_shares(&self, root: &Path, shares: u64) -> Result<(), CgroupError> {
        let limits = super::launch::Limits { cpu_shares: Some(shares), ..Default::default() };
        limits::apply(self, &root.join(KUBEPODS).join("burstable"), &limits)
    }

    /// Moves the calling process, which has one thread, into `path` in every hierarchy.
    pub fn join_self(&self, path: &Path) -> Result<(), CgroupError> {
        self.join_v1(path)?;
        match self.v2() {
            Some(v2) => join(v2, path, PROCS),
            None => Ok(()),
        }
    }

    /// The same for v1 alone, where no process can be born in its cgroup. A thread that moves itself (`0` into `tasks`)
    /// is spared the lock that a process is moved under, and with it an RCU grace period (6 to 15 ms after a rest).
    /// INVARIANT: the process has one thread.
    pub fn join_v1(&self, path: &Path) -> Result<(), CgroupError> {
        let mut v1 = self.all.iter().filter(|h| h.version == Version::V1);
        v1.try_for_each(|hierarchy| join(hierarchy, path, TASKS))
    }

    /// For a process that joins `path` only when it sees no cgroup file system any more.
    pub fn open_v1(&self, path: &Path) -> Result<OpenV1, CgroupError> {
        let v1 = self.all.iter().filter(|h| h.version == Version::V1);
        let opened = v1.map(|hierarchy| match fs::File::open(&hierarchy.mount) {
            Ok(mount) => Ok((mount.into(), hierarchy.at(path))),
            Err(source) => Err(CgroupError::Join(hierarchy.mount.clone(), source)),
        });
        let path = path.strip_prefix("/").unwrap_or(path).join(TASKS);
        Ok(OpenV1 { mounts: opened.collect::<Result<_, _>>()?, tasks: path })
    }

    pub fn join_monitors_v1(&self, root: &Path) -> Result<(), CgroupError> {
        self.join_v1(&root.join(MONITORS))
    }

    /// The v2 directory to be born in (CLONE_INTO_CGROUP), which saves the move; `None` where there is no v2.
    pub fn birthplace(&self, path: &Path) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(v2) = self.v2() else { return Ok(None) };
        let dir = v2.at(path);
        let file = fs::File::open(&dir).map_err(|source| CgroupError::Join(dir, source))?;
        Ok(Some(file.into()))
    }

    pub fn monitors_birthplace(&self, root: &Path) -> Result<Option<OwnedFd>, CgroupError> {
        let path = root.join(MONITORS);
        self.all.iter().try_for_each(|hierarchy| make_below(hierarchy, &path))?;
        self.birthplace(&path)
    }

    /// The v2 directory that a BPF device program is attached to: there is one on pure v2 and hybrid hosts.
    pub fn bpf_target(&self, path: &Path) -> Option<PathBuf> {
        self.v2().map(|v2| v2.at(path))
    }

    pub fn devices_v1(&self, path: &Path) -> Option<PathBuf> {
        self.v1("devices").map(|h| h.at(path))
    }

    /// Processes that the kernel killed in this cgroup for want of memory. Read before the cgroup is removed.
    pub fn oom_kills(&self, path: &Path) -> u64 {
        let (file, key) = match (self.v1("memory"), self.v2()) {
            (Some(v1), _) => (v1.at(path).join("memory.oom_control"), "oom_kill "),
            (None, Some(v2)) => (v2.at(path).join("memory.events"), "oom_kill "),
            (None, None) => return 0,
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()).unwrap_or(0)
    }

    /// Every pod that has a cgroup below `root`, with its path relative to the mounts, once per pod.
    pub fn pods_present(&self, root: &Path) -> Vec<(PodUid, PathBuf)> {
        let mut found: Vec<(PodUid, PathBuf)> = Vec::new();
        for hierarchy in &self.all {
            for class in [KUBEPODS, "kubepods/burstable", "kubepods/besteffort"] {
                let parent = root.join(class);
                for entry in fs::read_dir(hierarchy.at(&parent)).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let uid = name.to_str().and_then(|n| n.strip_prefix("pod")).and_then(PodUid::new);
                    if let Some(uid) = uid.filter(|uid| found.iter().all(|(known, _)| known != uid)) {
                        found.push((uid, parent.join(&name)));
                    }
                }
            }
        }
        found
    }

    /// The cgroups directly below `path`, in any hierarchy.
    pub fn leaves(&self, path: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in &self.all {
            for entry in fs::read_dir(hierarchy.at(path)).into_iter().flatten().flatten() {
                let leaf = path.join(entry.file_name());
                if entry.file_type().is_ok_and(|t| t.is_dir()) && !found.contains(&leaf) {
                    found.push(leaf);
                }
            }
        }
        found
    }

    /// Whoever is in the monitors' cgroup, of this run or of an earlier one.
    pub fn monitors(&self, root: &Path) -> Vec<Pid> {
        self.pids(&root.join(MONITORS))
    }

    /// v2: every directory from the mount down to `path` gives its children the controllers. What fails is told, not
    /// an error: limits that need the controller fail by themselves.
    fn hand_down(&self, path: &Path) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(v2) = self.v2().filter(|_| self.is_pure_v2()) else { return warnings };
        let path = path.strip_prefix("/").unwrap_or(path);
        let mut dir = v2.mount.clone();
        for step in std::iter::once(Path::new("")).chain(path.iter().map(Path::new)) {
            dir.push(step);
            let words = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
            let (available, enabled) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
            for controller in CONTROLLERS {
                let has = |text: &str| text.split_ascii_whitespace().any(|w| w == controller);
                if !has(&available) || has(&enabled) {
                    continue;
                }
                if let Err(error) = write(&dir.join("cgroup.subtree_control"), &format!("+{controller}")) {
                    warnings.push(format!("{}: controller {controller} cannot be enabled: {error}", dir.display()));
                }
            }
        }
        warnings
    }
}

/// The v1 hierarchies' mounts, open, and a place in them that need not be there yet.
#[derive(Debug)]
pub struct OpenV1 {
    mounts: Vec<(OwnedFd, PathBuf)>,
    tasks: PathBuf,
}

impl OpenV1 {
    /// As [`Hierarchies::join_v1`].
    pub fn join(&self) -> Result<(), CgroupError> {
        self.mounts.iter().try_for_each(|(mount, dir)| {
            let written = openat::write_below(mount, &self.tasks, b"0");
            written.map_err(|source| CgroupError::Join(dir.clone(), source))
        })
    }
}

/// mkdir -p below the mount; on v1 an empty cpuset gets its parent's cpus and nodes, else nobody can enter.
/// Tried again where a parent goes away meanwhile: the last pod of a class takes the class's cgroup with it.
fn make_below(hierarchy: &Hierarchy, path: &Path) -> Result<(), CgroupError> {
    const TRIES: u32 = 3;
    let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
    let make = |dir: &Path| match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // One that is there may have been made a moment ago, by somebody who has not come to this yet, or died.
        Ok(()) | Err(_) if cpuset => fill_cpuset(dir),
        Ok(()) | Err(_) => Ok(()),
    };
    let whole = hierarchy.at(path);
    let mut outcome = make(&whole);
    for _ in 0..TRIES {
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
        let mut dir = hierarchy.mount.clone();
        outcome = path.strip_prefix("/").unwrap_or(path).iter().try_for_each(|step| {
            dir.push(step);
            make(&dir)
        });
    }
    outcome.map_err(|error| CgroupError::Make(whole, error))
}

/// Gives what is empty its parent's value, and the parent first its own. The hierarchy's root is never empty.
fn fill_cpuset(dir: &Path) -> io::Result<()> {
    let value = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).map(|text| text.trim().to_owned());
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (Some(parent), true) = (dir.parent(), value(dir, file)?.is_empty()) else { continue };
        if value(parent, file)?.is_empty() {
            fill_cpuset(parent)?;
        }
        write(&dir.join(file), &value(parent, file)?)?;
    }
    Ok(())
}

/// The calling thread, or its process, goes into `path`.
fn join(hierarchy: &Hierarchy, path: &Path, list: &str) -> Result<(), CgroupError> {
    let dir = hierarchy.at(path);
    write(&dir.join(list), "0").map_err(|source| CgroupError::Join(dir, source))
}

/// One write: cgroup files take each write as one command.
fn write(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cpuset_in_an_empty_one_gets_what_is_above_both() {
        let root = std::env::temp_dir().join(format!("pinlet-cpuset-{}", std::process::id()));
        let leaf = root.join("class/pod");
        fs::create_dir_all(&leaf).unwrap();
        for (dir, value) in [(root.clone(), "0-1\n"), (root.join("class"), "\n"), (leaf.clone(), "\n")] {
            fs::write(dir.join("cpuset.cpus"), value).unwrap();
            fs::write(dir.join("cpuset.mems"), value.replace("0-1", "0")).unwrap();
        }
        let outcome = fill_cpuset(&leaf);
        let read = |dir: &str, file: &str| fs::read_to_string(root.join(dir).join(file)).unwrap();
        let seen = ["class", "class/pod"].map(|dir| [read(dir, "cpuset.cpus"), read(dir, "cpuset.mems")]);
        fs::remove_dir_all(&root).unwrap();
        outcome.unwrap();
        // Kernel files take a whole value per write; a plain file keeps the tail.
        assert!(seen.iter().all(|[cpus, mems]| cpus.trim() == "0-1" && mems.trim() == "0"), "{seen:?}");
    }
}
