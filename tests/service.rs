//! The agent as a service of its machine: what it says to a service manager, whom it refuses to run beside, and what
//! signals ask of it.

mod support;

use nix::sys::signal::Signal;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::wait::{expect, stays};
use support::{Node, PATIENCE, Pod, Setup, dump, host, json, verb};

/// The service manager's end of NOTIFY_SOCKET.
struct Manager(UnixDatagram);

impl Manager {
    /// Binds the socket and tells the agent that is started next of it.
    fn of(node: &mut Node) -> Manager {
        let path = node.dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a fresh name");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        node.setup.env.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
        Manager(socket)
    }

    /// The next datagram, if one comes soon.
    fn receive(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// The first datagram with the line `line`.
    #[track_caller]
    fn wait_line(&self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        while Instant::now() < deadline {
            let Some(text) = self.receive() else { continue };
            if text.lines().any(|l| l == line) {
                return text;
            }
            others.push(text);
        }
        panic!("no {line} within {PATIENCE:?}, only {others:?}");
    }
}

#[test]
fn a_service_manager_hears_when_the_agent_is_ready_and_when_it_leaves() {
    let mut node = Setup::default().stopped().start();
    let manager = Manager::of(&mut node);
    node.put_pod(&Pod::idle("app"));
    node.put("bad.yaml", "apiVersion: v1\nkind: Service\n");
    node.spawn_agent();
    let text = manager.wait_line("READY=1");
    let status = text.lines().find_map(|l| l.strip_prefix("STATUS=")).unwrap_or_default();
    assert!(!status.is_empty() && !status.contains("hang"), "{text}");
    // Ready means: verbs work, and the first scan is done.
    let out = node.verb(&["explain"]).ok();
    assert_eq!(out.stdout.lines().count(), 2, "{out:?}");
    node.wait_running("app");
    host::signal(node.agent_pid(), Signal::SIGTERM);
    manager.wait_line("STOPPING=1");
    assert_eq!(node.reap_agent(), 0);
}

/// A file system that answers nobody, over a directory: FUSE with nobody behind it. It lets go when dropped.
struct Silent {
    at: PathBuf,
    _device: fs::File,
}

impl Silent {
    fn over(at: &Path) -> Silent {
        let device = fs::File::options().read(true).write(true).open("/dev/fuse").expect("FUSE");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("silent"), at, Some("fuse"), flags, Some(options.as_str())).expect("root may mount");
        Silent { at: at.to_owned(), _device: device }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.at, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn an_agent_whose_first_look_hangs_says_that_and_is_ready_all_the_same() {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").start();
    node.put_pod(&Pod::idle("app").own_network());
    let before = node.wait_running("app").container_id("c");
    node.crash_agent();
    let manager = Manager::of(&mut node);
    let silent = Silent::over(&node.manifests());
    node.spawn_agent();
    let text = manager.wait_line("READY=1");
    assert!(text.lines().any(|l| l.starts_with("STATUS=") && l.contains("hang")), "{text}");
    // The kept manifest runs, and its pod is cared for.
    let pod = node.wait_running("app");
    assert_eq!(pod.container_id("c"), before);
    host::signal(node.init_pid(&pod, "c"), Signal::SIGKILL);
    node.wait_pod("app", "is restarted meanwhile", |p| p.restarts("c") == 1 && p.is_running("c"));
    drop(silent);
    node.put_pod(&Pod::idle("late"));
    node.wait_running("late");
    node.remove("app.yaml");
    node.wait_gone("app");
}

#[test]
fn the_watchdog_is_fed_by_an_agent_that_has_nothing_to_do() {
    let mut node = Setup::default().config("fileCheckFrequency: 1h").stopped().start();
    let manager = Manager::of(&mut node);
    node.setup.env.push(("WATCHDOG_USEC".to_owned(), "1000000".to_owned()));
    node.start_agent();
    manager.wait_line("READY=1");
    for _ in 0..4 {
        manager.wait_line("WATCHDOG=1");
    }
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").stopped().start();
    let manager = Manager::of(&mut node);
    node.setup.env.push(("WATCHDOG_USEC".to_owned(), "1000000".to_owned()));
    node.setup.env.push(("WATCHDOG_PID".to_owned(), std::process::id().to_string()));
    node.start_agent();
    manager.wait_line("READY=1");
    stays("nothing is said", Duration::from_secs(3), || {
        let said = manager.receive();
        expect(said.is_none(), || format!("{said:?}"))
    });
}

/// Starts the agent beside a process called `kubelet`, both in a pid namespace that other agents of this machine do
/// not look into. The process's arguments end in `arguments`.
fn beside_a_kubelet(node: &mut Node, arguments: &str) {
    let kubelet = node.dir.join("kubelet");
    fs::copy("/bin/sh", &kubelet).expect("room for a shell");
    let kubelet = kubelet.display();
    let inner = format!(
        "{kubelet} -c 'while :; do sleep 1; done' kubelet {arguments} & \
         until grep -qx kubelet /proc/$!/comm; do sleep 0.01; done; exec \"$@\""
    );
    // Quoted once more for the shell that the node starts.
    let quoted = inner.replace('\'', "'\\''");
    node.setup.shell =
        Some(format!("exec unshare --pid --fork --kill-child --mount-proc /bin/sh -c '{quoted}' sh \"$@\""));
}

#[test]
fn beside_a_kubelet_the_agent_does_not_start_and_says_what_to_do() {
    for arguments in ["", "--config=/x --cgroup-root=/TAG/", "--cgroup-root-not=/x"] {
        let mut node = Setup::default().stopped().start();
        let arguments = arguments.replace("TAG", &node.tag);
        beside_a_kubelet(&mut node, &arguments);
        node.spawn_agent();
        assert_eq!(node.reap_agent(), 1, "beside kubelet {arguments}");
        let log = node.agent_log();
        assert!(log.contains("kubelet (pid "), "{log}");
        let hint = log.lines().find(|l| l.contains("hint: ")).unwrap_or_default();
        assert!(hint.contains("systemctl disable --now kubelet") && hint.contains("--cgroup-root"), "{log}");
        assert!(!node.run_dir().join("pinlet.sock").exists() && host::cgroups(&node.tag).is_empty());
    }
}

#[test]
fn a_kubelet_with_a_cgroup_root_of_its_own_is_no_rival() {
    for arguments in ["--cgroup-root=/x", "--v=2 --cgroup-root /x"] {
        let mut node = Setup::default().stopped().start();
        beside_a_kubelet(&mut node, arguments);
        node.start_agent();
        node.verb(&["get", "pods"]).ok();
    }
}

#[test]
fn a_kubelet_in_a_pid_namespace_below_is_no_rival() {
    let mut below = Setup::default().stopped().start();
    beside_a_kubelet(&mut below, "--cgroup-root=/x");
    below.start_agent();
    let node = Node::start();
    node.verb(&["get", "pods"]).ok();
}

#[test]
fn sighup_asks_for_a_rescan() {
    let node = Setup::default().config("fileCheckFrequency: 1h").start();
    let aside = |name: &str| node.dir.join("aside").join(name);
    fs::write(aside("target"), Pod::idle("app").yaml()).expect("a fresh file");
    // A file as young as a tick of the file system's clock is looked at once more: that would be the look.
    std::thread::sleep(Duration::from_millis(100));
    std::os::unix::fs::symlink(aside("target"), node.manifests().join("app.yaml")).expect("a fresh name");
    let before = node.wait_running("app");
    // Beyond the symlink no watch sees anything.
    let other = Pod::idle("app").with("env", json!([{"name": "A", "value": "b"}]));
    fs::write(aside("other"), other.yaml()).expect("a fresh file");
    fs::rename(aside("other"), aside("target")).expect("the same directory");
    stays("nobody has looked", Duration::from_secs(1), || {
        let pod = node.try_pod("app")?;
        expect(pod.uid() == before.uid(), || format!("{:#}", pod.0))
    });
    host::signal(node.agent_pid(), Signal::SIGHUP);
    node.wait_pod("app", "is replaced", |p| p.uid() != before.uid() && p.is_running("c"));
}

/// The log's lines that name `path` at the level of a warning.
fn warnings_about(node: &Node, path: &Path) -> usize {
    let path = path.display().to_string();
    node.agent_log().lines().filter(|l| l.starts_with("W ") && l.contains(&path)).count()
}

#[test]
fn a_cni_configuration_that_is_not_used_is_worth_one_warning() {
    let mut node = Setup::default().config("fileCheckFrequency: 1s").stopped().start();
    let confs = node.dir.join("net.d");
    fs::create_dir(&confs).expect("a fresh directory");
    node.setup.flags.push(format!("--cni-conf-dir={}", confs.display()));
    fs::write(confs.join("README"), "nothing to see").expect("a fresh file");
    node.start_agent();
    assert_eq!(warnings_about(&node, &confs), 0, "{}", node.agent_log());
    node.stop_agent();
    for name in ["10-a.conflist", "20-b.conf"] {
        fs::write(confs.join(name), "{}").expect("a fresh file");
    }
    node.start_agent();
    node.put_pod(&Pod::idle("app").own_network());
    assert_ne!(node.wait_running("app").ip(), "", "the built-in bridge is used");
    assert_eq!(warnings_about(&node, &confs), 1, "{}", node.agent_log());
    node.stop_agent();
    node.setup.flags.push("--network=bridge".to_owned());
    node.start_agent();
    assert_eq!(warnings_about(&node, &confs), 1, "who asks for the bridge is not warned: {}", node.agent_log());
}

#[test]
fn what_this_machine_has_is_told_in_one_line_each() {
    let mut command = std::process::Command::new(support::binary());
    let out = verb::run(command.args(["check", "--node"]), b"", PATIENCE).ok();
    let findings: Vec<&str> = out.stdout.lines().filter(|l| !l.starts_with("hint: ")).collect();
    let subjects: Vec<&str> = findings.iter().filter_map(|l| l.split_once(": ")).map(|(what, _)| what).collect();
    let expected = [
        "kernel",
        "privileges",
        "cgroups",
        "overlayfs",
        "device rules",
        "nf_tables",
        "ip_forward",
        "node address",
        "kubelet",
    ];
    assert_eq!((subjects.as_slice(), out.stderr.as_str()), (expected.as_slice(), ""), "{out:?}");
    // Tests run as root on a machine that can run pods.
    for what in ["kernel", "privileges", "cgroups", "overlayfs", "nf_tables"] {
        assert!(findings.iter().any(|l| l.starts_with(&format!("{what}: ok ("))), "{what}: {out:?}");
    }
}

#[test]
fn the_check_of_the_node_looks_for_a_kubelet_of_the_agents_cgroup_root() {
    let mut node = Setup::default().config("cgroupRoot: /TAG").stopped().start();
    beside_a_kubelet(&mut node, "--cgroup-root=/TAG/");
    let config = node.dir.join("config.yaml").display().to_string();
    for (flags, alone) in [
        (&[][..], true),
        (&["--cgroup-root=/TAG"], false),
        (&["--cgroup-root", "/x"], true),
        (&["--config", &config], false),
    ] {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", node.setup.shell.as_deref().expect("just set"), "sh"]).arg(node.program());
        let out = verb::run(command.args(["check", "--node"]).args(flags), b"", PATIENCE);
        let line = out.stdout.lines().find(|l| l.starts_with("kubelet: ")).unwrap_or_else(|| panic!("{out:?}"));
        assert_eq!((line == "kubelet: ok (none runs)", out.code == 0), (alone, alone), "{flags:?}: {out:?}");
    }
}

#[test]
fn an_agent_whose_pods_it_stops_says_so_before_it_ends() {
    let mut node = Setup::default().flag("--stop-pods-on-exit").stopped().start();
    let manager = Manager::of(&mut node);
    node.start_agent();
    node.put_pod(&Pod::new("slow", "trap 'sleep 1; exit 0' TERM; sleep 1000000 & wait").grace(20));
    node.put_pod(&Pod::idle("own").own_network());
    node.wait_running("slow");
    node.wait_running("own");
    host::signal(node.agent_pid(), Signal::SIGTERM);
    manager.wait_line("STOPPING=1");
    assert_eq!(node.reap_agent(), 0, "{}", dump::tail(&node.agent_log(), 20));
    assert_eq!(host::processes(&node.tag), [] as [i32; 0]);
    node.start_agent();
    node.wait_running("slow");
    node.wait_running("own");
}
