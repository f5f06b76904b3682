//! Who may import whom. The core stays pure, the edges stay apart, and what is dangerous or foreign has one place.

use super::expect_none;
use super::source::Source;

/// Areas that an area may import, besides itself. What is not listed here may not exist.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("lib", &[]),
    ("main", &["agent", "cli", "config", "error", "image", "manifest", "model", "runtime", "server", "sys"]),
    ("model", &[]),
    ("error", &[]),
    // Of the tests inside the crate.
    ("damage", &[]),
    ("yaml", &["error"]),
    ("http", &["damage", "error", "sys"]),
    // `sys` knows clocks, processes and files, but no pods: see `sys_knows_no_pods`.
    ("sys", &["model", "error"]),
    ("reconcile", &["model"]),
    ("cluster", &["model"]),
    ("apiserver", EDGE),
    ("config", EDGE),
    ("image", EDGE),
    ("manifest", EDGE),
    ("net", EDGE),
    ("runtime", EDGE),
    ("server", EDGE),
    ("cli", EDGE),
    (
        "agent",
        &[
            "apiserver",
            "cli",
            "cluster",
            "config",
            "damage",
            "error",
            "http",
            "image",
            "manifest",
            "model",
            "net",
            "reconcile",
            "runtime",
            "server",
            "sys",
            "yaml",
        ],
    ),
];
const EDGE: &[&str] = &["model", "sys", "error", "yaml", "http", "damage"];

/// What the client takes from the server: the types and the framing that cross the socket.
const SHARED_WITH_CLI: &[&str] = &["wire", "frame"];

/// Of `model`, what the layer below everything may know: times and processes.
const MODEL_OF_SYS: &[&[&str]] = &[&["time"], &["id", "ProcessRef"], &["id", "BootId"]];

/// Crates with one home: a folder, or a file wherever it is.
const HOMES: &[(&str, &str)] = &[
    ("libcontainer", "src/runtime"),
    ("nix", "src/sys"),
    ("libc", "src/sys"),
    ("netlink_sys", "src/sys"),
    ("ureq", "src/http"),
    ("rustls", "src/http"),
];
const ONE_FILE: &[&str] = &["inotify", "serde_yaml"];

/// What would make the core's answers depend on anything but its arguments.
const IMPURE: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "env"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "os"],
    &["std", "io"],
    &["std", "sync", "mpsc"],
    &["std", "sync", "Mutex"],
    &["std", "sync", "RwLock"],
    &["std", "sync", "atomic"],
    &["std", "net", "TcpStream"],
    &["std", "net", "TcpListener"],
    &["std", "net", "UdpSocket"],
    &["std", "net", "ToSocketAddrs"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["log"],
    &["tracing"],
];
/// The crates that the core and its vocabulary may name.
const CRATES_OF_THE_CORE: &[&str] = &["std", "core", "serde", "serde_json", "k8s_openapi", "thiserror"];

/// Every path that starts at the root of the crate, as its place and its steps from the area on.
fn crossings(source: &Source) -> Vec<(String, Vec<String>)> {
    let from_root = source.paths().into_iter().filter(|(_, path)| matches!(path[0].as_str(), "crate" | "pinlet"));
    from_root
        .filter(|(_, path)| path.len() > 1)
        .map(|(token, path)| (source.place(token.line), path[1..].to_vec()))
        .collect()
}

fn starts_with(path: &[String], start: &[&str]) -> bool {
    path.len() >= start.len() && path.iter().zip(start).all(|(step, wanted)| step == wanted)
}

#[test]
fn every_area_imports_only_what_it_may() {
    let mut breaches = Vec::new();
    for source in Source::all("src") {
        let area = source.area();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == area) else {
            breaches.push(format!("{}: no rule says what {area} may import", source.path.display()));
            continue;
        };
        for (place, path) in crossings(&source) {
            let shared = area == "cli" && SHARED_WITH_CLI.iter().any(|name| starts_with(&path, &["server", name]));
            if path[0] != area && !allowed.contains(&path[0].as_str()) && !shared {
                breaches.push(format!("{place}: {area} may not import {}", path[0]));
            }
        }
    }
    expect_none("imports", breaches);
}

