//! From a configuration to a running loop: ownership, checks, adoption, and only then the socket.

use super::addresses::{self, Addresses};
use super::adopt::{self, Adoption};
use super::cluster::{self, ClusterLink};
use super::manifests::Manifests;
use super::monitors::MonitorSet;
use super::node::{self, Node};
use super::notify::Notifier;
use super::paths::Paths;
use super::preflight::{self, Ownership, PreflightError};
use super::preloads::Preloads;
use super::run::{Agent, Token};
use super::worker::Workers;
use super::{logger, records};
use crate::apiserver::{Client, ClientError};
use crate::cluster::events::Recorder;
use crate::config::Config;
use crate::config::value::Network;
use crate::error::chain;
use crate::image::store::{Store, StoreError};
use crate::model::id::BootId;
use crate::net::node::Watch;
use crate::net::{Bridge, NetError};
use crate::reconcile::event::Event;
use crate::reconcile::state::{NodeState, Settings};
use crate::runtime::cgroup::{CgroupError, Hierarchies};
use crate::runtime::host_facts::{self, HostFacts, HostFactsError};
use crate::runtime::resources::Policy;
use crate::runtime::run_dir::{self, RunDirError};
use crate::server::listen::{Server, ServerError};
use crate::server::query::Asker;
use crate::sys::child::SelfImage;
use crate::sys::file::Lock;
use crate::sys::memory::Code;
use crate::sys::poll::{Poller, Waker};
use crate::sys::signal::Signals;
use crate::sys::watch::Watcher;
use crate::sys::{clock, process};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
    #[error(transparent)]
    Host(#[from] HostFactsError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error("cannot wait for the stop-pods that holds {path}")]
    StopMarker { path: PathBuf, source: io::Error },
}

