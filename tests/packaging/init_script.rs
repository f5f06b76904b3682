//! The sysvinit script, run as init would run it.

use super::Scratch;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Long beside the fractions of a second that things take, so that only a hang fails.
const DEADLINE: Duration = Duration::from_secs(60);

const AGENT: &str = r#"#!/bin/sh
case $1 in
stop-pods) echo "asked: $*"; exit 0 ;;
run) ;;
*) exit 2 ;;
esac
trap 'echo "asked: end"; exit 0' TERM
trap 'echo "asked: reload"' HUP
echo "asked: $*"
while :; do
    sleep 0.05 &
    wait $!
    [ ! -e "${0%/*}/chatter" ] || echo "a line that fills the log until it has to be rotated"
done
"#;

struct Script {
    scratch: Scratch,
}

impl Script {
    fn new(name: &str) -> Script {
        let scratch = Scratch::new(name);
        let agent = scratch.0.join("agent");
        std::fs::write(&agent, AGENT).expect("the agent's double");
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).expect("an executable");
        Script { scratch }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// Calls the script and gives back its status.
    fn call(&self, action: &str, runlevel: &str) -> i32 {
        // A shell cannot trap what was ignored when it began, as under nohup.
        let status = Command::new("env")
            .arg("--default-signal=HUP")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/pinlet.init"))
            .arg(action)
            .env("PINLET_DAEMON", self.file("agent"))
            .env("PINLET_LOG", self.file("log"))
            .env("PINLET_PIDFILE", self.file("pid"))
            .env("PINLET_LOG_MAX_BYTES", "2000")
            .env("PINLET_OPTIONS", "--v=2 --network=none")
            .env("RUNLEVEL", runlevel)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        status.expect("the script runs").code().expect("no signal")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Script) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < DEADLINE, "no {what}; the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The agent that the supervisor runs now.
    fn agent_pid(&self) -> Option<String> {
        let supervisor = std::fs::read_to_string(self.file("pid")).ok()?;
        let supervisor = supervisor.trim();
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
        let mut children = children.split_whitespace().map(str::to_owned);
        children.find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("agent\0run")
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.call("stop", "2");
    }
}

#[test]
fn the_agent_runs_with_its_options_and_is_started_again_when_it_ends() {
    let script = Script::new("restart");
    assert_eq!(script.call("status", "2"), 3);
    assert_eq!(script.call("start", "2"), 0);
    script.wait_for("start", |s| s.log().contains("asked: run --v=2 --network=none\n"));
    assert_eq!(script.call("status", "2"), 0);
    // Twice is once.
    assert_eq!(script.call("start", "2"), 0);

    let first = script.agent_pid().expect("an agent");
    let killed = Command::new("kill").args(["-KILL", &first]).status().expect("kill runs");
    assert!(killed.success());
    script.wait_for("second start", |s| s.log().matches("asked: run").count() == 2);
    assert!(script.log().contains("ended with status 137"));

    script.wait_for("agent", |s| s.agent_pid().is_some());
    assert_eq!(script.call("reload", "2"), 0);
    script.wait_for("reload", |s| s.log().contains("asked: reload"));

    assert_eq!(script.call("stop", "2"), 0);
    assert_eq!(script.call("status", "2"), 3);
    script.wait_for("end", |s| s.log().contains("asked: end"));
    assert_eq!(script.log().matches("asked: run").count(), 2);
}

#[test]
fn pods_are_stopped_only_when_the_machine_goes_down() {
    let script = Script::new("runlevels");
    for (runlevel, stops) in [("1", false), ("2", false), ("0", true), ("6", true)] {
        let before = script.log().matches("asked: stop-pods").count();
        assert_eq!(script.call("start", "2"), 0);
        assert_eq!(script.call("stop", runlevel), 0);
        let asked = script.log().matches("asked: stop-pods").count() > before;
        assert_eq!(asked, stops, "runlevel {runlevel}: {}", script.log());
    }
    // Also without an agent: the pods may have outlived it.
    assert_eq!(script.call("stop", "0"), 0);
    assert_eq!(script.log().matches("asked: stop-pods").count(), 3);
}

#[test]
fn the_log_is_rotated_by_size_and_bounded_in_number() {
    let script = Script::new("log");
    std::fs::write(script.file("chatter"), "").expect("a mark for the double");
    assert_eq!(script.call("start", "2"), 0);
    script.wait_for("fourth file", |s| s.file("log.4").exists() && s.file("log").exists());
    let oldest = std::fs::read_to_string(script.file("log.4")).expect("the oldest file");
    script.wait_for("fifth rotation", |s| std::fs::read_to_string(s.file("log.4")).unwrap_or_default() != oldest);
    assert!(!script.file("log.5").exists());
    let size = std::fs::metadata(script.file("log.1")).expect("a rotated file").len();
    assert!((2000..4000).contains(&size), "{size}");
}
