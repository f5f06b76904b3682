//! `process`: command, environment, working directory, rlimits and capabilities.

use super::{SpecError, SpecInput};
use crate::runtime::host_facts::{CapabilityBits, HostFacts};
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, UserBuilder,
};
use std::path::PathBuf;

/// What containerd gives a container, with the bits of linux/capability.h.
const DEFAULT_CAPABILITIES: [(Capability, u32); 14] = [
    (Capability::Chown, 0),
    (Capability::DacOverride, 1),
    (Capability::Fsetid, 4),
    (Capability::Fowner, 3),
    (Capability::Mknod, CAP_MKNOD),
    (Capability::NetRaw, 13),
    (Capability::Setgid, 6),
    (Capability::Setuid, 7),
    (Capability::Setfcap, 31),
    (Capability::Setpcap, 8),
    (Capability::NetBindService, 10),
    (Capability::SysChroot, 18),
    (Capability::Kill, 5),
    (Capability::AuditWrite, 29),
];
pub const CAP_MKNOD: u32 = 27;

/// containerd's unit runs it with this many open files, and containers inherit it; more makes programs slow that
/// close every possible descriptor.
const NOFILE: u64 = 1_048_576;
/// The usual soft limit of a thread's stack, in bytes: unlimited would change how programs are laid out in memory.
const STACK_SOFT: u64 = 8 * 1024 * 1024;

pub fn process(input: &SpecInput, args: Vec<String>, environment: Vec<String>) -> Result<Process, SpecError> {
    let cwd = working_dir(input);
    refuse_nul("the command", &args)?;
    refuse_nul("the environment", &environment)?;
    refuse_nul("workingDir", std::slice::from_ref(&cwd))?;
    // Root's groups are its own, as containerd has it since CVE-2022-36109.
    let user = UserBuilder::default().uid(0u32).gid(0u32).additional_gids(vec![0u32]).build()?;
    let mut process = ProcessBuilder::default()
        .user(user)
        .args(args)
        .env(environment)
        .cwd(PathBuf::from(cwd))
        .capabilities(capabilities(input.host.capabilities)?)
        .rlimits(rlimits(input.host)?)
        .build()?;
    // A `false` written out makes libcontainer act differently from a field left out.
    process.set_no_new_privileges(None).set_terminal(None);
    Ok(process)
}

/// The container's own, else the image's, else the root.
fn working_dir(input: &SpecInput) -> String {
    let given = input.container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = given.unwrap_or(&input.image.working_dir);
    if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") }
}

fn refuse_nul(what: &'static str, words: &[String]) -> Result<(), SpecError> {
    if words.iter().any(|word| word.contains('\0')) { Err(SpecError::Nul { what }) } else { Ok(()) }
}

/// No inheritable and no ambient ones. What the agent lacks would make the start fail, and is left out.
fn capabilities(own: CapabilityBits) -> Result<LinuxCapabilities, SpecError> {
    let granted: Capabilities =
        DEFAULT_CAPABILITIES.into_iter().filter(|(_, bit)| own.contains(*bit)).map(|(cap, _)| cap).collect();
    let mut capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(granted.clone())
        .effective(granted.clone())
        .permitted(granted)
        .build()?;
    capabilities.set_inheritable(None).set_ambient(None);
    Ok(capabilities)
}

/// Every limit is written out, so that a soft limit which the agent happens to run under never reaches a container.
fn rlimits(host: &HostFacts) -> Result<Vec<PosixRlimit>, SpecError> {
    let one = |(kind, own_hard): (PosixRlimitType, u64)| {
        let (soft, hard) = match kind {
            PosixRlimitType::RlimitNofile => (NOFILE.min(own_hard), NOFILE.min(own_hard)),
            PosixRlimitType::RlimitCore => (0, own_hard),
            PosixRlimitType::RlimitStack => (STACK_SOFT.min(own_hard), own_hard),
            _ => (own_hard, own_hard),
        };
        PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build()
    };
    Ok(host.hard_limits.iter().copied().map(one).collect::<Result<_, _>>()?)
}
