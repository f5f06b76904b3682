//! What a program sees from inside its container: all that containerd would show it, and nothing of the agent.

mod support;

use support::image::{Image, Layer};
use support::loopfs::LoopFs;
use support::wait::expect;
use support::{IDLE, Node, PATIENCE, Pod, Setup, http, json, verb, wait_for};

/// The value of `Name:` in a copy of /proc/<pid>/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|l| l.strip_prefix(name).and_then(|r| r.strip_prefix(':')));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

#[test]
fn the_environment_is_path_hostname_and_what_the_manifest_says() {
    let node = Node::start();
    let env = json!([
        {"name": "PLAIN", "value": "text"},
        {"name": "COMPOSED", "value": "$(PLAIN)-$(FROM_LATER)-$$(PLAIN)-$(unclosed"},
        {"name": "FROM_LATER", "value": "x"},
        {"name": "EMPTY"},
        {"name": "FROM_IMAGE", "value": "overridden"},
        {"name": "PLAIN", "value": "again"},
    ]);
    let out = node.output_of(Pod::new("app", "").with("command", json!(["/bin/env"])).with("env", env));
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("procfs");
    assert_eq!(
        lines,
        [
            "COMPOSED=text-$(FROM_LATER)-$(PLAIN)-$(unclosed",
            "EMPTY=",
            "FROM_IMAGE=overridden",
            "FROM_LATER=x",
            "HOME=/root",
            &format!("HOSTNAME={}", host_name.trim()),
            "PATH=/usr/local/bin:/bin",
            "PLAIN=again",
        ]
    );
}

#[test]
fn command_and_args_expand_variables_and_override_the_image() {
    let image = Image::new("entry:1").config("Entrypoint", json!(["/bin/echo", "entry"])).config("Cmd", json!(["cmd"]));
    let node = Setup::default().image(image).start();
    let env = json!([{"name": "WORD", "value": "w"}]);
    let pod = |name: &str| Pod::new(name, "").image("entry:1").with("command", json!(null)).with("env", env.clone());
    assert_eq!(node.output_of(pod("neither")), "entry cmd\n");
    assert_eq!(node.output_of(pod("args").with("args", json!(["a", "$(WORD)"]))), "entry a w\n");
    assert_eq!(
        node.output_of(pod("command").with("command", json!(["/bin/echo", "$(WORD)", "$$(WORD)"]))),
        "w $(WORD)\n"
    );
    let both = pod("both").with("command", json!(["/bin/echo", "c"])).with("args", json!(["$(NONE)"]));
    assert_eq!(node.output_of(both), "c $(NONE)\n");
}

#[test]
fn a_command_without_a_slash_is_found_through_path() {
    let node = Node::start();
    assert_eq!(node.output_of(Pod::new("app", "").with("command", json!(["echo", "found"]))), "found\n");
}

#[test]
fn the_working_directory_is_the_manifests_else_the_images_and_is_made() {
    let node = Setup::default().image(Image::new("dir:1").config("WorkingDir", json!("/from/image"))).start();
    assert_eq!(node.output_of(Pod::new("image", "pwd").image("dir:1")), "/from/image\n");
    let pod = Pod::new("manifest", "pwd").image("dir:1").with("workingDir", json!("/made/on/demand"));
    assert_eq!(node.output_of(pod), "/made/on/demand\n");
    assert_eq!(node.output_of(Pod::new("none", "pwd")), "/\n");
}

