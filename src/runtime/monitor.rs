//! The monitor: one per container, single-threaded, in a session of its own; it outlives the agent.
//!
//! It has the container made by a creator, logs its output, sees its exit, empties its cgroup, writes what happened
//! and ends. It must never call libcontainer, never wait for the agent once it was told to go, and stays small: a
//! machine runs one of it for each container.

use super::cgroup::Hierarchies;
use super::creator::{self, Order};
use super::crilog::CriLog;
use super::devices;
use super::handshake::{self, Report};
use super::launch::{Launch, LaunchFile};
use super::output::Output;
use super::progress::{Enclosed, Progress};
use super::record::{self, ExitRecord, FailedStage, Failure, Started};
use super::told::Told;
use crate::error::chain;
use crate::model::id::{BootId, ProcessRef};
use crate::model::observed::{ExitStatus, LinuxUser};
use crate::model::time::{Mono, Wall};
use crate::sys::memory::Code;
use crate::sys::process::{self, ChildEvents};
use crate::sys::spawn::{self, Ended};
use crate::sys::{clock, socket};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// While the rest of a cgroup dies: how long to wait before looking again, at first and at last.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(200);
/// From then on a monitor mostly waits, for months, and gives back what the start needed of the program. Not at once:
/// that is work beside the starts of others.
const CODE_NEEDED: Duration = Duration::from_secs(1);
/// A cgroup that is empty but cannot be removed is left to the agent after so many looks.
const REMOVE_TRIES: u32 = 30;

/// The role `internal-monitor`. Descriptor 3 is the handshake.
pub fn main(dir: &Path) -> ! {
    process::default_dispositions();
    process::block_signals();
    process::set_name(c"pinlet-monitor");
    process::set_umask(0o022);
    let Ok(handshake) = process::adopt_fd(spawn::HANDSHAKE_FD) else { process::exit_now(2) };
    process::close_all_but(&[handshake.as_fd()]);
    process::raise_file_size();
    let settled = settle_in(&handshake);
    if !handshake::wait_go(&handshake).unwrap_or(false) {
        process::exit_now(0);
    }
    match settled.and_then(|hierarchies| get_ready(dir, hierarchies)) {
        Ok(monitor) => monitor.run(handshake),
        Err(message) => {
            let failure = Failure { stage: FailedStage::Create, message };
            conclude(dir, not_run(failure), Some(&handshake));
        }
    }
    process::exit_now(0)
}

/// Enters the monitors' cgroups: from here on nothing that is done to the agent's service is done to this process.
fn settle_in(handshake: &OwnedFd) -> Result<Hierarchies, String> {
    process::drop_groups().map_err(|e| format!("supplementary groups cannot be dropped: {e}"))?;
    let home = handshake::receive_home(handshake).map_err(|e| format!("the agent cannot be understood: {e}"))?;
    let Some((cgroup_root, hierarchies)) = home else { process::exit_now(0) };
    hierarchies.join_monitors_v1(&cgroup_root).map_err(|e| chain(&e))?;
    Ok(hierarchies)
}

/// What has to work before anything is created.
fn get_ready(dir: &Path, hierarchies: Hierarchies) -> Result<Monitor, String> {
    let LaunchFile { launch, .. } = LaunchFile::read(dir).map_err(|e| format!("launch.json cannot be used: {e}"))?;
    let children = ChildEvents::new().map_err(|e| format!("no signalfd: {e}"))?;
    Ok(Monitor { launch, hierarchies, children, ended: Children::default() })
}

struct Monitor {
    launch: Launch,
    hierarchies: Hierarchies,
    children: ChildEvents,
    ended: Children,
}

/// Whose end is waited for, and what is known of it.
#[derive(Default)]
struct Children {
    creator: Option<i32>,
    creator_end: Option<Ended>,
    init: Option<i32>,
    init_end: Option<Ended>,
}

/// A container whose program runs.
struct Running {
    init: ProcessRef,
    started_at: Wall,
    warnings: Vec<String>,
    user: Option<LinuxUser>,
}