impl StartError {
    /// A kubeconfig that cannot be used is a wrong configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Api(_) => 2,
            StartError::Preflight(_)
            | StartError::System { .. }
            | StartError::Host(_)
            | StartError::Cgroup(_)
            | StartError::RunDir(_)
            | StartError::Net(_)
            | StartError::Store(_)
            | StartError::Server(_)
            | StartError::StopMarker { .. } => 1,
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StartError::Preflight(error) => error.hint(),
            StartError::System { .. }
            | StartError::Host(_)
            | StartError::Cgroup(_)
            | StartError::RunDir(_)
            | StartError::Net(_)
            | StartError::Store(_)
            | StartError::Server(_)
            | StartError::Api(_)
            | StartError::StopMarker { .. } => None,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// Runs the agent until it is told to leave.
pub fn run(config: Config) -> Result<(), StartError> {
    // INVARIANT: signals are blocked before the first thread, the logger's, starts.
    let signals = Signals::take_over().map_err(system("take over signals"))?;
    process::raise_open_files();
    logger::init(config.verbosity).map_err(system("start the logger"))?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    let client = cluster::client(&config)?;
    warn_of_unused_cni(&config);
    preflight::warn_of_foreign_mount_namespace();
    let paths = Paths::of(&config);
    let ownership = own(&config, &paths)?;
    wait_for_stop_pods(&paths)?;
    let run = paths.run.clone();
    let mut agent = build(config, paths, signals, ownership, client)?;
    agent.run().map_err(system("wait for events"))?;
    // INVARIANT: the locks are given back last: the next agent may not find a run dir that is just being released.
    let _ownership = agent.leave();
    if let Err(error) = run_dir::release(&run) {
        log::warn!("{}", chain(&error));
    }
    Ok(())
}

fn own(config: &Config, paths: &Paths) -> Result<Ownership, StartError> {
    preflight::refuse_beside_kubelet(&config.cgroup_root)?;
    let ownership = preflight::take_ownership(paths)?;
    make_run_dir(paths)?;
    Ok(ownership)
}

/// The run dir and what is always in it; also after somebody wiped it.
pub(super) fn make_run_dir(paths: &Paths) -> Result<(), StartError> {
    preflight::make_directory(&paths.run, 0o711)?;
    run_dir::prepare(&paths.run)?;
    for dir in [paths.run_pods(), paths.run_containers()] {
        preflight::make_directory(&dir, 0o700)?;
    }
    Ok(())
}

/// A stop-pods that is under way is waited for; after it the marker goes, and pods may start.
fn wait_for_stop_pods(paths: &Paths) -> Result<(), StartError> {
    let path = paths.stop_marker();
    if !path.exists() {
        return Ok(());
    }
    let wrong = |source| StartError::StopMarker { path: path.clone(), source };
    let _held = match Lock::try_take(&path).map_err(wrong)? {
        Some(lock) => lock,
        None => {
            log::info!("a stop-pods is under way: waiting until it is done");
            Lock::wait(&path).map_err(wrong)?
        }
    };
    std::fs::remove_file(&path).map_err(wrong)
}

fn build(
    config: Config,
    paths: Paths,
    signals: Signals,
    ownership: Ownership,
    client: Option<Client>,
) -> Result<Agent, StartError> {
    let node = Arc::new(make_node(config, paths)?);
    let now = node::now();
    let mut adoption = adopt::adopt(&node, now);

    let poller = Poller::new().map_err(system("make a poller"))?;
    let waker = Waker::new().map_err(system("make a waker"))?;
    let manifest_watch = Watcher::new().map_err(system("watch the manifests"))?;
    let preload_watch = Watcher::new().map_err(system("watch the preloaded images"))?;
    let run_watch = Watcher::new().map_err(system("watch the run directory"))?;
    // The run dir is a tmpfs: arming does not block.
    run_watch.armer().arm(&node.paths.run).map_err(system("watch the run directory"))?;
    let address_watch = Watch::open()
        .inspect_err(|error| log::warn!("changes of the host's addresses will not be noticed: {error}"))
        .ok();
    let (sender, queries) = channel();
    let core = NodeState::new(Settings {
        max_restart_period: node.config.max_restart_period,
        max_starts: usize::try_from(node.host.cpus).unwrap_or(1),
        max_pods: usize::try_from(node.config.max_pods).unwrap_or(usize::MAX),
        boot: node.boot.clone(),
    });
    let mut agent = Agent {
        core,
        events: Recorder::new(node.name.clone()),
        manifests: Manifests::new(&node, manifest_watch, std::mem::take(&mut adoption.kept), now),
        preloads: Preloads::new(preload_watch),
        monitors: MonitorSet::default(),
        addresses: Addresses::new(address_watch),
        sandboxes: BTreeMap::new(),
        left_alone: std::mem::take(&mut adoption.left_alone),
        workers: Workers::new(waker.clone()),
        facts: Vec::new(),
        poller,
        signals,
        run_watch,
        server: Server::start(&node.paths.run, Asker::new(sender, waker.clone()))?,
        waker,
        queries,
        notifier: Notifier::from_env(),
        leaving: None,
        node_files: None,
        cluster: client.map(|client| ClusterLink::new(&node, client)),
        ownership,
        started: now.mono,
        ready_said: false,
        last_rescan: now.mono,
        code: Code::of_self().unwrap_or_default(),
        release_at: Some(now.mono),
        node,
    };
    agent.watch_all().map_err(system("watch descriptors"))?;
    if agent.cluster.is_some() {
        agent.events.begin_posting(now);
    }
    agent.take_adoption(adoption)?;
    agent.begin(now);
    agent.tell_start(now);
    agent.sweep_leavings(now);
    agent.scan_preloads(now);
    agent.scan_manifests(now);
    agent.look_at_addresses(now);
    agent.look_at_node_files(now);
    Ok(agent)
}

fn make_node(config: Config, paths: Paths) -> Result<Node, StartError> {
    let boot = BootId::new(&clock::boot_id().map_err(system("read the boot id"))?);
    let host_name = host_facts::kernel_hostname().map_err(system("read the host's name"))?;
    let given = config.hostname_override.as_ref().map(|name| name.as_str());
    let name = preflight::node_name(&paths, given, &host_name)?;
    let hierarchies = Hierarchies::detect()?;
    for warning in hierarchies.prepare_roots(&config.cgroup_root)? {
        log::warn!("{warning}");
    }
    preflight::make_directory(&paths.container_logs, 0o755)?;
    preflight::make_directory(&paths.pod_logs, 0o755)?;
    let policy = Policy {
        cpu_cfs_quota: config.cpu_cfs_quota,
        cpu_cfs_quota_period: config.cpu_cfs_quota_period,
        pod_pids_limit: config.pod_pids_limit,
    };
    log::info!("pinlet {} on node {name}", env!("CARGO_PKG_VERSION"));
    Ok(Node {
        bridge: make_bridge(&config)?,
        store: Store::open(&paths.images())?,
        host: HostFacts::read()?,
        me: SelfImage::open().map_err(system("open the running binary"))?,
        config,
        paths,
        name,
        boot,
        policy,
        hierarchies,
    })
}

/// One warning where somebody has set CNI up and expects it to be used.
fn warn_of_unused_cni(config: &Config) {
    let is_conf = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("conf" | "conflist" | "json"))
    };
    let mut entries = std::fs::read_dir(&config.cni_conf_dir).into_iter().flatten().flatten();
    if let (Network::Auto, Some(entry)) = (config.network, entries.find(|entry| is_conf(&entry.path()))) {
        log::warn!(
            "{} is not used: CNI is not built yet; pods get the built-in bridge (--network bridge says so in silence)",
            entry.path().display()
        );
    }
}