#[test]
fn areas_are_named_from_the_crate_root() {
    let mut breaches = Vec::new();
    for source in Source::all("src") {
        // src/area/mod.rs is one step below the root of the crate, src/area/file.rs two; a test module one more.
        let steps = source.path.iter().count() - 1 - usize::from(source.path.ends_with("mod.rs"));
        for (token, path) in source.paths() {
            let up = path.iter().take_while(|step| *step == "super").count();
            if up >= steps + usize::from(token.test) && up > 0 {
                breaches.push(format!("{}: write crate::... instead of {}", source.place(token.line), path.join("::")));
            }
        }
    }
    expect_none("paths that hide an import", breaches);
}

#[test]
fn sys_knows_no_pods() {
    let mut breaches = Vec::new();
    for source in Source::all("src/sys") {
        for (place, path) in crossings(&source) {
            if path[0] == "model" && !MODEL_OF_SYS.iter().any(|known| starts_with(&path[1..], known)) {
                breaches.push(format!("{place}: sys may not know {}", path.join("::")));
            }
        }
    }
    expect_none("sys", breaches);
}

#[test]
fn the_core_is_pure() {
    let mut breaches = Vec::new();
    for source in ["src/reconcile", "src/cluster", "src/model"].into_iter().flat_map(Source::all) {
        for (token, path) in source.paths().into_iter().filter(|(token, _)| !token.test) {
            let place = source.place(token.line);
            if IMPURE.iter().any(|banned| starts_with(&path, banned)) {
                breaches.push(format!("{place}: {} makes the core impure", path.join("::")));
            }
        }
        for name in foreign_crates(&source) {
            if !CRATES_OF_THE_CORE.contains(&name.as_str()) {
                breaches.push(format!("{}: the core may not name the crate {name}", source.path.display()));
            }
        }
        for word in ["Instant", "SystemTime"] {
            if let Some(line) = source.mentions(word) {
                breaches.push(format!("{}: {word} is a clock", source.place(line)));
            }
        }
    }
    expect_none("the core takes facts and time as arguments", breaches);
}

/// The crates of Cargo.toml that the file names.
fn foreign_crates(source: &Source) -> Vec<String> {
    let mut crates: Vec<String> = source.paths().into_iter().map(|(_, path)| path[0].clone()).collect();
    crates.retain(|name| super::dependencies::declared().contains(name));
    crates.sort();
    crates.dedup();
    crates
}

#[test]
fn foreign_crates_stay_in_their_home() {
    let mut breaches = Vec::new();
    let sources = Source::all("src");
    for source in &sources {
        for (name, home) in HOMES {
            let away = !source.path.starts_with(home) && foreign_crates(source).iter().any(|c| c == name);
            if away {
                breaches.push(format!("{}: only {home} may name {name}", source.path.display()));
            }
        }
    }
    for name in ONE_FILE {
        let homes: Vec<_> = sources.iter().filter(|s| foreign_crates(s).iter().any(|c| c == name)).collect();
        if homes.len() > 1 {
            let paths: Vec<_> = homes.iter().map(|s| s.path.display().to_string()).collect();
            breaches.push(format!("{name} has more than one home: {}", paths.join(", ")));
        }
    }
    expect_none("homes of foreign crates", breaches);
}

#[test]
fn unsafe_code_stays_in_sys() {
    let mut breaches = Vec::new();
    for source in Source::all("src") {
        if let Some(line) = source.mentions("unsafe").filter(|_| !source.path.starts_with("src/sys")) {
            breaches.push(source.place(line));
        }
    }
    expect_none("unsafe outside src/sys", breaches);
}
