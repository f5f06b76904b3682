//! Which hierarchies there are, and where they are mounted.

use super::{CgroupError, Hierarchies, Hierarchy, Version};
use crate::sys::mount::{MountEntry, mounts};

impl Hierarchies {
    pub fn detect() -> Result<Hierarchies, CgroupError> {
        let own =
            std::fs::read_to_string("/proc/self/cgroup").map_err(|e| CgroupError::Proc("/proc/self/cgroup", e))?;
        let mounts = mounts().map_err(|e| CgroupError::Proc("/proc/self/mountinfo", e))?;
        let all = find(&own, &mounts);
        if all.is_empty() { Err(CgroupError::NoHierarchy) } else { Ok(Hierarchies { all }) }
    }
}

/// Lines of /proc/self/cgroup are `<number>:<controllers>:<path>`; `0::` is v2. A hierarchy that is not mounted is left
/// out: nobody can act through it. Of several mounts of one hierarchy the one that shows its root wins.
fn find(own: &str, mounts: &[MountEntry]) -> Vec<Hierarchy> {
    let mut all = Vec::new();
    for line in own.lines() {
        let Some((controllers, _)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else { continue };
        let controllers: Vec<String> = controllers.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let version = if controllers.is_empty() { Version::V2 } else { Version::V1 };
        let fits = |m: &&MountEntry| match version {
            Version::V2 => m.filesystem == "cgroup2",
            Version::V1 => {
                m.filesystem == "cgroup" && controllers.iter().all(|c| m.super_options.split(',').any(|o| o == c))
            }
        };
        let mut fitting: Vec<&MountEntry> = mounts.iter().filter(fits).collect();
        fitting.sort_by_key(|m| m.root.as_os_str().len());
        if let Some(mount) = fitting.first() {
            all.push(Hierarchy { mount: mount.target.clone(), version, controllers });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn mount(root: &str, target: &str, filesystem: &str, super_options: &str) -> MountEntry {
        MountEntry {
            root: root.into(),
            target: target.into(),
            filesystem: filesystem.to_owned(),
            shared: false,
            super_options: super_options.to_owned(),
        }
    }

    #[test]
    fn a_hybrid_host_has_its_v1_controllers_the_named_hierarchy_and_v2() {
        let own = "4:cpu,cpuacct:/a\n3:memory:/\n1:name=systemd:/init.scope\n0::/init.scope\n";
        let mounts = [
            mount("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            mount("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
            mount("/", "/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate"),
            mount("/", "/sys/fs/cgroup", "tmpfs", "ro,mode=755"),
        ];
        let all = find(own, &mounts);
        let targets: Vec<&str> = all.iter().filter_map(|h| h.mount.to_str()).collect();
        assert_eq!(targets, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]);
        assert!(!Hierarchies { all: all.clone() }.is_pure_v2());
    }

    #[test]
    fn one_v2_mount_is_pure_v2_and_the_mount_of_the_root_wins_over_a_part() {
        let mounts = [mount("/sub", "/mnt/part", "cgroup2", "rw"), mount("/", "/sys/fs/cgroup", "cgroup2", "rw")];
        let all = find("0::/user.slice\n", &mounts);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].mount, Path::new("/sys/fs/cgroup"));
        assert!(Hierarchies { all }.is_pure_v2());
    }

    #[test]
    fn a_v2_line_without_a_mount_is_no_hierarchy() {
        assert_eq!(find("0::/\n", &[]), Vec::new());
    }
}
