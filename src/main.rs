//! argv -> role. Everything else is in the library.

use pinlet::agent::{offline, startup};
use pinlet::cli::args::NodeFlags;
use pinlet::cli::{self, Invocation, Outcome, StopPods};
use pinlet::config::{Config, ConfigError};
use pinlet::error::chain;
use pinlet::{image, manifest, runtime};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: pinlet::sys::bump::SwitchingAllocator = pinlet::sys::bump::SwitchingAllocator;

fn main() -> ExitCode {
    match cli::classify(std::env::args_os().skip(1).collect()) {
        Invocation::Run(flags) => run(flags),
        Invocation::Internal(role, args) => internal(&role, &args),
        Invocation::Client(args) => client(args),
    }
}

fn run(flags: Vec<OsString>) -> ExitCode {
    let config = match Config::from_args(flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match startup::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    match error.exit_code() {
        0 => println!("{error}"),
        _ => eprintln!("{}", chain(error)),
    }
    ExitCode::from(error.exit_code())
}

/// The hidden roles: this binary started by itself.
fn internal(role: &str, args: &[OsString]) -> ExitCode {
    let dir = || Path::new(args.first().map(OsString::as_os_str).unwrap_or_default());
    match role {
        runtime::spawn::MONITOR_ROLE => runtime::monitor::main(dir()),
        runtime::exec::EXEC_ROLE => runtime::exec_role::main(dir()),
        manifest::decode::ROLE => manifest::decode::main(),
        image::unpack::ROLE => image::unpack::main(),
        other => {
            eprintln!("{other} is no role of this program");
            ExitCode::from(2)
        }
    }
}

/// With the agent's flags, read as the agent reads them.
fn check_node(flags: NodeFlags) -> ExitCode {
    let flag = |name: &str, value: Option<PathBuf>| value.map(|value| [OsString::from(name), value.into_os_string()]);
    let typed = [flag("--config", flags.config), flag("--cgroup-root", flags.cgroup_root)];
    match Config::from_args(typed.into_iter().flatten().flatten()) {
        Ok(config) => ExitCode::from(offline::check_node(&config.cgroup_root)),
        Err(error) => refuse(&error),
    }
}

fn client(args: Vec<OsString>) -> ExitCode {
    let code = match cli::run(args) {
        Outcome::Done(code) => code,
        Outcome::Check { paths, offline } => offline::check(&paths, &offline),
        Outcome::CheckNode(flags) => return check_node(flags),
        Outcome::Explain { target, manifest_path, offline } => {
            offline::explain(target.as_deref(), &manifest_path, &offline)
        }
        Outcome::StopPods(StopPods { run_dir, timeout, marker }) => {
            let code = offline::stop_pods(&run_dir, timeout);
            // Held until here: an agent that starts meanwhile waits for it.
            drop(marker);
            code
        }
    };
    ExitCode::from(code)
}
