//! What a failing test shows, and what a node without pods must not have any more.

use super::{Node, host};
use std::fs;
use std::path::{Path, PathBuf};

pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The agent's last words and its view of the world.
pub fn state(node: &Node) -> String {
    let mut text = format!("---- {} ----\n", node.tag);
    for verb in [&["get", "pods", "-o", "wide"][..], &["explain"]] {
        let out = super::verb::try_run(&mut node.command(verb), b"", std::time::Duration::from_secs(5));
        text.push_str(&format!("{verb:?}: {out:?}\n"));
    }
    text.push_str(&format!("processes: {:?}\n", host::processes(&node.tag)));
    text.push_str(&tail(&node.agent_log(), 60));
    text
}

/// Whatever of its former pods the node still has; empty is clean. The agent may run or not.
pub fn what_is_left(node: &Node) -> Vec<String> {
    let mut left = Vec::new();
    for cgroup in host::cgroups(&node.tag) {
        let below = cgroup.components().any(|c| c.as_os_str() == "kubepods");
        if below && !cgroup.ends_with("kubepods") {
            left.push(format!("cgroup {}", cgroup.display()));
        }
    }
    for pid in host::processes(&node.tag) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        left.push(format!("process {pid} {}", name.trim()));
    }
    let own = node.run_dir();
    left.extend(
        host::mounts_below(&node.dir)
            .iter()
            .filter(|m| **m != own && !is_the_tests(m, node))
            .map(|m| format!("mount {}", m.display())),
    );
    for dir in ["run/pods", "run/containers", "root/pods", "logs/pods", "logs/containers"] {
        left.extend(entries(&node.dir.join(dir)).iter().map(|e| format!("file {}", e.display())));
    }
    left.extend(host::links().into_iter().filter(|l| *l == node.tag).map(|l| format!("link {l}")));
    let table = format!("pinlet-{}", node.tag);
    left.extend(host::nft_tables().into_iter().filter(|t| t.ends_with(&table)));
    left
}

/// Mounts that a test made itself lie directly in the node's directory (`loopfs`).
fn is_the_tests(mount: &Path, node: &Node) -> bool {
    mount.parent() == Some(&node.dir) && mount != node.run_dir()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}
