//! The OpenRC script, run by OpenRC itself: a machine of one service boots, is used and goes down.
//!
//! OpenRC would be this machine's init if it were installed, so packaging/deps.sh unpacks it aside. It runs here in a
//! root of its own with busybox beside it, in namespaces that go with all their processes and mounts.

use super::{Scratch, shipped};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// All of it takes some ten seconds: an agent is started again only after two.
const LIMIT: &str = "120";

/// Writes down what it is asked.
const AGENT: &str = r#"#!/bin/sh
trap 'echo "asked: end" >>/var/log/asked; exit 0' TERM
trap 'echo "asked: reload" >>/var/log/asked' HUP
[ "$1" != run ] || echo "the agent's own words"
# Last: by then it is ready for whatever the test does next.
echo "asked: $*" >>/var/log/asked
[ "$1" = run ] || exit 0
while :; do
    sleep 0.05 &
    wait $!
done
"#;

const SETTINGS: &str = "PINLET_OPTIONS=\"--v=2 --network=none\"\nPINLET_STOP_OPTIONS=\"--timeout=9s\"\n";

/// The one service that ours needs.
const LOCALMOUNT: &str = "#!/sbin/openrc-run\nstart() { return 0; }\n";

/// What happens to the machine; each `says` is one line of the result.
const LIFE: &str = r#"
mount -t proc proc /proc
mount -t tmpfs -o dev tmpfs /dev
mknod -m 666 /dev/null c 1 3
touch /var/log/asked
says() { echo "$*" >>/result; }
status() { rc-service pinlet status; says "$1: status $?"; }
wait_for() {
    tries=0
    until [ "$(grep -c "^asked: $1" /var/log/asked)" -ge "$2" ]; do
        [ "$tries" -lt 300 ] || { says "in vain: $1, $2 times"; exit 1; }
        tries=$((tries + 1))
        sleep 0.1
    done
}
count() { says "$1: $(grep -c "^asked: $2" /var/log/asked) x $2"; }
cgroups() { says "$1: $(grep -c ' /sys/fs/cgroup .* - cgroup2 ' /proc/self/mountinfo) cgroup file systems"; }

openrc sysinit
openrc boot
rc-update add pinlet default
status "booting"
cgroups "booting"
openrc default
wait_for "run --v=2 --network=none" 1
status "booted"
cgroups "booted"
says "log: $(cat /var/log/pinlet.log)"

kill -KILL $(pidof pinlet)
wait_for run 2
status "killed"

rc-service pinlet reload
wait_for reload 1
rc-service pinlet restart
wait_for end 1
wait_for run 3
status "restarted"
rc-service pinlet stop
wait_for end 2
status "stopped"
says "left: $(pidof pinlet supervise-daemon)"
count "while the machine was up" stop-pods

runs=3
for down in shutdown reboot single; do
    openrc default
    runs=$((runs + 1))
    wait_for run $runs
    status "before $down"
    openrc $down
    status "$down"
done
says "$(tail -n 3 /var/log/asked)"
count "in the end" stop-pods
"#;

const RESULT: &str = "booting: status 3
booting: 0 cgroup file systems
booted: status 0
booted: 1 cgroup file systems
log: the agent's own words
killed: status 0
restarted: status 0
stopped: status 3
left: 
while the machine was up: 0 x stop-pods
before shutdown: status 0
shutdown: status 3
before reboot: status 0
reboot: status 3
before single: status 0
single: status 3
asked: run --v=2 --network=none
asked: stop-pods --timeout=9s
asked: end
in the end: 3 x stop-pods
";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// OpenRC, busybox, the libraries of both, and our script.
fn make_root(root: &Path) {
    let openrc = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/openrc");
    assert!(openrc.is_dir(), "no {}: packaging/deps.sh test makes it", openrc.display());
    run(Command::new("cp").arg("-a").arg(openrc).arg(root));
    for dir in ["bin", "sbin", "lib"] {
        // Where the packages have moved into /usr, the old places lead there.
        fs::create_dir_all(root.join("usr").join(dir)).expect("a directory");
        if !root.join(dir).exists() {
            symlink(format!("usr/{dir}"), root.join(dir)).expect("a link");
        }
    }
    for dir in ["proc", "dev", "sys/fs/cgroup", "run", "tmp", "var/log", "etc/conf.d"] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    let libraries = run(Command::new("ldd").arg(root.join("sbin/openrc-run")).arg(root.join("sbin/supervise-daemon")));
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("it is in a directory")).expect("a directory");
        fs::copy(library, place).expect("a library of this machine");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is there");
    for applet in run(Command::new("/bin/busybox").arg("--list")).lines() {
        if !["bin", "sbin"].iter().any(|dir| root.join(dir).join(applet).exists()) {
            symlink("/bin/busybox", root.join("bin").join(applet)).expect("a link");
        }
    }
    for file in ["etc/fstab", "etc/passwd", "etc/group", "etc/insserv.conf"] {
        fs::write(root.join(file), "").expect("a file");
    }
    for (file, text) in [
        ("etc/init.d/localmount", LOCALMOUNT),
        ("etc/init.d/pinlet", &shipped("pinlet.openrc")),
        ("usr/bin/pinlet", AGENT),
        ("etc/conf.d/pinlet", SETTINGS),
        ("life", LIFE),
    ] {
        fs::write(root.join(file), text).expect("a file");
        fs::set_permissions(root.join(file), fs::Permissions::from_mode(0o755)).expect("an executable");
    }
}

#[test]
fn openrc_keeps_the_agent_running_and_stops_the_pods_only_when_it_goes_down() {
    let scratch = Scratch::new("openrc");
    let root: PathBuf = scratch.0.join("root");
    make_root(&root);
    let output = Command::new("timeout")
        .args(["--signal=KILL", LIMIT, "unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"])
        // A shell cannot trap what was ignored when it began, as under nohup.
        .args(["env", "-i", "--default-signal=HUP", "PATH=/usr/bin:/usr/sbin:/bin:/sbin", "chroot"])
        .arg(&root)
        .args(["/bin/sh", "/life"])
        .output()
        .expect("unshare runs");
    let said = [output.stdout, output.stderr].concat();
    let result = fs::read_to_string(root.join("result")).unwrap_or_default();
    assert_eq!(result, RESULT, "{}", String::from_utf8_lossy(&said));
}
