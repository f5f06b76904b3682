//! A pod's volumes: hostPath checks, emptyDirs on disk, and how large a Memory one may be.
//!
//! The kubelet's rules and words (`pkg/volume/hostpath`, `pkg/volume/emptydir`). It touches file systems that may
//! hang: workers only.

use super::pod_paths::PodPaths;
use crate::model::pod::{Container, HostPathType, StaticPod, Volume, VolumeSource};
use crate::sys::mount;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Of directories and files that a hostPath makes.
const HOST_DIR_MODE: u32 = 0o755;
const HOST_FILE_MODE: u32 = 0o644;
/// Every user of every container of the pod may write.
const EMPTY_DIR_MODE: u32 = 0o777;
/// Of the directories above them.
const PARENT_MODE: u32 = 0o755;

/// `MountVolume.SetUp` is what a kubelet's event calls it.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?}")]
pub struct VolumeError {
    pub volume: String,
    pub source: VolumeCause,
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeCause {
    #[error("hostPath type check failed: {path} is not {wanted}")]
    WrongType { path: PathBuf, wanted: &'static str },
    #[error("cannot look at {path}")]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot make {path}")]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot mount a tmpfs at {path}")]
    Tmpfs { path: PathBuf, source: io::Error },
}

/// Makes what the pod's volumes need on disk, and checks what must be there. Again at every start of a container: it
/// changes nothing that is right. Memory emptyDirs belong to the sandbox ([`mount_memory_dirs`]).
pub fn prepare(pod: &StaticPod, paths: &PodPaths) -> Result<(), VolumeError> {
    for volume in &pod.volumes {
        prepare_one(volume, paths).map_err(|source| VolumeError { volume: volume.name.clone(), source })?;
    }
    Ok(())
}

fn prepare_one(volume: &Volume, paths: &PodPaths) -> Result<(), VolumeCause> {
    match &volume.source {
        VolumeSource::HostPath { path, kind } => host_path(path, *kind),
        VolumeSource::EmptyDir { .. } => empty_dir(&paths.empty_dir(&volume.name)),
        VolumeSource::MemoryDir { .. } => Ok(()),
    }
}

/// Symlinks are followed, as the mount will follow them.
fn host_path(path: &Path, kind: HostPathType) -> Result<(), VolumeCause> {
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // The kubelet checks nothing at all here; what cannot be looked at will fail to mount, and say so.
        Err(_) if kind == HostPathType::Unchecked => return Ok(()),
        Err(source) => return Err(VolumeCause::Look { path: path.to_owned(), source }),
    };
    let Some(found) = found else {
        return match kind {
            // containerd makes the directory where the kubelet leaves it to the runtime.
            HostPathType::Unchecked | HostPathType::DirectoryOrCreate => make_dir(path, HOST_DIR_MODE),
            HostPathType::FileOrCreate => make_file(path),
            _ => Err(wrong_type(path, kind)),
        };
    };
    let right = match kind {
        HostPathType::Unchecked => true,
        HostPathType::DirectoryOrCreate | HostPathType::Directory => found.is_dir(),
        HostPathType::FileOrCreate | HostPathType::File => found.is_file(),
        HostPathType::Socket => found.is_socket(),
        HostPathType::CharDevice => found.is_char_device(),
        HostPathType::BlockDevice => found.is_block_device(),
    };
    if right { Ok(()) } else { Err(wrong_type(path, kind)) }
}

fn wrong_type(path: &Path, kind: HostPathType) -> VolumeCause {
    let wanted = match kind {
        HostPathType::Unchecked | HostPathType::DirectoryOrCreate | HostPathType::Directory => "a directory",
        HostPathType::FileOrCreate | HostPathType::File => "a file",
        HostPathType::Socket => "a socket file",
        HostPathType::CharDevice => "a character device",
        HostPathType::BlockDevice => "a block device",
    };
    VolumeCause::WrongType { path: path.to_owned(), wanted }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), VolumeCause> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| VolumeCause::Make { path: path.to_owned(), source })
}

/// Its directory must be there, as for the kubelet.
fn make_file(path: &Path) -> Result<(), VolumeCause> {
    match OpenOptions::new().write(true).create(true).truncate(false).mode(HOST_FILE_MODE).open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(VolumeCause::Make { path: path.to_owned(), source }),
    }
}