#[test]
fn the_user_of_the_image_is_looked_up_in_the_image() {
    let user = |tag: &str, user: &str| Image::new(tag).config("User", json!(user));
    let node = Setup::default()
        .image(user("named:1", "app"))
        .image(user("number:1", "1234"))
        .image(user("pair:1", "1000:50"))
        .image(user("unknown:1", "nobody-here"))
        .start();
    let ids = "grep -E '^(Uid|Gid|Groups|CapEff|CapPrm|CapBnd)' /proc/self/status; echo HOME=$HOME";
    let named = node.output_of(Pod::new("named", ids).image("named:1"));
    assert_eq!(field(&named, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&named, "Gid"), "1000\t1000\t1000\t1000");
    let groups: Vec<&str> = field(&named, "Groups").split(' ').collect();
    assert!(groups.contains(&"50") && !groups.contains(&"0"), "{named}");
    assert_eq!((field(&named, "CapEff"), field(&named, "CapPrm")), ("0000000000000000", "0000000000000000"));
    assert!(named.contains("HOME=/home/app"), "{named}");
    let number = node.output_of(Pod::new("number", ids).image("number:1"));
    assert!(field(&number, "Uid").starts_with("1234\t") && field(&number, "Gid").starts_with("0\t"), "{number}");
    let pair = node.output_of(Pod::new("pair", ids).image("pair:1"));
    assert!(field(&pair, "Uid").starts_with("1000\t") && field(&pair, "Gid").starts_with("50\t"), "{pair}");
    node.put_pod(&Pod::new("unknown", ids).image("unknown:1"));
    let pod = node.wait_pod("unknown", "is refused", |p| p.waiting("c") == "CreateContainerConfigError");
    let message = pod.status("c")["state"]["waiting"]["message"].to_string();
    assert!(message.contains("nobody-here"), "{message}");
}

#[test]
fn the_default_capabilities_are_containerds() {
    let node = Node::start();
    let out = node.output_of(Pod::new("app", "cat /proc/self/status"));
    assert_eq!(field(&out, "CapEff"), "00000000a80425fb");
    assert_eq!(field(&out, "CapPrm"), "00000000a80425fb");
    assert_eq!(field(&out, "CapBnd"), "00000000a80425fb");
    assert_eq!(field(&out, "CapInh"), "0000000000000000");
    assert_eq!(field(&out, "CapAmb"), "0000000000000000");
    assert_eq!(field(&out, "NoNewPrivs"), "0");
}

/// Everything that a daemon may have picked up from whoever started it.
const DIRTY: &str = "umask 077; ulimit -S -n 300; ulimit -S -c unlimited 2>/dev/null; ulimit -S -s 1024; \
    exec 7</etc/passwd 8</etc/shadow; cd /var; trap '' HUP INT USR1 USR2 PIPE CHLD; \
    exec setpriv --groups 7,8,4000 perl -MPOSIX -e 'sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGHUP, SIGUSR2, SIGCHLD)); exec @ARGV' \"$@\"";

#[test]
fn nothing_of_a_dirty_agent_reaches_the_container() {
    let env = vec![("SECRET_OF_THE_AGENT".to_owned(), "x".to_owned())];
    let mut node = Setup { shell: Some(DIRTY.to_owned()), env, ..Setup::default() }.start();
    let script = "cat /proc/self/status; echo umask=$(umask); ls -l /proc/self/fd; env; echo cwd=$(pwd); \
                  echo core=$(ulimit -S -c) stack=$(ulimit -S -s) nofile=$(ulimit -S -n)/$(ulimit -H -n); \
                  touch /tmp/f; stat -c mode=%a /tmp/f; echo oom=$(cat /proc/self/oom_score_adj)";
    let out = node.output_of(Pod::new("app", script));
    assert_eq!(field(&out, "SigBlk"), "0000000000000000");
    assert_eq!(field(&out, "SigIgn"), "0000000000000000");
    assert!(matches!(field(&out, "Groups"), "" | "0"), "{out}");
    assert!(out.contains("umask=0022") && out.contains("mode=644"), "{out}");
    assert!(
        !out.contains("SECRET_OF_THE_AGENT") && !out.contains("/etc/passwd") && !out.contains("/etc/shadow"),
        "{out}"
    );
    assert!(out.contains("cwd=/\n"), "{out}");
    assert!(out.contains("core=0 stack=8192 "), "{out}");
    let nofile = out.split("nofile=").nth(1).and_then(|r| r.lines().next()).expect("a line");
    let (soft, hard) = nofile.split_once('/').expect("both");
    assert!(soft == hard && soft.parse::<u64>().is_ok_and(|n| n > 300), "{nofile}");
    assert!(out.contains("oom=1000\n"), "{out}");
    // The monitor, too, has nothing of it.
    node.put_pod(&Pod::idle("stays"));
    let pod = node.wait_running("stays");
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.init_pid(&pod, "c"))).expect("alive");
    let parent = field(&status, "PPid");
    let monitor = std::fs::read_to_string(format!("/proc/{parent}/status")).expect("alive");
    assert_eq!((field(&monitor, "Groups"), field(&monitor, "SigIgn")), ("", "0000000000000000"));
    assert_eq!(std::fs::read(format!("/proc/{parent}/environ")).expect("alive"), b"");
    assert_eq!(node.stop_agent(), 0, "a SIGTERM that was blocked at start is heard");
}

