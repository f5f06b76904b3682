//! Records of the run dir that were cut or damaged: whatever is left is a record, or an error that names the file, and
//! never the end of who reads it.

use super::launch::{CgroupPlan, Launch, LaunchFile, LaunchVolume, Limits, LogTarget};
use super::record::{self, ExitRecord, FailedStage, Failure, Intent, RecordError, Started};
use super::sandbox::SandboxError;
use super::sandbox_record::{self, LinkRecord, SandboxRecord};
use super::testing::{TempDir, container, pod};
use crate::damage::{Dice, damaged};
use crate::error::chain;
use crate::model::id::{BootId, ContainerId, ContainerName, Pid, PodUid, ProcessRef};
use crate::model::observed::{ExitStatus, LinuxUser};
use crate::model::time::{Mono, Now, Wall};
use std::fs;
use std::path::Path;

const DAMAGES: u64 = 4000;

/// What a reader made of a file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// As it is written again, so that two readings can be compared.
    Record(Vec<u8>),
    None,
    Error,
}

fn boot() -> BootId {
    BootId::new("6d0b3c6e-6b1c-4f0e-9d56-0a1b2c3d4e5f")
}

fn process(pid: i32) -> ProcessRef {
    ProcessRef { pid: Pid(pid), start_ticks: 123_456 }
}

fn intent() -> Intent {
    let pod = pod();
    Intent {
        version: record::VERSION,
        boot_id: boot(),
        id: ContainerId::from_bytes([0xa7; 32]),
        pod_uid: pod.uid,
        namespace: pod.key.namespace,
        pod_name: pod.key.name,
        container: container("nodejs").name,
        attempt: 3,
        cgroup_root: "k8s".into(),
        cgroup_pod: "kubepods/besteffort/podf17e73af".into(),
        monitor: Some(process(4242)),
        image: "docker.io/library/busybox:1".to_owned(),
        image_id: "sha256:abcdef".to_owned(),
        stop_signal: 15,
        grace_seconds: 30,
        created: Now { mono: Mono(987_654_321), wall: Wall(1_700_000_000_000_000_000) },
        log: "/var/log/pods/a/b/3.log".into(),
    }
}

fn started() -> Started {
    Started {
        version: record::VERSION,
        boot_id: boot(),
        init: process(4243),
        started_at: Wall(1_700_000_000_000_000_000),
        warnings: vec!["no \"pids\" controller: é".to_owned()],
        user: Some(LinuxUser { uid: 1000, gid: 100, groups: vec![100, 2000] }),
    }
}

fn exit() -> ExitRecord {
    ExitRecord {
        version: record::VERSION,
        boot_id: boot(),
        status: ExitStatus::Signal(9),
        oom_killed: true,
        started_at: Wall(1_700_000_000_000_000_000),
        finished_at: Wall(1_700_000_001_000_000_000),
        finished_mono: Some(Mono(99)),
        failure: Some(Failure { stage: FailedStage::Run, message: "exec: \"x\": not found\n".to_owned() }),
    }
}

fn sandbox() -> SandboxRecord {
    let mut record = SandboxRecord::of(&pod(), &boot());
    record.ip = Some([10, 85, 0, 7].into());
    record.link = Some(LinkRecord {
        bridge: "pinlet0".to_owned(),
        veth: "pl0123456789a".to_owned(),
        mac: "02:00:0a:55:00:07".to_owned(),
    });
    record
}

fn launch(dir: &Path) -> LaunchFile {
    let of = intent();
    let limits = Limits { cpu_shares: Some(512), memory_limit_bytes: Some(1 << 26), ..Limits::default() };
    let volume = LaunchVolume { source: "/srv/data".into(), staging: dir.join("v/0") };
    let launch = Launch {
        version: super::launch::VERSION,
        cgroup: CgroupPlan {
            root: of.cgroup_root,
            pod: of.cgroup_pod,
            leaf: of.id.to_string(),
            limits,
            pod_limits: Limits { pids_max: Some(1024), ..limits },
        },
        id: of.id,
        pod_uid: of.pod_uid,
        namespace: of.namespace,
        pod_name: of.pod_name,
        container: of.container,
        attempt: of.attempt,
        dir: dir.to_owned(),
        layers: vec!["/layers/1".into(), "/layers/0".into()],
        upper: "/upper".into(),
        work: "/work".into(),
        volumes: vec![volume],
        user: "1000:www".to_owned(),
        oom_score_adj: 1000,
        log: LogTarget { path: of.log, max_bytes: 10 << 20, max_files: 5 },
    };
    let hierarchies = r#"{"all":[{"mount":"/sys/fs/cgroup","version":"V2","controllers":[]}]}"#;
    LaunchFile { launch, hierarchies: serde_json::from_str(hierarchies).expect("hierarchies") }
}

