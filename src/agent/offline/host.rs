//! `check --node`: what this host lacks for running pods, each with what to do about it.
//!
//! It looks and tries nothing that could be left behind.

use crate::net::node::node_ip;
use crate::runtime::cgroup::Hierarchies;
use crate::sys::netlink::nftables;
use std::fs;
use std::path::Path;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: &'static str,
    /// What is there, or what is wrong.
    pub text: String,
    pub state: State,
    pub hint: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Good,
    /// Pods run, but something will not work.
    Degraded,
    /// Pods cannot run.
    Missing,
}

impl Finding {
    fn good(what: &'static str, text: impl Into<String>) -> Finding {
        Finding { what, text: text.into(), state: State::Good, hint: None }
    }

    fn bad(what: &'static str, state: State, text: impl Into<String>, hint: &'static str) -> Finding {
        Finding { what, text: text.into(), state, hint: Some(hint) }
    }

    /// `what: ok (text)` or `what: text`.
    pub fn line(&self) -> String {
        match self.state {
            State::Good => format!("{}: ok ({})", self.what, self.text),
            State::Degraded | State::Missing => format!("{}: {}", self.what, self.text),
        }
    }
}

/// The oldest kernel whose mount_setattr and cgroup.kill are relied on (design 2).
const KERNEL_FLOOR: (u32, u32) = (5, 15);

pub fn look(cgroup_root: &Path) -> Vec<Finding> {
    vec![
        kernel(),
        user(),
        cgroups(),
        overlay(),
        device_rules(),
        nf_tables(),
        forwarding(),
        address(),
        kubelet(cgroup_root),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_FLOOR {
        return Finding::good("kernel", release);
    }
    let text = format!("{release} is older than {}.{}", KERNEL_FLOOR.0, KERNEL_FLOOR.1);
    Finding::bad("kernel", State::Missing, text, "pinlet relies on mount_setattr(2) and cgroup.kill")
}

fn user() -> Finding {
    let status = read("/proc/self/status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let root = field("Uid:").split_whitespace().nth(1) == Some("0");
    let capabilities = u64::from_str_radix(&field("CapEff:"), 16).unwrap_or(0);
    // CAP_NET_ADMIN 12 and CAP_SYS_ADMIN 21 (linux/capability.h).
    let enough = capabilities & (1 << 12) != 0 && capabilities & (1 << 21) != 0;
    match (root, enough) {
        (true, true) => Finding::good("privileges", "root"),
        (false, _) => Finding::bad("privileges", State::Missing, "not root", "run it as root"),
        (true, false) => Finding::bad(
            "privileges",
            State::Missing,
            "root without CAP_SYS_ADMIN or CAP_NET_ADMIN",
            "it runs in a container or under a unit that takes capabilities away",
        ),
    }
}

fn cgroups() -> Finding {
    const HINT: &str = "mount cgroup2 on /sys/fs/cgroup, or boot with the memory, cpu and pids controllers enabled";
    let hierarchies = match Hierarchies::detect() {
        Ok(hierarchies) => hierarchies,
        Err(error) => return Finding::bad("cgroups", State::Missing, crate::error::chain(&error), HINT),
    };
    let has = |name: &str| hierarchies.all().iter().any(|h| h.controllers.iter().any(|c| c == name));
    let lacking: Vec<&str> = ["cpu", "memory", "pids"].into_iter().filter(|name| !has(name)).collect();
    if !lacking.is_empty() {
        let text = format!("no {} controller", lacking.join(", "));
        return Finding::bad("cgroups", State::Degraded, text, HINT);
    }
    Finding::good("cgroups", if hierarchies.is_pure_v2() { "v2" } else { "v1 or hybrid" })
}

fn overlay() -> Finding {
    let filesystems = read("/proc/filesystems");
    let module = Path::new("/lib/modules").join(read("/proc/sys/kernel/osrelease")).join("kernel/fs/overlayfs");
    if filesystems.lines().any(|line| line.trim() == "nodev\toverlay" || line.ends_with("overlay")) {
        Finding::good("overlayfs", "available")
    } else if module.exists() {
        Finding::good("overlayfs", "a module that is loaded when needed")
    } else {
        Finding::bad("overlayfs", State::Missing, "not available", "the kernel needs CONFIG_OVERLAY_FS")
    }
}

fn device_rules() -> Finding {
    let v1 = Path::new("/sys/fs/cgroup/devices/devices.allow").exists()
        || read("/proc/self/cgroup").lines().any(|line| line.split(':').nth(1) == Some("devices"));
    let unprivileged = Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists();
    match (v1, unprivileged) {
        (true, _) => Finding::good("device rules", "devices cgroup"),
        (false, true) => Finding::good("device rules", "BPF"),
        (false, false) => Finding::bad(
            "device rules",
            State::Degraded,
            "no devices cgroup and no bpf(2): containers lose CAP_MKNOD and run on a root without devices instead",
            "the kernel needs CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL",
        ),
    }
}

fn nf_tables() -> Finding {
    match nftables::TableSocket::open().and_then(|mut socket| socket.exists("pinlet")) {
        Ok(_) => Finding::good("nf_tables", "available"),
        Err(error) => Finding::bad(
            "nf_tables",
            State::Degraded,
            crate::error::chain(&error),
            "pods on the pod network need it (CONFIG_NF_TABLES, CONFIG_NFT_MASQ); hostNetwork pods do not",
        ),
    }
}

fn forwarding() -> Finding {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    match fs::OpenOptions::new().write(true).open(path) {
        Ok(_) => Finding::good("ip_forward", read("/proc/sys/net/ipv4/ip_forward")),
        Err(_) if read("/proc/sys/net/ipv4/ip_forward") == "1" => Finding::good("ip_forward", "1, not writable"),
        Err(error) => Finding::bad(
            "ip_forward",
            State::Degraded,
            format!("0 and not writable: {error}"),
            "pods on the pod network wait until net.ipv4.ip_forward is 1",
        ),
    }
}

fn address() -> Finding {
    match node_ip() {
        Ok(ip) if ip.is_loopback() => Finding::bad(
            "node address",
            State::Degraded,
            "no default route: loopback is shown",
            "set --node-ip, or wait for the network",
        ),
        Ok(ip) => Finding::good("node address", ip.to_string()),
        Err(error) => Finding::bad("node address", State::Degraded, crate::error::chain(&error), "set --node-ip"),
    }
}

fn kubelet(cgroup_root: &Path) -> Finding {
    match super::super::preflight::refuse_beside_kubelet(cgroup_root) {
        Ok(()) => Finding::good("kubelet", "none runs"),
        Err(error) => Finding::bad(
            "kubelet",
            State::Missing,
            crate::error::chain(&error),
            "stop it first, or give it and pinlet different --cgroup-root values",
        ),
    }
}