/// `auto` is the built-in bridge until CNI is built.
fn make_bridge(config: &Config) -> Result<Option<Bridge>, StartError> {
    match config.network {
        Network::None => Ok(None),
        Network::Auto | Network::Bridge => {
            Ok(Some(Bridge::new(&config.bridge_name, config.pod_cidr.address, config.pod_cidr.prefix)?))
        }
    }
}

impl Agent {
    fn watch_all(&self) -> io::Result<()> {
        self.poller.add(&self.signals, Token::Signals.pack())?;
        self.poller.add(&self.waker, Token::Wake.pack())?;
        self.poller.add(&self.manifests.watcher, Token::Manifests.pack())?;
        self.poller.add(self.preloads.watcher(), Token::Preloads.pack())?;
        self.poller.add(&self.run_watch, Token::RunDir.pack())?;
        match self.addresses.watch() {
            Some(watch) => self.poller.add(watch, Token::Addresses.pack()),
            None => Ok(()),
        }
    }

    fn take_adoption(&mut self, adoption: Adoption) -> Result<(), StartError> {
        for monitor in adoption.monitors {
            self.adopt_monitor(monitor).map_err(system("watch an adopted monitor"))?;
        }
        self.facts.push(Event::NodeAddress(addresses::node_address(&self.node)));
        for record in adoption.sandboxes {
            self.sandboxes.insert(record.uid.clone(), record);
        }
        for pod in adoption.pods {
            if let Some(IpAddr::V4(address)) = pod.sandbox.and_then(|s| s.ip) {
                self.addresses.adopt(pod.pod.uid.clone(), address);
            }
            log::info!("adopted pod {} (UID {})", pod.pod.key, pod.pod.uid);
            self.facts.push(Event::Adopted(Box::new(pod)));
        }
        Ok(())
    }

    /// What is kept durably of a pod, as it stands.
    pub(super) fn record_of(&self, uid: &crate::model::id::PodUid) -> Option<records::PodRecord> {
        let state = self.core.pod(uid)?;
        Some(records::PodRecord::new(&state.pod, state.memo(&self.node.boot)))
    }
}
