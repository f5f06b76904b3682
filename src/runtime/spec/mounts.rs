//! `mounts`: containerd's defaults, the pod's files, the volumes; in containerd's order.

use super::{SpecError, SpecInput};
use crate::runtime::launch::LaunchVolume;
use oci_spec::runtime::{Mount, MountBuilder};
use std::path::{Component, Path, PathBuf};

const ETC_HOSTS: &str = "/etc/hosts";
const ETC_HOSTNAME: &str = "/etc/hostname";
const ETC_RESOLV_CONF: &str = "/etc/resolv.conf";
const DEV_SHM: &str = "/dev/shm";
/// Below the container's directory: where the creator puts the clones of volumes, by number.
const STAGING: &str = "v";

pub struct Mounts {
    pub mounts: Vec<Mount>,
    pub volumes: Vec<LaunchVolume>,
}

pub fn mounts(input: &SpecInput) -> Result<Mounts, SpecError> {
    let mut volumes = Staging { dir: input.container_dir.join(STAGING), staged: Vec::new() };
    let mut binds = volume_binds(input, &mut volumes)?;
    let taken: Vec<PathBuf> = binds.iter().map(|mount| clean(mount.destination())).collect();
    binds.extend(pod_binds(input, &taken, &mut volumes)?);
    // Parents before what lies below them; otherwise in the order given.
    binds.sort_by_key(|mount| clean(mount.destination()).components().count());
    let hides_dev = taken.iter().any(|path| path == Path::new("/dev"));
    let kept = |mount: &Mount| {
        let at = mount.destination();
        let hidden = hides_dev && at.starts_with("/dev");
        !hidden && !taken.contains(at)
    };
    let defaults = default_mounts(input.host.pure_cgroup_v2)?;
    let mounts = defaults.into_iter().filter(kept).chain(binds).collect();
    Ok(Mounts { mounts, volumes: volumes.staged })
}

fn default_mounts(pure_cgroup_v2: bool) -> Result<Vec<Mount>, SpecError> {
    let mut all = vec![
        special("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        special("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        special(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        special("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        special("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
    ];
    if pure_cgroup_v2 {
        all.push(special("/sys/fs/cgroup", "cgroup2", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])?);
    }
    Ok(all)
}

fn special(destination: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount, SpecError> {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    Ok(MountBuilder::default().destination(destination).typ(kind).source(source).options(options).build()?)
}

fn bind(destination: impl Into<PathBuf>, source: PathBuf, read_only: bool) -> Result<Mount, SpecError> {
    let options = ["rbind", "rprivate", if read_only { "ro" } else { "rw" }].map(str::to_owned).to_vec();
    Ok(MountBuilder::default().destination(destination).typ("bind").source(source).options(options).build()?)
}

/// Numbers the volumes as they come.
struct Staging {
    dir: PathBuf,
    staged: Vec<LaunchVolume>,
}

impl Staging {
    fn stage(&mut self, source: PathBuf) -> PathBuf {
        let staging = self.dir.join(self.staged.len().to_string());
        self.staged.push(LaunchVolume { source, staging: staging.clone() });
        staging
    }
}

fn volume_binds(input: &SpecInput, staging: &mut Staging) -> Result<Vec<Mount>, SpecError> {
    let mut binds = Vec::with_capacity(input.container.mounts.len());
    for mount in &input.container.mounts {
        let volume = input.pod.volumes.iter().find(|volume| volume.name == mount.volume);
        let volume = volume.ok_or_else(|| SpecError::UnknownVolume { volume: mount.volume.clone() })?;
        let staged = staging.stage(input.paths.volume_source(volume));
        // The kubelet takes a relative path as below the root.
        binds.push(bind(Path::new("/").join(&mount.path), staged, mount.read_only)?);
    }
    Ok(binds)
}

/// The files that the kubelet and the runtime provide, except where the container mounts something of its own.
fn pod_binds(input: &SpecInput, taken: &[PathBuf], staging: &mut Staging) -> Result<Vec<Mount>, SpecError> {
    let paths = input.paths;
    let free = |path: &str| !taken.iter().any(|mounted| mounted == Path::new(path));
    let mut binds = Vec::new();
    if free(ETC_HOSTS) {
        binds.push(bind(ETC_HOSTS, paths.hosts(), false)?);
    }
    let message = &input.container.termination_message_path;
    if !message.is_empty() {
        let file = paths.termination_message(&input.container.name, input.id);
        binds.push(bind(Path::new("/").join(message), file, false)?);
    }
    if free(ETC_HOSTNAME) {
        binds.push(bind(ETC_HOSTNAME, paths.hostname(), false)?);
    }
    if free(ETC_RESOLV_CONF) {
        binds.push(bind(ETC_RESOLV_CONF, paths.resolv_conf(), false)?);
    }
    if free(DEV_SHM) {
        // The host's own may lie on a mount that the creator detaches: it is cloned before, like a volume.
        let source = if input.pod.host_ipc { staging.stage(PathBuf::from(DEV_SHM)) } else { paths.shm() };
        binds.push(bind(DEV_SHM, source, false)?);
    }
    Ok(binds)
}

/// Without `.`, `..` and double slashes, as Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}
