//! Log lines leave through a thread of their own: a full pipe or a hung disk behind fd 2 must never stop the loop.
//!
//! The queue is bounded; what does not fit is dropped and counted, and the count is written when there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Lines that wait at most; one line is rarely above 200 bytes, so this is some 200 kB.
const QUEUE_LINES: usize = 1024;
const STACK_BYTES: usize = 64 * 1024;

/// Sets the process's logger up. `verbosity` is the kubelet's `--v`: 0-1 info, 2-4 info, 5 and more debug.
pub fn init(verbosity: u32) -> io::Result<()> {
    let level = if verbosity >= 5 { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    let (sender, receiver) = sync_channel(QUEUE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || write_lines(&receiver, &counter))?;
    let queue = Queue { sender, dropped };
    env_logger::Builder::new()
        .filter_level(level)
        // libcontainer's and its crates' own lines concern the creator, which has a log of its own.
        .filter_module("libcontainer", log::LevelFilter::Warn)
        .target(env_logger::Target::Pipe(Box::new(queue)))
        .format(|out, record| {
            let wall = crate::model::time::Wall(crate::sys::clock::realtime_ns());
            let level = match record.level() {
                log::Level::Error => "E",
                log::Level::Warn => "W",
                log::Level::Info => "I",
                log::Level::Debug | log::Level::Trace => "D",
            };
            writeln!(out, "{level} {} {}", wall.rfc3339_nanos(), record.args())
        })
        .init();
    Ok(())
}

/// env_logger hands over one whole formatted line per call.
struct Queue {
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(line.to_vec()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(receiver: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    let mut out = io::stderr();
    for line in receiver {
        // Nobody is left to tell when fd 2 itself fails.
        let _ = out.write_all(&line);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "W {lost} log lines were dropped: standard error did not take them in time");
        }
    }
}