#[test]
fn a_container_has_the_three_standard_descriptors_and_no_other() {
    let node = Node::start();
    let out = node.output_of(Pod::new("app", "").with("command", json!(["/bin/ls", "/proc/self/fd"])));
    // 3 is ls's own view of the directory.
    assert_eq!(out, "0\n1\n2\n3\n");
}

#[test]
fn no_descriptor_of_the_host_can_be_named_as_entrypoint_or_working_directory() {
    let node = Setup::default().restart_period(60).start();
    for n in 3..=20 {
        let dir = format!("/proc/self/fd/{n}/..");
        let script = "ls -d /manifests /cgroup.procs /launch.json ./pinlet-monitors 2>/dev/null; pwd; ls";
        node.put_pod(&Pod::new(&format!("dir{n}"), script).with("workingDir", json!(dir)).restart("Never"));
        let program = format!("/proc/self/fd/{n}/../../../../../bin/sh");
        let pod =
            Pod::new(&format!("run{n}"), "").with("command", json!([program, "-c", "cat /proc/self/cgroup; ls /"]));
        node.put_pod(&pod.restart("Never"));
    }
    wait_for("all have ended, one way or another", PATIENCE * 2, || {
        let pods = node.try_pods()?;
        let settled = pods.iter().filter(|p| {
            matches!(p.phase().as_str(), "Succeeded" | "Failed")
                || p.waiting("c").ends_with("Error")
                || p.waiting("c") == "CrashLoopBackOff"
        });
        let settled = settled.count();
        expect(settled == 36, || format!("{settled} of {} settled", pods.len()))
    });
    for pod in node.pods() {
        let out = node.verb(&["logs", &pod.name()]);
        let escaped = ["usr", "boot", "lost+found", "kubepods", "cgroup.procs", "pinlet.sock", "containers"];
        assert!(!escaped.iter().any(|word| out.stdout.lines().any(|l| l == *word)), "{}: {out:?}", pod.name());
    }
}

#[test]
fn kernel_files_are_masked_or_read_only() {
    let node = Node::start();
    let script = "cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | wc -c; ls /sys/firmware | wc -l; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/x /sys/fs/cgroup/x; do \
            if ( echo x > $f ) 2>/dev/null; then echo wrote $f; fi; done; \
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; \
        mount | grep -E ' on /(proc|sys|dev|dev/pts|dev/mqueue|dev/shm) '";
    let out = node.output_of(Pod::new("app", script).own_network());
    assert!(out.starts_with("0\n0\n"), "{out}");
    assert!(!out.contains("wrote") && !out.contains("remounted"), "{out}");
    for mount in [
        "on /proc type proc (rw,nosuid,nodev,noexec",
        "on /sys type sysfs (ro,nosuid,nodev,noexec",
        "on /dev type tmpfs",
        "on /dev/pts type devpts (rw,nosuid,noexec",
        "on /dev/mqueue type mqueue",
        "on /dev/shm type tmpfs",
    ] {
        assert!(out.contains(mount), "{mount} in {out}");
    }
}

