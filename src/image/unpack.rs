//! The role `internal-unpack`, and the agent's side of it: foreign bytes are unpacked in a child with limits.
//!
//! The child reads one layer (or a compressed archive) from its stdin, does what the one argument says, and answers
//! with one line of JSON. What it dies of tells who is to blame: its limits speak against the bytes, anything else is
//! worth another try.

use super::compression::decompress;
use super::digest::{Digest, HashingReader};
use super::layer::{self, LayerError};
use super::tar_stream::{TarError, TarReader};
use crate::error::chain;
use crate::sys::child::{self, Death, Limits, SelfImage};
use crate::sys::openat::{Dir, clear_umask};
use crate::sys::process::set_name;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use thiserror::Error;

/// The hidden role.
pub const ROLE: &str = "internal-unpack";

/// zstd windows are at most 100 MiB here and are held once or twice while they grow; a layer's list of directories
/// takes tens of MiB at the worst.
const ADDRESS_SPACE_BYTES_MAX: u64 = 256 << 20;
/// Hashing and unpacking run at some 20 MB/s on the slowest boards: enough for 70 GB there.
const CPU_SECONDS_MAX: u64 = 3600;
/// An answer, or the last words of a child that died.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What Rust's allocator and ruzstd's buffer say before they abort because the kernel gives no more.
const NO_MEMORY: &[&str] = &["memory allocation of", "Allocating new space for the ringbuffer failed"];
const READ_LEN: usize = 64 * 1024;

/// What the child is to do with its stdin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Layer(LayerRequest),
    /// Writes the plain bytes to a new file.
    Decompress {
        output: PathBuf,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRequest {
    /// Where all layers live.
    pub layers_dir: PathBuf,
    /// The directory of this one in it: there, and empty.
    pub name: String,
    /// Those below it, the topmost first.
    pub lower: Vec<String>,
    /// The layer ends after so many bytes.
    pub size: u64,
    /// Of the bytes as they are stored.
    pub digest: Digest,
    /// Of the tar within.
    pub diff_id: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Refused(String),
    Failed(String),
}

#[derive(Debug, Error)]
pub enum UnpackFailure {
    /// The bytes are to blame: they will be refused again.
    #[error("{0}")]
    Refused(String),
    #[error("cannot be unpacked: {0}")]
    Limits(String),
    /// The machine is to blame: a full disk, an I/O error.
    #[error("{0}")]
    Failed(String),
    #[error("the unpacking process died: {0}")]
    Died(String),
    #[error("the unpacking process cannot be run")]
    Start(#[source] io::Error),
}

impl UnpackFailure {
    /// Whether another try on the same bytes would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            UnpackFailure::Refused(_) | UnpackFailure::Limits(_) => true,
            UnpackFailure::Failed(_) | UnpackFailure::Died(_) | UnpackFailure::Start(_) => false,
        }
    }
}

/// Does `request` on `input`, from its present position on, in a child of `me`. Blocks: workers only.
pub fn in_child(me: &SelfImage, input: File, request: &Request) -> Result<(), UnpackFailure> {
    let limits = Limits { address_space_bytes: ADDRESS_SPACE_BYTES_MAX, cpu_seconds: CPU_SECONDS_MAX };
    in_child_within(limits, me, input, request)
}

/// As [`in_child`], within other limits.
pub fn in_child_within(limits: Limits, me: &SelfImage, input: File, request: &Request) -> Result<(), UnpackFailure> {
    let argument = serde_json::to_string(request).map_err(|error| UnpackFailure::Start(error.into()))?;
    let (mut output, theirs) = io::pipe().map_err(UnpackFailure::Start)?;
    let mut child = {
        let mut command = me.command(ROLE);
        command.arg(argument).stdin(input).stderr(theirs.try_clone().map_err(UnpackFailure::Start)?).stdout(theirs);
        child::limit(&mut command, limits);
        command.spawn().map_err(UnpackFailure::Start)?
        // The command goes, and with it our copies of the pipe's other end: the child's end is the only one left.
    };
    let mut words = Vec::new();
    let read = (&mut output).take(ANSWER_BYTES_MAX).read_to_end(&mut words);
    drop(output);
    let status = child.wait().map_err(UnpackFailure::Start)?;
    read.map_err(UnpackFailure::Start)?;
    judge(status, &String::from_utf8_lossy(&words))
}

