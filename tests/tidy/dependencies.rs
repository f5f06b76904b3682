//! What we link: no async runtime, no licence that forbids shipping one Apache-2.0 binary, and a reason for each crate.

use super::{expect_none, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;

/// An async runtime, or what brings one.
const BANNED: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "futures-executor",
    "hyper",
    "reqwest",
    "actix-rt",
    "glommio",
    "monoio",
];

/// Licences whose terms a binary under Apache-2.0 can meet (MPL-2.0 binds only its own, unchanged, files).
const ACCEPTED: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "MPL-2.0",
    "CDLA-Permissive-2.0",
    "LLVM-exception",
];

/// Crates that name a file instead of a licence, and what was read there.
const READ_BY_HAND: &[(&str, &str)] = &[("rust-criu", "MIT")];

/// What cargo knows of the crates that this platform's build reaches; from the lock file, without the network.
fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"])
            .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
    })
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages that are really reached, not all that the lock file names.
fn reached() -> Vec<&'static Value> {
    let nodes = list(&metadata()["resolve"], "nodes");
    let ids: BTreeSet<&str> = nodes.iter().map(|node| text(node, "id")).collect();
    list(metadata(), "packages").iter().filter(|package| ids.contains(text(package, "id"))).collect()
}

/// The crates of Cargo.toml by the name that code uses.
pub fn declared() -> &'static BTreeSet<String> {
    static DECLARED: OnceLock<BTreeSet<String>> = OnceLock::new();
    DECLARED.get_or_init(|| {
        let own = list(metadata(), "packages").iter().find(|package| package["name"] == "pinlet").expect("ourselves");
        list(own, "dependencies").iter().map(|dependency| text(dependency, "name").replace('-', "_")).collect()
    })
}

#[test]
fn no_async_runtime_is_linked() {
    let packages = reached();
    assert!(packages.len() > 20, "cargo metadata lists the tree");
    let found = packages.iter().map(|p| text(p, "name")).filter(|name| BANNED.contains(name));
    expect_none("banned crates", found.map(str::to_owned).collect());
}

#[test]
fn every_licence_lets_us_ship() {
    let mut breaches = Vec::new();
    for package in reached() {
        let name = text(package, "name");
        let by_hand = READ_BY_HAND.iter().find(|(known, _)| *known == name).map(|(_, licence)| *licence);
        let expression = package["license"].as_str().or(by_hand).unwrap_or_default();
        if !accepts(expression) {
            breaches.push(format!("{name}: {expression:?}"));
        }
    }
    expect_none("licences", breaches);
}

/// Whether an SPDX expression can be met; `/` is the old way to write OR.
fn accepts(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    !words.is_empty() && accepts_any(&words, &mut at) && at == words.len()
}

fn accepts_any(words: &[&str], at: &mut usize) -> bool {
    let mut met = accepts_all(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= accepts_all(words, at);
    }
    met
}

fn accepts_all(words: &[&str], at: &mut usize) -> bool {
    let mut met = accepts_one(words, at);
    while matches!(words.get(*at), Some(&"AND" | &"WITH")) {
        *at += 1;
        met &= accepts_one(words, at);
    }
    met
}

fn accepts_one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = accepts_any(words, at);
        *at += 1;
        return met;
    }
    ACCEPTED.contains(word)
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for met in
        ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-2.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(accepts(met), "{met}");
    }
    for not in ["", "GPL-3.0", "MIT AND GPL-3.0", "LGPL-2.1 OR GPL-3.0", "MIT GPL-3.0"] {
        assert!(!accepts(not), "{not}");
    }
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let mut breaches = Vec::new();
    let (mut inside, mut reason) = (false, false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.starts_with('#') {
            reason = true;
        } else if inside && line.contains('=') && !line.starts_with([' ', ']']) {
            if !reason && !line.contains(" # ") {
                breaches.push(line.to_owned());
            }
            reason = false;
        }
    }
    expect_none("dependencies without a reason", breaches);
}
