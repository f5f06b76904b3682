//! `exec POD -- CMD`: frames to and from the agent, and the user's terminal while the command has one.
//!
//! One thread reads the agent's frames and ends the verb; one sends standard input, one the window's size. All writing
//! to the agent goes through one lock, so that frames stay whole.

use super::args::Exec;
use super::client::{Client, percent_encode};
use super::error::VerbError;
use super::{output, pod_name};
use crate::server::frame::{self, Frame, PAYLOAD_MAX};
use crate::server::wire::{ExecExit, ExecRequest, WindowSize};
use crate::sys::term::{self, RawInput, TerminalSignals, Told};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub fn run(run_dir: &Path, exec: &Exec) -> Result<u8, VerbError> {
    let client = Client::new(run_dir);
    let pod = pod_name::find(&client, &exec.pod)?;
    let (container, chosen) = pod_name::container(&pod, exec.container.as_deref())?;
    if chosen {
        pod_name::say_defaulted(&pod, &container);
    }
    let has_terminal = exec.tty && io::stdin().is_terminal();
    if exec.tty && exec.stdin && !has_terminal {
        output::complain("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let request = ExecRequest {
        command: exec.command.clone(),
        stdin: exec.stdin,
        tty: exec.tty,
        size: if exec.tty { window_size() } else { None },
    };
    let [namespace, name] = pod_name::key(&pod).map(percent_encode);
    let target = format!("/exec/{namespace}/{name}/{}", percent_encode(&container));
    let mut from_agent = client.upgrade(&target, &request, frame::PROTOCOL)?;
    let wrong = |source| VerbError::Stream { source };
    let to_agent = Writer(Arc::new(Mutex::new(from_agent.get_ref().try_clone().map_err(wrong)?)));

    let raw = match has_terminal && exec.stdin {
        // Before the first thread starts.
        true => Some(watch_terminal(&to_agent).map_err(wrong)?),
        false => None,
    };
    if exec.stdin {
        let to_agent = to_agent.clone();
        thread::spawn(move || send_input(&to_agent));
    }
    let ended = receive(&mut from_agent);
    if let Some(raw) = raw {
        raw.restore();
    }
    let exit = ended?;
    if let Some(error) = &exit.error {
        output::complain(error);
    }
    Ok(exit.code)
}

fn window_size() -> Option<WindowSize> {
    let (rows, columns) = term::window_size(io::stdout().as_fd()).or_else(|| term::window_size(io::stdin().as_fd()))?;
    Some(WindowSize { rows, columns })
}

#[derive(Clone)]
struct Writer(Arc<Mutex<UnixStream>>);

impl Writer {
    fn send(&self, frame: &Frame) -> io::Result<()> {
        // A thread that died while it held the lock has cut a frame: the agent then ends the session.
        frame::write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), frame)
    }
}

/// Makes the terminal raw, and watches for what must be passed on or must restore it.
fn watch_terminal(to_agent: &Writer) -> io::Result<Arc<RawInput>> {
    let signals = TerminalSignals::take_over()?;
    let raw = Arc::new(RawInput::enter()?);
    let (watched, to_agent) = (Arc::clone(&raw), to_agent.clone());
    thread::spawn(move || {
        loop {
            match signals.wait() {
                Ok(Told::Resized) => {
                    let sent = window_size().map(|size| to_agent.send(&Frame::Resize(size)));
                    if sent.is_some_and(|sent| sent.is_err()) {
                        return;
                    }
                }
                Ok(Told::Leave(signal)) => {
                    watched.restore();
                    std::process::exit(128 + signal);
                }
                Err(_) => return,
            }
        }
    });
    Ok(raw)
}

/// Until the end of input, which is passed on, or of the session.
fn send_input(to_agent: &Writer) {
    let mut buffer = vec![0u8; PAYLOAD_MAX];
    loop {
        let read = match io::stdin().lock().read(&mut buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        if to_agent.send(&Frame::Stdin(buffer[..read].to_vec())).is_err() || read == 0 {
            return;
        }
    }
}

/// Writes out what the command writes, until it has ended.
fn receive(from_agent: &mut impl Read) -> Result<ExecExit, VerbError> {
    loop {
        let frame = frame::read(from_agent).map_err(|source| VerbError::Stream { source })?;
        let written = match frame {
            Some(Frame::Stdout(bytes)) => write(&mut io::stdout().lock(), &bytes),
            Some(Frame::Stderr(bytes)) => write(&mut io::stderr().lock(), &bytes),
            Some(Frame::Exit(exit)) => return Ok(exit),
            // Nothing that an agent sends.
            Some(Frame::Stdin(_) | Frame::Resize(_)) => Ok(()),
            None => return Err(VerbError::Cut),
        };
        match written {
            Ok(()) => {}
            // Nobody reads any more: that ends the command too, as it would in a pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExecExit { code: 0, error: None }),
            Err(source) => return Err(VerbError::Output { source }),
        }
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_frame_ends_a_session_and_its_absence_is_a_failure() {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, &Frame::Exit(ExecExit { code: 7, error: None })).expect("a vector takes all");
        assert_eq!(receive(&mut bytes.as_slice()).expect("an exit").code, 7);
        assert!(matches!(receive(&mut [].as_slice()), Err(VerbError::Cut)));
        assert!(matches!(receive(&mut [1u8, 0].as_slice()), Err(VerbError::Stream { .. })));
    }
}
