//! Other processes in a running container.

use crate::host::{Container, Host, until};
use pinlet::model::observed::ExitStatus;
use pinlet::runtime::exec::{ExecChild, ExecError, ExecOutcome, ExecRequest, spawn_exec};
use pinlet::runtime::record;
use std::io::{Read, Write};

fn request(container: &Container<'_>, argv: &[&str]) -> ExecRequest {
    ExecRequest {
        version: record::VERSION,
        container_dir: container.launch.dir.clone(),
        monitor: container.spawned.process,
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        stdin: false,
        tty: false,
        size: None,
    }
}

fn all_of(source: &mut impl Read) -> String {
    let mut text = Vec::new();
    // A terminal's end is EIO.
    let _ = source.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn finish(mut child: ExecChild) -> (String, String, ExecOutcome) {
    let out = all_of(child.stdout.as_mut().unwrap());
    let err = all_of(child.stderr.as_mut().unwrap());
    (out, err, child.wait())
}

#[test]
fn a_command_runs_in_the_container_and_its_code_comes_back() {
    let host = Host::new();
    let container = host.sh("echo there; exec sleep 1000").user("web").started();
    container.wait_log("there");
    // Between the word and the exec there is a moment.
    let program = format!("/proc/{}/cmdline", container.init().0);
    until("sleep", || std::fs::read(&program).ok().filter(|line| line.starts_with(b"sleep")));
    let script = "cat /proc/1/cmdline | tr '\\0' ' '; id; echo $HOSTNAME $HOME; echo oops >/dev/stderr; exit 5";
    let (out, err, outcome) = finish(spawn_exec(&request(&container, &["/bin/sh", "-c", script])).unwrap());
    assert_eq!(out, "sleep 1000 uid=33(web) gid=34(web) groups=34(web),77(extra)\ntest /srv/web\n");
    assert_eq!((err.as_str(), outcome), ("oops\n", ExecOutcome::Exited(ExitStatus::Code(5))));
}

#[test]
fn it_is_in_the_containers_cgroups_and_has_no_strange_descriptors() {
    let host = Host::new();
    let container = host.sh("sleep 1000").started();
    let mut child =
        spawn_exec(&request(&container, &["/bin/sh", "-c", "ls /proc/self/fd | wc -l; exec sleep 1000"])).unwrap();
    let mut first = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    // 0, 1, 2 and the directory that ls reads.
    assert_eq!(&first, b"4\n");
    let leaf = container.leaf();
    let is_inside = |pid: &pinlet::model::id::Pid| {
        let places = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.0)).unwrap_or_default();
        !places.is_empty() && places.lines().all(|l| l.ends_with(leaf.to_str().unwrap()))
    };
    // What has just ended may be listed still, and be nowhere a moment later.
    until("all processes inside, the command's among them", || {
        let pids = host.hierarchies.pids(&leaf);
        (pids.len() >= 3 && pids.iter().all(is_inside)).then_some(())
    });
}

#[test]
fn standard_input_arrives_and_ends() {
    let host = Host::new();
    let container = host.sh("sleep 1000").started();
    let mut child = spawn_exec(&ExecRequest { stdin: true, ..request(&container, &["cat"]) }).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"there and back\n").unwrap();
    drop(stdin);
    assert_eq!(finish(child), ("there and back\n".into(), String::new(), ExecOutcome::Exited(ExitStatus::Code(0))));
}

#[test]
fn a_terminal_is_one_and_has_a_size() {
    let host = Host::new();
    let container = host.sh("sleep 1000").user("web").started();
    let script = "read line; tty; stty size; echo $TERM; echo x > /dev/tty; exit 9";
    let mut child = spawn_exec(&ExecRequest { tty: true, ..request(&container, &["/bin/sh", "-c", script]) }).unwrap();
    child.resize(33, 101).unwrap();
    let mut terminal = child.terminal.as_ref().unwrap().try_clone().unwrap();
    terminal.write_all(b"go\n").unwrap();
    let text = all_of(&mut terminal);
    assert_eq!(text, "go\r\n/dev/pts/0\r\n33 101\r\nxterm\r\nx\r\n");
    assert_eq!(child.wait(), ExecOutcome::Exited(ExitStatus::Code(9)));
}

#[test]
fn what_cannot_be_run_is_told() {
    let host = Host::new();
    host.add("/bin/garbage", "\0\0\0\0", 0o755);
    let container = host.sh("sleep 1000").started();
    let failure = |argv: &[&str]| match spawn_exec(&request(&container, argv)) {
        Err(ExecError::Failed(message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure(&["nosuch"]), "exec: \"nosuch\": executable file not found in $PATH");
    assert_eq!(failure(&["/bin/garbage"]), "exec /bin/garbage: exec format error");
    assert_eq!(failure(&["/etc"]), "exec: \"/etc\": is a directory");
}

#[test]
fn dropping_it_kills_it_and_nothing_of_it_is_left() {
    let host = Host::new();
    let container = host.sh("sleep 1000").started();
    let child = spawn_exec(&request(&container, &["/bin/sleep", "1000"])).unwrap();
    drop(child);
    until("the process to be gone", || (host.hierarchies.pids(&container.leaf()).len() == 1).then_some(()));
    let left: Vec<_> = std::fs::read_dir(container.launch.dir.join("state"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("tenant"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let below = |m: &pinlet::sys::mount::MountEntry| m.target.starts_with(&host.dir);
    assert!(!pinlet::sys::mount::mounts().unwrap().iter().any(below));
}

#[test]
fn a_container_that_has_ended_is_not_entered() {
    let host = Host::new();
    let mut container = host.sh("exit 0").started();
    let entered_late = request(&container, &["/bin/true"]);
    container.wait();
    assert!(matches!(spawn_exec(&entered_late), Err(ExecError::NotRunning)));
    let another_start = pinlet::model::id::ProcessRef {
        start_ticks: 1,
        ..pinlet::model::id::ProcessRef {
            pid: pinlet::model::id::Pid(i32::try_from(std::process::id()).unwrap()),
            start_ticks: 0,
        }
    };
    assert!(matches!(spawn_exec(&ExecRequest { monitor: another_start, ..entered_late }), Err(ExecError::NotRunning)));
}

#[test]
fn a_terminal_has_its_size_from_the_first_instruction_on() {
    let host = Host::new();
    let container = host.sh("sleep 1000").started();
    let sized = ExecRequest { tty: true, size: Some((33, 101)), ..request(&container, &["stty", "size"]) };
    let mut child = spawn_exec(&sized).unwrap();
    assert_eq!(all_of(child.terminal.as_mut().unwrap()), "33 101\r\n");
    assert_eq!(child.wait(), ExecOutcome::Exited(ExitStatus::Code(0)));
}