#[test]
fn the_usual_devices_work_and_no_other_opens() {
    let node = Setup::default().stopped().start();
    let disk = LoopFs::new(&node.dir, "disk", 8);
    let (major, minor) = disk.device();
    let mut node = node;
    node.start_agent();
    let script = format!(
        "for d in null zero full random urandom tty ptmx; do [ -e /dev/$d ] || echo no $d; done; \
         echo x > /dev/null && head -c 4 /dev/urandom | wc -c; \
         mknod /tmp/disk b {major} {minor}; head -c 512 /tmp/disk 2>/dev/null | wc -c; \
         dd if=/dev/zero of=/tmp/disk bs=512 count=1 2>/dev/null && echo overwritten; ls /dev | grep -cE '^(vd|sd|loop)'"
    );
    let out = node.output_of(Pod::new("app", &script));
    let lines: Vec<&str> = out.lines().filter(|l| !l.contains("can't") && !l.contains("mknod")).collect();
    assert_eq!(lines, ["4", "0", "0"], "{out}");
}

#[test]
fn a_container_cannot_raise_its_own_limits() {
    let node = Node::start();
    let script = "for f in $(find /sys/fs/cgroup -name 'memory.max' -o -name 'memory.limit_in_bytes' -o -name 'pids.max' 2>/dev/null); \
                  do ( echo 1000000000000 > $f ) 2>/dev/null && echo raised $f; done; \
                  mkdir /tmp/cg; mount -t cgroup2 none /tmp/cg 2>/dev/null && echo mounted; \
                  ulimit -H -n 1000000000 2>/dev/null && echo nofile; echo end";
    let resources = json!({"limits": {"memory": "64Mi"}});
    assert_eq!(node.output_of(Pod::new("app", script).with("resources", resources)), "end\n");
}

