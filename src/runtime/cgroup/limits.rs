//! Limits as both cgroup versions spell them; the numbers are the kubelet's.

use super::{CgroupError, Hierarchies, Hierarchy, write};
use crate::runtime::launch::Limits;
use std::io;
use std::path::Path;

/// Also what a request of nothing gets.
pub(super) const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
const PERIOD_DEFAULT_US: u64 = 100_000;

/// Sets what `limits` names on the cgroup `path`; a hard limit whose controller is missing is an error, a share is not.
pub(super) fn apply(hierarchies: &Hierarchies, path: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let pure = hierarchies.v2().filter(|_| hierarchies.is_pure_v2());
    match pure {
        Some(v2) => apply_v2(v2, path, limits),
        None => apply_v1(hierarchies, path, limits),
    }
}

fn apply_v1(hierarchies: &Hierarchies, path: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let need = |controller, limit| {
        hierarchies.v1(controller).map(|h| h.at(path)).ok_or(CgroupError::NoController { limit, controller })
    };
    if let (Some(shares), Some(cpu)) = (limits.cpu_shares, hierarchies.v1("cpu")) {
        set(&cpu.at(path), "cpu.shares", shares.clamp(SHARES_MIN, SHARES_MAX))?;
    }
    if let Some(quota) = limits.cpu_quota_us {
        let dir = need("cpu", "cpu time")?;
        set(&dir, "cpu.cfs_period_us", limits.cpu_period_us.unwrap_or(PERIOD_DEFAULT_US))?;
        set(&dir, "cpu.cfs_quota_us", quota)?;
    }
    if let Some(bytes) = limits.memory_limit_bytes {
        let dir = need("memory", "memory")?;
        set_memory_v1(&dir, bytes)?;
    }
    if let Some(max) = limits.pids_max {
        set(&need("pids", "the number of processes")?, "pids.max", max)?;
    }
    Ok(())
}

/// The limit of memory and swap together may be missing (no swap accounting). Each of the two has to stay on its side
/// of the other, so a raised pair is set from the top.
fn set_memory_v1(dir: &Path, bytes: u64) -> Result<(), CgroupError> {
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let both_exists = dir.join(BOTH).exists();
    match set(dir, "memory.limit_in_bytes", bytes) {
        Err(CgroupError::Write { source, .. }) if both_exists && source.kind() == io::ErrorKind::InvalidInput => {
            set(dir, BOTH, bytes)?;
            set(dir, "memory.limit_in_bytes", bytes)
        }
        Ok(()) if both_exists => set(dir, BOTH, bytes),
        other => other,
    }
}

fn apply_v2(v2: &Hierarchy, path: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let dir = v2.at(path);
    let need = |file: &str, controller, limit| {
        if dir.join(file).exists() { Ok(()) } else { Err(CgroupError::NoController { limit, controller }) }
    };
    if let Some(shares) = limits.cpu_shares.filter(|_| dir.join("cpu.weight").exists()) {
        set(&dir, "cpu.weight", weight(shares))?;
    }
    if let Some(quota) = limits.cpu_quota_us {
        need("cpu.max", "cpu", "cpu time")?;
        set(&dir, "cpu.max", format!("{quota} {}", limits.cpu_period_us.unwrap_or(PERIOD_DEFAULT_US)))?;
    }
    if let Some(bytes) = limits.memory_limit_bytes {
        need("memory.max", "memory", "memory")?;
        set(&dir, "memory.max", bytes)?;
        if dir.join("memory.swap.max").exists() {
            set(&dir, "memory.swap.max", 0)?;
        }
    }
    if let Some(max) = limits.pids_max {
        need("pids.max", "pids", "the number of processes")?;
        set(&dir, "pids.max", max)?;
    }
    Ok(())
}

/// kubelet `pkg/kubelet/cm`: 2..=262144 shares onto 1..=10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(SHARES_MIN, SHARES_MAX) - SHARES_MIN) * 9999 / (SHARES_MAX - SHARES_MIN)
}

/// v2: the out-of-memory killer takes all processes of the container, as the kubelet has it by default.
pub(super) fn kill_as_one(hierarchies: &Hierarchies, path: &Path) {
    if let Some(v2) = hierarchies.v2() {
        // Missing without the memory controller (hybrid): then there is nobody to tell.
        let _ = write(&v2.at(path).join("memory.oom.group"), "1");
    }
}

fn set(dir: &Path, file: &str, value: impl ToString) -> Result<(), CgroupError> {
    let (path, value) = (dir.join(file), value.to_string());
    write(&path, &value).map_err(|source| CgroupError::Write { path, value, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_shares_is_the_kubelets() {
        assert_eq!([2, 100, 512, 1024, 262_144, 0].map(weight), [1, 4, 20, 39, 10_000, 1]);
    }
}
