//! Much happening at once, and the agent dying in the middle of it: in the end all is as the directory says.

mod support;

use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;
use support::wait::{expect, stays};
use support::{IDLE, Node, PATIENCE, Pod, PodView, Setup, host, json, wait_for};

/// A small generator of its own: a failing run is repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn version(pod: &str, number: u64) -> Pod {
    let made = Pod::idle(pod).with("env", json!([{"name": "VERSION", "value": number.to_string()}]));
    if pod.len().is_multiple_of(2) { made.own_network() } else { made }
}

fn shown_version(pod: &PodView) -> String {
    pod.0.pointer("/spec/containers/0/env/0/value").and_then(|v| v.as_str()).unwrap_or_default().to_owned()
}

/// The node is as it should be, kernel and answers: every pod runs the wanted version, and for each there is exactly one
/// monitor and one container, whose shell and its `sleep` are alive.
fn is_as_wanted(node: &Node, wanted: &BTreeMap<String, u64>) -> Result<(), String> {
    let cgroups = host::cgroups(&node.tag);
    let alive = |c: &PathBuf| host::pids_of(c).into_iter().filter(|pid| host::is_alive(*pid)).collect::<BTreeSet<_>>();
    let monitors: BTreeSet<i32> = cgroups.iter().filter(|c| c.ends_with("pinlet-monitors")).flat_map(&alive).collect();
    // The same container has a cgroup in every hierarchy.
    let mut containers: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for cgroup in cgroups.iter().filter(|c| c.file_name().is_some_and(|n| n.len() == 64)) {
        let id = cgroup.file_name().expect("just seen").to_string_lossy().into_owned();
        containers.entry(id).or_default().extend(alive(cgroup));
    }
    let pods = node.try_pods()?;
    let seen: BTreeMap<String, String> =
        pods.iter().filter(|p| p.is_running("c")).map(|p| (p.name(), shown_version(p))).collect();
    let right: BTreeMap<String, String> =
        wanted.iter().map(|(name, v)| (node.full_name(name), v.to_string())).collect();
    let whole = containers.values().all(|pids| pids.len() == 2);
    let counts = (pods.len(), monitors.len(), containers.len());
    expect(seen == right && whole && counts == (right.len(), right.len(), right.len()), || {
        format!("{} pods, running {seen:?}, monitors {monitors:?}, containers {containers:?}", pods.len())
    })
}

/// Comes to be as wanted, and then stays so: what is not stable is not right.
#[track_caller]
fn wait_as_wanted(node: &Node, wanted: &BTreeMap<String, u64>) {
    let what = format!("the node is as wanted: {wanted:?}");
    wait_for(&what, PATIENCE * 2, || is_as_wanted(node, wanted));
    stays(&what, Duration::from_millis(500), || is_as_wanted(node, wanted));
}

/// Who else dies beside the agent.
#[derive(Clone, Copy, PartialEq)]
enum Victims {
    None,
    /// Each process of the pods and each monitor, with one chance in six after each step.
    MonitorsAndContainers,
}

/// SIGKILLs some of the node's processes, by dice of their own: how many there are at the moment depends on the
/// machine, and the rest of the run must not. Waits for their end, so that nothing dying is taken for running.
fn kill_some(node: &Node, mut dice: Dice) {
    let doomed: Vec<(i32, Option<u64>)> = host::processes(&node.tag)
        .into_iter()
        .filter(|_| dice.roll(6) == 0)
        .map(|pid| (pid, host::start_ticks(pid)))
        .filter(|(_, start)| start.is_some())
        .collect();
    for (pid, _) in &doomed {
        host::signal(*pid, Signal::SIGKILL);
    }
    wait_for("the killed are dead", PATIENCE, || {
        let same = |(pid, start): &&(i32, Option<u64>)| host::is_alive(*pid) && host::start_ticks(*pid) == *start;
        expect(!doomed.iter().any(|d| same(&d)), || format!("{doomed:?}"))
    });
}

fn churn_with_crashes(seed: u64, victims: Victims) {
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    // So that what crashed again and again comes back within the patience.
    let mut node = Setup::default().restart_period(1).start();
    let names = ["a", "bb", "ccc", "dddd", "eeeee"];
    let mut wanted = BTreeMap::new();
    for step in 0..40 {
        let name = names[dice.roll(5) as usize];
        if dice.roll(3) == 0 {
            if wanted.remove(name).is_some() {
                node.remove(&format!("{name}.yaml"));
            }
        } else {
            wanted.insert(name.to_owned(), step);
            node.put_pod(&version(name, step));
        }
        std::thread::sleep(Duration::from_millis(dice.roll(250)));
        if dice.roll(4) == 0 {
            node.crash_agent();
            std::thread::sleep(Duration::from_millis(dice.roll(100)));
            if victims == Victims::MonitorsAndContainers {
                // Of these no living agent hears.
                kill_some(&node, Dice(seed << 32 | step << 1));
            }
            node.spawn_agent();
            // Sometimes killed again before it has adopted anything.
            std::thread::sleep(Duration::from_millis(dice.roll(60)));
        }
        if victims == Victims::MonitorsAndContainers {
            kill_some(&node, Dice(seed << 32 | step << 1 | 1));
        }
    }
    node.wait_until_it_answers();
    wait_as_wanted(&node, &wanted);
    for name in wanted.keys() {
        node.remove(&format!("{name}.yaml"));
    }
    wait_as_wanted(&node, &BTreeMap::new());
    node.assert_no_pod_left();
}

/// `PINLET_TEST_SEEDS=7,8` repeats a run that failed, or tries others.
fn seeds(usual: &str) -> Vec<u64> {
    let given = std::env::var("PINLET_TEST_SEEDS").unwrap_or_else(|_| usual.to_owned());
    given.split(',').map(|seed| seed.parse().expect("numbers with commas between")).collect()
}

