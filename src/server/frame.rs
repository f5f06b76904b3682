//! The frames of an upgraded exec connection (`Upgrade: pinlet-exec/1`): one byte of kind, four of length (big
//! endian), then the payload. Both directions use the same form.

use super::wire::{ExecExit, WindowSize};
use std::io::{self, Read, Write};

/// The protocol's name in `Upgrade:`; a change of the frames changes the number.
pub const PROTOCOL: &str = "pinlet-exec/1";

/// The most that one frame carries, in bytes: what is read from a pipe at once.
pub const PAYLOAD_MAX: usize = 32 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// To the command. Empty: end of input.
    Stdin(Vec<u8>),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The client's window has this size now.
    Resize(WindowSize),
    /// The command has ended and all its output has been sent: the last frame.
    Exit(ExecExit),
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESIZE: u8 = 3;
const EXIT: u8 = 4;

/// Writes one frame in one write.
pub fn write(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    match frame {
        Frame::Stdin(bytes) => put(to, STDIN, bytes),
        Frame::Stdout(bytes) => put(to, STDOUT, bytes),
        Frame::Stderr(bytes) => put(to, STDERR, bytes),
        Frame::Resize(size) => put(to, RESIZE, &serde_json::to_vec(size)?),
        Frame::Exit(exit) => put(to, EXIT, &serde_json::to_vec(exit)?),
    }
}

fn put(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    if payload.len() > PAYLOAD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too large"));
    }
    // The bound above keeps the length within four bytes.
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(payload);
    to.write_all(&bytes)
}

/// The next frame; `None` where the stream ends between two frames.
pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut kind = [0u8; 1];
    loop {
        match from.read(&mut kind) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut length = [0u8; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > PAYLOAD_MAX {
        return Err(invalid("frame too large"));
    }
    let mut payload = vec![0u8; length];
    from.read_exact(&mut payload)?;
    Ok(Some(match kind[0] {
        STDIN => Frame::Stdin(payload),
        STDOUT => Frame::Stdout(payload),
        STDERR => Frame::Stderr(payload),
        RESIZE => Frame::Resize(serde_json::from_slice(&payload)?),
        EXIT => Frame::Exit(serde_json::from_slice(&payload)?),
        _ => return Err(invalid("unknown kind of frame")),
    }))
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_back_as_it_was_written() {
        let frames = [
            Frame::Stdin(b"echo\n".to_vec()),
            Frame::Stdin(Vec::new()),
            Frame::Stdout(vec![0xff; PAYLOAD_MAX]),
            Frame::Stderr(b"x".to_vec()),
            Frame::Resize(WindowSize { rows: 24, columns: 80 }),
            Frame::Exit(ExecExit { code: 3, error: None }),
            Frame::Exit(ExecExit { code: 126, error: Some("exec failed".into()) }),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            write(&mut bytes, frame).expect("in bounds");
        }
        let mut from = bytes.as_slice();
        for frame in &frames {
            assert_eq!(read(&mut from).expect("well formed").as_ref(), Some(frame));
        }
        assert_eq!(read(&mut from).expect("the end"), None);
    }

    #[test]
    fn a_frame_that_is_too_large_cut_or_unknown_is_an_error() {
        assert!(write(&mut Vec::new(), &Frame::Stdout(vec![0; PAYLOAD_MAX + 1])).is_err());
        for bytes in [
            &[1, 0xff, 0xff, 0xff, 0xff][..],
            &[1, 0, 0],
            &[1, 0, 0, 0, 2, b'x'],
            &[9, 0, 0, 0, 0],
            &[4, 0, 0, 0, 1, b'{'],
        ] {
            assert!(read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
