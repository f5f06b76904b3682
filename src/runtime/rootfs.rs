//! What the creator does to its mount namespace before libcontainer sees it: volumes in, the host's clutter out, the
//! root mounted, the working directory made.

use super::cgroup::Hierarchies;
use super::launch::LaunchVolume;
use crate::sys::mount;
use crate::sys::mount_tree::{Needed, attach, clone_tree, detach_others, enter_slave_namespace};
use crate::sys::rooted::Rooted;
use libcontainer::oci_spec::runtime::{Mount, Spec};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const CGROUP_FS: &str = "/sys/fs/cgroup";
/// Where the host's mounts are collected, in the creator's namespace, to be taken away at once.
const SCRATCH: &str = "scratch";
/// Mounts on top of each other at one place; more are left.
const STACKED_MAX: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("volume {0} cannot be used")]
    Volume(PathBuf, #[source] io::Error),
    #[error("volume {0} cannot be put in place")]
    Attach(PathBuf, #[source] io::Error),
    #[error("no mount namespace")]
    Namespace(#[source] io::Error),
    #[error("the cgroup file systems cannot be hidden")]
    Hide(#[source] io::Error),
    #[error("working directory {0} cannot be made")]
    WorkingDir(PathBuf, #[source] io::Error),
}

/// Enters a namespace of the caller's own with the volumes at their staging places. Cloned before the namespace turns
/// slave and attached after: so they, and nothing else, keep the host's propagation in both directions.
pub fn enter_namespace(volumes: &[LaunchVolume]) -> Result<(), RootfsError> {
    let clone = |v: &LaunchVolume| clone_tree(&v.source).map_err(|e| RootfsError::Volume(v.source.clone(), e));
    let trees: Vec<OwnedFd> = volumes.iter().map(clone).collect::<Result<_, _>>()?;
    enter_slave_namespace().map_err(RootfsError::Namespace)?;
    for (volume, tree) in volumes.iter().zip(trees) {
        let placed = make_staging(volume).and_then(|()| attach(tree, &volume.staging));
        placed.map_err(|e| RootfsError::Attach(volume.source.clone(), e))?;
    }
    Ok(())
}

/// A mount point of the source's kind.
fn make_staging(volume: &LaunchVolume) -> io::Result<()> {
    if let Some(parent) = volume.staging.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::metadata(&volume.source)?.is_dir() {
        match fs::create_dir(&volume.staging) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    } else {
        File::create(&volume.staging).map(drop)
    }
}

/// Without cgroup file systems libcontainer leaves cgroups alone, which are ours; without the host's other mounts it
/// is not slowed by reading about them a dozen times. `dir` is the container's, on the run dir.
pub fn hide_host(hierarchies: &Hierarchies, dir: &Path, needed: &[PathBuf]) -> Result<(), RootfsError> {
    let at = Path::new(CGROUP_FS);
    for _ in 0..STACKED_MAX {
        if mount::unmount_detach(at).is_err() {
            break;
        }
    }
    for hierarchy in hierarchies.all().iter().filter(|h| !h.mount.starts_with(at)) {
        mount::unmount_detach(&hierarchy.mount).map_err(RootfsError::Hide)?;
    }
    // An empty tmpfs is what libcontainer takes for a host with v1 and without controllers.
    mount::tmpfs(at, "size=4k,mode=755", true).map_err(RootfsError::Hide)?;
    let scratch = dir.join(SCRATCH);
    fs::create_dir_all(&scratch).map_err(RootfsError::Hide)?;
    let needed = real_paths(needed.iter().map(PathBuf::as_path).chain([dir]));
    let trees: Vec<&Path> = needed.iter().map(PathBuf::as_path).collect();
    let ways = [at, Path::new("/proc"), Path::new("/dev")];
    detach_others(&Needed { ways: &ways, trees: &trees }, &scratch).map_err(RootfsError::Hide)
}

/// As mountinfo has them, without symlinks on the way. A hundred layers lie in one directory: it is looked up once, and
/// stands for all of them.
fn real_paths<'p>(paths: impl Iterator<Item = &'p Path>) -> Vec<PathBuf> {
    let mut parents: Vec<&Path> = Vec::new();
    for path in paths {
        let parent = path.parent().filter(|p| *p != Path::new("/")).unwrap_or(path);
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    }
    parents.iter().map(|parent| fs::canonicalize(parent).unwrap_or_else(|_| (*parent).to_owned())).collect()
}

/// The host paths that libcontainer will look up for this spec.
pub fn host_paths(spec: &Spec) -> Vec<PathBuf> {
    let binds = spec.mounts().iter().flatten().filter(|m| is_bind(m)).filter_map(|m| m.source().clone());
    let linux = spec.linux().as_ref();
    let joined = linux.and_then(|l| l.namespaces().as_ref()).into_iter().flatten().filter_map(|n| n.path().clone());
    binds.chain(joined).collect()
}

fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") || has_option(mount, "bind") || has_option(mount, "rbind")
}

fn has_option(mount: &Mount, option: &str) -> bool {
    mount.options().iter().flatten().any(|o| o == option)
}

/// Makes the spec's working directory if it is missing: in the root, or in the volume that will cover it.
pub fn make_working_dir(spec: &Spec, rootfs: &Path) -> Result<(), RootfsError> {
    let Some(process) = spec.process().as_ref() else { return Ok(()) };
    let cwd = process.cwd();
    let covering = |m: &&Mount| cwd.starts_with(m.destination()) && m.destination() != Path::new("/");
    // The last of those that lie deepest is on top.
    let mounts = spec.mounts().iter().flatten().filter(covering);
    let (root, inside) = match mounts.max_by_key(|m| m.destination().components().count()) {
        None => (rootfs, cwd.as_path()),
        Some(mount) if is_bind(mount) && !has_option(mount, "ro") => {
            let Some(source) = mount.source() else { return Ok(()) };
            (source.as_path(), cwd.strip_prefix(mount.destination()).unwrap_or(cwd))
        }
        // Nothing can be made there: where it is missing, libcontainer says so.
        Some(_) => return Ok(()),
    };
    if inside.as_os_str().is_empty() {
        return Ok(());
    }
    let made = Rooted::open(root).and_then(|rooted| rooted.make_dirs(inside));
    made.map_err(|e| RootfsError::WorkingDir(cwd.clone(), e))
}