/// Does `request` in this process: what the child does.
pub fn in_process(input: impl Read, request: &Request) -> Result<(), UnpackFailure> {
    match request {
        Request::Layer(layer) => unpack_layer(input, layer),
        Request::Decompress { output } => decompress_to(input, output),
    }
}

fn judge(status: ExitStatus, words: &str) -> Result<(), UnpackFailure> {
    let last = words.lines().last().unwrap_or_default();
    match (status.signal(), serde_json::from_str(last)) {
        (None, Ok(Answer::Done)) if status.success() => Ok(()),
        (None, Ok(Answer::Refused(text))) => Err(UnpackFailure::Refused(text)),
        (None, Ok(Answer::Failed(text))) => Err(UnpackFailure::Failed(text)),
        (None, _) => Err(UnpackFailure::Died(format!("{status}: {last}"))),
        (Some(signal), _) => Err(match Death::of(signal) {
            Death::CpuLimit => UnpackFailure::Limits("time".to_owned()),
            Death::Fault if NO_MEMORY.iter().any(|text| words.contains(text)) => {
                UnpackFailure::Limits("memory".to_owned())
            }
            Death::Fault => UnpackFailure::Limits(format!("signal {signal}")),
            Death::Alarm | Death::Foreign => UnpackFailure::Died(format!("killed by signal {signal}")),
        }),
    }
}

/// The child. Never returns.
pub fn main() -> ! {
    set_name(c"pinlet-unpack");
    // A panic is a death by the bytes, in every build.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    clear_umask();
    let argument = std::env::args().nth(2).unwrap_or_default();
    let answer = match serde_json::from_str(&argument) {
        Err(error) => Answer::Failed(format!("{ROLE} is a role that pinlet gives to its own children: {error}")),
        Ok(request) => match in_process(io::stdin().lock(), &request) {
            Ok(()) => Answer::Done,
            Err(error) if error.is_final() => Answer::Refused(chain(&error)),
            Err(error) => Answer::Failed(chain(&error)),
        },
    };
    let words = serde_json::to_string(&answer).unwrap_or_default();
    // An answer that nobody takes is no reason to do anything else.
    let _ = writeln!(io::stdout(), "{words}");
    std::process::exit(if matches!(answer, Answer::Done) { 0 } else { 1 })
}

fn unpack_layer(input: impl Read, request: &LayerRequest) -> Result<(), UnpackFailure> {
    let open = |name: &str| open_layer(&request.layers_dir, name);
    let root = open(&request.name)?;
    let lower = request.lower.iter().map(|name| open(name)).collect::<Result<Vec<Dir>, UnpackFailure>>()?;
    let mut stored = HashingReader::new(input.take(request.size));
    // A layer that is stored plain need not be hashed twice.
    let plain = request.digest == request.diff_id;
    let unpacked = if plain {
        unpack_tar(BufReader::with_capacity(READ_LEN, &mut stored), root, &lower).map(|()| None)
    } else {
        unpack_compressed(BufReader::with_capacity(READ_LEN, &mut stored), root, &lower).map(Some)
    };
    let broken_input = stored.failed();
    let diff_id = unpacked.map_err(|error| blame(error, broken_input))?;
    let (digest, len) = stored.finish().map_err(|error| UnpackFailure::Failed(format!("cannot read: {error}")))?;
    if len != request.size {
        return Err(UnpackFailure::Refused(format!("truncated: {len} of {} bytes are there", request.size)));
    }
    if digest != request.digest {
        return Err(UnpackFailure::Refused(format!("the digest is {digest}, not {}", request.digest)));
    }
    match diff_id {
        Some(diff_id) if diff_id != request.diff_id => {
            Err(UnpackFailure::Refused(format!("the diff id is {diff_id}, not {}", request.diff_id)))
        }
        _ => Ok(()),
    }
}

fn unpack_tar(input: impl Read, root: Dir, lower: &[Dir]) -> Result<(), LayerError> {
    layer::unpack(&mut TarReader::stream(input), root, lower)
}

/// Gives the digest of the tar within.
fn unpack_compressed(input: BufReader<impl Read>, root: Dir, lower: &[Dir]) -> Result<Digest, LayerError> {
    let read = |error| LayerError::Tar(TarError::Read(error));
    let mut content = HashingReader::new(decompress(input).map_err(read)?);
    unpack_tar(&mut content, root, lower)?;
    Ok(content.finish().map_err(read)?.0)
}

fn open_layer(layers_dir: &Path, name: &str) -> Result<Dir, UnpackFailure> {
    let path = layers_dir.join(name);
    Dir::open(&path).map_err(|error| UnpackFailure::Failed(format!("cannot open {}: {error}", path.display())))
}

