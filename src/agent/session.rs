//! One exec session: frames of a client on one side, a command in a container on the other.
//!
//! Two threads, so that neither a command that does not read nor a client that does not read stops the other direction:
//! the connection's own passes output on and ends the session, another one feeds input. Nothing of it belongs to the
//! loop. A client that goes away takes its command with it.

use crate::error::chain;
use crate::model::id::ProcessRef;
use crate::runtime::exec::{self, ExecChild, ExecError, ExecOutcome};
use crate::runtime::record;
use crate::server::frame::{self, Frame, PAYLOAD_MAX};
use crate::server::http;
use crate::server::wire::{ExecExit, ExecRequest};
use crate::sys::poll::Waker;
use crate::sys::process;
use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// The feeding thread only copies.
const STACK_BYTES: usize = 128 * 1024;
/// What a terminal's line discipline takes for the end of input (VEOF, Ctrl-D).
const END_OF_INPUT: &[u8] = b"\x04";
/// A shell's code for a command that was found and cannot be run.
const CANNOT_RUN: u8 = 126;
/// As Kubernetes shows a process whose end nobody saw.
const LOST: u8 = 137;

/// Runs `request` in the container of `dir`, whose monitor is `monitor`, for the client behind `stream`.
pub fn run(mut stream: UnixStream, dir: PathBuf, monitor: ProcessRef, request: ExecRequest) {
    let child = match start(&dir, monitor, &request) {
        Ok(child) => child,
        Err(ExecError::Failed(message)) => {
            let exit = ExecExit { code: CANNOT_RUN, error: Some(message) };
            let told = http::write_upgrade(&mut stream, frame::PROTOCOL)
                .and_then(|()| frame::write(&mut stream, &Frame::Exit(exit)));
            return debug(told);
        }
        Err(error) => {
            let status = match error {
                ExecError::TooLong => 413,
                ExecError::NotRunning | ExecError::Newer(_) => 409,
                ExecError::Start(_) | ExecError::Silent | ExecError::Failed(_) => 500,
            };
            let text = format!("{}\n", chain(&error));
            return debug(http::write_response(&mut stream, status, "text/plain; charset=utf-8", text.as_bytes()));
        }
    };
    debug(serve(stream, child));
}

fn debug(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::debug!("an exec session was cut: {error}");
    }
}

fn start(dir: &std::path::Path, monitor: ProcessRef, request: &ExecRequest) -> Result<ExecChild, ExecError> {
    let intent = record::read_intent(dir).ok().flatten().ok_or(ExecError::NotRunning)?;
    exec::spawn_exec(&exec::ExecRequest {
        version: intent.version,
        container_dir: dir.to_owned(),
        monitor,
        argv: request.command.clone(),
        stdin: request.stdin,
        tty: request.tty,
        size: request.size.map(|size| (size.rows, size.columns)),
    })
}

/// From the first frame to the last.
fn serve(mut stream: UnixStream, mut child: ExecChild) -> io::Result<()> {
    let terminal = child.terminal.take();
    let input = Input { stdin: child.stdin.take(), terminal: terminal.as_ref().map(File::try_clone).transpose()? };
    let outputs = match terminal {
        Some(terminal) => Outputs { stdout: Some(terminal), stderr: None },
        None => Outputs { stdout: child.stdout.take(), stderr: child.stderr.take() },
    };
    http::write_upgrade(&mut stream, frame::PROTOCOL)?;
    let gone = Waker::new()?;
    let feeding = feed_aside(stream.try_clone()?, input, gone.clone())?;
    let ended = child.ended().ok_or(io::ErrorKind::NotConnected)?;
    let passed = outputs.pass_on(&mut stream, ended, &gone);
    let told = match passed {
        Ok(End::Command) => frame::write(&mut stream, &Frame::Exit(exit_of(child.wait()))),
        Ok(End::Client) => Ok(()),
        Err(error) => Err(error),
    };
    // The feeder is woken from its reading, and from its writing by the death of the command.
    let _ = stream.shutdown(Shutdown::Both);
    drop(child);
    let _ = feeding.join();
    told
}