fn empty_dir(path: &Path) -> Result<(), VolumeCause> {
    if let Some(parent) = path.parent() {
        make_dir(parent, PARENT_MODE)?;
    }
    match fs::create_dir(path) {
        // Whatever the umask. Only when it is new: a container may have changed it since.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(EMPTY_DIR_MODE))
            .map_err(|source| VolumeCause::Make { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(VolumeCause::Make { path: path.to_owned(), source }),
    }
}

/// Mounts the Memory emptyDirs below the sandbox's directory; part of making a sandbox.
pub(super) fn mount_memory_dirs(pod: &StaticPod, paths: &PodPaths, node_bytes: u64) -> Result<(), VolumeError> {
    for volume in &pod.volumes {
        let VolumeSource::MemoryDir { size_limit_bytes } = volume.source else { continue };
        let path = paths.memory_dir(&volume.name);
        let size = memory_dir_bytes(pod, size_limit_bytes, node_bytes);
        mount_memory_dir(&path, size).map_err(|source| VolumeError { volume: volume.name.clone(), source })?;
    }
    Ok(())
}

fn mount_memory_dir(path: &Path, size: u64) -> Result<(), VolumeCause> {
    make_dir(path, PARENT_MODE)?;
    let options = format!("size={size},mode={EMPTY_DIR_MODE:o}");
    // Linux 6.4 and later can keep its pages out of swap; before, the option is refused.
    let mounted =
        mount::tmpfs(path, &format!("{options},noswap"), false).or_else(|_| mount::tmpfs(path, &options, false));
    mounted.map_err(|source| VolumeCause::Tmpfs { path: path.to_owned(), source })
}

/// The least of the node's memory, the pod's limit (where every container has one) and the volume's own.
fn memory_dir_bytes(pod: &StaticPod, own_limit: Option<u64>, node_bytes: u64) -> u64 {
    let limit = |container: &Container| container.resources.memory_limit_bytes.filter(|bytes| *bytes > 0);
    let of_pod = pod.containers.iter().try_fold(0u64, |sum, container| Some(sum.saturating_add(limit(container)?)));
    [of_pod, own_limit.filter(|bytes| *bytes > 0)].into_iter().flatten().fold(node_bytes, u64::min)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, TempDir};
    use super::*;
    use crate::error::chain;
    use std::os::unix::net::UnixListener;

    fn pod_with(path: &Path, kind: HostPathType) -> StaticPod {
        let mut pod = testing::pod();
        pod.volumes = vec![Volume { name: "v".into(), source: VolumeSource::HostPath { path: path.into(), kind } }];
        pod
    }

    fn paths(dir: &Path) -> PodPaths {
        PodPaths { root: dir.join("root"), sandbox: dir.join("run") }
    }

    #[test]
    fn a_host_path_of_another_type_is_refused_in_the_kubelets_words() {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "x").expect("a file");
        fs::create_dir(at("dir")).expect("a directory");
        let _listener = UnixListener::bind(at("socket")).expect("a socket");
        std::os::unix::fs::symlink(at("dir"), at("link")).expect("a link");
        let null = PathBuf::from("/dev/null");
        use HostPathType::*;
        for (path, kind, wanted) in [
            (at("file"), Directory, Some("a directory")),
            (at("file"), DirectoryOrCreate, Some("a directory")),
            (at("dir"), File, Some("a file")),
            (at("socket"), FileOrCreate, Some("a file")),
            (at("file"), Socket, Some("a socket file")),
            (null.clone(), BlockDevice, Some("a block device")),
            (at("dir"), CharDevice, Some("a character device")),
            (at("none"), Directory, Some("a directory")),
            (at("none"), Socket, Some("a socket file")),
            (at("link"), Directory, None),
            (at("socket"), Socket, None),
            (null, CharDevice, None),
            (at("file"), Unchecked, None),
        ] {
            let outcome = prepare(&pod_with(&path, kind), &paths(dir.path()));
            let expected = wanted.map(|wanted| {
                let path = path.display();
                format!("MountVolume.SetUp failed for volume \"v\": hostPath type check failed: {path} is not {wanted}")
            });
            assert_eq!(outcome.err().map(|error| chain(&error)), expected, "{kind:?}");
        }
    }

    #[test]
    fn what_may_be_made_is_made_and_a_file_needs_its_directory() {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name);
        for (path, kind) in [
            (at("a/b"), HostPathType::DirectoryOrCreate),
            (at("c/d"), HostPathType::Unchecked),
            (at("f"), HostPathType::FileOrCreate),
        ] {
            prepare(&pod_with(&path, kind), &paths(dir.path())).expect("made");
            prepare(&pod_with(&path, kind), &paths(dir.path())).expect("made again");
        }
        assert!(at("a/b").is_dir() && at("c/d").is_dir() && at("f").is_file());
        let orphan = prepare(&pod_with(&at("none/f"), HostPathType::FileOrCreate), &paths(dir.path()));
        assert!(chain(&orphan.expect_err("no directory")).contains("cannot make "));
    }

    #[test]
    fn an_empty_dir_is_open_to_all_and_left_as_the_pod_made_it() {
        let dir = TempDir::new();
        let mut pod = testing::pod();
        pod.volumes = vec![Volume { name: "data".into(), source: VolumeSource::EmptyDir { size_limit_bytes: None } }];
        let paths = paths(dir.path());
        prepare(&pod, &paths).expect("made");
        let made = paths.empty_dir("data");
        let mode = || fs::metadata(&made).expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o777);
        fs::set_permissions(&made, Permissions::from_mode(0o700)).expect("a new mode");
        prepare(&pod, &paths).expect("again");
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_memory_dir_is_as_large_as_the_smallest_bound() {
        let mut pod = testing::pod();
        assert_eq!(memory_dir_bytes(&pod, None, 1000), 1000);
        assert_eq!(memory_dir_bytes(&pod, Some(10), 1000), 10);
        assert_eq!(memory_dir_bytes(&pod, Some(0), 1000), 1000);
        pod.containers = vec![testing::container("a"), testing::container("b")];
        pod.containers[0].resources.memory_limit_bytes = Some(100);
        assert_eq!(memory_dir_bytes(&pod, None, 1000), 1000);
        pod.containers[1].resources.memory_limit_bytes = Some(200);
        assert_eq!(memory_dir_bytes(&pod, Some(500), 1000), 300);
    }
}