#[test]
fn an_agent_killed_at_any_moment_ends_up_as_the_directory_says() {
    for seed in seeds("1,2,3") {
        churn_with_crashes(seed, Victims::None);
    }
}

#[test]
fn whatever_else_is_killed_with_the_agent_it_ends_up_as_the_directory_says() {
    for seed in seeds("1,2,3") {
        churn_with_crashes(seed, Victims::MonitorsAndContainers);
    }
}

#[test]
fn of_a_storm_of_edits_only_the_last_counts() {
    let node = Node::start();
    for n in 0..30 {
        node.put_pod(&version("app", n));
        std::thread::sleep(Duration::from_millis(30));
    }
    wait_as_wanted(&node, &BTreeMap::from([("app".to_owned(), 29)]));
}

#[test]
fn pods_that_come_and_go_leave_no_descriptor_thread_or_zombie_in_the_agent() {
    let node = Node::start();
    let cycle = |n: usize| {
        for k in 0..5 {
            node.put_pod(&Pod::idle(&format!("p{k}")).own_network());
        }
        for k in 0..5 {
            node.wait_running(&format!("p{k}"));
        }
        if n.is_multiple_of(2) {
            node.verb(&["exec", "p0", "--", "true"]).ok();
        }
        for k in 0..5 {
            node.remove(&format!("p{k}.yaml"));
        }
        wait_for("all are gone", PATIENCE, || expect(node.try_pods()?.is_empty(), String::new));
    };
    let agent = node.agent_pid();
    let descriptors = || fs::read_dir(format!("/proc/{agent}/fd")).expect("alive").count();
    cycle(0);
    let before = descriptors();
    for n in 1..6 {
        cycle(n);
    }
    wait_for("no more descriptors than before", PATIENCE, || {
        expect(descriptors() <= before + 2, || format!("{} instead of {before}", descriptors()))
    });
    let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap_or_default();
    let zombies: Vec<&str> = children
        .split_whitespace()
        .filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z ")))
        .collect();
    assert_eq!(zombies, [] as [&str; 0]);
    node.assert_no_pod_left();
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    // A pipe whose reader sleeps: it is full after 64 KiB.
    let mut node = Setup::default().stopped().start();
    let fifo = node.dir.join("stderr.fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fresh name");
    let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("a fifo");
    node.setup.shell = Some(format!("exec 2>'{}'; exec \"$@\"", fifo.display()));
    node.start_agent();
    // Fill what is left of it.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut pipe = fs::OpenOptions::new().write(true).custom_flags(flags).open(&fifo).expect("a fifo");
    while pipe.write(&[b'.'; 512]).is_ok() {}
    for n in 0..8 {
        node.put_pod(&Pod::idle(&format!("p{n}")));
    }
    for n in 0..8 {
        node.wait_running(&format!("p{n}"));
    }
    drop(reader);
}

#[test]
fn a_pod_removed_while_it_waits_in_back_off_goes_at_once() {
    let node = Node::start();
    node.put_pod(&Pod::new("app", "exit 1").own_network());
    node.wait_pod("app", "waits", |p| p.waiting("c") == "CrashLoopBackOff");
    node.remove("app.yaml");
    node.wait_gone("app");
    node.assert_no_pod_left();
}

#[test]
fn superseded_versions_never_start() {
    let node = Node::start();
    let out = node.dir.join("out");
    fs::create_dir(&out).expect("a fresh directory");
    let source = json!({"hostPath": {"path": out.display().to_string()}});
    let pod = |word: &str| {
        let script = format!("touch /out/{word}; trap 'sleep 3; exit 0' TERM; sleep 1000000 & wait");
        Pod::new("app", &script).grace(20).volume("out", source.clone(), "/out")
    };
    node.put_pod(&pod("first"));
    wait_for("the first runs", PATIENCE, || expect(out.join("first").exists(), String::new));
    node.put_pod(&pod("second"));
    std::thread::sleep(Duration::from_millis(600));
    node.put_pod(&pod("third"));
    wait_for("the third runs", PATIENCE, || expect(out.join("third").exists(), String::new));
    assert!(!out.join("second").exists());
}

#[test]
fn a_container_that_forks_and_floods_its_log_stays_within_its_bounds() {
    let node = Setup::default().config("podPidsLimit: 64").start();
    let bomb = "f() { while :; do sleep 1000 & done; }; f 2>/dev/null";
    node.put_pod(&Pod::new("bomb", bomb));
    node.put_pod(&Pod::idle("other"));
    node.wait_running("other");
    node.wait_pod("bomb", "is known", |p| !p.uid().is_empty());
    std::thread::sleep(Duration::from_secs(2));
    assert!(host::processes(&node.tag).len() < 80, "{}", host::processes(&node.tag).len());
    node.remove("bomb.yaml");
    node.wait_gone("bomb");
    node.verb(&["exec", "other", "--", "true"]).ok();
}

#[test]
fn lines_longer_than_the_monitors_buffer_come_out_whole() {
    let node = Node::start();
    let script = format!("head -c 100000 /dev/zero | tr '\\0' x; echo; echo short; {IDLE}");
    node.put_pod(&Pod::new("app", &script));
    let log = node.wait_log("app", "short\n");
    assert_eq!(log, format!("{}\nshort\n", "x".repeat(100_000)));
}

#[test]
fn a_hup_makes_the_agent_look_again() {
    let node = Setup::default().config("fileCheckFrequency: 10m").start();
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
    host::signal(node.agent_pid(), Signal::SIGHUP);
    node.put_pod(&Pod::idle("second"));
    node.wait_running("second");
    assert_eq!(node.agent_exit(), None);
}
