//! Lines out of a body that never ends: what a watch is made of. Pure, but for the reader that it is given.

use super::error::Cause;
use std::io::{ErrorKind, Read};
use std::time::Duration;

/// What is read at once, in bytes.
const CHUNK_BYTES: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    /// What is read and not handed out yet.
    pending: Vec<u8>,
    /// Of `pending`, what is known to hold no end of a line.
    searched: usize,
    ended: bool,
    line_bytes_max: usize,
    deadline: Duration,
}

impl<R: Read> Lines<R> {
    /// `deadline` is only told in errors: the reader keeps to it.
    pub fn new(source: R, line_bytes_max: usize, deadline: Duration) -> Lines<R> {
        Lines { source, pending: Vec::new(), searched: 0, ended: false, line_bytes_max, deadline }
    }

    /// The next line, without its end; empty ones are passed over. `None` at the end of the body and after an error.
    /// A last line without an end is cut off, and no line.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, Cause>> {
        while !self.ended {
            if let Some(line) = self.take_line() {
                if line.is_empty() {
                    continue;
                }
                return Some(Ok(line));
            }
            if self.pending.len() > self.line_bytes_max {
                return self.fail(Cause::LineTooLong { max: self.line_bytes_max });
            }
            let filled = self.pending.len();
            self.pending.resize(filled + CHUNK_BYTES, 0);
            let read = self.source.read(&mut self.pending[filled..]);
            self.pending.truncate(filled + read.as_ref().map_or(0, |n| *n));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(Cause::of_io(error, self.deadline)),
            }
        }
        None
    }

    /// All that is left, as one text of at most `max` bytes.
    pub fn into_rest(self, max: usize) -> Result<Vec<u8>, Cause> {
        let mut rest = self.pending;
        let room = (max + 1).saturating_sub(rest.len()) as u64;
        self.source.take(room).read_to_end(&mut rest).map_err(|error| Cause::of_io(error, self.deadline))?;
        if rest.len() > max { Err(Cause::TooLarge { max }) } else { Ok(rest) }
    }

    fn fail(&mut self, cause: Cause) -> Option<Result<Vec<u8>, Cause>> {
        self.ended = true;
        self.pending = Vec::new();
        Some(Err(cause))
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let Some(found) = self.pending[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return None;
        };
        let end = self.searched + found;
        let rest = self.pending.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.pending, rest);
        self.searched = 0;
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its pieces one by one.
    struct Pieces(std::vec::IntoIter<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some(piece) = self.0.next() else { return Ok(0) };
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn lines(pieces: Vec<&'static [u8]>, max: usize) -> Vec<Result<String, String>> {
        let mut lines = Lines::new(Pieces(pieces.into_iter()), max, Duration::ZERO);
        std::iter::from_fn(|| lines.next_line())
            .map(|line| line.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|cause| cause.to_string()))
            .collect()
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(lines(vec![b"a\nb", b"b\n", b"\n\r\n", b"c\r", b"\n"], 9), [ok("a"), ok("bb"), ok("c")]);
        assert_eq!(lines(vec![b"a\nb"], 9), [ok("a")]);
        assert_eq!(lines(vec![], 9), []);
    }

    #[test]
    fn a_line_that_never_ends_is_given_up() {
        let found = lines(vec![b"a\n", b"0123456789", b"0123456789", b"\n"], 15);
        assert_eq!(found, [Ok("a".to_owned()), Err("a line of the answer is longer than 15 bytes".to_owned())]);
    }
}
