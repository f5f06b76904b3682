//! The loop: poll, stamp `Now` once, drain every source, apply, reconcile, execute.
//!
//! It owns all state and touches only tmpfs, procfs, cgroupfs, sockets and pipes: whatever may hang is a job of a
//! worker. Level-triggered: an event only says "look again", and what is lost is found by the next rescan.

use super::addresses::Addresses;
use super::cluster::ClusterLink;
use super::happenings;
use super::journal;
use super::manifests::Manifests;
use super::monitors::MonitorSet;
use super::newer::LeftAlone;
use super::node::{self, Node};
use super::notify::Notifier;
use super::outcome::Outcome;
use super::preflight::Ownership;
use super::preloads::Preloads;
use super::stop::Leaving;
use super::worker::Workers;
use crate::cluster::events::Recorder;
use crate::model::id::PodUid;
use crate::model::time::{Mono, Now};
use crate::reconcile::event::Event;
use crate::reconcile::state::NodeState;
use crate::reconcile::{apply, reconcile};
use crate::runtime::pod_files::Stamp;
use crate::runtime::sandbox::SandboxRecord;
use crate::server::listen::Server;
use crate::server::query::Pending;
use crate::sys::memory::Code;
use crate::sys::poll::{Poller, Waker};
use crate::sys::signal::{Signals, Told};
use crate::sys::watch::Watcher;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Rounds of apply and reconcile in one turn before the sources are looked at again: what executing an action tells at
/// once (a refused address) is folded in without waiting, but never for ever.
const ROUNDS_MAX: usize = 8;
/// After this, systemd is told that the agent is up though the first scan hangs (contract 1).
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// After something has happened, how long until the code that it needed is given back.
const CODE_NEEDED: Duration = Duration::from_secs(2);

/// What the poller reports, packed into its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    Wake,
    Manifests,
    RunDir,
    Preloads,
    Addresses,
    /// A monitor's handshake and its end, by its slot.
    Handshake(u32),
    Ended(u32),
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        let (kind, slot) = match self {
            Token::Signals => (0, 0),
            Token::Wake => (1, 0),
            Token::Manifests => (2, 0),
            Token::RunDir => (3, 0),
            Token::Preloads => (4, 0),
            Token::Addresses => (5, 0),
            Token::Handshake(slot) => (6, slot),
            Token::Ended(slot) => (7, slot),
        };
        (kind << 32) | u64::from(slot)
    }

    fn unpack(number: u64) -> Option<Token> {
        let slot = u32::try_from(number & 0xffff_ffff).unwrap_or(0);
        match number >> 32 {
            0 => Some(Token::Signals),
            1 => Some(Token::Wake),
            2 => Some(Token::Manifests),
            3 => Some(Token::RunDir),
            4 => Some(Token::Preloads),
            5 => Some(Token::Addresses),
            6 => Some(Token::Handshake(slot)),
            7 => Some(Token::Ended(slot)),
            _ => None,
        }
    }
}

/// All state of the agent. Nobody else has any of it.
pub struct Agent {
    pub(super) node: Arc<Node>,
    pub(super) core: NodeState,
    /// What happened, for people: nothing is decided by it.
    pub(super) events: Recorder,
    pub(super) manifests: Manifests,
    pub(super) preloads: Preloads,
    pub(super) monitors: MonitorSet,
    pub(super) addresses: Addresses,
    /// The sandboxes' records, to be written again if the run dir is wiped.
    pub(super) sandboxes: BTreeMap<PodUid, SandboxRecord>,
    pub(super) workers: Workers<Outcome>,
    /// What a newer pinlet runs: neither shown nor started here.
    pub(super) left_alone: LeftAlone,
    /// Facts that wait for the next round of apply.
    pub(super) facts: Vec<Event>,
    pub(super) poller: Poller,
    pub(super) waker: Waker,
    pub(super) signals: Signals,
    pub(super) run_watch: Watcher,
    pub(super) server: Server,
    pub(super) queries: Receiver<Pending>,
    pub(super) notifier: Notifier,
    pub(super) leaving: Option<Leaving>,
    /// How the files stood that pods are given from (hosts, resolv.conf).
    pub(super) node_files: Option<Stamp>,
    /// `None`: this node stands alone.
    pub(super) cluster: Option<ClusterLink>,
    pub(super) started: Mono,
    pub(super) ready_said: bool,
    pub(super) last_rescan: Mono,
    pub(super) code: Code,
    pub(super) ownership: Ownership,
    /// When to give the code back that the last burst needed.
    pub(super) release_at: Option<Mono>,
}

