//! The role `internal-exec`: enters a container with libcontainer, and stays as the parent of the process to tell how it
//! ends.
//!
//! It is exec'd, single-threaded, and joins the container's cgroups before anything else. Its own mount namespace
//! holds what libcontainer leaves behind (sockets, links), so that all of it goes with the role, however that ends.

use super::creator::{CONFIG, STATE, plain};
use super::exec::{Answer, ORDER_BYTES_MAX, Order};
use super::exec_files::STATE_FILES;
use super::executor::ReportingExecutor;
use super::host_facts::Ceilings;
use super::launch::{Launch, LaunchFile};
use super::progress::Progress;
use super::record;
use super::{rootfs, trace};
use crate::error::chain;
use crate::model::observed::ExitStatus;
use crate::sys::process::{self, ChildEvents};
use crate::sys::socket::{self, Leaked};
use crate::sys::spawn::{self, Ended};
use crate::sys::{bump, mount, poll};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::{BoxBuilder, PosixRlimitBuilder, Spec};
use libcontainer::syscall::syscall::SyscallType;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A tmpfs in the role's namespace, for libcontainer's state, the process description and the console socket.
const OWN_DIR: &str = "exec";
const PROCESS: &str = "process.json";
const CONSOLE: &str = "console.sock";

/// Descriptor 3 is the socket to the agent; 0 to 2 are the process's.
pub fn main(dir: &Path) -> ! {
    bump::begin();
    process::default_dispositions();
    process::block_signals();
    process::set_name(c"pinlet-exec");
    process::set_umask(0o022);
    let Ok(control) = process::adopt_fd(spawn::HANDSHAKE_FD) else { process::exit_now(2) };
    process::close_all_but(&[control.as_fd()]);
    match enter(dir, &control) {
        Ok(entered) => {
            answer(&control, &Answer::Started, entered.terminal.as_ref());
            attend(entered.pid, &control);
        }
        Err(message) => answer(&control, &Answer::Failed { message }, None),
    }
    process::exit_now(0)
}

fn answer(control: &OwnedFd, answer: &Answer, terminal: Option<&OwnedFd>) {
    let Ok(bytes) = serde_json::to_vec(answer) else { return };
    // An agent that is gone is noticed by `attend`.
    let _ = match terminal {
        Some(terminal) => socket::send_with_fd(control, &bytes, terminal),
        None => socket::send(control, &bytes),
    };
}

struct Entered {
    pid: i32,
    terminal: Option<OwnedFd>,
}

fn enter(dir: &Path, control: &OwnedFd) -> Result<Entered, String> {
    let order = receive_order(control)?;
    let LaunchFile { launch, hierarchies } = LaunchFile::read(dir).map_err(|e| format!("launch.json: {e}"))?;
    let init = running_init(dir)?;
    hierarchies.join_self(&launch.cgroup.leaf_path()).map_err(|e| chain(&e))?;
    process::drop_groups().map_err(|e| format!("supplementary groups cannot be dropped: {e}"))?;
    // The same as the container's; lowering it takes CAP_SYS_RESOURCE.
    let _ = fs::write("/proc/self/oom_score_adj", launch.oom_score_adj.to_string());
    process::new_session_keyring();
    let ceilings = Ceilings::of_self().map_err(|e| chain(&e))?;

    rootfs::enter_namespace(dir, &[], &[]).map_err(|e| chain(&e))?;
    let (own, uid) = prepare_own_dir(&launch, &order, &ceilings)?;
    let entered = build(&own, init, order.tty, control)?;
    if let Some(terminal) = &entered.terminal {
        // Without it the process still has the terminal, and only cannot open it again.
        let _ = process::give_terminal_to(terminal, uid);
    }
    Ok(entered)
}

fn receive_order(control: &OwnedFd) -> Result<Order, String> {
    let mut buffer = vec![0; ORDER_BYTES_MAX];
    let n = socket::receive(control, &mut buffer).map_err(|e| format!("no order: {e}"))?;
    let order: Order = serde_json::from_slice(&buffer[..n]).map_err(|e| format!("not an order: {e}"))?;
    if order.version == record::VERSION { Ok(order) } else { Err(format!("order of version {}", order.version)) }
}

/// A pidfd of the container's init, which is the one that the record means.
fn running_init(dir: &Path) -> Result<OwnedFd, String> {
    let not_running = || "the container is not running".to_owned();
    let started = record::read_started(dir).map_err(|e| chain(&e))?.ok_or_else(not_running)?;
    let pidfd = poll::pidfd_open(started.init.pid.0).map_err(|_| not_running())?;
    let same = spawn::start_ticks(started.init.pid.0).is_ok_and(|ticks| ticks == started.init.start_ticks);
    if same { Ok(pidfd) } else { Err(not_running()) }
}

