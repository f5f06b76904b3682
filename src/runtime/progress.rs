//! What the creator, and the container's init until its exec, tell the monitor; and the one word that it tells back.
//!
//! One message per datagram of a socket that only they hold: its end means that the creator is done and that init has
//! exec'd or died. The monitor watches the creator's death beside it, since an init that waits to be started keeps the
//! socket open for ever.

use super::record::FailedStage;
use crate::sys::socket;
use std::io;
use std::os::fd::AsFd;

/// A message's text is cut to this.
const TEXT_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Warning(String),
    /// libcontainer's own words about an error, innermost first.
    Trace(String),
    /// The program cannot be run, in the words that users know from runc.
    Refused(String),
    Failed(FailedStage, String),
    /// Who the container's program runs as: uid, gid and groups, as numbers with blanks between them.
    User(String),
    /// init exists, under this pid.
    Created(i32),
    /// init was let go.
    Started,
    /// Any other message; of another build, or cut.
    Unknown,
}

impl Progress {
    pub fn encode(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Progress::Warning(text) => (b'w', text.clone()),
            Progress::Trace(text) => (b't', text.clone()),
            Progress::Refused(text) => (b'r', text.clone()),
            Progress::Failed(FailedStage::Config, text) => (b'1', text.clone()),
            Progress::Failed(FailedStage::Create, text) => (b'2', text.clone()),
            Progress::Failed(FailedStage::Run, text) => (b'3', text.clone()),
            Progress::User(text) => (b'u', text.clone()),
            Progress::Created(pid) => (b'p', pid.to_string()),
            Progress::Started => (b's', String::new()),
            Progress::Unknown => (b'?', String::new()),
        };
        let mut bytes = vec![tag];
        bytes.extend(text.bytes().take(TEXT_BYTES_MAX));
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Progress {
        let Some((tag, text)) = bytes.split_first() else { return Progress::Unknown };
        let text = || String::from_utf8_lossy(text).into_owned();
        match tag {
            b'w' => Progress::Warning(text()),
            b't' => Progress::Trace(text()),
            b'r' => Progress::Refused(text()),
            b'1' => Progress::Failed(FailedStage::Config, text()),
            b'2' => Progress::Failed(FailedStage::Create, text()),
            b'3' => Progress::Failed(FailedStage::Run, text()),
            b'u' => Progress::User(text()),
            b'p' => text().parse().map_or(Progress::Unknown, Progress::Created),
            b's' => Progress::Started,
            _ => Progress::Unknown,
        }
    }

    /// For what must arrive.
    pub fn send(&self, line: impl AsFd) {
        // The monitor is gone: then nobody is to be told.
        let _ = socket::send(line, &self.encode());
    }

    /// For what must not delay anything.
    pub fn send_or_drop(&self, line: impl AsFd) {
        socket::send_or_drop(line, &self.encode());
    }

    /// The next message; `None` at the end.
    pub fn receive(line: impl AsFd) -> io::Result<Option<Progress>> {
        receive_by(|buffer| socket::receive(&line, buffer))
    }

    /// The next message if it is there already.
    pub fn receive_now(line: impl AsFd) -> io::Result<Option<Progress>> {
        receive_by(|buffer| socket::receive_now(&line, buffer))
    }
}

/// A creator that ended before it read its word resets the line, which is told once and ahead of what it had said.
fn receive_by(mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<Progress>> {
    let mut buffer = [0; TEXT_BYTES_MAX + 1];
    let received = match receive(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive(&mut buffer),
        other => other,
    };
    received.map(|n| (n > 0).then(|| Progress::decode(&buffer[..n])))
}

/// The monitor to the creator: the container's cgroups are there, limits included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enclosed {
    /// No device rules are in force: the container gets no means to reach the host's devices.
    pub without_devices: bool,
}

impl Enclosed {
    pub fn send(self, line: impl AsFd) {
        // A creator that is gone has said why, or its end will.
        let _ = socket::send(line, if self.without_devices { b"n" } else { b"d" });
    }

    /// Waits; `None` if the monitor is gone, or has given up.
    pub fn receive(line: impl AsFd) -> Option<Enclosed> {
        let mut buffer = [0; 8];
        let n = socket::receive(line, &mut buffer).unwrap_or(0);
        match &buffer[..n] {
            b"d" => Some(Enclosed { without_devices: false }),
            b"n" => Some(Enclosed { without_devices: true }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_says_whether_there_are_device_rules_and_silence_says_nothing() {
        let (monitor, creator) = socket::pair().expect("a socket pair");
        for without_devices in [true, false] {
            Enclosed { without_devices }.send(&monitor);
            assert_eq!(Enclosed::receive(&creator), Some(Enclosed { without_devices }));
        }
        drop(monitor);
        assert_eq!(Enclosed::receive(&creator), None);
    }

    #[test]
    fn a_creator_that_ends_without_reading_its_word_is_heard_out() {
        let (monitor, creator) = socket::pair().expect("a socket pair");
        Progress::Warning("one".into()).send(&creator);
        Progress::Warning("two".into()).send(&creator);
        Enclosed { without_devices: false }.send(&monitor);
        drop(creator);
        let heard = [(); 3].map(|()| Progress::receive(&monitor).expect("readable"));
        assert_eq!(heard, [Some(Progress::Warning("one".into())), Some(Progress::Warning("two".into())), None]);
    }

    #[test]
    fn every_message_survives_the_way() {
        let all = [
            Progress::Warning("w".into()),
            Progress::Trace("t".into()),
            Progress::Refused("r".into()),
            Progress::Failed(FailedStage::Config, "c".into()),
            Progress::Failed(FailedStage::Create, "c".into()),
            Progress::Failed(FailedStage::Run, String::new()),
            Progress::User("0 0 0 10".into()),
            Progress::Created(4711),
            Progress::Started,
        ];
        for message in all {
            assert_eq!(Progress::decode(&message.encode()), message);
        }
        assert_eq!(Progress::decode(b"pnone"), Progress::Unknown);
    }
}
