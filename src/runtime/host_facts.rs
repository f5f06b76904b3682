//! What of this host goes into every container's spec, read once at start.
//!
//! Everything comes from procfs and sysfs, and nothing of it changes while the agent runs: a container that starts
//! late must look like one that started early.

use oci_spec::runtime::PosixRlimitType;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

/// linux/capability.h
const CAP_SYS_RESOURCE: u32 = 24;

#[derive(Debug, thiserror::Error)]
pub enum HostFactsError {
    #[error("cannot read {path}")]
    Read { path: &'static str, source: io::Error },
    #[error("cannot make sense of {path}")]
    Parse { path: &'static str },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub cpus: u32,
    pub memory_bytes: u64,
    /// The agent's own hard limits; `u64::MAX` is unlimited.
    pub hard_limits: Vec<(PosixRlimitType, u64)>,
    /// What the agent could hand on, as the bits of `/proc/self/status`.
    pub capabilities: CapabilityBits,
    /// Nothing but cgroup v2 at `/sys/fs/cgroup`; false on v1 and hybrid hosts.
    pub pure_cgroup_v2: bool,
    /// `/sys/devices/system/cpu/cpu*/thermal_throttle`, where a cpu has it.
    pub thermal_throttle: Vec<PathBuf>,
}

impl HostFacts {
    pub fn read() -> Result<HostFacts, HostFactsError> {
        let limits = "/proc/self/limits";
        let memory = "/proc/meminfo";
        let status = "/proc/self/status";
        Ok(HostFacts {
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            memory_bytes: memory_bytes(&text_of(memory)?).ok_or(HostFactsError::Parse { path: memory })?,
            hard_limits: hard_limits(&text_of(limits)?).ok_or(HostFactsError::Parse { path: limits })?,
            capabilities: CapabilityBits::of_status(&text_of(status)?).ok_or(HostFactsError::Parse { path: status })?,
            pure_cgroup_v2: pure_cgroup_v2(&text_of("/proc/self/mountinfo")?),
            thermal_throttle: thermal_throttle(),
        })
    }
}

/// What bounds this process where it sets limits, read now: the agent's may have fallen since a container started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceilings {
    hard: Vec<(PosixRlimitType, u64)>,
}

impl Ceilings {
    pub fn of_self() -> Result<Ceilings, HostFactsError> {
        let facts = HostFacts::read()?;
        // Who has it may go as high as any limit that was set before.
        let unbounded = facts.capabilities.contains(CAP_SYS_RESOURCE);
        Ok(Ceilings { hard: if unbounded { Vec::new() } else { facts.hard_limits } })
    }

    /// The nearest to soft and hard limit that can be set.
    pub fn bound(&self, kind: PosixRlimitType, soft: u64, hard: u64) -> (u64, u64) {
        let own = self.hard.iter().find(|(bounded, _)| *bounded == kind).map_or(u64::MAX, |(_, own)| *own);
        (soft.min(own), hard.min(own))
    }
}

/// The host's name as the kernel has it now: what `hostname` says, and the HOSTNAME of hostNetwork pods.
pub fn kernel_hostname() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

fn text_of(path: &'static str) -> Result<String, HostFactsError> {
    // A mount point need not be UTF-8.
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(HostFactsError::Read { path, source }),
    }
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// proc(5), `/proc/<pid>/limits`: name, soft, hard, unit.
fn hard_limits(text: &str) -> Option<Vec<(PosixRlimitType, u64)>> {
    const ROWS: [(&str, PosixRlimitType); 16] = [
        ("Max cpu time", PosixRlimitType::RlimitCpu),
        ("Max file size", PosixRlimitType::RlimitFsize),
        ("Max data size", PosixRlimitType::RlimitData),
        ("Max stack size", PosixRlimitType::RlimitStack),
        ("Max core file size", PosixRlimitType::RlimitCore),
        ("Max resident set", PosixRlimitType::RlimitRss),
        ("Max processes", PosixRlimitType::RlimitNproc),
        ("Max open files", PosixRlimitType::RlimitNofile),
        ("Max locked memory", PosixRlimitType::RlimitMemlock),
        ("Max address space", PosixRlimitType::RlimitAs),
        ("Max file locks", PosixRlimitType::RlimitLocks),
        ("Max pending signals", PosixRlimitType::RlimitSigpending),
        ("Max msgqueue size", PosixRlimitType::RlimitMsgqueue),
        ("Max nice priority", PosixRlimitType::RlimitNice),
        ("Max realtime priority", PosixRlimitType::RlimitRtprio),
        ("Max realtime timeout", PosixRlimitType::RlimitRttime),
    ];
    let hard = |name: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        match rest.split_whitespace().nth(1)? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    };
    ROWS.into_iter().map(|(name, kind)| Some((kind, hard(name)?))).collect()
}