impl Agent {
    /// Ends everything of the agent but its locks.
    pub(super) fn leave(self) -> Ownership {
        self.ownership
    }

    /// Runs until a signal says to leave.
    pub fn run(&mut self) -> io::Result<()> {
        let mut wake_at = None;
        loop {
            let before = node::now().mono;
            let tokens = self.poller.wait(self.timeout(wake_at, before))?;
            let now = node::now();
            self.notifier_turn(now);
            if !tokens.is_empty() {
                self.release_at = Some(now.mono + CODE_NEEDED);
            }
            let idle = tokens.is_empty();
            for token in tokens.into_iter().filter_map(Token::unpack) {
                self.drain(token, now)?;
            }
            // First what is done: a quiet job's outcome keeps its lane until it is taken.
            for outcome in self.workers.finished(now.mono) {
                self.take(outcome, now);
            }
            self.look_at_clock(now);
            wake_at = self.settle(now);
            wake_at = [wake_at, self.serve_cluster(now)].into_iter().flatten().min();
            self.answer_queries(now);
            if self.is_done(now) {
                return Ok(());
            }
            if idle && self.release_at.is_none_or(|at| at <= now.mono) {
                self.release_at = None;
                self.code.release();
            }
        }
    }

    /// Takes in what adoption found, before anything else happens.
    pub(super) fn begin(&mut self, now: Now) {
        for event in std::mem::take(&mut self.facts) {
            apply(&mut self.core, event, now);
        }
    }

    /// Applies what is known and carries out what follows from it; the instant at which to look again.
    fn settle(&mut self, now: Now) -> Option<Mono> {
        let mut wake_at = None;
        let mut changed = false;
        for _ in 0..ROUNDS_MAX {
            for event in std::mem::take(&mut self.facts) {
                if let Some((level, text)) = journal::line(&event, &self.core) {
                    log::log!(level, "{text}");
                }
                let before = happenings::before(&event, &self.core);
                apply(&mut self.core, event, now);
                changed = true;
                self.tell(before.and_after(&self.core), now);
            }
            let plan = reconcile(&mut self.core, now);
            wake_at = plan.wake_at;
            changed |= !plan.actions.is_empty();
            for action in plan.actions {
                self.tell(happenings::of_action(&action, &self.core).into_iter().collect(), now);
                self.execute(action, now);
            }
            if let (true, Some(link)) = (changed, &mut self.cluster) {
                link.touch();
            }
            if self.facts.is_empty() {
                return wake_at;
            }
        }
        Some(wake_at.map_or(now.mono, |at| at.min(now.mono)))
    }

    /// How long nothing needs to be done.
    fn timeout(&self, wake_at: Option<Mono>, now: Mono) -> Option<Duration> {
        let ready = (!self.ready_said).then_some(self.started + READY_DEADLINE);
        let watchdog = self.notifier.watchdog_half().map(|half| now + half);
        let rescan = Some(self.last_rescan + self.node.config.file_check_frequency);
        [
            wake_at,
            ready,
            watchdog,
            rescan,
            self.manifests.wake_at(),
            self.monitors.next_deadline(),
            self.workers.retry_at(),
            self.leaving.as_ref().map(|l| l.deadline),
            self.release_at,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.since(now))
    }

