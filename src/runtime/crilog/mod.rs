//! The container's output as a CRI log file: `<RFC 3339 time> stdout|stderr P|F <text>`.
//!
//! Written by the monitor, which holds nothing but one buffer per stream. It must never hold up the container: where
//! the file cannot be written (a full disk) output goes on being read, is counted, and the count is written once that
//! works again.

mod rotate;
mod stamp;

use super::launch::LogTarget;
use crate::sys::process;
use rotate::Compressor;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// containerd's `max_container_log_line_size`: a longer line is written in parts, tagged P.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Parts of one writev; two per line.
const PARTS_MAX: usize = 128;
/// Of every file of a log: what a program prints is not for everybody.
const LOG_MODE: u32 = 0o640;

/// One of the two streams, with what has been read of its last line.
#[derive(Debug)]
pub struct Stream {
    name: &'static str,
    buffer: Vec<u8>,
    filled: usize,
    /// Up to here there is no newline.
    scanned: usize,
}

/// What reading a stream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    Some,
    /// Nothing to read for now.
    Idle,
    /// Every writer is gone.
    End,
}

impl Stream {
    pub fn new(name: &'static str) -> Stream {
        Stream { name, buffer: vec![0; LINE_BYTES_MAX], filled: 0, scanned: 0 }
    }