/// A set of capabilities as the kernel writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityBits(u64);

impl CapabilityBits {
    pub fn new(bits: u64) -> CapabilityBits {
        CapabilityBits(bits)
    }

    /// Permitted and not taken out of the bounding set: what a container can be given.
    fn of_status(status: &str) -> Option<CapabilityBits> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(CapabilityBits(field("CapPrm:")? & field("CapBnd:")?))
    }

    /// `bit` as in linux/capability.h.
    pub fn contains(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }

    /// For a host where nothing else keeps containers from the disks.
    pub fn without(self, bit: u32) -> CapabilityBits {
        CapabilityBits(self.0 & !(1 << bit))
    }
}

fn pure_cgroup_v2(mountinfo: &str) -> bool {
    mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/sys/fs/cgroup"))
        .is_some_and(|line| line.split_once(" - ").is_some_and(|(_, right)| right.split(' ').next() == Some("cgroup2")))
}

fn thermal_throttle() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let mut found = BTreeMap::new();
    for entry in entries.flatten() {
        let number = entry.file_name().to_str().and_then(|name| u32::from_str(name.strip_prefix("cpu")?).ok());
        let path = entry.path().join("thermal_throttle");
        if let Some(number) = number.filter(|_| path.exists()) {
            found.insert(number, path);
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_read() {
        let facts = HostFacts::read().expect("procfs is there");
        assert!(facts.cpus > 0 && facts.memory_bytes > 1 << 20);
        assert_eq!(facts.hard_limits.len(), 16);
        assert!(!kernel_hostname().expect("a name").contains('\n'));
    }

    #[test]
    fn limits_above_ones_own_come_down_to_them_and_others_stay() {
        let ceilings = Ceilings { hard: vec![(PosixRlimitType::RlimitNofile, 5000)] };
        let bound = |soft, hard| ceilings.bound(PosixRlimitType::RlimitNofile, soft, hard);
        assert_eq!((bound(1024, 1 << 20), bound(1 << 20, u64::MAX)), ((1024, 5000), (5000, 5000)));
        assert_eq!((bound(0, 0), bound(10, 5000)), ((0, 0), (10, 5000)));
        assert_eq!(ceilings.bound(PosixRlimitType::RlimitCore, 0, u64::MAX), (0, u64::MAX));
    }

    #[test]
    fn hard_limits_are_the_second_number() {
        let mut text = "Limit                     Soft Limit           Hard Limit           Units     \n".to_owned();
        for name in ["Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size"] {
            text += &format!("{name:<26}8388608              unlimited            bytes     \n");
        }
        assert_eq!(hard_limits(&text), None, "a table with missing rows");
        for name in ["Max resident set", "Max processes", "Max open files", "Max locked memory", "Max address space"] {
            text += &format!("{name:<26}1024                 4096                 bytes     \n");
        }
        for name in ["Max file locks", "Max pending signals", "Max msgqueue size"] {
            text += &format!("{name:<26}1                    2                    bytes     \n");
        }
        for name in ["Max nice priority", "Max realtime priority", "Max realtime timeout"] {
            text += &format!("{name:<26}0                    0                    \n");
        }
        let limits = hard_limits(&text).expect("all rows");
        assert!(limits.contains(&(PosixRlimitType::RlimitStack, u64::MAX)));
        assert!(limits.contains(&(PosixRlimitType::RlimitNofile, 4096)));
    }

    #[test]
    fn a_capability_counts_only_if_permitted_and_bounded() {
        let bits = CapabilityBits::of_status("CapPrm:\t0000000000000003\nCapBnd:\t0000000000000005\n").expect("both");
        assert!(bits.contains(0) && !bits.contains(1) && !bits.contains(2));
        assert!(!bits.without(0).contains(0));
    }

    #[test]
    fn only_a_cgroup2_mount_at_the_top_counts_as_pure() {
        let line = |fs: &str| format!("30 24 0:26 / /sys/fs/cgroup rw,nosuid - {fs} cgroup rw\n");
        assert!(pure_cgroup_v2(&line("cgroup2")));
        assert!(!pure_cgroup_v2(&line("tmpfs")));
        assert!(!pure_cgroup_v2("31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"));
    }
}
