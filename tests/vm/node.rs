//! What the scenarios do with a guest: install the package, place manifests, look at pods and their processes.

use super::guest::Guest;

/// Importing Node.js and starting pods, under emulation.
const SLOW_SECONDS: u64 = 180;

/// Puts the images where the agent imports them, and installs the package, which starts the agent.
pub fn install(guest: &mut Guest) {
    guest.ok("mkdir -p /var/lib/pinlet/preload && cp /payload/*.tar /var/lib/pinlet/preload/");
    guest.ok("dpkg -i /payload/pinlet.deb");
    guest.wait("agent", SLOW_SECONDS, "pinlet get pods");
}

pub fn place(guest: &mut Guest, pods: &[&str]) {
    for pod in pods {
        guest.ok(&format!("cp /payload/{pod}.yaml /etc/kubernetes/manifests/"));
    }
}

/// Waits until each pod is running and ready.
pub fn wait_running(guest: &mut Guest, pods: &[&str]) {
    for pod in pods {
        let row = format!("pinlet get pods | grep -E '^default +{pod}-vmnode +1/1 +Running '");
        guest.wait(&format!("running pod {pod}"), SLOW_SECONDS, &row);
    }
}

/// Every monitor and every container's first process, with its start time: the same list means that nothing was touched.
pub fn processes(guest: &mut Guest) -> String {
    let list = guest.ok(
        "exec 2>/dev/null
        find /sys/fs/cgroup -name cgroup.procs \\( -path '*/kubepods/*' -o -path '*/pinlet-monitors/*' \\) -exec cat {} + |
        sort -un | while read -r pid; do
            # In a pid namespace of its own, a first process is number 1 there; what it starts comes and goes.
            awk '/^NSpid:/ { exit !(NF == 2 || $NF == 1) }' /proc/$pid/status || continue
            stat=$(cat /proc/$pid/stat) || continue
            set -- ${stat##*) }
            echo \"$pid ${20} $(cat /proc/$pid/comm)\"
        done",
    );
    assert!(list.lines().count() >= 4, "pods and their monitors:\n{list}");
    list
}

/// No line of /proc/<pid>/cgroup, in any hierarchy, names a unit of ours: systemd would take the process for its own.
pub fn expect_outside_of_units(guest: &mut Guest) {
    let inside = guest.ok(
        "find /sys/fs/cgroup -name cgroup.procs \\( -path '*/kubepods/*' -o -path '*/pinlet-monitors/*' \\) -exec cat {} + |
        sort -un | while read -r pid; do grep -H 'pinlet[a-z-]*\\.service' /proc/$pid/cgroup 2>/dev/null; done; true",
    );
    assert_eq!(inside, "");
}

/// The web application answers on the pod's own address.
pub fn expect_web_answers(guest: &mut Guest) {
    let script = "ip=$(pinlet get pods -o wide | awk '$2 == \"web-vmnode\" { print $7 }')
        curl --silent --fail --max-time 30 http://$ip:8080/";
    let answer = guest.wait("answer of the web application", SLOW_SECONDS, script);
    assert!(answer.contains("Node.js v"), "{answer}");
}

/// Each of these acts on the agent alone: afterwards the same processes run.
pub fn expect_pods_untouched(guest: &mut Guest, pods: &[&str], actions: &[&str]) {
    let before = processes(guest);
    for action in actions {
        eprintln!("  {action}");
        guest.ok(action);
        guest.wait("agent", SLOW_SECONDS, "pinlet get pods");
        wait_running(guest, pods);
        expect_outside_of_units(guest);
        assert_eq!(processes(guest), before, "after {action}");
    }
}
