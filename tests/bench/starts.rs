//! How long starts take: by manifest, by restart, and twenty at once.

use crate::peers::{Crun, Podman};
use crate::support::host;
use crate::support::node::{Node, Setup};
use crate::workload::{Workload, milliseconds, now};
use crate::{REST, Row, median, ratio, row, samples};
use nix::sys::signal::Signal;

const AT_ONCE: usize = 20;

fn node(workload: &Workload) -> Node {
    let node = Setup::default().image(workload.image()).start();
    // The first pod waits for the image.
    node.put_pod(&workload.pod("first"));
    workload.wait_for_stamp("first", 1).unwrap_or_else(|e| panic!("{e}"));
    node.wait_running("first");
    node
}

pub fn measure(workload: &Workload, rows: &mut Vec<Row>) {
    let mut crun = Crun::new(workload);
    let podman = Podman::new(workload);
    for own_network in [false, true] {
        for rested in [false, true] {
            let ours = manifests(workload, own_network, rested);
            let what = format!(
                "manifest renamed in to first instruction, {}, {}",
                if own_network { "built-in bridge" } else { "hostNetwork" },
                if rested { "rested" } else { "back to back" },
            );
            let beside = crun_starts(&mut crun, 1, own_network, rested);
            let played = podman_starts(&podman, workload, own_network, rested);
            let beside = [ratio(ours, "crun run", &beside), ratio(ours, "podman kube play", &played)].join("; ");
            rows.push(row(&what, format!("{ours:.1} ms"), beside));
        }
    }
    let ours = restarts(workload);
    let beside = crun_starts(&mut crun, 1, false, true);
    rows.push(row("process killed to new process, rested", format!("{ours:.1} ms"), ratio(ours, "crun run", &beside)));

    let ours = together(workload);
    let beside = crun_starts(&mut crun, AT_ONCE, false, true);
    let what = format!("{AT_ONCE} manifests at once, hostNetwork, until the last runs");
    rows.push(row(&what, format!("{ours:.0} ms"), ratio(ours, &format!("{AT_ONCE} crun run"), &beside)));
}

fn rest(rested: bool) {
    if rested {
        std::thread::sleep(REST);
    }
}

fn crun_starts(crun: &mut Result<Crun, String>, count: usize, own_network: bool, rested: bool) -> Result<f64, String> {
    let crun = crun.as_mut().map_err(|reason| reason.clone())?;
    let rounds = if count > 1 { 3 } else { samples() };
    let times = (0..rounds).map(|_| {
        rest(rested);
        crun.start(count, own_network)
    });
    times.collect::<Result<Vec<f64>, String>>().map(median)
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
fn manifests(workload: &Workload, own_network: bool, rested: bool) -> f64 {
    let node = node(workload);
    let mut times = Vec::new();
    for n in 0..samples() {
        let name = format!("m-{}-{}-{n}", u8::from(own_network), u8::from(rested));
        let pod = workload.pod(&name);
        let yaml = if own_network { pod.own_network() } else { pod }.yaml();
        rest(rested);
        let begin = now();
        node.put(&format!("{name}.yaml"), yaml);
        let at = workload.wait_for_stamp(&name, 1).unwrap_or_else(|e| panic!("{name}: {e}\n{}", node.agent_log()));
        times.push(milliseconds(begin, at));
        if n + 1 == samples() {
            node.wait_running(&name);
            println!("{}", node.verb(&["explain", &name]).stdout);
        }
    }
    median(times)
}

/// First restarts, of as many pods: a second one would wait.
fn restarts(workload: &Workload) -> f64 {
    let node = node(workload);
    let mut times = Vec::new();
    for n in 0..samples() {
        let name = format!("restart-{n}");
        node.put_pod(&workload.pod(&name));
        workload.wait_for_stamp(&name, 1).unwrap_or_else(|e| panic!("{e}"));
        let pod = node.wait_running(&name);
        let pid = node.init_pid(&pod, "c");
        rest(true);
        let begin = now();
        host::signal(pid, Signal::SIGKILL);
        let at = workload.wait_for_stamp(&name, 2).unwrap_or_else(|e| panic!("{e}"));
        times.push(milliseconds(begin, at));
    }
    median(times)
}

fn together(workload: &Workload) -> f64 {
    let mut times = Vec::new();
    for round in 0..3 {
        let node = node(workload);
        std::fs::remove_file(workload.stamps().join("first")).expect("it stamped");
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("at-once-{round}-{n}")).collect();
        rest(true);
        let begin = now();
        for name in &names {
            node.put_pod(&workload.pod(name));
        }
        let stamps = names.iter().map(|name| workload.wait_for_stamp(name, 1).unwrap_or_else(|e| panic!("{e}")));
        times.push(milliseconds(begin, stamps.max().expect("there are some")));
    }
    median(times)
}
