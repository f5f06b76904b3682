//! The creator: forked from the monitor, alive for milliseconds, and the only caller of libcontainer's create.
//!
//! Whatever libcontainer does to its caller (chdir, aborts, namespaces, zombies) ends with it; init becomes the
//! monitor's child. Its mounts are made while the monitor makes the cgroups. INVARIANT: before libcontainer is called nothing is open but descriptors 0 to 2, the container's
//! two pipes and the line to the monitor, since init holds all of it when it looks up its working directory.

use super::cgroup::{CgroupError, Hierarchies};
use super::executor::ReportingExecutor;
use super::launch::Launch;
use super::overlay::{self, OverlayError};
use super::progress::{Enclosed, Progress};
use super::record::FailedStage;
use super::rootfs::{self, RootfsError};
use super::trace;
use super::user::{self, UserError};
use crate::error::chain;
use crate::sys::rooted::Rooted;
use crate::sys::socket::Leaked;
use crate::sys::{bump, file, process};
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::runtime::{Capabilities, Capability, Process, Spec};
use libcontainer::syscall::syscall::SyscallType;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// libcontainer's state lies in `<dir>/<this>`; nobody but it reads it.
pub(super) const STATE: &str = "state";
pub(super) const CONFIG: &str = "config.json";
pub(super) const ROOTFS: &str = "rootfs";

/// What the monitor hands down.
pub(super) struct Order<'a> {
    pub launch: &'a Launch,
    pub hierarchies: &'a Hierarchies,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub line: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    #[error("the root file system cannot be opened")]
    Open(#[source] io::Error),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("config.json cannot be used: {0}")]
    Spec(String),
    #[error("config.json cannot be written")]
    WriteSpec(#[source] io::Error),
    #[error("the container's output cannot be given to its user")]
    Output(#[source] io::Error),
    #[error("failed to create container: {0}")]
    Build(String),
    #[error("failed to start container: {0}")]
    Start(String),
}

impl CreateError {
    fn stage(&self) -> FailedStage {
        match self {
            CreateError::User(_) => FailedStage::Config,
            CreateError::Build(_) | CreateError::Start(_) => FailedStage::Run,
            _ => FailedStage::Create,
        }
    }
}

/// The creator's life. INVARIANT: the process is a fresh fork of a single-threaded one.
pub(super) fn run(order: Order<'_>) -> ! {
    bump::begin();
    process::set_name(c"pinlet-creator");
    process::unblock_signals();
    let line = Leaked::new(order.line);
    // The monitor's end too: when the monitor is gone, that must show.
    process::close_all_but(&[line.as_fd(), order.stdout.as_fd(), order.stderr.as_fd()]);
    trace::report_to(line);
    let outcome = prepare(order.launch, order.hierarchies, line).and_then(|uid| {
        hand_over_output(&order.stdout, &order.stderr, uid)?;
        process::close_all_but(&[line.as_fd(), order.stdout.as_fd(), order.stderr.as_fd()]);
        build(&order.launch.dir, order.stdout, order.stderr, line)
    });
    match outcome {
        Ok(()) => Progress::Started.send(line),
        Err(error) => Progress::Failed(error.stage(), chain(&error)).send(line),
    }
    process::exit_now(0)
}

/// Everything up to the root file system; the user's id.
fn prepare(launch: &Launch, hierarchies: &Hierarchies, line: Leaked) -> Result<u32, CreateError> {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", launch.oom_score_adj.to_string()) {
        // Lowering it takes CAP_SYS_RESOURCE.
        Progress::Warning(format!("oom_score_adj {} cannot be set: {error}", launch.oom_score_adj)).send(line);
    }
    process::new_session_keyring();

    let config = launch.dir.join(CONFIG);
    let mut spec = Spec::load(&config).map_err(|e| CreateError::Spec(chain(&e)))?;
    let mut needed = rootfs::host_paths(&spec);
    needed.extend(launch.layers.iter().cloned());
    needed.extend([launch.upper.clone(), launch.work.clone()]);
    let cgroups = hierarchies.open_v1(&launch.cgroup.leaf_path())?;
    rootfs::enter_namespace(&launch.dir, &launch.volumes, &needed)?;

    let Some(Enclosed { without_devices }) = Enclosed::receive(line) else { process::exit_now(0) };
    cgroups.join()?;
    drop(cgroups);

    let root = launch.dir.join(ROOTFS);
    let parts =
        overlay::Parts { layers: &launch.layers, upper: &launch.upper, work: &launch.work, nodev: without_devices };
    overlay::mount(&root, &parts)?;
    let identity = user::resolve(&Rooted::open(&root).map_err(CreateError::Open)?, &launch.user)?;
    Progress::User(identity.to_text()).send(line);
    rootfs::make_working_dir(&spec, &root)?;
    complete(&mut spec, &identity, without_devices)?;
    let bytes = serde_json::to_vec(&spec).map_err(|e| CreateError::WriteSpec(e.into()))?;
    file::write_atomic(&config, &bytes, 0o600).map_err(CreateError::WriteSpec)?;
    Ok(identity.uid)
}

/// What only the image's own files could tell.
fn complete(spec: &mut Spec, identity: &user::Identity, without_devices: bool) -> Result<(), CreateError> {
    let process = spec.process_mut().as_mut().ok_or_else(|| CreateError::Spec("it has no process".to_owned()))?;
    let user = process.user_mut();
    let mut groups = identity.groups.clone();
    // What the spec adds by itself: supplementary groups of the pod. The group of the user that it was written for,
    // root, is not one of them.
    let given = user.additional_gids().clone().unwrap_or_default();
    groups.extend(given.into_iter().filter(|gid| *gid != user.gid() && !identity.groups.contains(gid)));
    user.set_additional_gids(Some(groups));
    user.set_uid(identity.uid);
    user.set_gid(identity.gid);

    let env = process.env_mut().get_or_insert_with(Vec::new);
    if !env.iter().any(|e| e.strip_prefix("HOME=").is_some_and(|home| !home.is_empty())) {
        env.retain(|e| !e.starts_with("HOME="));
        env.push(format!("HOME={}", identity.home));
    }
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        // libcontainer refuses to work without; an empty one finds nothing.
        env.push("PATH=".to_owned());
    }
    if without_devices {
        drop_mknod(process);
    }
    Ok(())
}