/// libcontainer's state of the container, copied, and the process as the spec has it but for what was ordered. Their
/// directory, and the user.
fn prepare_own_dir(launch: &Launch, order: &Order, ceilings: &Ceilings) -> Result<(PathBuf, u32), String> {
    let own = launch.dir.join(OWN_DIR);
    let prepared = fs::create_dir_all(&own)
        .and_then(|()| mount::tmpfs(&own, "mode=700,size=4m", true))
        .and_then(|()| fs::create_dir(own.join(STATE)))
        .and_then(|()| {
            STATE_FILES
                .iter()
                .try_for_each(|file| fs::copy(launch.dir.join(STATE).join(file), own.join(STATE).join(file)).map(drop))
        });
    prepared.map_err(|e| format!("the container's state cannot be read: {e}"))?;

    let spec = Spec::load(launch.dir.join(CONFIG)).map_err(|e| chain(&e))?;
    let mut description = spec.process().clone().ok_or("the spec has no process")?;
    description.set_args(Some(order.argv.clone())).set_terminal(Some(order.tty));
    if order.tty {
        let size = order.size.map(|(rows, columns)| BoxBuilder::default().height(rows).width(columns).build());
        description.set_console_size(size.transpose().map_err(|e| e.to_string())?);
        let env = description.env_mut().get_or_insert_with(Vec::new);
        if !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
    }
    let limits = description.rlimits().iter().flatten().map(|limit| {
        let (soft, hard) = ceilings.bound(limit.typ(), limit.soft(), limit.hard());
        PosixRlimitBuilder::default().typ(limit.typ()).soft(soft).hard(hard).build()
    });
    let limits = limits.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    description.set_rlimits(Some(limits));
    // So that a user other than root can open /dev/stdout and the like.
    let uid = description.user().uid();
    process::give_pipes_to(uid);
    let bytes = serde_json::to_vec(&description).map_err(|e| e.to_string())?;
    fs::write(own.join(PROCESS), bytes).map_err(|e| format!("{PROCESS} cannot be written: {e}"))?;
    Ok((own, uid))
}

fn build(own: &Path, init: OwnedFd, tty: bool, control: &OwnedFd) -> Result<Entered, String> {
    let (line, their_line) = socket::pair().map_err(|e| format!("no socket pair: {e}"))?;
    let their_line = Leaked::new(their_line);
    trace::report_to(their_line);
    let listener = tty.then(|| listen(own)).transpose().map_err(|e| format!("no console socket: {e}"))?;
    let init = Leaked::new(init);
    let executor = ReportingExecutor::new(their_line, Some(init));
    let builder = ContainerBuilder::new(STATE.to_owned(), SyscallType::default())
        .with_root_path(own)
        .map_err(|e| plain(&e))?
        .with_executor(executor)
        .with_console_socket(tty.then(|| own.join(CONSOLE)))
        .as_tenant()
        .with_process(Some(own.join(PROCESS)))
        .with_detach(true);
    process::unblock_signals();
    let built = builder.build();
    process::block_signals();

    let terminal = match (&built, listener) {
        (Ok(_), Some(listener)) => Some(accept_terminal(&listener)?),
        _ => None,
    };
    let mut keep = vec![line.as_fd(), control.as_fd()];
    keep.extend(terminal.as_ref().map(|fd| fd.as_fd()));
    // Our copy of the other end goes too: the line ends when the process has exec'd or died.
    process::close_all_but(&keep);
    judge(built.map(|pid| pid.as_raw()).map_err(|e| plain(&e)), &line, terminal)
}

fn judge(built: Result<i32, String>, line: &OwnedFd, terminal: Option<OwnedFd>) -> Result<Entered, String> {
    let (mut traced, mut refused) = (None, None);
    while let Ok(Some(progress)) = Progress::receive(line) {
        match progress {
            Progress::Trace(text) => traced = traced.or(Some(text)),
            Progress::Refused(text) => refused = refused.or(Some(text)),
            _ => {}
        }
    }
    match (refused, built) {
        (Some(why), _) => Err(why),
        (None, Ok(pid)) => Ok(Entered { pid, terminal }),
        (None, Err(step)) => Err(traced.map_or(step.clone(), |why| format!("{step}: {why}"))),
    }
}

/// Relative to its directory: a socket's path holds 107 bytes.
fn listen(own: &Path) -> std::io::Result<UnixListener> {
    std::env::set_current_dir(own)?;
    let listener = UnixListener::bind(CONSOLE);
    std::env::set_current_dir("/")?;
    listener
}

fn accept_terminal(listener: &UnixListener) -> Result<OwnedFd, String> {
    let (stream, _) = listener.accept().map_err(|e| format!("no terminal: {e}"))?;
    let mut name = [0; 64];
    let (_, terminal) = socket::receive_with_fd(&stream, &mut name).map_err(|e| format!("no terminal: {e}"))?;
    terminal.ok_or_else(|| "no terminal".to_owned())
}

/// Until the process ends, or the agent's end of the socket goes: then the process is killed.
fn attend(pid: i32, control: &OwnedFd) {
    let Ok(children) = ChildEvents::new() else { return };
    loop {
        while let Some((ended, end)) = spawn::reap_any() {
            if ended == pid {
                let status = match end {
                    Ended::Code(code) => ExitStatus::Code(code),
                    Ended::Signal(signal) => ExitStatus::Signal(signal),
                };
                return answer(control, &Answer::Ended { status }, None);
            }
        }
        let ready = process::wait_readable([Some(children.as_fd()), Some(control.as_fd())], None);
        let [_, agent_gone] = ready.unwrap_or([true, false]);
        children.clear();
        if agent_gone {
            // Not reaped yet, so the pid is still its own.
            if let Ok(pidfd) = poll::pidfd_open(pid) {
                let _ = spawn::signal(pidfd, spawn::SIGKILL);
            }
            return;
        }
    }
}
