//! A place of its own for one test, and containers in it.

use pinlet::model::id::{ContainerId, ContainerName, Pid, PodUid};
use pinlet::model::observed::ExitStatus;
use pinlet::runtime::cgroup::Hierarchies;
use pinlet::runtime::launch::{self, CgroupPlan, Launch, LaunchVolume, Limits, LogTarget};
use pinlet::runtime::record::{self, ExitRecord};
use pinlet::runtime::spawn::{self, Report, Spawned};
use pinlet::sys;
use pinlet::sys::child::SelfImage;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Some thirty times what the slowest step takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Host {
    pub dir: PathBuf,
    pub cgroup_root: PathBuf,
    pub hierarchies: Hierarchies,
    pub image: SelfImage,
}

/// The program under test: `PINLET_BIN` (the static build), else the one that cargo built for these tests.
pub fn binary() -> PathBuf {
    std::env::var_os("PINLET_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pinlet").into(), Into::into)
}

impl Host {
    /// As if the machine had cgroup v2 alone: on a hybrid one its v2 hierarchy, without the controllers.
    pub fn on_v2_alone() -> Host {
        let mounts = sys::mount::mounts().unwrap();
        let mount = mounts.into_iter().find(|m| m.filesystem == "cgroup2").expect("cgroup v2 is mounted").target;
        let v2 = json!({"all": [{"mount": mount, "version": "V2", "controllers": []}]});
        Host::with(serde_json::from_value(v2).unwrap())
    }

    /// As if the machine had one hierarchy, and no means to deny devices.
    pub fn without_device_rules() -> Host {
        let mount = Hierarchies::detect().unwrap().all()[0].mount.clone();
        let named = json!({"all": [{"mount": mount, "version": "V1", "controllers": ["name=any"]}]});
        Host::with(serde_json::from_value(named).unwrap())
    }

    pub fn new() -> Host {
        Host::with(Hierarchies::detect().unwrap())
    }

    fn with(hierarchies: Hierarchies) -> Host {
        let tag = format!("pinlet-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&tag);
        let host = Host { cgroup_root: tag.into(), hierarchies, image: SelfImage::open_path(&binary()).unwrap(), dir };
        fs::create_dir_all(&host.dir).unwrap();
        host.hierarchies.prepare_roots(&host.cgroup_root).unwrap();
        make_layer(&host.layer());
        host
    }

    pub fn layer(&self) -> PathBuf {
        self.dir.join("layer")
    }

    /// A file of the image.
    pub fn add(&self, path: &str, content: &str, mode: u32) {
        let whole = self.layer().join(path.trim_start_matches('/'));
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        fs::write(&whole, content).unwrap();
        fs::set_permissions(&whole, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// A container that runs a shell script.
    pub fn sh(&self, script: &str) -> Setup<'_> {
        self.container(&["/bin/sh", "-c", script])
    }

    pub fn container(&self, argv: &[&str]) -> Setup<'_> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes[4..8].copy_from_slice(&std::process::id().to_be_bytes());
        let id = ContainerId::from_bytes(bytes);
        let dir = self.dir.join("run/containers").join(id.as_str());
        let writable = self.dir.join(format!("c{number}"));
        let launch = Launch {
            version: launch::VERSION,
            id: id.clone(),
            pod_uid: PodUid::new("testpod").unwrap(),
            namespace: "default".to_owned(),
            pod_name: "test".to_owned(),
            container: ContainerName::new("c").unwrap(),
            attempt: 0,
            dir,
            layers: vec![self.layer()],
            upper: writable.join("upper"),
            work: writable.join("work"),
            volumes: Vec::new(),
            user: String::new(),
            cgroup: CgroupPlan {
                root: self.cgroup_root.clone(),
                pod: "kubepods/besteffort/podtestpod".into(),
                leaf: id.to_string(),
                limits: Limits { cpu_shares: Some(2), ..Limits::default() },
                pod_limits: Limits::default(),
            },
            oom_score_adj: 1000,
            log: LogTarget { path: writable.join("0.log"), max_bytes: 10 << 20, max_files: 5 },
        };
        let mut spec = spec();
        spec["process"]["args"] = json!(argv);
        Setup { host: self, launch, spec }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.hierarchies.populated(&self.cgroup_root) && Instant::now() < deadline {
            let _ = self.hierarchies.kill(&self.cgroup_root);
            std::thread::sleep(Duration::from_millis(2));
        }
        while self.hierarchies.remove(&self.cgroup_root).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut mounts = sys::mount::mounts().unwrap_or_default();
        mounts.retain(|m| m.target.starts_with(&self.dir));
        for mount in mounts.iter().rev() {
            let _ = sys::mount::unmount_detach(&mount.target);
        }
        let removed = fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert!(mounts.is_empty(), "left mounted: {mounts:?}");
            removed.unwrap();
        }
    }
}

/// A container about to be started.
pub struct Setup<'h> {
    host: &'h Host,
    pub launch: Launch,
    pub spec: Value,
}

