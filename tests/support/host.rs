//! What a node under test leaves in the kernel: finding it, and taking it away by force.
//!
//! The search is by the node's tag and directory only, so that nodes that run side by side never see each other.

use super::verb::tool_quiet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The mount points of all cgroup hierarchies of this machine.
pub fn hierarchies() -> Vec<PathBuf> {
    let lines = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let is_cgroup = |line: &&str| {
        let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next());
        matches!(kind, Some("cgroup" | "cgroup2"))
    };
    lines.lines().filter(is_cgroup).filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// The node's cgroups of all hierarchies, the deepest first.
pub fn cgroups(tag: &str) -> Vec<PathBuf> {
    fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                collect(&entry.path(), into);
            }
        }
        into.push(dir.to_owned());
    }
    let mut found = Vec::new();
    for root in hierarchies().iter().map(|h| h.join(tag)).filter(|r| r.is_dir()) {
        collect(&root, &mut found);
    }
    found
}

pub fn pids_of(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// All processes in the node's cgroups, pods and monitors.
pub fn processes(tag: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = cgroups(tag).iter().flat_map(|c| pids_of(c)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Mount points below `dir`, the latest first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let lines = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let mut found: Vec<PathBuf> =
        lines.lines().filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from).filter(|p| p.starts_with(dir)).collect();
    found.reverse();
    found
}

/// Those of them that a loop device is mounted on.
fn loop_mounts_below(dir: &Path) -> Vec<PathBuf> {
    let lines = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let on_loop = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.contains(" /dev/loop"));
    let points = lines.lines().filter(on_loop).filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|p| p.starts_with(dir)).collect()
}

pub fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").expect("sysfs");
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The links that hang on `bridge`.
pub fn ports_of(bridge: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/sys/class/net/{bridge}/brif")).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

pub fn nft_tables() -> Vec<String> {
    super::verb::tool(&["nft", "list", "tables"]).lines().map(str::to_owned).collect()
}

pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "never {pid}");
    let _ = kill(Pid::from_raw(pid), signal);
}

pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Field 22 of `/proc/<pid>/stat`: with the pid, it names one process.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()
}

pub fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Takes away whatever carries `tag` or lies below `dir`. Says what it could not remove.
pub fn purge(tag: &str, dir: &Path) -> Vec<String> {
    // First of all: a frozen file system would hang all that follows.
    for mount in loop_mounts_below(dir) {
        tool_quiet(&["fsfreeze", "--unfreeze", &mount.to_string_lossy()]);
    }
    kill_all(tag);
    for mount in mounts_below(dir) {
        let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
    }
    for link in ports_of(tag).into_iter().chain([tag.to_owned()]) {
        if links().contains(&link) {
            tool_quiet(&["ip", "link", "delete", &link]);
        }
    }
    let table = format!("pinlet-{tag}");
    for line in nft_tables().iter().filter(|l| l.split(' ').next_back() == Some(&table)) {
        if let Some(family) = line.split(' ').nth(1) {
            tool_quiet(&["nft", "delete", "table", family, &table]);
        }
    }
    remove_cgroups(tag);
    let _ = fs::remove_dir_all(dir);
    let mut left: Vec<String> = cgroups(tag).iter().map(|c| c.display().to_string()).collect();
    left.extend(mounts_below(dir).iter().map(|m| m.display().to_string()));
    if dir.exists() {
        left.push(dir.display().to_string());
    }
    left
}

fn kill_all(tag: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for cgroup in cgroups(tag) {
            // cgroup.kill on v2 and a hybrid's unified hierarchy; a frozen one on v1 must run to die.
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            let _ = fs::write(cgroup.join("freezer.state"), "THAWED");
        }
        let pids = processes(tag);
        if pids.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in pids {
            signal(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove_cgroups(tag: &str) {
    for _ in 0..100 {
        for cgroup in cgroups(tag) {
            let _ = fs::remove_dir(cgroup);
        }
        if cgroups(tag).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Once per test program: takes away what test programs that were killed have left.
pub fn sweep_the_dead() {
    for entry in fs::read_dir(super::node::BASE).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("pt").and_then(|rest| rest.split_once('-')).and_then(|(pid, _)| pid.parse().ok());
        if owner.is_some_and(|pid: i32| !Path::new(&format!("/proc/{pid}")).exists()) {
            purge(&name, &entry.path());
        }
    }
}