    fn drain(&mut self, token: Token, now: Now) -> io::Result<()> {
        match token {
            Token::Wake => self.waker.clear(),
            Token::Signals => {
                for told in self.signals.drain()? {
                    match told {
                        Told::Leave => self.begin_leaving(now),
                        Told::Rescan => {
                            log::info!("SIGHUP: looking again at everything");
                            self.rescan(now);
                        }
                    }
                }
            }
            Token::Manifests => {
                if self.manifests.watcher.drain() {
                    self.scan_manifests(now);
                }
            }
            Token::Preloads => {
                if self.preloads.drain() {
                    self.scan_preloads(now);
                }
            }
            Token::RunDir => {
                if self.run_watch.drain() {
                    self.look_at_run_dir(now);
                }
            }
            Token::Addresses => {
                if self.addresses.drain() {
                    self.look_at_addresses(now);
                }
            }
            Token::Handshake(slot) => self.hear_monitor(slot, now),
            Token::Ended(slot) => self.monitor_ended(slot, now),
        }
        Ok(())
    }

    /// What is due by the clock alone.
    fn look_at_clock(&mut self, now: Now) {
        if now.mono.since(self.last_rescan) >= self.node.config.file_check_frequency {
            self.rescan(now);
        } else if self.manifests.wake_at().is_some_and(|at| at <= now.mono) {
            self.scan_manifests(now);
        }
        for slot in self.monitors.overdue(now.mono) {
            self.give_up_start(slot);
        }
        if !self.ready_said && (self.manifests.is_settled() || now.mono.since(self.started) >= READY_DEADLINE) {
            self.say_ready();
        }
    }

    /// The cure for every lost event; stats only.
    fn rescan(&mut self, now: Now) {
        self.last_rescan = now.mono;
        self.scan_manifests(now);
        self.look_at_run_dir(now);
        self.look_at_addresses(now);
        self.look_at_node_files(now);
        self.restore_masquerade(now);
        if self.preloads.wanted(&self.core) {
            self.scan_preloads(now);
        }
    }

    fn take(&mut self, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Facts(events) => {
                for event in &events {
                    if let Event::Removed { uid } | Event::SandboxStopped { uid } = event {
                        self.addresses.release(uid);
                        self.sandboxes.remove(uid);
                    }
                }
                self.facts.extend(events);
            }
            Outcome::SandboxMade(record) => {
                self.facts.push(Event::SandboxReady { uid: record.uid.clone(), ip: record.ip });
                self.sandboxes.insert(record.uid.clone(), *record);
            }
            Outcome::StartPrepared(start) => self.go(*start, now),
            Outcome::Scanned { result, .. } => self.take_scan(result, now),
            Outcome::Decoded(decoded) => self.take_decoded(&decoded.0, decoded.1, now),
            Outcome::Preloaded(report) => self.take_preloads(report, now),
            Outcome::ImageMissing { uid, container, problem } => self.image_missing(uid, container, problem),
            Outcome::NodeAddress { address, .. } => self.take_node_address(address),
            Outcome::NodeFiles { stamp, .. } => self.take_node_files(stamp, now),
            Outcome::Cluster(fact) => self.take_cluster_fact(*fact, now),
            Outcome::NodeReadings(readings) => self.take_readings(*readings),
            Outcome::Watched(watched) => self.take_watched(*watched, now),
            Outcome::Nothing => {}
        }
    }

    fn notifier_turn(&self, _now: Now) {
        if self.notifier.watchdog_half().is_some() {
            self.notifier.send("WATCHDOG=1");
        }
    }

    fn say_ready(&mut self) {
        self.ready_said = true;
        let status = if self.manifests.is_settled() {
            "READY=1\nSTATUS=watching the manifests"
        } else {
            "READY=1\nSTATUS=the first look at the manifests hangs; kept manifests run"
        };
        self.notifier.send(status);
    }
}
