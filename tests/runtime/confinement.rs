//! What a container sees and what it may do.

use crate::host::{Host, binary};
use pinlet::model::observed::ExitStatus;
use pinlet::runtime::spawn::Report;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

#[test]
fn the_environment_is_the_specs_in_its_order_and_home() {
    let host = Host::new();
    let env = ["PATH=/bin", "Z=1", "A=2", "M=three words"];
    let setup = host.container(&["/bin/env"]).with(|_, spec| spec["process"]["env"] = json!(env));
    assert_eq!(setup.output(), "PATH=/bin\nZ=1\nA=2\nM=three words\nHOME=/root\n");
}

#[test]
fn the_user_has_its_ids_its_groups_its_home_and_its_output() {
    let host = Host::new();
    let script = "id; echo $HOME; echo on stdout > /dev/stdout; echo on fd 1 > /proc/self/fd/1";
    let web = "uid=33(web) gid=34(web) groups=34(web),77(extra)\n/srv/web\non stdout\non fd 1\n";
    assert_eq!(host.sh(script).user("web").output(), web);
    assert_eq!(host.sh("id; echo $HOME").user("1000:1001").output(), "uid=1000 gid=1001 groups=1001\n/\n");
    assert_eq!(host.sh("id").output(), "uid=0(root) gid=0(root) groups=0(root),77(extra)\n");
}

#[test]
fn nothing_but_the_three_descriptors_is_open() {
    let host = Host::new();
    // 3 is the directory that ls reads.
    assert_eq!(host.sh("ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0").output(), "0 1 2 3 /dev/null\n");
}

#[test]
fn no_descriptor_of_ours_leads_an_entrypoint_or_a_working_directory_out() {
    let host = Host::new();
    let busybox = |n: u32| format!("/proc/self/fd/{n}/../../../../../../bin/busybox");
    for n in 3..=20 {
        let finished = host.container(&[&busybox(n), "true"]).run();
        assert!(finished.exit.failure.is_some(), "descriptor {n}: {:?}", finished.exit);
        let cwd = format!("/proc/self/fd/{n}");
        let finished = host
            .sh("ls -a . ; cat ../../../../../etc/hostname")
            .with(|_, spec| spec["process"]["cwd"] = json!(cwd))
            .run();
        assert!(finished.exit.failure.is_some(), "descriptor {n}: {:?} {}", finished.exit, finished.log);
    }
}

#[test]
fn a_missing_working_directory_is_made_also_below_a_volume_and_behind_a_symlink() {
    let host = Host::new();
    std::os::unix::fs::symlink("/srv/real", host.layer().join("link")).unwrap();
    let pwd = |cwd: &str| host.sh("pwd; ls -ld . | head -c 10").with(|_, spec| spec["process"]["cwd"] = json!(cwd));
    assert_eq!(pwd("/srv/deep/er").output(), "/srv/deep/er\n");
    fs::create_dir_all(host.layer().join("srv/real")).unwrap();
    assert_eq!(pwd("/link/x").output(), "/srv/real/x\n");
    let volume = host.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    assert_eq!(pwd("/data/in/side").volume(&volume, "/data", &["rbind", "rw"]).output(), "/data/in/side\n");
    assert!(volume.join("in/side").is_dir());
    let finished = pwd("/data/not/made").volume(&volume, "/data", &["rbind", "ro"]).run();
    assert!(finished.failure().1.contains("ENOENT"), "{:?}", finished.exit);
    assert!(!volume.join("not").exists());
}

/// A block device that opens: the machine's own disks may open for nobody.
struct LoopDevice(String);