impl Monitor {
    fn run(mut self, handshake: OwnedFd) {
        let opened = Output::open(&self.launch);
        let (mut output, outputs) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let message = format!("log file {} cannot be opened: {error}", self.launch.log.path.display());
                let failure = Failure { stage: FailedStage::Create, message };
                return conclude(&self.launch.dir, not_run(failure), Some(&handshake));
            }
        };
        match self.start(outputs) {
            Err(failure) => {
                self.clean_up(&mut output);
                output.log.close();
                conclude(&self.launch.dir, not_run(failure), Some(&handshake));
            }
            Ok(running) => {
                report_start(&self.launch.dir, &running, &handshake);
                drop(handshake);
                let started_at = running.started_at;
                drop(running);
                let status = self.supervise(&mut output);
                let finished_at = Wall(clock::realtime_ns());
                let finished_mono = Some(Mono(clock::boottime_ns()));
                let oom_killed = self.clean_up(&mut output);
                output.log.close();
                let (version, boot_id) = (record::VERSION, boot_id());
                let exit = ExitRecord {
                    version,
                    boot_id,
                    status,
                    oom_killed,
                    started_at,
                    finished_at,
                    finished_mono,
                    failure: None,
                };
                conclude(&self.launch.dir, exit, None);
            }
        }
    }

    /// From nothing to a program that runs.
    fn start(&mut self, outputs: [OwnedFd; 2]) -> Result<Running, Failure> {
        let create = |message: String| Failure { stage: FailedStage::Create, message };
        let leaf = self.launch.cgroup.leaf_path();
        let begun = self.hierarchies.begin_leaf(&self.launch.cgroup);
        let mut warnings = begun.map_err(|e| create(chain(&e)))?;
        let birthplace = self.hierarchies.birthplace(&leaf).map_err(|e| create(chain(&e)))?;
        let (line, creators_line) = socket::pair().map_err(|e| create(format!("no socket pair: {e}")))?;
        let [stdout, stderr] = outputs;
        let order = Order { launch: &self.launch, hierarchies: &self.hierarchies, stdout, stderr, line: creators_line };
        let forked = spawn::fork_into(birthplace.as_ref().map(|fd| fd.as_fd()), || creator::run(order));
        let child = forked.map_err(|e| create(format!("the creator cannot be forked: {e}")))?;
        self.ended.creator = Some(child.pid);
        // Beside the creator's mounts. If it fails, the line ends, and with it the creator.
        self.hierarchies.complete_leaf(&self.launch.cgroup).map_err(|e| create(chain(&e)))?;
        let restricted = devices::restrict(&self.hierarchies, &leaf);
        Enclosed { without_devices: restricted.is_err() }.send(&line);
        if let Err(error) = restricted {
            warnings.push(format!(
                "no device rules can be set ({error}): the container has no CAP_MKNOD and a nodev root instead"
            ));
        }
        let told = self.listen(line);
        warnings.extend(told.warnings.iter().cloned());
        self.judge(told, warnings)
    }

    /// Hears the creator out: until init has exec'd or nobody is left to speak.
    fn listen(&mut self, line: OwnedFd) -> Told {
        let mut told = Told::default();
        loop {
            let ready = process::wait_readable([Some(line.as_fd()), Some(self.children.as_fd())], None);
            let [spoken, child_ended] = ready.unwrap_or([true, true]);
            if spoken {
                match Progress::receive(&line) {
                    Ok(Some(progress)) => told.take(progress),
                    Ok(None) | Err(_) => return told,
                }
            } else if child_ended {
                // Only once the line is quiet: what a child said before its end is heard first.
                self.ended.init = told.init.map(|init| init.pid.0);
                self.reap(None);
                if self.ended.creator_end.is_some() && !told.started {
                    // It may have spoken between our look and its end.
                    while let Ok(Some(progress)) = Progress::receive_now(&line) {
                        told.take(progress);
                    }
                    if !told.started {
                        return told;
                    }
                }
            }
        }
    }

    fn judge(&mut self, told: Told, warnings: Vec<String>) -> Result<Running, Failure> {
        self.ended.init = told.init.map(|init| init.pid.0);
        if let Some(failure) = told.failure() {
            return Err(failure);
        }
        match told.init {
            Some(init) if told.started => {
                Ok(Running { init, started_at: Wall(clock::realtime_ns()), warnings, user: told.user })
            }
            init => {
                self.await_creator();
                let how = match self.ended.creator_end {
                    Some(Ended::Signal(signal)) => format!("it was killed by signal {signal}"),
                    Some(Ended::Code(code)) => format!("it ended with code {code}"),
                    None => "it fell silent".to_owned(),
                };
                let stage = if init.is_some() { FailedStage::Run } else { FailedStage::Create };
                Err(Failure { stage, message: format!("the container could not be created: {how}") })
            }
        }
    }

    /// Its line may be seen to end before it is.
    fn await_creator(&mut self) {
        for _ in 0..REMOVE_TRIES {
            self.reap(None);
            if self.ended.creator_end.is_some() {
                return;
            }
            let _ = process::wait_readable([Some(self.children.as_fd())], Some(LOOK_LAST));
        }
    }

    /// Logs until init ends.
    fn supervise(&mut self, output: &mut Output) -> ExitStatus {
        let mut release_at = Some(Mono(clock::boottime_ns()) + CODE_NEEDED);
        loop {
            if let Some(end) = self.ended.init_end {
                return match end {
                    Ended::Code(code) => ExitStatus::Code(code),
                    Ended::Signal(signal) => ExitStatus::Signal(signal),
                };
            }
            let left = release_at.map(|at| at.since(Mono(clock::boottime_ns())));
            self.turn(output, left);
            if left.is_some_and(|left| left.is_zero()) {
                release_at = None;
                if let Ok(code) = Code::of_self() {
                    code.release();
                }
            }
        }
    }

    /// One wait for output or an ended child.
    fn turn(&mut self, output: &mut Output, timeout: Option<Duration>) {
        let [out, err] = output.sources();
        let fds = [out, err, Some(self.children.as_fd())];
        let [first, second, child_ended] = process::wait_readable(fds, timeout).unwrap_or([true; 3]);
        output.pump([first, second]);
        if child_ended {
            self.reap(Some(&mut output.log));
        }
        output.log.compress();
    }

    fn reap(&mut self, mut log: Option<&mut CriLog>) {
        self.children.clear();
        while let Some((pid, end)) = spawn::reap_any() {
            if Some(pid) == self.ended.init {
                self.ended.init_end = Some(end);
            } else if Some(pid) == self.ended.creator {
                self.ended.creator_end = Some(end);
            } else if let Some(log) = log.as_deref_mut() {
                log.compressor_ended(pid);
            }
        }
    }

    /// Kills what is left in the container's cgroup, takes the last output, and removes the cgroup. True if the kernel
    /// killed something there for want of memory.
    fn clean_up(&mut self, output: &mut Output) -> bool {
        let leaf = self.launch.cgroup.leaf_path();
        let mut pause = LOOK_FIRST;
        while self.hierarchies.populated(&leaf) {
            // A failure shows in that the cgroup stays populated.
            let _ = self.hierarchies.kill(&leaf);
            self.turn(output, Some(pause));
            pause = (pause * 2).min(LOOK_LAST);
        }
        output.finish();
        let oom_killed = self.hierarchies.oom_kills(&leaf) > 0;
        let mut pause = LOOK_FIRST;
        for _ in 0..REMOVE_TRIES {
            // The creator's end tears a namespace down and keeps the cgroup busy meanwhile.
            self.reap(None);
            if self.hierarchies.remove(&leaf).is_ok() {
                break;
            }
            let _ = self.hierarchies.kill(&leaf);
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK_LAST);
        }
        self.reap(None);
        oom_killed
    }
}

