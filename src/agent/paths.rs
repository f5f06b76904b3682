//! Where everything is (contract 4): the one place that puts a path together.

use crate::config::Config;
use crate::model::id::{ContainerId, ContainerName, PodKey, PodUid};
use std::path::{Path, PathBuf};

/// The directories of one agent; all absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub root: PathBuf,
    pub run: PathBuf,
    pub pod_logs: PathBuf,
    pub container_logs: PathBuf,
    pub preload: PathBuf,
}

impl Paths {
    pub fn of(config: &Config) -> Paths {
        Paths {
            root: config.root_dir.clone(),
            run: config.run_dir.clone(),
            pod_logs: config.pod_logs_dir.clone(),
            container_logs: config.container_logs_dir.clone(),
            preload: config.preload_images_dir.clone(),
        }
    }

    pub fn root_lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub fn run_lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("pinlet.sock")
    }

    /// While it is there, nothing is started (contract 2, stop-pods).
    pub fn stop_marker(&self) -> PathBuf {
        self.run.join("stopped")
    }

    pub fn node_name(&self) -> PathBuf {
        self.root.join("node-name")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn run_pods(&self) -> PathBuf {
        self.run.join("pods")
    }

    /// Pinned namespaces, per-pod mounts and the sandbox record.
    pub fn run_pod(&self, uid: &PodUid) -> PathBuf {
        self.run_pods().join(uid.as_str())
    }

    pub fn run_containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// Bundle, libcontainer's state and the monitor's records.
    pub fn run_container(&self, id: &ContainerId) -> PathBuf {
        self.run_containers().join(id.as_str())
    }

    pub fn root_pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub fn root_pod(&self, uid: &PodUid) -> PathBuf {
        self.root_pods().join(uid.as_str())
    }

    pub fn kept_manifest(&self, uid: &PodUid) -> PathBuf {
        self.root_pod(uid).join("manifest")
    }

    /// Counters and final states that must survive a reboot.
    pub fn pod_record(&self, uid: &PodUid) -> PathBuf {
        self.root_pod(uid).join("record.json")
    }

    /// What belongs to one container of a pod: its writable layers and termination messages.
    pub fn root_container(&self, uid: &PodUid, container: &ContainerName) -> PathBuf {
        self.root_pod(uid).join("containers").join(container.as_str())
    }

    /// One writable layer per start: `upper` and `work` below it.
    pub fn writable_layer(&self, uid: &PodUid, container: &ContainerName, id: &ContainerId) -> PathBuf {
        self.root_container(uid, container).join(Paths::layer_name(id))
    }

    /// Short, since overlayfs takes all its directories in one page of options.
    pub fn layer_name(id: &ContainerId) -> String {
        id.as_str().get(..12).unwrap_or_default().to_owned()
    }

    /// `<pod-logs-dir>/<ns>_<name>_<uid>`.
    pub fn pod_log_dir(&self, key: &PodKey, uid: &PodUid) -> PathBuf {
        self.pod_logs.join(format!("{}_{}_{}", key.namespace, key.name, uid))
    }

    /// The log directories of a pod of which nothing is known but its UID. Reads the disk.
    pub fn pod_log_dirs(&self, uid: &PodUid) -> Vec<PathBuf> {
        let tail = format!("_{uid}");
        let entries = std::fs::read_dir(&self.pod_logs).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(&tail)).map(|entry| entry.path()).collect()
    }

    pub fn container_log(&self, key: &PodKey, uid: &PodUid, container: &ContainerName, attempt: u32) -> PathBuf {
        self.pod_log_dir(key, uid).join(container.as_str()).join(format!("{attempt}.log"))
    }

    /// `<container-logs-dir>/<pod>_<ns>_<container>-<id>.log`, the name cut to 255 bytes as the kubelet does.
    pub fn log_symlink(&self, key: &PodKey, container: &ContainerName, id: &ContainerId) -> PathBuf {
        let tail = format!("-{id}.log");
        let mut name = format!("{}_{}_{}", key.name, key.namespace, container);
        name.truncate(255 - tail.len());
        self.container_logs.join(name + &tail)
    }
}

/// Makes a path absolute against the working directory and takes `.`, `..` and double slashes out by their text
/// alone: symlinks are not resolved (contract 3, the path that the UID is made of).
pub fn lexically_absolute(path: &Path, working_dir: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in working_dir.join(path).components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::RootDir | std::path::Component::CurDir | std::path::Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_by_its_text() {
        let clean = |p: &str| lexically_absolute(Path::new(p), Path::new("/a/b"));
        assert_eq!(clean("x.yaml"), Path::new("/a/b/x.yaml"));
        assert_eq!(clean("../x//y/./z"), Path::new("/a/x/y/z"));
        assert_eq!(clean("/../etc/"), Path::new("/etc"));
    }

    #[test]
    fn the_symlink_keeps_its_id_whole_when_the_name_is_long() {
        let paths = Paths {
            root: "/r".into(),
            run: "/n".into(),
            pod_logs: "/l".into(),
            container_logs: "/c".into(),
            preload: "/p".into(),
        };
        let key = PodKey { namespace: "default".into(), name: "x".repeat(253) };
        let container = ContainerName::new("c").expect("a label");
        let id = ContainerId::from_bytes([7; 32]);
        let link = paths.log_symlink(&key, &container, &id);
        let name = link.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(name.len(), 255);
        assert!(name.ends_with(&format!("-{id}.log")));
    }
}
