//! The life of three machines.

use super::guest::{Guest, Init, Machine};
use super::manifests::STUBBORN_GRACE_SECONDS;
use super::node::{
    expect_outside_of_units, expect_pods_untouched, expect_web_answers, install, place, processes, wait_running,
};
use std::time::Duration;

const PODS: &[&str] = &["web", "graceful", "stubborn"];

/// Grace, the 5 s of stop-pods, and room for an emulated shutdown; what systemd leaves a process that nobody
/// stopped, 90 s, is beyond it.
const SHUTDOWN: Duration = Duration::from_secs(STUBBORN_GRACE_SECONDS + 5 + 60);

/// What any unit action may do to the agent without a pod noticing.
const UNIT_ACTIONS: &[&str] = &[
    "systemctl restart pinlet",
    "systemctl stop pinlet; ! systemctl is-active --quiet pinlet && systemctl start pinlet",
    "systemctl kill pinlet; sleep 1",
    "systemctl kill --signal=KILL pinlet; sleep 1",
    "systemctl daemon-reload && systemctl reload pinlet",
    "dpkg -i /payload/pinlet.deb",
    // By hand the pods' unit cannot be stopped.
    "! systemctl stop pinlet-pods",
];

/// Both heard the question, and the stubborn one was not waited for longer than its grace period.
fn expect_pods_were_asked(machine: &Machine, times: usize) {
    for pod in ["graceful", "stubborn"] {
        let story = machine.read(&format!("/var/vm-data/{pod}")).unwrap_or_default();
        assert_eq!(story.matches("asked").count(), times, "{pod}: {story}");
    }
}

#[test]
fn a_fresh_debian_keeps_its_pods_through_units_clocks_shutdowns_and_power_cuts() {
    let mut machine = Machine::new("systemd");

    let mut guest = machine.boot(Init::Systemd);
    install(&mut guest);
    guest.wait("units", 60, "systemctl is-active --quiet pinlet pinlet-pods");
    place(&mut guest, PODS);
    place(&mut guest, &["once"]);
    wait_running(&mut guest, PODS);
    expect_web_answers(&mut guest);
    guest.wait("finished one-shot", 60, "pinlet get pods | grep -E '^default +once-vmnode +0/1 +Completed '");
    expect_each_pin_once(&mut guest);
    expect_pods_untouched(&mut guest, PODS, UNIT_ACTIONS);
    expect_limits_hold(&mut guest);
    expect_clock_steps_change_nothing(&mut guest);
    let took = guest.shut_down("systemctl poweroff", SHUTDOWN);
    eprintln!("  powered off after {took:?}");
    expect_pods_were_asked(&machine, 1);

    let mut guest = machine.boot(Init::Systemd);
    guest.ok("journalctl --boot=-1 --unit=pinlet-pods | grep Stopped && ! systemctl is-failed pinlet-pods");
    let late = guest.ok("journalctl --boot=-1 --unit=pinlet-pods | grep -E 'not stopped|Failed' || true");
    assert_eq!(late, "", "stop-pods ran out of time");
    wait_running(&mut guest, PODS);
    expect_web_answers(&mut guest);
    expect_outside_of_units(&mut guest);
    guest.ok("echo flushed > /root/flushed; sync");
    guest.ok("echo lost > /root/lost");
    guest.cut();

    let mut guest = machine.boot(Init::Systemd);
    assert_eq!(guest.ok("cat /root/flushed; cat /root/lost 2>/dev/null; true"), "flushed\n", "the cut was a cut");
    wait_running(&mut guest, PODS);
    expect_web_answers(&mut guest);
    assert_eq!(guest.ok("cat /var/vm-data/once"), "ran\n", "a finished one-shot ran again");
    assert_eq!(guest.ok("grep -c started /var/vm-data/graceful"), "3\n");
    guest.shut_down("systemctl reboot", SHUTDOWN);
    expect_pods_were_asked(&machine, 2);
}

/// systemd shares every mount; a pin that shows twice would have to be unmounted twice.
fn expect_each_pin_once(guest: &mut Guest) {
    let targets = "awk '{ print $5 }' /proc/self/mountinfo | grep '^/run/pinlet' | sort";
    assert!(guest.ok(&format!("{targets} | grep -c .")).trim() != "0");
    assert_eq!(guest.ok(&format!("{targets} | uniq --repeated")), "");
}