fn drop_mknod(process: &mut Process) {
    let Some(mut held) = process.capabilities().clone() else { return };
    let without = |set: &Option<Capabilities>| {
        set.as_ref().map(|set| set.iter().filter(|c| **c != Capability::Mknod).copied().collect::<Capabilities>())
    };
    let sets = [held.bounding(), held.effective(), held.permitted(), held.inheritable(), held.ambient()].map(without);
    let [bounding, effective, permitted, inheritable, ambient] = sets;
    held.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    held.set_inheritable(inheritable).set_ambient(ambient);
    process.set_capabilities(Some(held));
}

/// So that a program which is not root can open /dev/stdout, as nginx images do.
fn hand_over_output(stdout: &OwnedFd, stderr: &OwnedFd, uid: u32) -> Result<(), CreateError> {
    [stdout, stderr].into_iter().try_for_each(|fd| process::set_owner(fd, uid)).map_err(CreateError::Output)
}

fn build(dir: &Path, stdout: OwnedFd, stderr: OwnedFd, line: Leaked) -> Result<(), CreateError> {
    let builder = ContainerBuilder::new(STATE.to_owned(), SyscallType::default())
        .with_root_path(dir)
        .map_err(|e| CreateError::Build(plain(&e)))?
        .with_executor(ReportingExecutor::new(line, None))
        .with_stdout(stdout)
        .with_stderr(stderr)
        .as_init(dir)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true);
    let mut container: Container = builder.build().map_err(|e| CreateError::Build(plain(&e)))?;
    if let Some(pid) = container.pid() {
        Progress::Created(pid.as_raw()).send(line);
    }
    container.start().map_err(|e| CreateError::Start(plain(&e)))
}

/// libcontainer's chain without the words by which its processes pass an error on.
pub(super) fn plain(error: &LibcontainerError) -> String {
    const WRAPPERS: [&str; 4] = [
        "failed to create container: ",
        "exec process failed with error ",
        "error in executing process : ",
        "intermediate process error ",
    ];
    let text = chain(error);
    let mut rest = text.as_str();
    while let Some(inner) = WRAPPERS.iter().find_map(|w| rest.strip_prefix(w)) {
        rest = inner;
    }
    rest.to_owned()
}