fn exit_of(outcome: ExecOutcome) -> ExecExit {
    match outcome {
        // The shell's form: the lowest eight bits.
        ExecOutcome::Exited(status) => ExecExit { code: status.code().to_le_bytes()[0], error: None },
        ExecOutcome::Lost => ExecExit { code: LOST, error: Some("nobody saw how the command ended".to_owned()) },
    }
}

/// Where the client's frames go.
struct Input {
    stdin: Option<File>,
    terminal: Option<File>,
}

fn feed_aside(stream: UnixStream, input: Input, gone: Waker) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("exec".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        input.feed(stream);
        gone.wake();
    })
}

impl Input {
    /// Until the client has gone. Input that the command does not take any more is dropped.
    fn feed(mut self, mut stream: UnixStream) {
        while let Ok(Some(frame)) = frame::read(&mut stream) {
            match frame {
                Frame::Stdin(bytes) if bytes.is_empty() => self.end(),
                Frame::Stdin(bytes) => self.write(&bytes),
                Frame::Resize(size) => {
                    if let Some(terminal) = &self.terminal {
                        // See `serve`.
                        let _ = process::set_window_size(terminal, size.rows, size.columns);
                    }
                }
                // No client's business.
                Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) => return,
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let to = self.terminal.as_mut().or(self.stdin.as_mut());
        if to.is_some_and(|file| file.write_all(bytes).is_err()) {
            self.stdin = None;
        }
    }

    fn end(&mut self) {
        if self.terminal.is_some() {
            self.write(END_OF_INPUT);
        }
        self.stdin = None;
    }
}

/// Where output comes from; a terminal stands in the place of stdout.
struct Outputs {
    stdout: Option<File>,
    stderr: Option<File>,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All that it had written when it ended has been passed on.
    Command,
    Client,
}

impl Outputs {
    fn pass_on(mut self, stream: &mut UnixStream, ended: BorrowedFd<'_>, gone: &Waker) -> io::Result<End> {
        let mut buffer = vec![0u8; PAYLOAD_MAX];
        let mut command_ended = false;
        loop {
            let out = self.stdout.as_ref().map(AsFd::as_fd);
            let err = self.stderr.as_ref().map(AsFd::as_fd);
            // After the command's end only what is there already is taken: a child of it may hold the pipes for ever.
            let (watch_end, patience) = if command_ended { (None, Some(Duration::ZERO)) } else { (Some(ended), None) };
            let ready = process::wait_readable([out, err, watch_end, Some(gone.as_fd())], patience)?;
            let [out, err, end, client_gone] = ready;
            if client_gone {
                return Ok(End::Client);
            }
            if out {
                pass(&mut self.stdout, stream, &mut buffer, Frame::Stdout)?;
            }
            if err {
                pass(&mut self.stderr, stream, &mut buffer, Frame::Stderr)?;
            }
            command_ended |= end;
            if command_ended && !out && !err && !end {
                return Ok(End::Command);
            }
        }
    }
}

/// One reading's worth; the source goes at its end.
fn pass(
    from: &mut Option<File>,
    stream: &mut UnixStream,
    buffer: &mut [u8],
    frame: fn(Vec<u8>) -> Frame,
) -> io::Result<()> {
    let Some(file) = from else { return Ok(()) };
    match process::read(file, buffer) {
        // A terminal whose last user has gone reads as EIO.
        Ok(0) | Err(_) => *from = None,
        Ok(n) => frame::write(stream, &frame(buffer[..n].to_vec()))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::ExitStatus;
    use crate::sys::poll;
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command, Stdio};

    /// A shell in the place of a container's process.
    struct Shell {
        child: Child,
        pidfd: OwnedFd,
    }

    impl Shell {
        fn new(script: &str) -> Shell {
            let child = Command::new("/bin/sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a shell");
            let pidfd = poll::pidfd_open(i32::try_from(child.id()).expect("a pid")).expect("a pidfd");
            Shell { child, pidfd }
        }

        fn ends(&mut self) -> (Input, Outputs) {
            let stdin = self.child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
            let stdout = self.child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
            let stderr = self.child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
            (Input { stdin, terminal: None }, Outputs { stdout, stderr })
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn connected() -> (UnixStream, UnixStream) {
        let (ours, client) = UnixStream::pair().expect("a pair");
        client.set_read_timeout(Some(Duration::from_secs(30))).expect("time-out");
        (ours, client)
    }

    #[test]
    fn output_arrives_whole_though_the_command_has_ended_and_its_child_holds_the_pipes() {
        let mut shell = Shell::new("sleep 60 & head -c 300000 /dev/zero; echo $! >&2; exit 3");
        let (_, outputs) = shell.ends();
        let (mut ours, mut client) = connected();
        let reader = thread::spawn(move || {
            let (mut out, mut err) = (0, Vec::new());
            while let Ok(Some(frame)) = frame::read(&mut client) {
                match frame {
                    Frame::Stdout(bytes) => out += bytes.len(),
                    Frame::Stderr(bytes) => err.extend(bytes),
                    other => panic!("{other:?}"),
                }
            }
            (out, err)
        });
        let gone = Waker::new().expect("eventfd");
        let end = outputs.pass_on(&mut ours, shell.pidfd.as_fd(), &gone).expect("passed on");
        drop(ours);
        let (out, err) = reader.join().expect("no panic");
        let sleep = String::from_utf8_lossy(&err).trim().to_owned();
        assert!(Command::new("kill").arg(&sleep).status().is_ok_and(|status| status.success()), "{sleep:?}");
        assert_eq!((end, out), (End::Command, 300_000));
        assert_eq!(shell.child.wait().expect("ended").code(), Some(3));
    }

    #[test]
    fn input_that_nobody_reads_stops_no_output() {
        // cat answers everything: with one thread both sides would wait for each other.
        let mut shell = Shell::new("cat");
        let (input, outputs) = shell.ends();
        let (mut ours, mut client) = connected();
        let gone = Waker::new().expect("eventfd");
        let feeding = feed_aside(ours.try_clone().expect("a clone"), input, gone.clone()).expect("a thread");
        let writer = {
            let mut client = client.try_clone().expect("a clone");
            thread::spawn(move || {
                for _ in 0..64 {
                    frame::write(&mut client, &Frame::Stdin(vec![b'x'; PAYLOAD_MAX])).expect("sent");
                }
                frame::write(&mut client, &Frame::Stdin(Vec::new())).expect("sent");
            })
        };
        let reader = thread::spawn(move || {
            let mut out = 0;
            while let Ok(Some(Frame::Stdout(bytes))) = frame::read(&mut client) {
                out += bytes.len();
            }
            out
        });
        assert_eq!(outputs.pass_on(&mut ours, shell.pidfd.as_fd(), &gone).expect("passed on"), End::Command);
        writer.join().expect("no panic");
        ours.shutdown(Shutdown::Both).expect("shut down");
        feeding.join().expect("no panic");
        assert_eq!(reader.join().expect("no panic"), 64 * PAYLOAD_MAX);
    }

    #[test]
    fn a_client_that_goes_ends_the_session() {
        let mut shell = Shell::new("exec sleep 60");
        let (input, outputs) = shell.ends();
        let (mut ours, client) = connected();
        let gone = Waker::new().expect("eventfd");
        let feeding = feed_aside(ours.try_clone().expect("a clone"), input, gone.clone()).expect("a thread");
        drop(client);
        assert_eq!(outputs.pass_on(&mut ours, shell.pidfd.as_fd(), &gone).expect("passed on"), End::Client);
        feeding.join().expect("no panic");
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        assert_eq!(exit_of(ExecOutcome::Exited(ExitStatus::Code(3))).code, 3);
        assert_eq!(exit_of(ExecOutcome::Exited(ExitStatus::Signal(9))).code, 137);
        assert_eq!(exit_of(ExecOutcome::Lost).code, 137);
    }
}
