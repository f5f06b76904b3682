//! The others: `crun run` of an equivalent bundle, and `podman kube play` of the same manifest.

use crate::support::image::Image;
use crate::support::pod::Pod;
use crate::support::{host, verb};
use crate::workload::{Workload, milliseconds, now, stamp};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// This program again, in a mount namespace that suits crun.
pub const CRUN_ROLE: &str = "crun-runner";
const LIMIT: Duration = Duration::from_secs(60);

/// crun refuses hybrid cgroups; in a mount namespace without the v2 hierarchy it sees plain v1. So its starts are made
/// by a copy of this program in there, which answers one line with the milliseconds of each.
pub struct Crun {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    bundle: PathBuf,
    stamps: PathBuf,
    next: usize,
}

impl Crun {
    pub fn new(workload: &Workload) -> Result<Crun, String> {
        let bundle = workload.dir.join("bundle");
        make_bundle(&bundle, workload)?;
        let script = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(std::env::current_exe().map_err(|e| e.to_string())?)
            .arg(CRUN_ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Crun { child, input, output, bundle, stamps: workload.stamps(), next: 0 })
    }

    /// Milliseconds to the first instruction of the last of `count` containers that are started at once.
    pub fn start_at_once(&mut self, count: usize, own_network: bool) -> Result<f64, String> {
        let times = self.ask("at-once", count, own_network)?;
        times.first().copied().ok_or_else(|| "crun: no figure".to_owned())
    }

    /// Milliseconds of each of `count` starts, one as soon as the one before runs.
    pub fn start_in_a_row(&mut self, count: usize, own_network: bool) -> Result<Vec<f64>, String> {
        self.ask("in-a-row", count, own_network)
    }

    fn ask(&mut self, how: &str, count: usize, own_network: bool) -> Result<Vec<f64>, String> {
        configure(&self.bundle, &self.stamps, own_network)?;
        let (first, bundle) = (self.next, self.bundle.display());
        self.next += count;
        writeln!(self.input, "{how} {first} {count} {bundle} {}", self.stamps.display()).map_err(|e| e.to_string())?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|e| e.to_string())?;
        let times = line.split_whitespace().map(str::parse);
        times.collect::<Result<_, _>>().map_err(|_| format!("crun: {}", line.trim()))
    }
}

impl Drop for Crun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for hierarchy in host::hierarchies() {
            let _ = std::fs::remove_dir(hierarchy.join("pinlet-bench-crun"));
        }
    }
}

fn make_bundle(bundle: &Path, workload: &Workload) -> Result<(), String> {
    let root = bundle.join("rootfs");
    for folder in ["stamps", "proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(folder)).map_err(|e| e.to_string())?;
    }
    std::fs::copy(workload.program(), root.join("stamp")).map_err(|e| e.to_string())?;
    verb::try_run(Command::new("crun").arg("spec").current_dir(bundle), b"", LIMIT).map_err(|o| o.stderr)?;
    std::fs::rename(bundle.join("config.json"), bundle.join("template.json")).map_err(|_| "crun is missing".to_owned())
}

