//! How long starts take: by manifest, by restart, and twenty at once.

use crate::peers::{Crun, Podman};
use crate::support::host;
use crate::support::node::{Node, Setup};
use crate::workload::{Workload, milliseconds, now};
use crate::{REST, Row, median, ratio, row, samples};
use nix::sys::signal::Signal;

const AT_ONCE: usize = 20;
const ROUNDS_AT_ONCE: usize = 5;
/// Starts of one before the other's turn, back to back.
const TURN: usize = 5;

fn node(workload: &Workload) -> Node {
    let node = Setup::default().image(workload.image()).memory_run_dir().start();
    // The first pod waits for the image.
    node.put_pod(&workload.pod("first"));
    workload.wait_for_stamp("first", 1).unwrap_or_else(|e| panic!("{e}"));
    node.wait_running("first");
    node
}

/// Figures of this program and of crun, taken in turns: the machine drifts, and ratios should not.
struct Pair {
    ours: f64,
    crun: Result<f64, String>,
}

/// Back to back means each right behind its own like: the turns are longer.
fn in_turns(
    rounds: usize,
    turn: usize,
    mut ours: impl FnMut(usize) -> f64,
    mut crun: impl FnMut(usize) -> Result<Vec<f64>, String>,
) -> Pair {
    let (mut times, mut theirs) = (Vec::new(), Ok(Vec::new()));
    for begin in (0..rounds).step_by(turn) {
        let round = begin..rounds.min(begin + turn);
        times.extend(round.clone().map(&mut ours));
        theirs = theirs.and_then(|all: Vec<f64>| Ok([all, crun(round.len())?].concat()));
    }
    Pair { ours: median(times), crun: theirs.map(median) }
}

pub fn measure(workload: &Workload, rows: &mut Vec<Row>) {
    let mut crun = Crun::new(workload);
    let podman = Podman::new(workload);
    for own_network in [false, true] {
        for rested in [false, true] {
            let pair = manifests(workload, &mut crun, own_network, rested);
            let what = format!(
                "manifest renamed in to first instruction, {}, {}",
                if own_network { "built-in bridge" } else { "hostNetwork" },
                if rested { "rested" } else { "back to back" },
            );
            let played = podman_starts(&podman, workload, own_network, rested);
            let beside = [ratio(pair.ours, "crun run", &pair.crun), ratio(pair.ours, "podman kube play", &played)];
            rows.push(row(&what, format!("{:.1} ms", pair.ours), beside.join("; ")));
        }
    }
    let Pair { ours, crun: beside } = restarts(workload, &mut crun);
    rows.push(row("process killed to new process, rested", format!("{ours:.1} ms"), ratio(ours, "crun run", &beside)));

    let Pair { ours, crun: beside } = together(workload, &mut crun);
    let what = format!("{AT_ONCE} manifests at once, hostNetwork, until the last runs");
    rows.push(row(&what, format!("{ours:.0} ms"), ratio(ours, &format!("{AT_ONCE} crun run"), &beside)));
}

fn rest(rested: bool) {
    if rested {
        std::thread::sleep(REST);
    }
}

fn crun_starts(
    crun: &mut Result<Crun, String>,
    count: usize,
    own_network: bool,
    rested: bool,
) -> Result<Vec<f64>, String> {
    let crun = crun.as_mut().map_err(|reason| reason.clone())?;
    rest(rested);
    crun.start_in_a_row(count, own_network)
}

fn podman_starts(
    podman: &Result<Podman, String>,
    workload: &Workload,
    own_network: bool,
    rested: bool,
) -> Result<f64, String> {
    let podman = podman.as_ref().map_err(|reason| reason.clone())?;
    let times = (0..samples().min(7)).map(|n| {
        let name = format!("podman-{}-{}-{n}", u8::from(own_network), u8::from(rested));
        let pod = workload.pod(&name);
        rest(rested);
        podman.play(&if own_network { pod.own_network() } else { pod }, &workload.stamps().join(&name))
    });
    times.collect::<Result<Vec<f64>, String>>().map(median)
}

/// One manifest after the other into one node; each pod stays until the end, as they do.
fn manifests(workload: &Workload, crun: &mut Result<Crun, String>, own_network: bool, rested: bool) -> Pair {
    let node = node(workload);
    let start = |n: usize| {
        let name = format!("m-{}-{}-{n}", u8::from(own_network), u8::from(rested));
        let pod = workload.pod(&name);
        let yaml = if own_network { pod.own_network() } else { pod }.yaml();
        rest(rested);
        let begin = now();
        node.put(&format!("{name}.yaml"), yaml);
        let at = workload.wait_for_stamp(&name, 1).unwrap_or_else(|e| panic!("{name}: {e}\n{}", node.agent_log()));
        if n + 1 == samples() {
            node.wait_running(&name);
            println!("{}", node.verb(&["explain", &name]).stdout);
        }
        milliseconds(begin, at)
    };
    in_turns(samples(), if rested { 1 } else { TURN }, start, |count| crun_starts(crun, count, own_network, rested))
}

/// First restarts, of as many pods: a second one would wait.
fn restarts(workload: &Workload, crun: &mut Result<Crun, String>) -> Pair {
    let node = node(workload);
    let restart = |n: usize| {
        let name = format!("restart-{n}");
        node.put_pod(&workload.pod(&name));
        workload.wait_for_stamp(&name, 1).unwrap_or_else(|e| panic!("{e}"));
        let pod = node.wait_running(&name);
        let pid = node.init_pid(&pod, "c");
        rest(true);
        let begin = now();
        host::signal(pid, Signal::SIGKILL);
        let at = workload.wait_for_stamp(&name, 2).unwrap_or_else(|e| panic!("{e}"));
        milliseconds(begin, at)
    };
    in_turns(samples(), 1, restart, |count| crun_starts(crun, count, false, true))
}

/// A node of its own each time: what it did before must not count.
fn together(workload: &Workload, crun: &mut Result<Crun, String>) -> Pair {
    let start = |round: usize| {
        let node = node(workload);
        std::fs::remove_file(workload.stamps().join("first")).expect("it stamped");
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("at-once-{round}-{n}")).collect();
        rest(true);
        let begin = now();
        for name in &names {
            node.put_pod(&workload.pod(name));
        }
        let stamps = names.iter().map(|name| workload.wait_for_stamp(name, 1).unwrap_or_else(|e| panic!("{e}")));
        milliseconds(begin, stamps.max().expect("there are some"))
    };
    in_turns(ROUNDS_AT_ONCE, 1, start, |_| {
        rest(true);
        let crun = crun.as_mut().map_err(|reason| reason.clone())?;
        Ok(vec![crun.start_at_once(AT_ONCE, false)?])
    })
}