    /// Reads once from `source` and logs the lines that are complete.
    pub fn pump(&mut self, source: impl AsFd, log: &mut CriLog) -> Pumped {
        match process::read(source, &mut self.buffer[self.filled..]) {
            Ok(0) => Pumped::End,
            Ok(n) => {
                self.filled += n;
                self.log_lines(log);
                Pumped::Some
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pumped::Idle,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Pumped::Some,
            Err(_) => Pumped::End,
        }
    }

    /// What is left of a last line without a newline: partial, so that readers add none.
    pub fn finish(&mut self, log: &mut CriLog) {
        if self.filled > 0 {
            log.write(self.name, &self.buffer[..self.filled], Cut::Partial);
            self.filled = 0;
            self.scanned = 0;
        }
    }

    fn log_lines(&mut self, log: &mut CriLog) {
        let fresh = &self.buffer[self.scanned..self.filled];
        if let Some(last) = fresh.iter().rposition(|b| *b == b'\n') {
            let end = self.scanned + last + 1;
            log.write(self.name, &self.buffer[..end], Cut::Lines);
            self.buffer.copy_within(end..self.filled, 0);
            self.filled -= end;
        } else if self.filled == self.buffer.len() {
            log.write(self.name, &self.buffer, Cut::Partial);
            self.filled = 0;
        }
        self.scanned = self.filled;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Whole lines, each with its newline.
    Lines,
    /// A part of a line.
    Partial,
}

/// The live log file.
#[derive(Debug)]
pub struct CriLog {
    target: LogTarget,
    file: File,
    size: u64,
    /// When a rotation fails it is not tried again before this size.
    rotate_at: u64,
    lost: Lost,
    /// Since the last [`CriLog::compress`].
    rotated: bool,
    compressor: Option<Compressor>,
}

/// Output that could not be written.
#[derive(Debug, Default)]
struct Lost {
    bytes: u64,
    why: Option<i32>,
}

impl CriLog {
    /// Opens the file, appending to what an earlier writer left; its directory is made if missing.
    pub fn open(target: LogTarget) -> io::Result<CriLog> {
        if let Some(parent) = target.path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let file = open_live(&target.path)?;
        let size = file.metadata()?.len();
        let rotate_at = target.max_bytes;
        Ok(CriLog { target, file, size, rotate_at, lost: Lost::default(), rotated: false, compressor: None })
    }

    fn write(&mut self, stream: &str, bytes: &[u8], cut: Cut) {
        self.tell_losses();
        let tag = if cut == Cut::Lines { 'F' } else { 'P' };
        let mut header = [0; stamp::HEADER_BYTES_MAX];
        let header = stamp::header(&mut header, crate::sys::clock::realtime_ns(), stream, tag);
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let mut used = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            parts[used] = IoSlice::new(header);
            parts[used + 1] = IoSlice::new(line);
            used += 2;
            if used == PARTS_MAX {
                self.write_parts(&parts);
                used = 0;
                // Between lines: what a busy program wrote at once may be more than a file is to hold.
                self.rotate_if_due();
            }
        }
        if cut == Cut::Partial && used > 0 {
            // A part of a line holds no newline, so it is one piece, and there is room for its end.
            parts[used] = IoSlice::new(b"\n");
            used += 1;
        }
        if used > 0 {
            self.write_parts(&parts[..used]);
        }
        self.rotate_if_due();
    }

    fn rotate_if_due(&mut self) {
        if self.size >= self.rotate_at && self.target.max_bytes > 0 {
            self.rotate();
        }
    }

    /// Whole lines, as many as fit: half a line would spoil the file for its readers. `parts` are header, text, and an
    /// end for a partial line.
    fn write_parts(&mut self, parts: &[IoSlice<'_>]) {
        let text = |parts: &[IoSlice<'_>]| parts.iter().skip(1).step_by(2).map(|p| p.len() as u64).sum::<u64>();
        if self.lost.bytes > 0 {
            // The losses could not even be told.
            self.lost.bytes += text(parts);
            return;
        }
        let mut left = [IoSlice::new(&[]); PARTS_MAX];
        left[..parts.len()].copy_from_slice(parts);
        let before = self.size;
        if let Err(error) = self.write_all(&mut left[..parts.len()]) {
            let mut end = before;
            let mut whole = 0;
            for line in parts.chunks_exact(2).take_while(|line| line[1].ends_with(b"\n")) {
                let next = end + (line[0].len() + line[1].len()) as u64;
                if next > self.size {
                    break;
                }
                (end, whole) = (next, whole + 2);
            }
            self.cut_to(end);
            self.lost = Lost { bytes: text(&parts[whole..]), why: error.raw_os_error() };
        }
    }

    /// Counts what was written also when it fails.
    fn write_all(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !parts.is_empty() {
            match self.file.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.size += n as u64;
                    IoSlice::advance_slices(&mut parts, n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn cut_to(&mut self, size: u64) {
        // Somebody else may have made it shorter; what is no file cannot be cut, and need not.
        let real = self.file.metadata().map_or(size, |m| m.len());
        let _ = self.file.set_len(size.min(real));
        self.size = size;
    }

    /// One line in the place of what was lost, as soon as it can be written.
    pub fn tell_losses(&mut self) {
        if self.lost.bytes == 0 {
            return;
        }
        let why = self.lost.why.map_or_else(|| "it could not be written".to_owned(), errno_text);
        let text = format!("pinlet: {} bytes of output were lost here: {why}\n", self.lost.bytes);
        let mut header = [0; stamp::HEADER_BYTES_MAX];
        let header = stamp::header(&mut header, crate::sys::clock::realtime_ns(), "stderr", 'F');
        let before = self.size;
        match self.write_all(&mut [IoSlice::new(header), IoSlice::new(text.as_bytes())]) {
            Ok(()) => self.lost = Lost::default(),
            Err(_) => self.cut_to(before),
        }
    }

    fn rotate(&mut self) {
        match rotate::rotate(&self.target) {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                self.rotate_at = self.target.max_bytes;
                self.rotated = true;
            }
            // Such as a full disk: go on with the file at hand.
            Err(_) => self.rotate_at = self.size.saturating_add(self.target.max_bytes),
        }
    }

    /// Has rotated files compressed by a child, after a rotation. INVARIANT: the process is single-threaded.
    pub fn compress(&mut self) {
        if self.rotated && self.compressor.is_none() {
            self.rotated = false;
            self.compressor = Compressor::start(&self.target);
        }
    }

    /// The child that compresses rotated files has ended.
    pub fn compressor_ended(&mut self, pid: i32) {
        if self.compressor.as_ref().is_some_and(|c| c.pid() == pid) {
            self.compressor = None;
        }
    }

    /// Ends what still runs on the log's behalf.
    pub fn close(mut self) {
        self.tell_losses();
        if let Some(compressor) = self.compressor.take() {
            compressor.stop(&self.target);
        }
    }
}

fn open_live(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(LOG_MODE).open(path)
}

fn errno_text(code: i32) -> String {
    let text = io::Error::from_raw_os_error(code).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests;
