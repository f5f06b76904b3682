//! A pod's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` on disk, kept as the node's own files change.
//!
//! INVARIANT: they are rewritten in place and never replaced, since containers have the inode mounted.

use super::hosts;
use super::pod_paths::PodPaths;
use super::resolv::{self, ClusterDns, NodeResolvers, Resolver};
use super::spec;
use crate::model::pod::StaticPod;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const NODE_HOSTS: &str = "/etc/hosts";
/// Where systemd-resolved lists the servers behind its stub.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// No sane file of these is larger; more is not read.
const NODE_FILE_BYTES: u64 = 1024 * 1024;
const MODE: u32 = 0o644;

#[derive(Debug, thiserror::Error)]
pub enum PodFileError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// The node's side of the three files, read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    pub hosts: String,
    pub hostname: String,
    pub resolvers: NodeResolvers,
}

impl NodeFiles {
    /// `resolv_conf` is `--resolv-conf`. A missing file is an empty one: pods start before DHCP has been there, and
    /// their files follow.
    pub fn read(resolv_conf: Option<&Path>, hostname: &str) -> Result<NodeFiles, PodFileError> {
        let resolver = |path: &Path| -> Result<Option<Resolver>, PodFileError> {
            Ok(read_bounded(path)?.map(|text| resolv::parse(&text)))
        };
        let own = match resolv_conf {
            Some(path) => Some(resolver(path)?.unwrap_or_default()),
            None => None,
        };
        Ok(NodeFiles {
            hosts: read_bounded(Path::new(NODE_HOSTS))?.unwrap_or_default(),
            hostname: hostname.to_owned(),
            resolvers: NodeResolvers { own, behind_stub: resolver(Path::new(BEHIND_STUB))? },
        })
    }
}

/// Tells whether [`NodeFiles`] may have changed without reading any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp([Option<FileStamp>; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub fn take(resolv_conf: Option<&Path>) -> Stamp {
        let of = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            let modified = (found.mtime(), found.mtime_nsec());
            Some(FileStamp { device: found.dev(), inode: found.ino(), bytes: found.size(), modified })
        };
        Stamp([of(Path::new(NODE_HOSTS)), resolv_conf.and_then(of), of(Path::new(BEHIND_STUB))])
    }
}

/// What [`refresh`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    pub changed: bool,
    /// About the pod's DNS, in the kubelet's words.
    pub warnings: Vec<String>,
}

/// Brings the pod's three files up to date; writes nothing that is right already. `ip` is the pod's, once it has one.
pub fn refresh(
    pod: &StaticPod,
    paths: &PodPaths,
    ip: Option<IpAddr>,
    node: &NodeFiles,
    cluster: &ClusterDns,
) -> Result<Refreshed, PodFileError> {
    let resolved = resolv::for_pod(pod, &node.resolvers, cluster);
    let files = [
        (paths.hosts(), hosts::content(pod, ip, &node.hosts)),
        (paths.hostname(), format!("{}\n", spec::hostname(pod, &node.hostname))),
        (paths.resolv_conf(), resolved.content),
    ];
    let mut refreshed = Refreshed { changed: false, warnings: resolved.warnings };
    for (path, content) in files {
        match rewrite(&path, content.as_bytes()) {
            Ok(changed) => refreshed.changed |= changed,
            Err(source) => return Err(PodFileError::Write { path, source }),
        }
    }
    Ok(refreshed)
}

/// Makes the file say `content`, under the same inode; true if it did not.
fn rewrite(path: &Path, content: &[u8]) -> io::Result<bool> {
    match fs::read(path) {
        Ok(old) if old == content => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
            }
        }
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    // Written over before it is cut: a reader sees old or new text, never an empty file.
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    Ok(true)
}

fn read_bounded(path: &Path) -> Result<Option<String>, PodFileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(NODE_FILE_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PodFileError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, TempDir};
    use super::*;

    fn node(nameserver: &str) -> NodeFiles {
        NodeFiles {
            hosts: "127.0.0.1 localhost\n".into(),
            hostname: "vm".into(),
            resolvers: NodeResolvers {
                own: Some(resolv::parse(&format!("nameserver {nameserver}\n"))),
                behind_stub: None,
            },
        }
    }

    #[test]
    fn files_are_made_once_and_then_changed_under_the_same_inode() {
        let dir = TempDir::new();
        let paths = PodPaths { root: dir.path().join("root"), sandbox: dir.path().join("run") };
        let pod = testing::pod();
        let cluster = ClusterDns::default();
        let ip = Some([10, 85, 0, 7].into());
        let first = refresh(&pod, &paths, ip, &node("192.0.2.100"), &cluster).expect("written");
        assert!(first.changed && first.warnings.len() == 1);
        assert_eq!(fs::read_to_string(paths.hostname()).expect("read"), "nodejs-vm\n");
        let state = |path: PathBuf| fs::metadata(path).map(|m| (m.ino(), m.mode() & 0o7777)).expect("it is there");
        let before = [paths.hosts(), paths.resolv_conf()].map(state);
        assert_eq!(before[0].1, 0o644);

        let again = refresh(&pod, &paths, ip, &node("192.0.2.100"), &cluster).expect("nothing to do");
        assert!(!again.changed);
        let later = refresh(&pod, &paths, None, &node("192.0.2.9"), &cluster).expect("rewritten");
        assert!(later.changed);
        assert_eq!([paths.hosts(), paths.resolv_conf()].map(state), before);
        assert_eq!(fs::read_to_string(paths.resolv_conf()).expect("read"), "nameserver 192.0.2.9\n");
        assert!(!fs::read_to_string(paths.hosts()).expect("read").contains("10.85.0.7"));
    }

    #[test]
    fn a_missing_resolv_conf_is_an_empty_one_and_its_coming_is_noticed() {
        let dir = TempDir::new();
        let path = dir.path().join("resolv.conf");
        let before = Stamp::take(Some(&path));
        assert_eq!(before, Stamp::take(Some(&path)));
        let files = NodeFiles::read(Some(&path), "vm").expect("read");
        assert_eq!(files.resolvers.own, Some(Resolver::default()));
        fs::write(&path, "nameserver 192.0.2.1\n").expect("written");
        assert_ne!(before, Stamp::take(Some(&path)));
        assert_eq!(NodeFiles::read(None, "vm").expect("read").resolvers.own, None);
    }
}