impl LoopDevice {
    fn new(host: &Host) -> LoopDevice {
        let backing = host.dir.join("backing");
        fs::write(&backing, "secret of the host".repeat(1000)).unwrap();
        let made = Command::new("losetup").arg("--find").arg("--show").arg(&backing).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        LoopDevice(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn the_hosts_disks_cannot_be_opened_and_the_usual_devices_can() {
    try_devices(&Host::new());
}

/// The same by the BPF program, also where there is a v1 devices hierarchy.
#[test]
fn the_hosts_disks_cannot_be_opened_on_cgroup_v2() {
    try_devices(&Host::on_v2_alone());
}

#[test]
fn where_no_device_rules_can_be_set_there_are_no_nodes_to_open() {
    let host = Host::without_device_rules();
    let device = LoopDevice::new(&host);
    let meta = fs::metadata(&device.0).unwrap();
    let (major, minor) = (meta.rdev() >> 8 & 0xfff, meta.rdev() & 0xff);
    // Also not by a node that the image brings.
    let brought = host.layer().join("disk");
    let made =
        Command::new("mknod").arg(&brought).args(["b", &major.to_string(), &minor.to_string()]).status().unwrap();
    assert!(made.success());
    let script = format!(
        "mknod /tmp/disk b {major} {minor} 2>/dev/null || echo not made; cat /disk 2>/dev/null || echo denied
         grep CapBnd /proc/self/status; echo x > /dev/null && echo nulled; sleep 1000"
    );
    let (container, report) = host.sh(&script).start();
    let Report::Started { warnings, .. } = report else { panic!("{report:?}") };
    assert!(warnings.iter().any(|w| w.starts_with("no device rules can be set")), "{warnings:?}");
    container.wait_log("nulled");
    let log = container.log();
    assert!(log.contains("not made") && log.contains("denied") && !log.contains("secret"), "{log}");
    // CAP_MKNOD is number 27.
    let mask = log.split("CapBnd:").nth(1).unwrap().split_whitespace().next().unwrap();
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() >> 27 & 1, 0, "{log}");
}

fn try_devices(host: &Host) {
    let device = LoopDevice::new(host);
    let meta = fs::metadata(&device.0).unwrap();
    assert!(meta.file_type().is_block_device() && fs::read(&device.0).unwrap().starts_with(b"secret"));
    let (major, minor) = (meta.rdev() >> 8 & 0xfff, meta.rdev() & 0xff);
    let script = format!(
        "mknod /tmp/disk b {major} {minor} && echo made; cat /tmp/disk >/tmp/got || echo denied; wc -c </tmp/got
         mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg || echo denied
         for f in null zero full random urandom tty ptmx; do ls -l /dev/$f | head -c 1; done; echo
         head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x >/dev/null && echo nulled"
    );
    assert_eq!(host.sh(&script).output(), "made\ndenied\n0\ndenied\nccccccl\n3\n5\nnulled\n");
}

#[test]
fn limits_are_set_and_cannot_be_raised_from_inside() {
    let host = Host::new();
    let limited = |l: &mut pinlet::runtime::launch::Launch, _: &mut Value| {
        l.cgroup.limits.memory_limit_bytes = Some(64 << 20);
        l.cgroup.limits.cpu_quota_us = Some(50_000);
        l.cgroup.limits.cpu_shares = Some(512);
        l.cgroup.limits.pids_max = Some(50);
        l.cgroup.pod_limits.memory_limit_bytes = Some(128 << 20);
    };
    let container = host.sh("sleep 1000").with(limited).started();
    let read = |path: &std::path::Path, files: &[&str]| {
        let found = host
            .hierarchies
            .all()
            .iter()
            .flat_map(|h| files.iter().map(|f| h.mount.join(path).join(f)))
            .find(|p| p.exists());
        fs::read_to_string(found.expect("a limit file")).unwrap().trim().to_owned()
    };
    let leaf = container.leaf();
    assert_eq!(read(&leaf, &["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(read(leaf.parent().unwrap(), &["memory.limit_in_bytes", "memory.max"]), (128 << 20).to_string());
    assert_eq!(read(&leaf, &["pids.max"]), "50");
    assert!(["50000", "50000 100000"].contains(&read(&leaf, &["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    assert!(["512", "20"].contains(&read(&leaf, &["cpu.shares", "cpu.weight"]).as_str()));

    let script = "cat /proc/1/cgroup | grep -v ':/$'; mkdir -p /tmp/cg
        mount -t cgroup -o memory none /tmp/cg 2>/dev/null || mount -t cgroup2 none /tmp/cg 2>/dev/null || echo no mount
        touch /sys/fs/cgroup/x 2>/dev/null || echo no cgroupfs";
    assert_eq!(host.sh(script).output(), "no mount\nno cgroupfs\n");
}

#[test]
fn every_hierarchy_has_the_container_in_its_own_leaf() {
    let host = Host::new();
    let container = host.sh("sleep 1000").started();
    let leaf = format!("/{}", container.leaf().display());
    let place = fs::read_to_string(format!("/proc/{}/cgroup", container.init().0)).unwrap();
    assert!(place.lines().all(|line| line.ends_with(&leaf)), "{place}");
}

/// The agent may be started with whatever its parent left it.
#[test]
fn a_dirty_parent_does_not_show() {
    let host = Host::new();
    let script = "grep -E 'Sig(Blk|Ign|Cgt)|Groups|Umask|NoNewPrivs|Seccomp:' /proc/self/status | tr '\\t' ' '
        env | sort; ulimit -n; ulimit -c; ls /proc/self/fd | wc -l";
    let setup = host.container(&["/bin/sh", "-c", script]).with(|_, spec| {
        let core = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        spec["process"]["rlimits"].as_array_mut().unwrap().push(core);
    });
    let clean = setup.output();
    assert!(clean.contains("SigBlk: 0000000000000000") && clean.contains("Umask: 0022"), "{clean}");
    assert!(clean.contains("Groups: 0 77") && clean.contains("SigIgn: 0000000000000000"), "{clean}");
    // The same again from a process that is dirty in every one of them, which runs this very test's host code.
    let exe = std::env::current_exe().unwrap();
    let dirty = Command::new("/bin/sh")
        .arg("-c")
        .arg("trap '' HUP INT TERM CHLD PIPE USR1; umask 077; ulimit -S -n 512; exec 7</etc/passwd 8</tmp; exec \"$0\" \"$@\"")
        .arg(exe)
        .args(["--exact", "confinement::a_dirty_parent_runs_a_container", "--nocapture"])
        .env("DIRT", "\u{fffd}")
        .env("PINLET_BIN", binary())
        .env("PINLET_TEST_SCRIPT", script)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&dirty.stdout);
    let seen =
        text.split("-----\n").nth(1).unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&dirty.stderr)));
    assert_eq!(seen, clean);
}

#[test]
fn a_dirty_parent_runs_a_container() {
    // The other half of a_dirty_parent_does_not_show, which runs it in a dirty process; by itself it has nothing to do.
    let Ok(script) = std::env::var("PINLET_TEST_SCRIPT") else { return };
    let host = Host::new();
    let setup = host.container(&["/bin/sh", "-c", &script]).with(|_, spec| {
        let core = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        spec["process"]["rlimits"].as_array_mut().unwrap().push(core);
    });
    println!("-----\n{}-----", setup.output());
}

#[test]
fn a_volume_takes_part_in_mounts_both_ways_where_the_spec_says_so_and_nothing_else_does() {
    let host = Host::new();
    let volume = host.dir.join("volume");
    fs::create_dir_all(volume.join("late")).unwrap();
    // The host's own side has to be shared for anything to propagate.
    pinlet::sys::mount::bind(&volume, &volume).unwrap();
    pinlet::sys::mount::make_shared(&volume).unwrap();
    let start = |propagation: &str| {
        host.sh("sleep 1000")
            .volume(&volume, "/data", &["rbind", "rw"])
            .with(|_, spec| spec["linux"]["rootfsPropagation"] = json!(propagation))
            .started()
    };
    let (slave, private) = (start("slave"), start("private"));
    pinlet::sys::mount::tmpfs(&volume.join("late"), "size=64k", true).unwrap();
    fs::write(volume.join("late/word"), "arrived").unwrap();
    let inside = |init: i32| fs::read_to_string(format!("/proc/{init}/root/data/late/word")).ok();
    assert_eq!(inside(slave.init().0).as_deref(), Some("arrived"));
    assert_eq!(inside(private.init().0), None);
    for dir in [volume.join("late"), volume.clone()] {
        pinlet::sys::mount::unmount_detach(&dir).unwrap();
    }
    let own_mounts = fs::read_to_string(format!("/proc/{}/mountinfo", slave.init().0)).unwrap();
    assert!(!own_mounts.contains(" shared:"), "{own_mounts}");
}

#[test]
fn a_file_is_a_volume_too_and_read_only_is_read_only() {
    let host = Host::new();
    let file = host.dir.join("hosts");
    fs::write(&file, "given\n").unwrap();
    let script = "cat /etc/hosts; echo x > /etc/hosts || echo read-only";
    let finished = host.sh(script).volume(&file, "/etc/hosts", &["rbind", "ro"]).run();
    assert_eq!((finished.stdout().as_str(), finished.exit.status), ("given\nread-only\n", ExitStatus::Code(0)));
}

#[test]
fn images_of_forty_and_of_127_layers_run() {
    let host = Host::new();
    for count in [40, 127] {
        let output = host.sh("cat /marker").with(|launch, _| launch.layers = layers(&host, count)).output();
        assert_eq!(output, format!("{}\n", count - 1));
    }
}

/// `count` layers, the top one first, each with a file of its own and one that all have.
fn layers(host: &Host, count: usize) -> Vec<std::path::PathBuf> {
    let mut all = vec![host.layer()];
    for n in 1..count {
        let layer = host.dir.join("layers").join(n.to_string());
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join("marker"), format!("{n}\n")).unwrap();
        all.insert(0, layer);
    }
    all
}

#[test]
fn the_root_is_writable_and_thrown_away() {
    let host = Host::new();
    assert_eq!(host.sh("echo x > /new && cat /new; chmod 700 /etc/passwd").output(), "x\n");
    assert!(!host.layer().join("new").exists());
    assert_eq!(host.sh("ls /new 2>/dev/null || echo gone").output(), "gone\n");
}

/// On a host with many mounts (other pods' namespaces among them) they are taken away before libcontainer reads about
/// them, and what the container needs is still there.
#[test]
fn a_host_full_of_mounts_is_no_hindrance() {
    let host = Host::new();
    let clutter = host.dir.join("clutter");
    let mut mounted = Vec::new();
    for n in 0..30 {
        let (dir, file) = (clutter.join(format!("d{n}")), clutter.join(format!("f{n}")));
        fs::create_dir_all(dir.join("below")).unwrap();
        fs::write(&file, "").unwrap();
        pinlet::sys::mount::tmpfs(&dir, "size=4k", true).unwrap();
        pinlet::sys::mount::bind(std::path::Path::new("/proc/self/ns/uts"), &file).unwrap();
        mounted.extend([dir, file]);
    }
    let volume = host.dir.join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    pinlet::sys::mount::tmpfs(&volume.join("sub"), "size=4k", true).unwrap();
    fs::write(volume.join("sub/word"), "there\n").unwrap();
    let ours = || {
        let all = pinlet::sys::mount::mounts().unwrap();
        all.into_iter().filter(|m| m.target.starts_with(&host.dir)).collect::<Vec<_>>()
    };
    let before = ours();
    let output = host.sh("cat /data/sub/word").volume(&volume, "/data", &["rbind", "rw"]).output();
    assert_eq!(output, "there\n");
    assert_eq!(ours(), before);
    for target in mounted.iter().chain([&volume.join("sub")]) {
        pinlet::sys::mount::unmount_detach(target).unwrap();
    }
}

#[test]
fn a_run_dir_behind_a_symlink_is_not_taken_for_clutter() {
    let host = Host::new();
    let real = host.dir.join("real");
    fs::create_dir_all(&real).unwrap();
    pinlet::sys::mount::tmpfs(&real, "size=1m", true).unwrap();
    std::os::unix::fs::symlink(&real, host.dir.join("link")).unwrap();
    let behind = |launch: &mut pinlet::runtime::launch::Launch, _: &mut Value| {
        launch.dir = host.dir.join("link/containers").join(launch.id.as_str());
    };
    assert_eq!(host.sh("echo found").with(behind).output(), "found\n");
    pinlet::sys::mount::unmount_detach(&real).unwrap();
}