fn report_start(dir: &Path, running: &Running, handshake: &OwnedFd) {
    let Running { init, started_at, warnings, user } = running;
    let (version, boot_id) = (record::VERSION, boot_id());
    let started = Started {
        version,
        boot_id,
        init: *init,
        started_at: *started_at,
        warnings: warnings.clone(),
        user: user.clone(),
    };
    // Where the run dir is gone, the agent still hears of it.
    let _ = record::write_started(dir, &started);
    let report =
        Report::Started { init: *init, started_at: *started_at, warnings: warnings.clone(), user: user.clone() };
    handshake::send_report(handshake, &report);
}

fn not_run(failure: Failure) -> ExitRecord {
    ExitRecord {
        version: record::VERSION,
        boot_id: boot_id(),
        status: ExitStatus::Code(128),
        oom_killed: false,
        started_at: Wall::EPOCH,
        finished_at: Wall(clock::realtime_ns()),
        finished_mono: Some(Mono(clock::boottime_ns())),
        failure: Some(failure),
    }
}

/// The record first: the report only says that it is there.
fn conclude(dir: &Path, exit: ExitRecord, handshake: Option<&OwnedFd>) {
    if record::write_exit(dir, &exit).is_err() {
        // The run dir was wiped: the agent rewrites its records there, and finds this one.
        let again = std::fs::create_dir_all(dir).and_then(|()| record::write_exit(dir, &exit));
        let _: io::Result<()> = again;
    }
    if let (Some(handshake), Some(Failure { stage, message })) = (handshake, exit.failure) {
        handshake::send_report(handshake, &Report::Failed { stage, message });
    }
}

fn boot_id() -> BootId {
    BootId::new(&clock::boot_id().unwrap_or_default())
}
