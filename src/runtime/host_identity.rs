//! Which machine this is and how large: what a Node object shows of it, read from where a kubelet reads it.
//!
//! What cannot be read is left empty: a board has no DMI, a container host no machine id, and pods run all the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// Those that are online, whatever part of them the agent may use itself; 0 if unknown.
    pub cpus: u32,
    /// Page size -> bytes of all pages of that size; sizes without a page too.
    pub hugepages: BTreeMap<u64, u64>,
    pub machine_id: String,
    pub system_uuid: String,
    pub kernel_version: String,
    pub os_image: String,
}

impl HostIdentity {
    pub fn read() -> HostIdentity {
        HostIdentity::below(Path::new("/"))
    }

    fn below(root: &Path) -> HostIdentity {
        let first = |paths: &[&str]| {
            // Of a device tree, texts end in a NUL.
            let found = paths.iter().map(|path| text(root, path).trim_end_matches('\0').trim().to_owned());
            found.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
        };
        let machine_id = first(&["etc/machine-id", "var/lib/dbus/machine-id"]);
        let firmware =
            first(&["sys/class/dmi/id/product_uuid", "proc/device-tree/system-id", "proc/device-tree/vm,uuid"]);
        HostIdentity {
            cpus: list_length(&text(root, "sys/devices/system/cpu/online")).unwrap_or(0),
            hugepages: hugepages(root),
            system_uuid: if firmware.is_empty() { machine_id.clone() } else { firmware },
            machine_id,
            kernel_version: first(&["proc/sys/kernel/osrelease"]),
            os_image: os_image(&first(&["etc/os-release", "usr/lib/os-release"])),
        }
    }
}

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    /// The kernel's estimate of what can be had without swapping.
    pub available: u64,
}

pub fn memory_available() -> Option<Memory> {
    memory(&text(Path::new("/"), "proc/meminfo"))
}

fn memory(meminfo: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
}

fn text(root: &Path, path: &str) -> String {
    fs::read(root.join(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// How many numbers a kernel's list names: `0-3,8`.
fn list_length(list: &str) -> Option<u32> {
    let mut length: u32 = 0;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        length = length.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(length)
}

/// `/sys/kernel/mm/hugepages/hugepages-<size>kB/nr_hugepages`.
fn hugepages(root: &Path) -> BTreeMap<u64, u64> {
    let entries = fs::read_dir(root.join("sys/kernel/mm/hugepages")).into_iter().flatten().flatten();
    let total = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let size: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages: u64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        let size = size.checked_mul(1024)?;
        Some((size, size.checked_mul(pages)?))
    };
    entries.filter_map(total).collect()
}

/// os-release(5): PRETTY_NAME, with the quotes of a shell; without one the kubelet says `Unknown`, and so do we.
fn os_image(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="));
    let value = value.map(|value| value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty());
    value.unwrap_or("Unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Root {
            let root = Root(std::env::temp_dir().join(format!("pinlet-identity-{name}-{}", std::process::id())));
            for (path, text) in files {
                let path = root.0.join(path);
                fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
                fs::write(path, text).expect("a file");
            }
            root
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_machine_says_who_it_is() {
        let root = Root::new(
            "whole",
            &[
                ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
                ("sys/class/dmi/id/product_uuid", "C0FFEE00-0000-4000-8000-000000000001\n"),
                ("sys/devices/system/cpu/online", "0-2,5\n"),
                ("proc/sys/kernel/osrelease", "6.1.0-39-amd64\n"),
                ("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
                ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3\n"),
                ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
            ],
        );
        let expected = HostIdentity {
            cpus: 4,
            hugepages: BTreeMap::from([(2 << 20, 6 << 20), (1 << 30, 0)]),
            machine_id: "3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned(),
            system_uuid: "C0FFEE00-0000-4000-8000-000000000001".to_owned(),
            kernel_version: "6.1.0-39-amd64".to_owned(),
            os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        };
        assert_eq!(HostIdentity::below(&root.0), expected);
    }

    #[test]
    fn a_board_without_firmware_ids_goes_by_its_machine_id_and_an_empty_root_by_nothing() {
        let board = Root::new(
            "board",
            &[
                ("var/lib/dbus/machine-id", "abc\n"),
                ("etc/machine-id", "\n"),
                ("usr/lib/os-release", "PRETTY_NAME=Alpine"),
            ],
        );
        let identity = HostIdentity::below(&board.0);
        assert_eq!((identity.machine_id.as_str(), identity.system_uuid.as_str()), ("abc", "abc"));
        assert_eq!(identity.os_image, "Alpine");
        let tree = Root::new("tree", &[("proc/device-tree/vm,uuid", "u-1\0"), ("etc/machine-id", "abc")]);
        assert_eq!(HostIdentity::below(&tree.0).system_uuid, "u-1");
        let nothing = HostIdentity::below(Path::new("/nonexistent"));
        assert_eq!((nothing.cpus, nothing.hugepages.len(), nothing.os_image.as_str()), (0, 0, "Unknown"));
    }

    #[test]
    fn lists_of_the_kernel_are_counted() {
        assert_eq!((list_length("0"), list_length("0-3,8,10-11\n")), (Some(1), Some(7)));
        assert_eq!((list_length(""), list_length("3-1"), list_length("0-4294967295")), (None, None, None));
    }

    #[test]
    fn this_host_can_be_read() {
        let identity = HostIdentity::read();
        assert!(identity.cpus > 0 && !identity.kernel_version.is_empty());
    }
}