/// Whether the bytes or the machine are to blame. `broken_input`: the layer itself could not be read.
fn blame(error: LayerError, broken_input: bool) -> UnpackFailure {
    let text = chain(&error);
    match error {
        LayerError::Write { .. } => UnpackFailure::Failed(text),
        _ if broken_input => UnpackFailure::Failed(text),
        LayerError::Refused { .. } | LayerError::TooManyMembers | LayerError::Tar(_) => UnpackFailure::Refused(text),
    }
}

fn decompress_to(input: impl Read, output: &Path) -> Result<(), UnpackFailure> {
    let mut stored = HashingReader::new(input);
    let mut file = File::create_new(output)
        .map_err(|error| UnpackFailure::Failed(format!("cannot make {}: {error}", output.display())))?;
    let failed_to_write = {
        let mut plain = decompress(BufReader::with_capacity(READ_LEN, &mut stored))
            .map_err(|error| UnpackFailure::Refused(error.to_string()))?;
        copy(&mut plain, &mut file)
    };
    match failed_to_write {
        Ok(()) => Ok(()),
        Err(CopyError::Write(error)) => Err(UnpackFailure::Failed(format!("cannot write: {error}"))),
        Err(CopyError::Read(error)) if stored.failed() => Err(UnpackFailure::Failed(format!("cannot read: {error}"))),
        Err(CopyError::Read(error)) => Err(UnpackFailure::Refused(format!("cannot be decompressed: {error}"))),
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// `io::copy` that tells whose error it was.
fn copy(input: &mut impl Read, output: &mut impl Write) -> Result<(), CopyError> {
    let mut buffer = vec![0; READ_LEN];
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        output.write_all(&buffer[..n]).map_err(CopyError::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_died_of_tells_whether_the_bytes_are_to_blame() {
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        let signal = ExitStatus::from_raw;
        let answer = |answer: Answer| serde_json::to_string(&answer).unwrap();
        assert!(judge(exit(0), &answer(Answer::Done)).is_ok());
        let table = [
            (exit(1), answer(Answer::Refused("bad".into())), "bad", true),
            (exit(1), answer(Answer::Failed("full".into())), "full", false),
            (exit(1), "noise\n".to_owned() + &answer(Answer::Failed("full".into())), "full", false),
            // Done, but not well: nobody should believe it.
            (exit(1), answer(Answer::Done), "the unpacking process died: exit status: 1: \"Done\"", false),
            (exit(0), String::new(), "the unpacking process died: exit status: 0: ", false),
            (signal(24), String::new(), "cannot be unpacked: time", true),
            (signal(6), "memory allocation of 9 bytes failed\n".into(), "cannot be unpacked: memory", true),
            (signal(6), "panicked at x".into(), "cannot be unpacked: signal 6", true),
            (signal(11), String::new(), "cannot be unpacked: signal 11", true),
            (signal(9), String::new(), "the unpacking process died: killed by signal 9", false),
            (signal(15), String::new(), "the unpacking process died: killed by signal 15", false),
        ];
        for (status, words, text, is_final) in table {
            let failure = judge(status, &words).unwrap_err();
            assert_eq!((failure.to_string().as_str(), failure.is_final()), (text, is_final));
        }
    }

    /// A disk that fails after some bytes.
    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            let n = buffer.len().min(self.0);
            buffer[..n].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0, 0][..n.min(8)]);
            self.0 -= n;
            Ok(n)
        }
    }

    #[test]
    fn a_disk_that_cannot_be_read_is_not_the_layers_fault() {
        let scratch = crate::image::fixture::Scratch::new("unpack-failing");
        std::fs::create_dir(scratch.0.join("layer")).unwrap();
        let digest = Digest::of(b"");
        let request = |diff_id: Digest| LayerRequest {
            layers_dir: scratch.0.clone(),
            name: "layer".into(),
            lower: Vec::new(),
            size: 100,
            digest: digest.clone(),
            diff_id,
        };
        for diff_id in [digest.clone(), Digest::of(b"other")] {
            let failure = in_process(Failing(8), &Request::Layer(request(diff_id))).unwrap_err();
            assert!(!failure.is_final(), "{failure}");
        }
        let output = scratch.0.join("output");
        let failure = in_process(Failing(8), &Request::Decompress { output }).unwrap_err();
        assert!(!failure.is_final(), "{failure}");
    }
}
