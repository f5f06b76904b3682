//! Running a command to its end, within a deadline.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128 + number for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub fn code(self, expected: i32) -> Outcome {
        assert_eq!(self.code, expected, "{self:?}");
        self
    }
}

/// Runs `command` with `input` on its stdin; kills it at the deadline and panics.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Outcome {
    let shown = format!("{command:?}");
    match try_run(command, input, limit) {
        Ok(outcome) => outcome,
        Err(partial) => panic!("{shown} did not end within {limit:?}; until then: {partial:?}"),
    }
}

/// As [`run`]; `Err` with what was written so far where the deadline passed.
pub fn try_run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Outcome, Outcome> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    std::thread::spawn(move || {
        let mut stdin = stdin;
        let _ = stdin.write_all(&input);
    });
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let ended = wait_child(&mut child, limit);
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |handle: std::sync::mpsc::Receiver<Vec<u8>>| {
        // A grandchild that kept the pipe must not hang the test.
        let bytes = handle.recv_timeout(Duration::from_secs(5)).unwrap_or_else(|_| b"<pipe still open>".to_vec());
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let outcome = Outcome { code: ended.map_or(-1, code), stdout: text(stdout), stderr: text(stderr) };
    if ended.is_some() { Ok(outcome) } else { Err(outcome) }
}

pub fn wait_child(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    let mut nap = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}

pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn drain(mut from: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A tool of the machine, by name: its output; panics where it fails.
#[track_caller]
pub fn tool(argv: &[&str]) -> String {
    run(Command::new(argv[0]).args(&argv[1..]), b"", Duration::from_secs(60)).ok().stdout
}

/// As [`tool`], its failure being nobody's concern.
pub fn tool_quiet(argv: &[&str]) {
    let _ = try_run(Command::new(argv[0]).args(&argv[1..]), b"", Duration::from_secs(20));
}