impl<'h> Setup<'h> {
    pub fn with(mut self, change: impl FnOnce(&mut Launch, &mut Value)) -> Setup<'h> {
        change(&mut self.launch, &mut self.spec);
        self
    }

    pub fn user(self, user: &str) -> Setup<'h> {
        self.with(|launch, _| launch.user = user.to_owned())
    }

    pub fn volume(self, source: &Path, target: &str, options: &[&str]) -> Setup<'h> {
        self.with(|launch, spec| {
            let staging = launch.dir.join("v").join(launch.volumes.len().to_string());
            let mount = json!({"destination": target, "type": "bind", "source": staging, "options": options});
            spec["mounts"].as_array_mut().unwrap().push(mount);
            launch.volumes.push(LaunchVolume { source: source.to_owned(), staging });
        })
    }

    /// A monitor that has not been told to go.
    pub fn spawn(self) -> Container<'h> {
        fs::create_dir_all(&self.launch.dir).unwrap();
        fs::write(self.launch.dir.join("config.json"), self.spec.to_string()).unwrap();
        let Launch { dir, cgroup, .. } = &self.launch;
        let hierarchies = &self.host.hierarchies;
        let spawned = spawn::spawn_monitor(&self.host.image, hierarchies, &cgroup.root, dir).unwrap();
        spawn::write_launch(hierarchies, &self.launch).unwrap();
        Container { host: self.host, launch: self.launch, spawned, ended: None }
    }

    /// A container that runs, or failed to.
    pub fn start(self) -> (Container<'h>, Report) {
        let container = self.spawn();
        spawn::send_go(&container.spawned.handshake).unwrap();
        let report = container.report();
        (container, report)
    }

    /// A container that runs.
    pub fn started(self) -> Container<'h> {
        let (container, report) = self.start();
        assert!(matches!(report, Report::Started { .. }), "{report:?}");
        container
    }

    /// Runs to the end.
    pub fn run(self) -> Finished {
        let (mut container, report) = self.start();
        let exit = container.wait();
        let log = fs::read_to_string(&container.launch.log.path).unwrap_or_default();
        Finished { report, exit, log }
    }

    /// Runs to the end and expects success; what it printed.
    pub fn output(self) -> String {
        let finished = self.run();
        assert_eq!(finished.exit.status, ExitStatus::Code(0), "{:?}\n{}", finished.report, finished.log);
        finished.stdout()
    }
}

pub struct Container<'h> {
    pub host: &'h Host,
    pub launch: Launch,
    pub spawned: Spawned,
    ended: Option<()>,
}

impl Container<'_> {
    pub fn report(&self) -> Report {
        until("a report of the monitor", || spawn::read_report(&self.spawned.handshake).unwrap())
    }

    /// Waits for the monitor and reads what it left.
    pub fn wait(&mut self) -> ExitRecord {
        self.wait_monitor();
        record::read_exit(&self.launch.dir).unwrap().expect("an exit record")
    }

    pub fn wait_monitor(&mut self) {
        until("the end of the monitor", || sys::spawn::try_wait(&self.spawned.pidfd).unwrap());
        self.ended = Some(());
    }

    pub fn init(&self) -> Pid {
        record::read_started(&self.launch.dir).unwrap().expect("a start record").init.pid
    }

    pub fn leaf(&self) -> PathBuf {
        self.launch.cgroup.leaf_path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.launch.log.path).unwrap_or_default()
    }

    pub fn wait_log(&self, word: &str) {
        until(&format!("{word:?} in the log"), || self.log().contains(word).then_some(()));
    }

    /// Nothing in the kernel reminds of it.
    pub fn assert_gone(&self) {
        let leaf = self.leaf();
        for hierarchy in self.host.hierarchies.all() {
            assert!(!hierarchy.mount.join(&leaf).exists(), "{}", hierarchy.mount.join(&leaf).display());
        }
        assert_eq!(self.host.hierarchies.pids(&leaf), Vec::new());
        let below = |m: &sys::mount::MountEntry| m.target.starts_with(&self.launch.dir);
        assert!(!sys::mount::mounts().unwrap().iter().any(below));
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Our own child, never waited for yet: the pidfd names it.
            let _ = sys::spawn::signal(&self.spawned.pidfd, sys::spawn::SIGKILL);
            let _ = sys::spawn::wait(&self.spawned.pidfd);
        }
    }
}

pub struct Finished {
    pub report: Report,
    pub exit: ExitRecord,
    pub log: String,
}

impl Finished {
    /// The lines of standard output, without their headers.
    pub fn stdout(&self) -> String {
        let text = |line: &str| line.split_once(" stdout F ").map(|(_, text)| format!("{text}\n"));
        self.log.lines().filter_map(text).collect()
    }

    pub fn failure(&self) -> (record::FailedStage, String) {
        let failure = self.exit.failure.clone().expect("a failure");
        let Report::Failed { stage, message } = self.report.clone() else { panic!("{:?}", self.report) };
        assert_eq!((stage, &message), (failure.stage, &failure.message));
        (stage, message)
    }
}

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn make_layer(layer: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(layer.join(dir)).unwrap();
    }
    fs::set_permissions(layer.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for applet in [
        "awk", "cat", "chmod", "dd", "echo", "env", "false", "grep", "head", "id", "kill", "ls", "mkdir", "mknod",
        "mount", "printf", "pwd", "readlink", "seq", "setsid", "sh", "sleep", "sort", "stty", "tail", "touch", "tr",
        "true", "tty", "umount", "wc", "yes",
    ] {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n").unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:34:\nextra:x:77:web,root\n").unwrap();
}

/// What containerd gives runc for a plain pod, as far as it matters here.
fn spec() -> Value {
    let capabilities = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
    .map(|name| format!("CAP_{name}"));
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=test"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000}],
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
