//! A pod's sandbox: pinned namespaces, shared memory and Memory emptyDirs, with no process to hold them.
//!
//! It is made once, outlives agent and containers, and ends with the pod or the boot. Everything of it is a mount below
//! `<run-dir>/pods/<uid>`; the record says what there should be, and removal goes by what there is. The network
//! inside is not made here: the agent attaches it and then writes the record.

use super::pod_paths::PodPaths;
use super::sandbox_record::DIR_MODE;
use super::volumes::{self, VolumeError};
use crate::model::id::{BootId, PodUid};
use crate::model::pod::StaticPod;
use crate::sys::mount;
use crate::sys::namespace::{self, Kind};
use crate::sys::netlink::route::{LOOPBACK_INDEX, RouteSocket};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use super::sandbox_record::{LinkRecord, RECORD, SandboxRecord, is_recorded, read, write_record};

/// containerd's size for /dev/shm, and what it mounts it with.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";
/// What containerd sets in a pod's own network namespace: any user may bind low ports and send pings.
const SYSCTLS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot make {path}")]
    MakeDirectory { path: PathBuf, source: io::Error },
    #[error("cannot make the pod's namespaces")]
    Namespaces(#[source] io::Error),
    #[error("cannot mount the pod's shared memory at {path}")]
    SharedMemory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// Of a newer pinlet, in a form that this one cannot read: its pod runs on, and is not touched.
    #[error("{path} has version {version}, newer than this pinlet knows")]
    Newer { path: PathBuf, version: u32 },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read the table of mounts")]
    Mounts(#[source] io::Error),
    #[error("cannot unmount {path}")]
    Unmount { path: PathBuf, source: io::Error },
    #[error("cannot remove {path}")]
    Remove { path: PathBuf, source: io::Error },
}

/// Makes the pod's sandbox, or finds the whole one that its record speaks of. The caller attaches the network if
/// `pod_network` is set and `ip` is not, and then calls
/// [`write_record`]: a sandbox without a record is swept.
pub fn create(
    pod: &StaticPod,
    paths: &PodPaths,
    boot_id: &BootId,
    node_memory_bytes: u64,
) -> Result<SandboxRecord, SandboxError> {
    if let Some(record) = read(&paths.sandbox)?
        && is_whole(&record, &paths.sandbox, boot_id)?
    {
        return Ok(record);
    }
    remove(&paths.sandbox)?;
    let made = make(pod, paths, node_memory_bytes);
    if made.is_err() {
        // What stands in the way then is told by the first error.
        let _ = remove(&paths.sandbox);
    }
    made.map(|()| SandboxRecord::of(pod, boot_id))
}

fn make(pod: &StaticPod, paths: &PodPaths, node_memory_bytes: u64) -> Result<(), SandboxError> {
    make_dir(&paths.sandbox)?;
    let (net, uts, ipc, shm) = (paths.net(), paths.uts(), paths.ipc(), paths.shm());
    let mut pins: Vec<(Kind, &Path)> = Vec::new();
    if !pod.host_network {
        pins.extend([(Kind::Net, net.as_path()), (Kind::Uts, uts.as_path())]);
    }
    if !pod.host_ipc {
        pins.push((Kind::Ipc, ipc.as_path()));
    }
    if !pins.is_empty() {
        let inside = || if pod.host_network { Ok(()) } else { set_up_host(&pod.hostname) };
        namespace::create_pinned(&pins, inside).map_err(SandboxError::Namespaces)?;
    }
    if !pod.host_ipc {
        make_dir(&shm)?;
        mount::tmpfs(&shm, SHM_OPTIONS, true)
            .map_err(|source| SandboxError::SharedMemory { path: shm.clone(), source })?;
    }
    Ok(volumes::mount_memory_dirs(pod, paths, node_memory_bytes)?)
}

/// Runs on a thread that is in the pod's namespaces.
fn set_up_host(hostname: &str) -> io::Result<()> {
    namespace::set_hostname(hostname)?;
    let mut socket = RouteSocket::open().map_err(io::Error::other)?;
    socket.set_up(LOOPBACK_INDEX).map_err(io::Error::other)?;
    for (name, value) in SYSCTLS {
        fs::write(Path::new("/proc/sys").join(name), value)?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), SandboxError> {
    let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
    made.map_err(|source| SandboxError::MakeDirectory { path: path.to_owned(), source })
}

/// Of this boot, and every mount that the record names is there.
pub fn is_whole(record: &SandboxRecord, sandbox: &Path, boot_id: &BootId) -> Result<bool, SandboxError> {
    if record.boot_id != *boot_id {
        return Ok(false);
    }
    let Ok(sandbox) = sandbox.canonicalize() else { return Ok(false) };
    let mounted: BTreeSet<PathBuf> =
        mount::mounts().map_err(SandboxError::Mounts)?.into_iter().map(|entry| entry.target).collect();
    Ok(record.mounts.iter().all(|name| mounted.contains(&sandbox.join(name))))
}

/// Takes everything of a sandbox away: mounts first, whatever a record says, then the directory. Fine if there is
/// none.
pub fn remove(sandbox: &Path) -> Result<(), SandboxError> {
    let resolved = match sandbox.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SandboxError::Read { path: sandbox.to_owned(), source }),
    };
    let mounts = mount::mounts().map_err(SandboxError::Mounts)?;
    // The last mounted first: it may lie on another.
    for entry in mounts.iter().rev().filter(|entry| entry.target.starts_with(&resolved)) {
        unmount(&entry.target)?;
    }
    match fs::remove_dir_all(&resolved) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SandboxError::Remove { path: sandbox.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// What is no mount any more is as good as unmounted: somebody else may take mounts away at the same time, and a mount
/// that was propagated goes with the one that it came from. (One that is really left keeps its directory from being
/// removed.)
fn unmount(path: &Path) -> Result<(), SandboxError> {
    match mount::unmount_detach(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => Ok(()),
        Err(source) => Err(SandboxError::Unmount { path: path.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}

/// A sandbox that [`sweep`] took away, or could not.
#[derive(Debug)]
pub struct Swept {
    /// The directory's name: a pod's uid, unless somebody else made it.
    pub name: String,
    /// The link to be detached, where a record told of one.
    pub link: Option<LinkRecord>,
    pub outcome: Result<(), SandboxError>,
}

/// At start, before an address is given to anybody: takes away each sandbox that has no record of this boot, or that
/// belongs to none of `known`. Known ones of a newer version stay. `pods` is `<run-dir>/pods`.
pub fn sweep(pods: &Path, boot_id: &BootId, known: &BTreeSet<PodUid>) -> Result<Vec<Swept>, SandboxError> {
    let entries = match fs::read_dir(pods) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SandboxError::Read { path: pods.to_owned(), source }),
    };
    let mut swept = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_known = known.iter().any(|uid| uid.as_str() == name);
        let (record, readable) = match read(&entry.path()) {
            Ok(record) => (record, true),
            Err(error) => (None, !matches!(error, SandboxError::Newer { .. })),
        };
        let of_boot = record.as_ref().is_some_and(|record| record.boot_id == *boot_id && record.uid.as_str() == name);
        let ours = is_known && (of_boot || !readable);
        if !ours {
            let link = record.and_then(|record| record.link);
            swept.push(Swept { name, link, outcome: remove(&entry.path()) });
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::super::run_dir;
    use super::super::testing::{self, TempDir};
    use super::*;
    use crate::model::pod::{Volume, VolumeSource};
    use crate::sys::namespace::within_net;

    /// A run dir of its own that is unmounted and removed whatever the test does.
    struct RunDir {
        _dir: TempDir,
        run: PathBuf,
    }

    impl RunDir {
        fn new() -> RunDir {
            let dir = TempDir::new();
            let run = dir.path().canonicalize().expect("it is there").join("run");
            run_dir::prepare(&run).expect("prepared");
            RunDir { _dir: dir, run }
        }

        fn paths(&self, pod: &StaticPod) -> PodPaths {
            PodPaths { root: self.run.join("root"), sandbox: self.run.join("pods").join(pod.uid.as_str()) }
        }

        fn mounts(&self) -> usize {
            let mounts = mount::mounts().expect("mountinfo");
            mounts.iter().filter(|m| m.target != self.run && m.target.starts_with(&self.run)).count()
        }
    }

    impl Drop for RunDir {
        fn drop(&mut self) {
            for entry in mount::mounts().into_iter().flatten().rev().filter(|m| m.target.starts_with(&self.run)) {
                let _ = mount::unmount_detach(&entry.target);
            }
        }
    }

    fn boot(text: &str) -> BootId {
        BootId::new(text)
    }

    fn memory_pod() -> StaticPod {
        let mut pod = testing::pod();
        let source = VolumeSource::MemoryDir { size_limit_bytes: Some(1 << 20) };
        pod.volumes = vec![Volume { name: "fast".into(), source }];
        pod
    }

    #[test]
    fn a_sandbox_is_made_once_recognised_and_leaves_nothing() {
        let run = RunDir::new();
        let pod = memory_pod();
        let paths = run.paths(&pod);
        let record = create(&pod, &paths, &boot("b"), 1 << 30).expect("made");
        assert_eq!(record.mounts, ["net", "uts", "ipc", "shm", "mem-fast"]);
        assert_eq!((record.pod_network, record.ip, run.mounts()), (true, None, 5));
        assert!(is_whole(&record, &paths.sandbox, &boot("b")).expect("looked at"));
        assert!(!is_whole(&record, &paths.sandbox, &boot("other")).expect("looked at"));

        let attached = SandboxRecord { ip: Some([10, 85, 0, 7].into()), ..record };
        write_record(&paths.sandbox, &attached).expect("written");
        assert_eq!(create(&pod, &paths, &boot("b"), 1 << 30).expect("found"), attached);
        assert_eq!(run.mounts(), 5);

        mount::unmount_detach(&paths.shm()).expect("a mount less");
        unmount(&paths.shm()).expect("gone already");
        unmount(&paths.shm().join("nowhere")).expect("gone already");
        let anew = create(&pod, &paths, &boot("b"), 1 << 30).expect("made anew");
        assert_eq!((anew.ip, run.mounts()), (None, 5));

        remove(&paths.sandbox).expect("removed");
        remove(&paths.sandbox).expect("nothing to do");
        assert_eq!(run.mounts(), 0);
        assert!(!paths.sandbox.exists());
    }

    #[test]
    fn the_namespaces_are_fresh_set_up_and_not_ours() {
        let run = RunDir::new();
        let pod = memory_pod();
        let paths = run.paths(&pod);
        let before = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        create(&pod, &paths, &boot("b"), 1 << 30).expect("made");
        let read =
            |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).map(|text| text.trim().to_owned());
        let inside = within_net(&paths.net(), || {
            let mut socket = RouteSocket::open().expect("rtnetlink");
            let lo = socket.link("lo").expect("an answer").expect("a loopback device");
            (lo.up, read("net/ipv4/ip_unprivileged_port_start"), read("net/ipv4/ping_group_range"))
        })
        .expect("entered");
        assert!(inside.0);
        assert_eq!(inside.1.expect("a sysctl"), "0");
        assert_eq!(inside.2.expect("a sysctl"), "0\t2147483647");
        assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("a name"), before);
        assert!(namespace::is_pinned(&paths.uts()).expect("looked at"));
        let shm = mount::mounts().expect("mountinfo").into_iter().find(|m| m.target == paths.shm()).expect("a tmpfs");
        assert!(shm.super_options.contains("size=65536k"), "{}", shm.super_options);
        remove(&paths.sandbox).expect("removed");
    }

    #[test]
    fn host_namespaces_are_neither_made_nor_expected() {
        let run = RunDir::new();
        let mut pod = testing::pod();
        (pod.host_network, pod.host_ipc) = (true, true);
        let paths = run.paths(&pod);
        let record = create(&pod, &paths, &boot("b"), 1 << 30).expect("made");
        assert_eq!((record.mounts.len(), record.pod_network, run.mounts()), (0, false, 0));
        assert!(is_whole(&record, &paths.sandbox, &boot("b")).expect("looked at"));
        remove(&paths.sandbox).expect("removed");
    }

    #[test]
    fn a_record_of_a_newer_version_is_used_as_far_as_it_goes_and_else_left_alone() {
        let run = RunDir::new();
        let pod = testing::pod();
        let paths = run.paths(&pod);
        let record = create(&pod, &paths, &boot("b"), 1 << 30).expect("made");
        let mut json = serde_json::to_value(&record).expect("JSON");
        (json["version"], json["more"]) = (2.into(), true.into());
        let write =
            |json: &serde_json::Value| fs::write(paths.sandbox.join(RECORD), json.to_string()).expect("written");
        write(&json);
        let read_back = read(&paths.sandbox).expect("understood").expect("a record");
        assert_eq!(read_back, SandboxRecord { version: 2, ..record });

        json.as_object_mut().expect("an object").remove("mounts");
        write(&json);
        assert!(matches!(read(&paths.sandbox), Err(SandboxError::Newer { version: 2, .. })));
        assert!(matches!(create(&pod, &paths, &boot("b"), 1 << 30), Err(SandboxError::Newer { .. })));
        let pods = run.run.join("pods");
        assert!(sweep(&pods, &boot("b"), &BTreeSet::from([pod.uid.clone()])).expect("swept").is_empty());
        assert_eq!(run.mounts(), 4);
        json["version"] = 1.into();
        write(&json);
        assert_eq!(read(&paths.sandbox).expect("senseless"), None);
        remove(&paths.sandbox).expect("removed");
    }

    #[test]
    fn what_has_no_record_of_this_boot_or_no_owner_is_swept() {
        let run = RunDir::new();
        let pods = run.run.join("pods");
        let with_uid = |uid: &str| {
            let mut pod = testing::pod();
            pod.uid = PodUid::new(uid).expect("a uid");
            pod
        };
        let link = LinkRecord { bridge: "b0".into(), veth: "veth0".into(), mac: "0a:58:0a:55:00:02".into() };
        for (uid, recorded_boot) in [("kept", Some("b")), ("stranger", Some("b")), ("old", Some("a")), ("bare", None)] {
            let pod = with_uid(uid);
            let paths = run.paths(&pod);
            let mut record = create(&pod, &paths, &boot(recorded_boot.unwrap_or("b")), 1 << 30).expect("made");
            record.link = Some(link.clone());
            if recorded_boot.is_some() {
                write_record(&paths.sandbox, &record).expect("written");
            }
        }
        let known = ["kept", "old", "bare"].iter().filter_map(|uid| PodUid::new(uid)).collect();
        let mut swept = sweep(&pods, &boot("b"), &known).expect("swept");
        swept.sort_by(|a, b| a.name.cmp(&b.name));
        let told: Vec<(&str, bool)> = swept.iter().map(|s| (s.name.as_str(), s.link.is_some())).collect();
        assert_eq!(told, [("bare", false), ("old", true), ("stranger", true)]);
        assert!(swept.iter().all(|s| s.outcome.is_ok()));
        assert_eq!(run.mounts(), 4);
        assert!(sweep(&pods, &boot("b"), &known).expect("nothing to do").is_empty());
        remove(&pods.join("kept")).expect("removed");
        assert_eq!(run.mounts(), 0);
    }
}
