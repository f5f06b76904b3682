//! Which devices a container may open: what runc allows, and nothing else.
//!
//! v1: the devices hierarchy; v2 and hybrid without it: a BPF program on the cgroup. INVARIANT: in force before the
//! container's program runs.

use super::cgroup::Hierarchies;
use crate::sys::bpf::{self, DeviceKind, DeviceRule, MKNOD, READ, WRITE};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

const ALL: u32 = MKNOD | READ | WRITE;

/// runc's list: any node may be made, these may be opened.
const RULES: [DeviceRule; 10] = [
    DeviceRule { kind: DeviceKind::Char, major: None, minor: None, access: MKNOD },
    DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: MKNOD },
    char_device(1, Some(3)),
    char_device(1, Some(5)),
    char_device(1, Some(7)),
    char_device(1, Some(8)),
    char_device(1, Some(9)),
    char_device(5, Some(0)),
    char_device(5, Some(2)),
    char_device(136, None),
];

const fn char_device(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule { kind: DeviceKind::Char, major: Some(major), minor, access: ALL }
}

/// Puts the list in force for the cgroup `leaf`. An error means that nothing keeps the container from the host's
/// devices: the caller has to take CAP_MKNOD away and mount its root nodev.
pub fn restrict(hierarchies: &Hierarchies, leaf: &Path) -> io::Result<()> {
    if let Some(dir) = hierarchies.devices_v1(leaf) {
        return restrict_v1(&dir);
    }
    match hierarchies.bpf_target(leaf) {
        Some(dir) => bpf::allow_devices(File::open(dir)?, &RULES),
        None => Err(io::Error::other("no devices hierarchy and no cgroup v2")),
    }
}

fn restrict_v1(dir: &Path) -> io::Result<()> {
    let open = |file: &str| OpenOptions::new().write(true).open(dir.join(file));
    open("devices.deny")?.write_all(b"a")?;
    let mut allow = open("devices.allow")?;
    for rule in RULES {
        // One write per rule, as the file wants it.
        match allow.write_all(v1_line(rule).as_bytes()) {
            // The parent does not have it either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

fn v1_line(rule: DeviceRule) -> String {
    let kind = match rule.kind {
        DeviceKind::Block => 'b',
        DeviceKind::Char => 'c',
    };
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|a| a.1)
        .collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_v1_wants_them() {
        let lines: Vec<String> = RULES.map(v1_line).to_vec();
        assert_eq!(lines[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(lines[9], "c 136:* rwm");
    }
}
