//! The last step of init: find the program, leave nothing open, exec it, and say why where that fails.
//!
//! libcontainer's default executor loses exec's errno (a script without `#!` is a silent 255), sorts the environment
//! anew at each start, and leaves descriptors open until exec: an entrypoint `/proc/self/fd/<n>/..` would be looked up
//! through them.

use super::progress::Progress;
use crate::sys::process::{self, EACCES, EISDIR, ENOENT, ENOEXEC};
use crate::sys::socket::Leaked;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// What runc leaves when it cannot exec.
const EXIT_NOT_EXECUTED: i32 = 128;

#[derive(Clone)]
pub(super) struct ReportingExecutor {
    line: Leaked,
    /// A descriptor that must not be readable at the moment of exec: the pidfd of the container's init, for a process
    /// that joins it by pid.
    joined: Option<Leaked>,
}

impl ReportingExecutor {
    pub fn new(line: Leaked, joined: Option<Leaked>) -> ReportingExecutor {
        ReportingExecutor { line, joined }
    }

    fn refuse(&self, text: String) -> String {
        Progress::Refused(text.clone()).send(self.line);
        text
    }
}

impl Executor for ReportingExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = Program::of(spec).map_err(|t| ExecutorValidationError::ArgValidationError(self.refuse(t)))?;
        process.find().map(drop).map_err(|t| ExecutorValidationError::ArgValidationError(self.refuse(t)))
    }

    /// The environment goes to exec as the spec has it, in its order.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let text = match Program::of(spec).and_then(|program| Ok((program.find()?, program))) {
            Err(text) => text,
            Ok((path, program)) => {
                if self.joined.is_some_and(ended) {
                    self.refuse("the container has ended".to_owned());
                    process::exit_now(EXIT_NOT_EXECUTED);
                }
                set_console_size(spec);
                process::close_all_but(&[self.line.as_fd()]);
                let argv: Vec<&CStr> = program.argv.iter().map(CString::as_c_str).collect();
                let env: Vec<&CStr> = program.env.iter().map(CString::as_c_str).collect();
                let error = process::exec(&path, &argv, &env);
                format!("exec {}: {}", path.to_string_lossy(), words(&error))
            }
        };
        self.refuse(text);
        process::exit_now(EXIT_NOT_EXECUTED)
    }
}

/// libcontainer does not: the program would see a terminal without a size until somebody sets it from outside.
fn set_console_size(spec: &Spec) {
    let size = spec.process().as_ref().and_then(|process| process.console_size());
    let number = |of: u64| u16::try_from(of).unwrap_or(u16::MAX);
    if let Some(size) = size {
        // A window without a size is what there was before.
        let _ = process::set_window_size(io::stdin(), number(size.height()), number(size.width()));
    }
}

fn ended(pidfd: Leaked) -> bool {
    process::wait_readable([Some(pidfd.as_fd())], Some(std::time::Duration::ZERO)).is_ok_and(|ready| ready[0])
}

struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn of(spec: &Spec) -> Result<Program, String> {
        let process = spec.process().as_ref().ok_or("the spec has no process")?;
        let texts = |list: &Option<Vec<String>>, what: &str| {
            let list = list.iter().flatten().map(|text| CString::new(text.as_str()));
            list.collect::<Result<Vec<_>, _>>().map_err(|_| format!("{what} holds a NUL byte"))
        };
        let program =
            Program { argv: texts(process.args(), "the command")?, env: texts(process.env(), "the environment")? };
        if program.argv.is_empty() { Err("no command specified".to_owned()) } else { Ok(program) }
    }

    /// As Go's exec.LookPath, whose words users know; execvp's habit of handing what it cannot run to a shell is not
    /// wanted.
    fn find(&self) -> Result<CString, String> {
        let name = self.argv[0].to_string_lossy();
        if name.contains('/') {
            return match check(&self.argv[0]) {
                Ok(()) => Ok(self.argv[0].clone()),
                Err(error) if error.raw_os_error() == Some(ENOENT) => {
                    Err(format!("exec: {name:?}: stat {name}: {}", words(&error)))
                }
                Err(error) => Err(format!("exec: {name:?}: {}", words(&error))),
            };
        }
        let path = self.env.iter().find_map(|e| e.to_bytes().strip_prefix(b"PATH="));
        let path = String::from_utf8_lossy(path.unwrap_or_default());
        let mut denied = false;
        for dir in path.split(':').filter(|_| !path.is_empty()) {
            let dir = if dir.is_empty() { "." } else { dir };
            let Ok(candidate) = CString::new(format!("{}/{name}", dir.trim_end_matches('/'))) else { continue };
            match check(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(error) => denied |= error.raw_os_error() == Some(EACCES),
            }
        }
        let why = if denied { "permission denied" } else { "executable file not found in $PATH" };
        Err(format!("exec: {name:?}: {why}"))
    }
}

/// A file that the user may execute.
fn check(path: &CStr) -> io::Result<()> {
    let text = path.to_string_lossy();
    if Path::new(text.as_ref()).metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(EISDIR));
    }
    if process::may_execute(path) { Ok(()) } else { Err(io::Error::from_raw_os_error(EACCES)) }
}

/// Go's lower-case words for an errno, without Rust's `(os error 2)`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match error.raw_os_error() {
        Some(ENOEXEC) => "exec format error".to_owned(),
        _ => text.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, path: &str) -> Result<String, String> {
        let text = |t: &str| CString::new(t).unwrap();
        let program = Program { argv: vec![text(name)], env: vec![text("A=b"), text(&format!("PATH={path}"))] };
        program.find().map(|p| p.to_string_lossy().into_owned())
    }

    #[test]
    fn a_program_is_found_in_path_or_named_by_its_own() {
        assert_eq!(find("sh", "/nowhere:/bin/"), Ok("/bin/sh".to_owned()));
        assert_eq!(find("/bin/sh", ""), Ok("/bin/sh".to_owned()));
    }

    #[test]
    fn what_cannot_be_run_is_told_in_runcs_words() {
        assert_eq!(find("nosuch", "/bin"), Err("exec: \"nosuch\": executable file not found in $PATH".to_owned()));
        assert_eq!(
            find("/no/such", ""),
            Err("exec: \"/no/such\": stat /no/such: no such file or directory".to_owned())
        );
        assert_eq!(find("/etc", ""), Err("exec: \"/etc\": is a directory".to_owned()));
        assert_eq!(find("/etc/passwd", ""), Err("exec: \"/etc/passwd\": permission denied".to_owned()));
        assert_eq!(find("sh", ""), Err("exec: \"sh\": executable file not found in $PATH".to_owned()));
        assert_eq!(find("passwd", "/etc"), Err("exec: \"passwd\": permission denied".to_owned()));
    }
}