fn configure(bundle: &Path, stamps: &Path, own_network: bool) -> Result<(), String> {
    let text = std::fs::read(bundle.join("template.json")).map_err(|e| e.to_string())?;
    let mut spec: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["rlimits"] = json!([]);
    let mounts = spec["mounts"].as_array_mut().ok_or("a spec without mounts")?;
    mounts.push(json!({"destination": "/stamps", "source": stamps, "type": "bind", "options": ["rbind", "rw"]}));
    if !own_network {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().ok_or("a spec without namespaces")?;
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    std::fs::write(bundle.join("config.json"), spec.to_string()).map_err(|e| e.to_string())
}

/// The copy's side: `how first count bundle stamps` in, milliseconds or an error out.
pub fn answer_with_crun() {
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { return };
        match run_crun(&line) {
            Ok(times) => println!("{}", times.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")),
            Err(error) => println!("{}", error.replace('\n', " ")),
        }
    }
}

fn run_crun(request: &str) -> Result<Vec<f64>, String> {
    let words: Vec<&str> = request.split(' ').collect();
    let [how, first, count, bundle, stamps] = words[..] else { return Err("what?".to_owned()) };
    let (first, count): (usize, usize) = (first.parse().expect("a number"), count.parse().expect("a number"));
    let (bundle, stamps) = (Path::new(bundle), Path::new(stamps));
    let names: Vec<String> =
        (first..first + count).map(|n| format!("pinlet-bench-{}-{n}", std::process::id())).collect();
    let bundles = names.iter().map(|name| own_bundle(bundle, name)).collect::<Result<Vec<PathBuf>, String>>()?;

    let mut children = Vec::new();
    let times = if how == "at-once" {
        at_once(&names, &bundles, stamps, &mut children).map(|time| vec![time])
    } else {
        let each = names.iter().zip(&bundles);
        each.map(|(name, own)| at_once(&[name.clone()], &[own.clone()], stamps, &mut children)).collect()
    };
    for name in &names {
        verb::tool_quiet(&["crun", "kill", name, "KILL"]);
    }
    for child in &mut children {
        if verb::wait_child(child, LIMIT).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
    for (name, own) in names.iter().zip(&bundles) {
        verb::tool_quiet(&["crun", "delete", "-f", name]);
        let _ = std::fs::remove_dir_all(own);
    }
    times
}

/// Each has a file of its own, by an argument of its own.
fn own_bundle(bundle: &Path, name: &str) -> Result<PathBuf, String> {
    let own = bundle.with_file_name(name);
    std::fs::create_dir_all(&own).map_err(|e| e.to_string())?;
    let text = std::fs::read(bundle.join("config.json")).map_err(|e| e.to_string())?;
    let mut spec: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    spec["process"]["args"] = json!(["/stamp", format!("/stamps/{name}")]);
    spec["root"]["path"] = json!(bundle.join("rootfs"));
    spec["linux"]["cgroupsPath"] = json!(format!("/pinlet-bench-crun/{name}"));
    std::fs::write(own.join("config.json"), spec.to_string()).map_err(|e| e.to_string())?;
    Ok(own)
}

/// Milliseconds until the last of them runs.
fn at_once(names: &[String], bundles: &[PathBuf], stamps: &Path, children: &mut Vec<Child>) -> Result<f64, String> {
    let begin = now();
    for (name, own) in names.iter().zip(bundles) {
        let mut command = Command::new("crun");
        command.args(["--cgroup-manager=cgroupfs", "run", "-b"]).arg(own).arg(name);
        children.push(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(|e| e.to_string())?);
    }
    let stamps = names.iter().map(|name| stamp(&stamps.join(name), 1));
    let last = stamps.collect::<Result<Vec<u128>, String>>()?.into_iter().max().unwrap_or(begin);
    Ok(milliseconds(begin, last))
}

/// podman, with a store and a configuration of its own.
pub struct Podman {
    dir: PathBuf,
    /// Tables that were there before; its network leaves some behind.
    tables: Vec<String>,
}

impl Podman {
    pub fn new(workload: &Workload) -> Result<Podman, String> {
        let dir = workload.dir.join("podman");
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        // crun refuses hybrid cgroups; and limits above this machine's own cannot be set.
        let config = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\npids_limit = 0\n[engine]\nruntime = \"runc\"\n\
            cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        std::fs::write(dir.join("containers.conf"), config).map_err(|e| e.to_string())?;
        let archive = dir.join("image.tar");
        let image: Image = workload.image();
        image.write_docker_archive(&archive);
        let podman = Podman { dir, tables: host::nft_tables() };
        podman.run(&["load", "-i", archive.to_str().expect("text")])?;
        Ok(podman)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        let outcome = verb::try_run(command.args(arguments), b"", LIMIT).map_err(|o| format!("hangs: {}", o.stderr))?;
        if outcome.code == 0 {
            return Ok(outcome.stdout);
        }
        let last = outcome.stderr.lines().rfind(|line| line.contains("rror")).unwrap_or_default().to_owned();
        Err(last)
    }

    /// Milliseconds from `podman kube play` to the first instruction.
    pub fn play(&self, pod: &Pod, stamp_file: &Path) -> Result<f64, String> {
        let file = self.dir.join("pod.yaml");
        std::fs::write(&file, pod.yaml()).map_err(|e| e.to_string())?;
        let file = file.to_str().expect("text");
        let begin = now();
        let played = self.run(&["kube", "play", file]);
        let at = played.and_then(|_| stamp(stamp_file, 1));
        let downed = self.run(&["kube", "down", file]).or_else(|_| self.run(&["play", "kube", "--down", file]));
        at.and_then(|at| downed.map(|_| milliseconds(begin, at)))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["pod", "rm", "--all", "--force"]);
        let _ = self.run(&["system", "reset", "--force"]);
        let of_netavark =
            |table: &&String| ["nat", "filter", "netavark"].iter().any(|name| table.ends_with(&format!(" {name}")));
        for table in host::nft_tables().iter().filter(of_netavark).filter(|table| !self.tables.contains(table)) {
            let mut words = vec!["nft", "delete", "table"];
            words.extend(table.split_whitespace().filter(|word| *word != "table"));
            verb::tool_quiet(&words);
        }
    }
}
