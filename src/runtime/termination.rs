//! Termination messages: the file that a container may write its last words to, and what becomes of them.
//!
//! The kubelet's limits (`kuberuntime_container.go`, `getTerminationMessage`). The content is the container's: it is
//! read from the end, up to a bound, and never trusted to be text.

use super::pod_paths::PodPaths;
use crate::model::id::{ContainerId, ContainerName};
use crate::model::observed::ExitStatus;
use crate::model::pod::{Container, TerminationMessagePolicy};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The last bytes of the file that are shown.
const MESSAGE_BYTES: u64 = 4096;
/// In place of a message: the last lines of the log, and the last bytes of those.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;
/// Enough of the log file for both: a piece of a line has at most 16 KiB, and each line some 50 bytes of prefix.
const LOG_TAIL_BYTES: u64 = 64 * 1024;
/// All messages of a pod together, so that a status stays small.
const POD_MESSAGE_BYTES: usize = 12288;
/// Whoever the container runs as may write.
const MODE: u32 = 0o666;

/// Makes the file that the spec mounts at `terminationMessagePath`.
pub fn create(paths: &PodPaths, container: &ContainerName, id: &ContainerId) -> io::Result<PathBuf> {
    let path = paths.termination_message(container, id);
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(path)
}

/// The message of a container that has ended, cut to its share of what a pod of `containers` containers may show.
pub fn message(container: &Container, file: &Path, log: &Path, status: ExitStatus, containers: usize) -> String {
    let mut message = match tail(file, MESSAGE_BYTES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error on reading termination log {}: {error}", file.display()),
    };
    let fall_back = container.termination_message_policy == TerminationMessagePolicy::FallbackToLogsOnError;
    if message.is_empty() && fall_back && status.code() != 0 {
        message = tail(log, LOG_TAIL_BYTES).map(|bytes| last_output(&bytes)).unwrap_or_default();
    }
    cut(message, POD_MESSAGE_BYTES / containers.max(1))
}

/// The last `most` bytes of a regular file.
fn tail(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the container wrote, out of CRI log lines (`<time> <stream> <tags> <text>`); a first line that was cut has
/// no such form, or is one of many.
fn last_output(log: &[u8]) -> String {
    let lines: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').collect();
    let mut output = Vec::new();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let (_time, stream, tags) = (fields.next(), fields.next(), fields.next());
        let (Some(b"stdout" | b"stderr"), Some(tags), Some(text)) = (stream, tags, fields.next()) else { continue };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        output.extend_from_slice(text);
        if tags.split(|b| *b == b':').next() == Some(b"F") {
            output.push(b'\n');
        }
    }
    let start = output.len().saturating_sub(LOG_BYTES);
    String::from_utf8_lossy(&output[start..]).into_owned()
}

/// At most `most` bytes, and whole characters.
fn cut(mut text: String, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, TempDir};
    use super::*;
    use std::fs;

    struct Case {
        dir: TempDir,
        container: Container,
    }

    impl Case {
        fn new(policy: TerminationMessagePolicy) -> Case {
            let mut container = testing::container("c");
            container.termination_message_policy = policy;
            Case { dir: TempDir::new(), container }
        }

        fn message(&self, code: i32, containers: usize) -> String {
            let (file, log) = (self.dir.path().join("message"), self.dir.path().join("0.log"));
            message(&self.container, &file, &log, ExitStatus::Code(code), containers)
        }

        fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
            fs::write(self.dir.path().join(name), bytes).expect("a file");
        }
    }

    #[test]
    fn the_file_is_writable_for_all_and_made_once() {
        let dir = TempDir::new();
        let paths = PodPaths { root: dir.path().join("root"), sandbox: dir.path().join("run") };
        let container = testing::container("c");
        let id = ContainerId::from_bytes([0xcd; 32]);
        let path = create(&paths, &container.name, &id).expect("made");
        assert_eq!(path, paths.root.join("containers/c/termination-cdcdcdcd"));
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777, 0o666);
        fs::write(&path, "kept").expect("written");
        create(&paths, &container.name, &id).expect("again");
        assert_eq!(fs::read(&path).expect("read"), b"kept");
    }

    #[test]
    fn the_end_of_the_file_is_the_message() {
        let case = Case::new(TerminationMessagePolicy::File);
        assert_eq!(case.message(1, 1), "");
        case.write("message", "bye\n");
        assert_eq!(case.message(0, 1), "bye\n");
        case.write("message", "x".repeat(5000) + "end");
        let message = case.message(1, 1);
        assert!(message.len() == 4096 && message.ends_with("xend"));
        assert_eq!(case.message(1, 4).len(), 3072);
        assert_eq!(case.message(1, 12).len(), 1024);
        case.write("message", [0xff, b'a']);
        assert_eq!(case.message(1, 1), "\u{fffd}a");
    }

    #[test]
    fn the_log_stands_in_only_after_a_failure_without_a_message() {
        let log = "2024-01-01T00:00:00.000000000Z stdout F one\n\
                   2024-01-01T00:00:00.000000001Z stderr P tw\n\
                   2024-01-01T00:00:00.000000002Z stderr F o words\n";
        let case = Case::new(TerminationMessagePolicy::FallbackToLogsOnError);
        case.write("0.log", log);
        assert_eq!(case.message(1, 1), "one\ntwo words\n");
        assert_eq!(case.message(0, 1), "");
        case.write("message", "mine");
        assert_eq!(case.message(1, 1), "mine");
        let never = Case::new(TerminationMessagePolicy::File);
        never.write("0.log", log);
        assert_eq!(never.message(1, 1), "");
    }

    #[test]
    fn of_a_long_log_only_the_last_lines_and_bytes_count() {
        let case = Case::new(TerminationMessagePolicy::FallbackToLogsOnError);
        let line = |text: &str| format!("2024-01-01T00:00:00.000000000Z stdout F {text}\n");
        case.write("0.log", (0..100).map(|n| line(&n.to_string())).collect::<String>());
        let message = case.message(1, 1);
        assert!(message.starts_with("20\n") && message.ends_with("99\n"), "{message}");
        case.write("0.log", (0..20).map(|_| line(&"y".repeat(9000))).collect::<String>());
        assert_eq!(case.message(1, 1).len(), 2048);
    }
}