#[test]
fn resources_become_the_kubelets_cgroup_values() {
    let node = Node::start();
    let resources = json!({"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    node.put_pod(&Pod::idle("app").with("resources", resources));
    node.put_pod(&Pod::idle("sure").with("resources", json!({"limits": {"cpu": "1", "memory": "64Mi"}})));
    let (app, sure) = (node.wait_running("app"), node.wait_running("sure"));
    assert_eq!(
        (&app.0["status"]["qosClass"], &sure.0["status"]["qosClass"]),
        (&json!("Burstable"), &json!("Guaranteed"))
    );
    let read = |pod: &support::PodView, qos: &str, file: &str| -> Option<String> {
        let leaf = format!("{}/kubepods/{qos}pod{}/{}", node.tag, pod.uid(), pod.container_id("c"));
        let found = support::host::hierarchies().into_iter().map(|h| h.join(&leaf).join(file)).find(|f| f.exists());
        found.map(|f| std::fs::read_to_string(f).expect("a cgroup file").trim().to_owned())
    };
    let one_of = |values: [Option<String>; 2], expected: [&str; 2]| {
        let right = values.iter().zip(expected).any(|(v, e)| v.as_deref() == Some(e));
        assert!(right, "{values:?} instead of one of {expected:?}");
    };
    let files = |pod, qos, v1: &str, v2: &str| [read(pod, qos, v1), read(pod, qos, v2)];
    one_of(files(&app, "burstable/", "memory.limit_in_bytes", "memory.max"), ["67108864", "67108864"]);
    one_of(files(&app, "burstable/", "cpu.cfs_quota_us", "cpu.max"), ["50000", "50000 100000"]);
    one_of(files(&app, "burstable/", "cpu.shares", "cpu.weight"), ["256", "35"]);
    one_of(files(&sure, "", "memory.limit_in_bytes", "memory.max"), ["67108864", "67108864"]);
    let oom =
        |pod: &support::PodView| std::fs::read_to_string(format!("/proc/{}/oom_score_adj", node.init_pid(pod, "c")));
    // Lowering it takes CAP_SYS_RESOURCE, which root of a container may lack.
    let own = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let held = u64::from_str_radix(field(&own, "CapEff"), 16).expect("hex digits");
    let expected = if held & (1 << 24) == 0 { "0" } else { "-997" };
    assert_eq!(oom(&sure).expect("alive").trim(), expected);
    let burstable: i32 = oom(&app).expect("alive").trim().parse().expect("a number");
    assert!((3..1000).contains(&burstable), "{burstable}");
}

#[test]
fn a_pods_names_are_its_own_inside() {
    let node = Node::start();
    let aliases = json!([{"ip": "10.1.2.3", "hostnames": ["foo.local", "bar.local"]}]);
    let script = "hostname; cat /etc/hostname; echo $HOSTNAME; cat /etc/hosts; echo; echo -- $(grep -c nameserver /etc/resolv.conf)";
    let plain = node.output_of(Pod::new("plain", script).own_network().spec_field("hostAliases", aliases));
    let full = node.full_name("plain");
    assert!(
        plain.starts_with(&format!("{full}\n{full}\n{full}\n# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")),
        "{plain}"
    );
    let ip = node.pod("plain").ip();
    assert!(plain.contains(&format!("fe00::2\tip6-allrouters\n{ip}\t{full}\n")), "{plain}");
    assert!(plain.contains("\n# Entries added by HostAliases.\n10.1.2.3\tfoo.local\tbar.local\n"), "{plain}");
    let given = Pod::new("given", script).own_network().spec_field("hostname", json!("short"));
    assert!(node.output_of(given).starts_with("short\nshort\nshort\n"));
    let host = node.output_of(Pod::new("host", script));
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("procfs");
    assert!(
        host.starts_with(name.as_str()) && host.contains("# Kubernetes-managed hosts file (host network).\n"),
        "{host}"
    );
}

#[test]
fn a_pods_resolver_is_the_nodes_or_the_clusters() {
    let mut node = Setup::default().stopped().start();
    let file = node.dir.join("resolv.conf");
    std::fs::write(&file, "search corp.example\nnameserver 9.8.7.6\noptions timeout:1\n").expect("a fresh file");
    node.setup.flags.push(format!("--resolv-conf={}", file.display()));
    node.setup.flags.push("--cluster-dns=10.96.0.10".to_owned());
    node.setup.flags.push("--cluster-domain=cluster.local".to_owned());
    node.start_agent();
    let script = "cat /etc/resolv.conf";
    let default = Pod::new("default", script).own_network().spec_field("dnsPolicy", json!("Default"));
    let out = node.output_of(default);
    assert!(
        out.contains("nameserver 9.8.7.6") && out.contains("search corp.example") && out.contains("options timeout:1"),
        "{out}"
    );
    let out = node.output_of(Pod::new("cluster", script).own_network());
    assert!(out.contains("nameserver 10.96.0.10") && !out.contains("9.8.7.6"), "{out}");
    assert!(out.contains("search default.svc.cluster.local svc.cluster.local cluster.local corp.example"), "{out}");
    assert!(out.contains("ndots:5"), "{out}");
    let out = node.output_of(Pod::new("host", script));
    assert!(out.contains("nameserver 9.8.7.6"), "{out}");
}

#[test]
fn namespaces_are_shared_as_the_manifest_says() {
    let node = Node::start();
    let script = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; ps | wc -l; trap 'exit 0' TERM; sleep 1000000 & wait";
    let lines = |pod: &str, container: &str| -> Vec<String> {
        wait_for("seven lines", PATIENCE, || {
            let out = node.verb(&["logs", pod, "-c", container]).stdout;
            let lines: Vec<String> = out.lines().map(str::to_owned).collect();
            expect(lines.len() == 6, || out.clone())?;
            Ok(lines)
        })
    };
    node.put_pod(&Pod::new("own", script).container("d", script).own_network());
    node.put_pod(&Pod::new("host", script).spec_field("hostPID", json!(true)).spec_field("hostIPC", json!(true)));
    node.wait_running("own");
    node.wait_running("host");
    let own = |n: &str| std::fs::read_link(format!("/proc/self/ns/{n}")).expect("procfs").display().to_string();
    let (c, d) = (lines("own", "c"), lines("own", "d"));
    assert_eq!(c[..3], d[..3], "net, ipc and uts are the pod's");
    assert!(c[3] != d[3] && c[4] != d[4], "pid and mnt are the container's");
    for (n, name) in ["net", "ipc", "uts", "pid", "mnt"].iter().enumerate() {
        assert_ne!(c[n], own(name), "{name}");
    }
    let host = lines("host", "c");
    assert_eq!([&host[0], &host[1], &host[2], &host[3]], [&own("net"), &own("ipc"), &own("uts"), &own("pid")]);
    let seen = |line: &str| line.trim().parse::<u32>().expect("a number");
    assert!(seen(&host[5]) > seen(&c[5]));
}

#[test]
fn containers_of_a_pod_share_memory_volumes_and_files() {
    let node = Node::start();
    let writer = format!("echo from-c > /a/word; echo shm > /dev/shm/word; echo mem > /m/word; {IDLE}");
    let reader = format!(
        "until [ -s /b/word ] && [ -s /dev/shm/word ] && [ -s /n/word ]; do sleep 0.05; done; cat /b/word /dev/shm/word /n/word; \
         stat -c %a /b /n; mount | grep ' /n '; mount | grep -q ' /b type tmpfs' && echo wrong; {IDLE}"
    );
    let pod = Pod::new("app", &writer)
        .volume("disk", json!({"emptyDir": {}}), "/a")
        .volume("memory", json!({"emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}), "/m")
        .container("reader", &reader)
        .mount("disk", "/b")
        .mount("memory", "/n")
        .own_network();
    node.put_pod(&pod);
    node.wait_running("app");
    let out = wait_for("the reader has read", PATIENCE, || {
        let out = node.verb(&["logs", "app", "-c", "reader"]).stdout;
        expect(out.contains("tmpfs"), || out.clone())?;
        Ok(out)
    });
    assert!(
        out.starts_with("from-c\nshm\nmem\n777\n1777\n") || out.starts_with("from-c\nshm\nmem\n777\n777\n"),
        "{out}"
    );
    assert!(out.contains("size=8192k") && !out.contains("wrong"), "{out}");
}

#[test]
fn a_read_only_mount_is_read_only_and_the_same_volume_elsewhere_is_not() {
    let node = Node::start();
    let mounts = json!([
        {"name": "v", "mountPath": "/ro", "readOnly": true},
        {"name": "v", "mountPath": "/rw"},
    ]);
    let script = "echo x > /rw/f && cat /ro/f; ( echo y > /ro/g ) 2>/dev/null && echo wrote; mount -o remount,rw /ro 2>/dev/null && echo remounted; echo end";
    let pod = Pod::new("app", script)
        .spec_field("volumes", json!([{"name": "v", "emptyDir": {}}]))
        .with("volumeMounts", mounts);
    assert_eq!(node.output_of(pod), "x\nend\n");
}

#[test]
fn an_empty_dir_outlives_a_restart_of_its_container_and_the_root_file_system_does_not() {
    let node = Setup::default().restart_period(1).start();
    let script = "echo x >> /keep/n; echo x >> /n; wc -l < /keep/n; wc -l < /n; [ $(wc -l < /keep/n) = 3 ] && exec sleep 1000000; exit 1";
    node.put_pod(&Pod::new("app", script).volume("keep", json!({"emptyDir": {}}), "/keep"));
    node.wait_pod("app", "runs for the third time", |p| p.restarts("c") == 2 && p.is_running("c"));
    assert_eq!(node.wait_log("app", "3\n"), "3\n1\n");
}

#[test]
fn host_path_types_are_checked_and_made_as_the_kubelet_does() {
    let node = Node::start();
    let base = node.dir.join("paths");
    std::fs::create_dir(&base).expect("a fresh directory");
    std::fs::write(base.join("file"), "content\n").expect("a fresh file");
    let source =
        |path: &str, kind: &str| json!({"hostPath": {"path": base.join(path).display().to_string(), "type": kind}});
    let made = Pod::new("made", "stat -c '%F %a' /d /f")
        .volume("d", source("new/dir", "DirectoryOrCreate"), "/d")
        .volume("f", source("newfile", "FileOrCreate"), "/f");
    assert_eq!(node.output_of(made), "directory 755\nregular empty file 644\n");
    let read = Pod::new("read", "cat /f").volume("f", source("file", "File"), "/f");
    assert_eq!(node.output_of(read), "content\n");
    for (name, path, kind, text) in [
        ("isfile", "file", "Directory", "is not a directory"),
        ("isdir", "new/dir", "File", "is not a file"),
        ("nosocket", "file", "Socket", "is not a socket file"),
        ("nochar", "file", "CharDevice", "is not a character device"),
        ("noblock", "file", "BlockDevice", "is not a block device"),
    ] {
        node.put_pod(&Pod::idle(name).volume("v", source(path, kind), "/v"));
        let expected = format!("hostPath type check failed: {} {text}", base.join(path).display());
        let report = wait_for("explain names it", PATIENCE, || {
            let out = node.verb(&["explain", name]);
            expect(out.stdout.contains(&expected), || format!("no {expected:?} in {out:?}"))?;
            Ok(out)
        });
        assert_eq!(report.code, 1);
        assert_ne!(node.pod(name).phase(), "Running");
    }
    // A missing file that appears is found by itself.
    node.put_pod(&Pod::idle("later").volume("v", source("later", "Directory"), "/v"));
    node.wait_pod("later", "waits", |p| p.phase() == "Pending");
    std::fs::create_dir(base.join("later")).expect("a fresh directory");
    wait_for("the pod runs now", PATIENCE * 4, || {
        let pod = node.try_pod("later")?;
        expect(pod.is_running("c"), || format!("{:#}", pod.0["status"]))
    });
}

#[test]
fn the_termination_message_is_the_file_else_on_request_the_log() {
    let node = Node::start();
    node.put_pod(&Pod::new("file", "echo -n said > /dev/termination-log; exit 3").restart("Never"));
    let elsewhere = Pod::new("elsewhere", "echo -n there > /tmp/why; exit 0").restart("Never");
    node.put_pod(&elsewhere.with("terminationMessagePath", json!("/tmp/why")));
    let fallback = |name: &str, script: &str| {
        Pod::new(name, script).restart("Never").with("terminationMessagePolicy", json!("FallbackToLogsOnError"))
    };
    node.put_pod(&fallback("log", "echo first; echo last words; exit 1"));
    node.put_pod(&fallback("fine", "echo all is well; exit 0"));
    node.put_pod(&fallback("both", "echo log; echo -n file > /dev/termination-log; exit 1"));
    node.put_pod(
        &Pod::new("long", "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log; exit 1").restart("Never"),
    );
    let message = |name: &str| {
        let pod = node.wait_pod(name, "has ended", |p| matches!(p.phase().as_str(), "Failed" | "Succeeded"));
        pod.terminated("c")["message"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(message("file"), "said");
    assert_eq!(message("elsewhere"), "there");
    assert_eq!(message("log"), "first\nlast words\n");
    assert_eq!(message("fine"), "");
    assert_eq!(message("both"), "file");
    assert_eq!(message("long"), "x".repeat(4096));
}

#[test]
fn a_container_over_its_memory_limit_is_oom_killed() {
    let node = Setup::default().restart_period(60).start();
    let eat = "tail /dev/zero";
    let limits = json!({"limits": {"memory": "32Mi"}});
    node.put_pod(&Pod::new("app", &format!("exec {eat}")).with("resources", limits.clone()).restart("Never"));
    node.put_pod(&Pod::new("child", &format!("{eat}; exit 5")).with("resources", limits).restart("Never"));
    let pod = node.wait_pod("app", "has failed", |p| p.phase() == "Failed");
    let last = pod.terminated("c");
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{last:#}");
    let table = node.verb(&["get", "pods", "app"]).ok().stdout;
    assert!(table.contains("OOMKilled"), "{table}");
    let pod = node.wait_pod("child", "has failed", |p| p.phase() == "Failed");
    assert_eq!(pod.terminated("c")["reason"], "OOMKilled");
}

#[test]
fn a_program_that_cannot_start_says_why() {
    let image = Image::new("bad:1").layer(
        Layer::new()
            .file("bin/not-executable", b"#!/bin/sh\n", 0o644)
            .file("bin/no-interpreter", b"#!/no/such/interpreter\n", 0o755)
            .file("bin/garbage", b"\x01\x02\x03\x04", 0o755),
    );
    let node = Setup::default().image(image).start();
    for (name, program) in [
        ("missing", "/bin/no-such-program"),
        ("mode", "/bin/not-executable"),
        ("interpreter", "/bin/no-interpreter"),
        ("garbage", "/bin/garbage"),
        ("unfound", "no-such-program"),
    ] {
        let pod = Pod::new(name, "").image("bad:1").with("command", json!([program]));
        node.put_pod(&pod);
        let pod = node.wait_pod(name, "has failed to start", |p| {
            p.terminated("c")["reason"] == "StartError"
                && matches!(p.waiting("c").as_str(), "RunContainerError" | "CrashLoopBackOff")
        });
        let last = pod.terminated("c");
        assert_eq!(last["exitCode"], 128, "{name}: {last:#}");
        assert_eq!(last["startedAt"], "1970-01-01T00:00:00Z", "{name}: {last:#}");
        let message = last["message"].as_str().unwrap_or_default();
        assert!(message.contains(program), "{name}: {message}");
        let report = node.verb(&["explain", name]).code(1);
        assert!(report.stdout.contains(program), "{report:?}");
    }
}

#[test]
fn low_ports_need_no_capability_in_a_pod() {
    let node = Setup::default().image(Image::new("user:1").config("User", json!("app"))).start();
    let script = "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait";
    node.put_pod(&Pod::new("web", script).image("user:1").own_network());
    let pod = node.wait_running("web");
    wait_for("port 80 answers", PATIENCE, || {
        let (status, _) = http::get(&pod.ip(), 80, "/index.html")?;
        expect(status == 200, || status.to_string())
    });
    let pinged = node
        .verb(&[
            "exec",
            "web",
            "--",
            "cat",
            "/proc/sys/net/ipv4/ip_unprivileged_port_start",
            "/proc/sys/net/ipv4/ping_group_range",
        ])
        .ok();
    assert!(pinged.stdout.starts_with("0\n"), "{pinged:?}");
    assert!(pinged.stdout.contains("2147483647"), "{pinged:?}");
}

#[test]
fn the_host_does_not_see_the_containers_mounts() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app").volume("d", json!({"emptyDir": {}}), "/d"));
    node.wait_running("app");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let own: Vec<&str> = mounts.lines().filter(|l| l.contains(&node.tag) && l.contains("overlay")).collect();
    assert_eq!(own, [] as [&str; 0]);
}

#[test]
fn what_users_of_the_host_may_not_enter_is_still_open_to_a_pods_own_user() {
    let image = Image::new("user:1").config("User", json!("app"));
    let node = Setup::default().image(image).start();
    let script = "id -u; grep -c localhost /etc/hosts; cat /etc/hostname /etc/resolv.conf >/dev/null && echo read; \
        echo kept > /data/file && cat /data/file; echo in memory > /mem/file && cat /mem/file; touch /tmp/own && echo own";
    let pod = Pod::new("app", &format!("{script}; {IDLE}")).own_network().image("user:1");
    let memory = json!({"emptyDir": {"medium": "Memory"}});
    node.put_pod(&pod.volume("data", json!({"emptyDir": {}}), "/data").volume("mem", memory, "/mem"));
    node.wait_running("app");
    let out = node.wait_log("app", "own\n");
    assert!(out.starts_with("1000\n") && out.ends_with("\nread\nkept\nin memory\nown\n"), "{out}");
    let mode = |dir: &str| {
        let found = std::fs::metadata(node.root().join(dir)).expect("made by the agent");
        std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o7777
    };
    assert_eq!(["pods", "images"].map(mode), [0o700; 2]);
    // And indeed nobody else gets at what lies there.
    let volume = node.root().join("pods").display().to_string();
    let look = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "ls", &volume];
    let out = verb::run(std::process::Command::new(look[0]).args(&look[1..]), b"", PATIENCE);
    assert!(out.code != 0 && out.stderr.contains("ermission denied"), "{out:?}");
}