/// Hands `read` the record as it is, cut at every length, and damaged: in `file` of `dir`, where it was written.
fn assert_survives(dir: &Path, file: &str, of_a_cut: Outcome, read: impl Fn(&Path) -> Outcome) {
    let path = dir.join(file);
    let whole = fs::read(&path).expect("a record");
    assert_eq!(read(dir), Outcome::Record(whole.clone()), "it is as it was written");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        assert_eq!(read(dir), of_a_cut, "{file} of {cut} bytes");
    }
    let (mut read_well, mut refused) = (0, 0);
    for seed in 0..DAMAGES {
        let bytes = damaged(&whole, &mut Dice::new(seed));
        fs::write(&path, &bytes).expect("written");
        let outcome = read(dir);
        match &outcome {
            Outcome::Record(again) => {
                fs::write(&path, again).expect("written");
                assert_eq!(read(dir), outcome, "seed {seed}: {}", String::from_utf8_lossy(&bytes));
                read_well += 1;
            }
            Outcome::None | Outcome::Error => refused += 1,
        }
    }
    assert!(read_well > DAMAGES / 20 && refused > DAMAGES / 5, "{read_well} read, {refused} refused");
}

fn told<T: serde::Serialize>(dir: &Path, read: Result<Option<T>, RecordError>) -> Outcome {
    match read {
        Ok(Some(record)) => Outcome::Record(serde_json::to_vec(&record).expect("it was JSON")),
        Ok(None) => Outcome::None,
        Err(error) => {
            assert!(chain(&error).contains(dir.to_str().expect("text")), "{error}");
            Outcome::Error
        }
    }
}

#[test]
fn an_intent() {
    let dir = TempDir::new();
    record::write_intent(dir.path(), &intent()).expect("written");
    assert_survives(dir.path(), "intent.json", Outcome::Error, |dir| {
        let read = record::read_intent(dir);
        if let Ok(Some(intent)) = &read {
            // What the agent makes of it must not fail either.
            let _ = (intent.grace(), intent.cgroup_path());
            // Paths are made of these: an empty id would name the pod's cgroup, and `..` anything.
            assert!(ContainerId::new(intent.id.as_str()).is_some(), "{}", intent.id);
            assert!(ContainerName::new(intent.container.as_str()).is_some(), "{}", intent.container);
            assert!(PodUid::new(intent.pod_uid.as_str()).is_some(), "{}", intent.pod_uid);
        }
        told(dir, read)
    });
}

#[test]
fn a_started_record() {
    let dir = TempDir::new();
    record::write_started(dir.path(), &started()).expect("written");
    assert_survives(dir.path(), "started.json", Outcome::Error, |dir| told(dir, record::read_started(dir)));
}

#[test]
fn an_exit_record() {
    let dir = TempDir::new();
    record::write_exit(dir.path(), &exit()).expect("written");
    assert_survives(dir.path(), "exit.json", Outcome::Error, |dir| {
        let read = record::read_exit(dir);
        if let Ok(Some(exit)) = &read {
            let _ = (exit.status.code(), exit.finished_at.seconds_since(exit.started_at));
            let _ = (exit.finished_at.to_time(), exit.started_at.rfc3339_nanos());
        }
        told(dir, read)
    });
}

#[test]
fn a_sandbox_record() {
    let dir = TempDir::new();
    sandbox_record::write_record(dir.path(), &sandbox()).expect("written");
    // A sandbox whose record makes no sense is made anew.
    assert_survives(dir.path(), sandbox_record::RECORD, Outcome::None, |dir| match sandbox_record::read(dir) {
        Ok(Some(record)) => Outcome::Record(serde_json::to_vec(&record).expect("it was JSON")),
        Ok(None) => Outcome::None,
        Err(SandboxError::Newer { version, .. }) => {
            assert!(version > sandbox_record::VERSION);
            Outcome::Error
        }
        Err(error) => panic!("{error}"),
    });
}

#[test]
fn a_launch_file() {
    let dir = TempDir::new();
    launch(dir.path()).write().expect("written");
    assert_survives(dir.path(), "launch.json", Outcome::Error, |dir| match LaunchFile::read(dir) {
        Ok(file) => {
            let _ = (file.launch.cgroup.leaf_path(), file.hierarchies.is_pure_v2());
            Outcome::Record(serde_json::to_vec(&file).expect("it was JSON"))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Outcome::Error
        }
    });
}