/// systemd takes controllers away that it did not enable, and their limits with them, unless a child holds them.
fn expect_limits_hold(guest: &mut Guest) {
    let script = "cat $(find /sys/fs/cgroup -path '*/kubepods/*' -name 'memory.max' -o \
        -path '*/kubepods/*' -name memory.limit_in_bytes) | grep -x 67108864";
    guest.ok("systemctl daemon-reload");
    guest.ok("systemctl set-property --runtime guest-agent.service CPUWeight=50 IOWeight=50");
    guest.ok(script);
}

/// Back-off goes by the kernel's uptime: steps of the clock neither shorten nor lengthen it, and touch no other pod.
fn expect_clock_steps_change_nothing(guest: &mut Guest) {
    let before = processes(guest);
    place(guest, &["crash"]);
    let starts = |count: u32| format!("[ $(wc -l < /var/vm-data/crash) -ge {count} ]");
    guest.wait("second start", 60, &starts(2));
    guest.ok("date --set='+1 hour'");
    guest.wait("third start", 60, &starts(3));
    guest.ok("date --set='-2 hours'");
    guest.wait("fourth start", 90, &starts(4));
    let ages = guest.ok("pinlet get pods | awk 'NR > 1 { print $6 }'");
    assert!(ages.lines().all(|age| age.starts_with(|c: char| c.is_ascii_digit())), "{ages}");
    guest.ok("date --set='+1 hour'");

    let starts: Vec<f64> =
        guest.ok("cut -d' ' -f1 /var/vm-data/crash").lines().map(|line| line.parse().expect("an uptime")).collect();
    // The second start is immediate, then 10 s and 20 s are waited; the end of a container is after its start.
    assert!(starts[2] - starts[1] >= 10.0 && starts[3] - starts[2] >= 20.0, "{starts:?}");

    let uid = guest.ok("pinlet get pods crash -o json | grep -o '\"uid\": *\"[^\"]*\"' | head -n 1 | cut -d'\"' -f4");
    guest.ok("rm /etc/kubernetes/manifests/crash.yaml");
    guest.wait("end of the crashing pod", 60, "! pinlet get pods | grep crash");
    let left = format!(
        "grep {0} /proc/self/mountinfo; find /sys/fs/cgroup /run/pinlet /var/lib/pinlet/pods -path '*{0}*'",
        uid.trim()
    );
    assert_eq!(guest.ok(&format!("{left}; true")), "", "the pod left something behind");
    assert_eq!(processes(guest), before);
}

#[test]
fn with_cgroup_v1_under_systemd_the_pods_are_as_safe() {
    let mut machine = Machine::new("hybrid");
    let mut guest = machine.boot(Init::SystemdHybrid);
    guest.ok("grep -q ' - cgroup ' /proc/self/mountinfo");
    install(&mut guest);
    place(&mut guest, PODS);
    wait_running(&mut guest, PODS);
    expect_web_answers(&mut guest);
    expect_pods_untouched(&mut guest, PODS, &UNIT_ACTIONS[..4]);
    expect_limits_hold(&mut guest);
    guest.shut_down("systemctl poweroff", SHUTDOWN);
    expect_pods_were_asked(&machine, 1);
}

#[test]
fn a_plain_init_mounts_cgroups_and_stops_the_pods_only_when_it_goes_down() {
    let mut machine = Machine::new("sysvinit");
    let mut guest = machine.boot(Init::Sysvinit);
    assert_eq!(guest.run("grep -E ' - cgroup2? ' /proc/self/mountinfo").status, 1, "cgroups are mounted already");
    install(&mut guest);
    guest.ok("grep ' /sys/fs/cgroup ' /proc/self/mountinfo | grep -q ' - cgroup2 '");
    place(&mut guest, PODS);
    wait_running(&mut guest, PODS);
    expect_web_answers(&mut guest);
    guest.ok("test -s /var/log/pinlet.log");
    expect_pods_untouched(
        &mut guest,
        PODS,
        &[
            "/etc/init.d/pinlet restart",
            "/etc/init.d/pinlet stop && ! pinlet get pods 2>/dev/null && /etc/init.d/pinlet start",
            "kill -KILL $(pgrep --exact --full '/usr/bin/pinlet run') && sleep 3",
        ],
    );
    guest.shut_down("shutdown -h now", SHUTDOWN);
    expect_pods_were_asked(&machine, 1);
}
