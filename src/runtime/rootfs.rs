//! What the creator does to its mount namespace before libcontainer sees it: volumes in, the rest of the host out, the
//! root mounted, the working directory made.

use super::launch::LaunchVolume;
use crate::sys::mount_tree::{attach, change_root, clone_tree, enter_slave_namespace};
use crate::sys::rooted::Rooted;
use libcontainer::oci_spec::runtime::{Mount, Spec};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const CGROUP_FS: &str = "/sys/fs/cgroup";
/// Where the new root is put together.
const SCRATCH: &str = "scratch";

#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("volume {0} cannot be used")]
    Volume(PathBuf, #[source] io::Error),
    #[error("volume {0} cannot be put in place")]
    Attach(PathBuf, #[source] io::Error),
    #[error("no mount namespace")]
    Namespace(#[source] io::Error),
    #[error("the container's part of the host cannot be made a root of its own")]
    Root(#[source] io::Error),
    #[error("working directory {0} cannot be made")]
    WorkingDir(PathBuf, #[source] io::Error),
}

/// Enters a mount namespace of the caller's own that holds the volumes at their staging places, the directories of
/// `needed` and of the container itself (`dir`, on the run dir), and no more of the host than its /proc.
///
/// libcontainer reads about every mount there is a dozen times: a node's hundredth container starts as fast as its
/// first. Without cgroup file systems it leaves cgroups alone, which are ours: an empty tmpfs at their place is what it
/// takes for a host with v1 and without controllers.
///
/// The volumes are cloned before the namespace turns slave and attached after: so they, and nothing else, keep the
/// host's propagation in both directions.
pub fn enter_namespace(dir: &Path, volumes: &[LaunchVolume], needed: &[PathBuf]) -> Result<(), RootfsError> {
    let trees = volumes.iter().map(clone_volume).collect::<Result<Vec<Tree>, _>>()?;
    enter_slave_namespace().map_err(RootfsError::Namespace)?;
    let scratch = dir.join(SCRATCH);
    fs::create_dir_all(&scratch).map_err(RootfsError::Root)?;
    let mut kept = directories(needed, dir);
    kept.push(Path::new("/proc"));
    change_root(&scratch, &kept).map_err(RootfsError::Root)?;
    fs::create_dir_all(CGROUP_FS).map_err(RootfsError::Root)?;
    for (volume, tree) in volumes.iter().zip(trees) {
        let placed = make_staging(volume, tree.is_dir).and_then(|()| attach(tree.fd, &volume.staging));
        placed.map_err(|e| RootfsError::Attach(volume.source.clone(), e))?;
    }
    Ok(())
}

/// A volume's source and what is mounted below it.
struct Tree {
    fd: OwnedFd,
    is_dir: bool,
}

fn clone_volume(volume: &LaunchVolume) -> Result<Tree, RootfsError> {
    let cloned = clone_tree(&volume.source).and_then(|fd| {
        let file = File::from(fd);
        let is_dir = file.metadata()?.is_dir();
        Ok(Tree { fd: file.into(), is_dir })
    });
    cloned.map_err(|e| RootfsError::Volume(volume.source.clone(), e))
}

/// A mount point of the source's kind.
fn make_staging(volume: &LaunchVolume, is_dir: bool) -> io::Result<()> {
    if let Some(parent) = volume.staging.parent() {
        fs::create_dir_all(parent)?;
    }
    if is_dir {
        match fs::create_dir(&volume.staging) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    } else {
        File::create(&volume.staging).map(drop)
    }
}

/// `own` and the directories that `needed` lie in, none below another. (A hundred layers lie in one.)
fn directories<'p>(needed: &'p [PathBuf], own: &'p Path) -> Vec<&'p Path> {
    let parent = |path: &'p PathBuf| path.parent().filter(|dir| *dir != Path::new("/")).unwrap_or(path);
    let mut all: Vec<&Path> = needed.iter().map(parent).chain([own]).collect();
    all.sort_unstable();
    // Sorted, what lies below a directory comes right behind it.
    all.dedup_by(|later, kept| later.starts_with(*kept));
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_kept_directory_is_not_kept_again() {
        let needed = ["/r/pods/u/hosts", "/r/images/l/1", "/r/images/l/2", "/r/pods/u/c/0/upper", "/run/p/u/shm", "/x"];
        let needed = needed.map(PathBuf::from);
        let kept = directories(&needed, Path::new("/run/c/0"));
        assert_eq!(kept, ["/r/images/l", "/r/pods/u", "/run/c/0", "/run/p/u", "/x"].map(Path::new));
    }
}
