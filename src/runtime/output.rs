//! The container's two pipes and the log that they run into.

use super::crilog::{CriLog, Pumped, Stream};
use super::launch::Launch;
use crate::sys::process;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Reads of a pipe after its container is dead: it holds 64 KiB, unless somebody else goes on writing.
const LAST_READS_MAX: u32 = 64;

/// The container's output on its way to the log.
pub(super) struct Output {
    pub log: CriLog,
    streams: [(Stream, Option<OwnedFd>); 2],
}

impl Output {
    /// The log, and the write ends for the container.
    pub fn open(launch: &Launch) -> io::Result<(Output, [OwnedFd; 2])> {
        let log = CriLog::open(launch.log.clone())?;
        let (out, out_end) = process::pipe()?;
        let (err, err_end) = process::pipe()?;
        process::set_nonblocking(&out)?;
        process::set_nonblocking(&err)?;
        let streams = [(Stream::new("stdout"), Some(out)), (Stream::new("stderr"), Some(err))];
        Ok((Output { log, streams }, [out_end, err_end]))
    }

    /// What to wait for.
    pub fn sources(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let [(_, out), (_, err)] = &self.streams;
        [out.as_ref().map(|fd| fd.as_fd()), err.as_ref().map(|fd| fd.as_fd())]
    }

    pub fn pump(&mut self, ready: [bool; 2]) {
        for ((stream, source), _) in self.streams.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            let Some(fd) = source else { continue };
            if stream.pump(fd, &mut self.log) == Pumped::End {
                stream.finish(&mut self.log);
                *source = None;
            }
        }
    }

    /// What is still in the pipes. They need not be at their end: a descriptor may have been passed out.
    pub fn finish(&mut self) {
        for (stream, source) in &mut self.streams {
            let Some(fd) = source.take() else { continue };
            for _ in 0..LAST_READS_MAX {
                if stream.pump(&fd, &mut self.log) != Pumped::Some {
                    break;
                }
            }
            stream.finish(&mut self.log);
        }
    }
}
