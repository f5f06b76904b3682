//! Decoding in a child with limits: foreign bytes never enter the agent.
//!
//! The child (role `internal-decode`) reads a header line and the manifest's bytes from stdin and answers with JSON on
//! stdout. A death by its own limits is a verdict on the bytes; any other death says nothing about them and is tried
//! again (`table`). [`decode`] blocks: workers only.

use super::admit;
use crate::model::pod::StaticPod;
use crate::sys::child::{self, Limits, SelfImage};
use crate::yaml::{Problem, SHOWN_MAX};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

/// The first argument of the child.
pub const ROLE: &str = "internal-decode";
/// Larger manifests are not read at all (kubelet: `maxConfigLength`).
pub const MANIFEST_BYTES_MAX: usize = 10 << 20;

/// What the child may map, at most; on a small machine a quarter of its memory. A normal pod takes some 2 MiB.
const ADDRESS_SPACE_BYTES_MAX: u64 = 256 << 20;
const CPU_SECONDS_MAX: u64 = 5;
const WALL_SECONDS_MAX: u32 = 60;
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Of the header line: a path and a name.
const HEADER_BYTES_MAX: u64 = 64 << 10;
/// Of what the child says on stderr before it dies.
const LAST_WORDS_BYTES_MAX: u64 = 4 << 10;
const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldValidation {
    /// Unknown fields and duplicate keys reject the manifest.
    Strict,
    /// They are warnings.
    Warn,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeRequest {
    /// The manifest's file: absolute and lexically cleaned, symlinks not resolved.
    pub path: PathBuf,
    pub node_name: String,
    pub field_validation: FieldValidation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decoded {
    Accepted {
        pod: Box<StaticPod>,
        warnings: Vec<Problem>,
    },
    /// The first problems in file order, and how many there are beyond them.
    Rejected {
        problems: Vec<Problem>,
        more: usize,
    },
}

impl Decoded {
    pub(super) fn accepted(pod: StaticPod, mut warnings: Vec<Problem>) -> Decoded {
        warnings.truncate(SHOWN_MAX);
        Decoded::Accepted { pod: Box::new(pod), warnings }
    }

    pub(super) fn rejected(mut problems: Vec<Problem>) -> Decoded {
        let more = problems.len().saturating_sub(SHOWN_MAX);
        problems.truncate(SHOWN_MAX);
        Decoded::Rejected { problems, more }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFailure {
    /// The bytes are to blame: `memory`, `time` or `signal N`.
    #[error("cannot be decoded: {0}")]
    ByLimits(String),
    /// The bytes are not to blame; the next try may do better.
    #[error("the decoder failed: {0}")]
    Transient(String),
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    request: DecodeRequest,
}

/// Decodes `bytes` in a child of `me`.
pub fn decode(me: &SelfImage, request: &DecodeRequest, bytes: &[u8]) -> Result<Decoded, DecodeFailure> {
    decode_by(me.command(ROLE), request, bytes)
}

/// Decodes `bytes` in this process: what the child does, for tests and for nobody who has pods to look after.
pub fn in_process(request: &DecodeRequest, bytes: &[u8]) -> Decoded {
    admit::admit(request, bytes)
}

/// Decodes `bytes` in the child that `command` starts, which is this program in the role [`ROLE`].
pub fn decode_by(mut command: Command, request: &DecodeRequest, bytes: &[u8]) -> Result<Decoded, DecodeFailure> {
    let transient = |what: &str, error: &dyn std::error::Error| DecodeFailure::Transient(format!("{what}: {error}"));
    let header = serde_json::to_vec(&Header { version: VERSION, request: request.clone() })
        .map_err(|error| transient("cannot ask", &error))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|error| transient("cannot start", &error))?;
    let limits = Limits { address_space_bytes: address_space_bytes(), cpu_seconds: CPU_SECONDS_MAX };
    if let Err(error) = child::limit_running(&process, limits) {
        let _ = process.kill();
        let _ = process.wait();
        return Err(transient("cannot be limited", &error));
    }
    if let Some(mut stdin) = process.stdin.take() {
        // A child that dies early breaks the pipe; how it died tells more than that.
        let _ = stdin.write_all(&header).and_then(|()| stdin.write_all(b"\n")).and_then(|()| stdin.write_all(bytes));
    }
    let answer = read_at_most(process.stdout.take(), ANSWER_BYTES_MAX + 1);
    if answer.len() as u64 > ANSWER_BYTES_MAX {
        let _ = process.kill();
        let _ = process.wait();
        return Err(DecodeFailure::ByLimits("memory".to_owned()));
    }
    let last_words = read_at_most(process.stderr.take(), LAST_WORDS_BYTES_MAX);
    // While the child is still being taken apart.
    let decoded = serde_json::from_slice(&answer);
    let status = process.wait().map_err(|error| transient("cannot wait", &error))?;
    if status.success() {
        return decoded.map_err(|error| transient("its answer is no answer", &error));
    }
    Err(failure_of(status, &String::from_utf8_lossy(&last_words)))
}

/// What was read before the end, the limit or an error, whichever came first.
fn read_at_most(source: Option<impl Read>, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        let _ = source.take(max).read_to_end(&mut bytes);
    }
    bytes
}

fn failure_of(status: ExitStatus, last_words: &str) -> DecodeFailure {
    let Some(signal) = status.signal() else {
        return DecodeFailure::Transient(format!("{status}: {}", last_words.trim_end()));
    };
    match child::Death::of(signal) {
        child::Death::CpuLimit => DecodeFailure::ByLimits("time".to_owned()),
        // The words of Rust's allocator, which aborts when the kernel gives no more.
        child::Death::Fault if last_words.contains("memory allocation of") => {
            DecodeFailure::ByLimits("memory".to_owned())
        }
        child::Death::Fault => DecodeFailure::ByLimits(format!("signal {signal}")),
        child::Death::Alarm => DecodeFailure::Transient(format!("no answer within {WALL_SECONDS_MAX} s")),
        child::Death::Foreign => DecodeFailure::Transient(format!("killed by signal {signal}")),
    }
}

fn address_space_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    total_kib.map_or(ADDRESS_SPACE_BYTES_MAX, |kib| ADDRESS_SPACE_BYTES_MAX.min(kib * 1024 / 4))
}

/// The role of the child. Never returns.
pub fn main() -> ! {
    child::die_with_parent_or_after(WALL_SECONDS_MAX);
    // A panic is a death by the bytes, in every build: not an exit code that could be anything.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    let code = match answer(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => {
            child::close_output();
            0
        }
        Err(error) => {
            eprintln!("{error}");
            1
        }
    };
    std::process::exit(code)
}

fn answer(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    input.take(MANIFEST_BYTES_MAX as u64 + HEADER_BYTES_MAX).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let header: Header = serde_json::from_slice(&bytes[..end])?;
    if header.version != VERSION {
        return Err(io::Error::other(format!("header version {}, not {VERSION}", header.version)));
    }
    let decoded = in_process(&header.request, bytes.get(end + 1..).unwrap_or_default());
    output.write_all(&serde_json::to_vec(&decoded)?)?;
    output.flush()
}
