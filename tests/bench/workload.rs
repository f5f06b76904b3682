//! What is started: one static program in one layer, for every runtime the same.

use crate::support::image::{Image, Layer};
use crate::support::pod::Pod;
use crate::support::verb;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub const TAG: &str = "localhost/pinlet-bench:1";
/// A start that takes longer is a failure, not a figure.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Workload {
    pub dir: PathBuf,
    program: Vec<u8>,
}

impl Workload {
    pub fn new() -> Workload {
        let dir = std::env::temp_dir().join(format!("pinlet-bench-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("stamps")).expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/stamp.c");
        let program = dir.join("stamp");
        verb::tool(&["gcc", "-O2", "-static", "-o", program.to_str().expect("text"), source.to_str().expect("text")]);
        let bytes = std::fs::read(&program).expect("it was just built");
        Workload { dir, program: bytes }
    }

    /// With the mount points that real images have, as the peers' root has them.
    pub fn image(&self) -> Image {
        let folders = ["proc", "sys", "dev", "etc", "stamps"];
        let layer = folders.iter().fold(Layer::new(), |layer, name| layer.dir(name, 0o755, 0));
        let files = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
        let layer = files.iter().fold(layer, |layer, name| layer.file(name, b"", 0o644));
        Image::new(TAG).layer(layer.file("stamp", &self.program, 0o755))
    }

    pub fn program(&self) -> PathBuf {
        self.dir.join("stamp")
    }

    pub fn stamps(&self) -> PathBuf {
        self.dir.join("stamps")
    }

    /// A pod that stamps `<name>`; on the host's network.
    pub fn pod(&self, name: &str) -> Pod {
        let mut pod = Pod::new(name, "").image(TAG).with("command", json!(["/stamp", format!("/stamps/{name}")]));
        pod = pod.with("imagePullPolicy", json!("Never"));
        pod.volume("stamps", json!({"hostPath": {"path": self.stamps()}}), "/stamps")
    }

    /// Waits for stamp number `count` (from 1) of a name.
    pub fn wait_for_stamp(&self, name: &str, count: usize) -> Result<u128, String> {
        stamp(&self.stamps().join(name), count)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Nanoseconds since the epoch: the stamp is made in another process, so that no monotonic clock of ours serves better.
pub fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_nanos()
}

pub fn stamp(file: &Path, count: usize) -> Result<u128, String> {
    let begin = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        if let Some(line) = whole.into_iter().nth(count - 1) {
            return line.trim().parse().map_err(|e| format!("{line:?}: {e}"));
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("no first instruction within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

pub fn milliseconds(from: u128, to: u128) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}
