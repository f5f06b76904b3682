//! A node that can go wrong: what the agent's actions do to it, when, and what the agent hears of it.
//!
//! Everything is kept in order of one virtual time, and every random choice comes from the seed.

use super::checks::Checks;
use super::rng::Rng;
use pinlet::model::id::{BootId, ContainerId, ContainerName, PodUid};
use pinlet::model::observed::{StartFailure, Termination};
use pinlet::model::pod::{RestartPolicy, StaticPod};
use pinlet::model::time::{Mono, Now, Wall};
use pinlet::reconcile::action::Action;
use pinlet::reconcile::event::Event;
use pinlet::reconcile::memo::DurableMemo;
use pinlet::reconcile::state::NodeState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const MILLI: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// Which faults this run has, in percent of the occasions; many runs have most of them off.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub job_fails: u64,
    pub start_fails: u64,
    pub exits: u64,
    pub monitor_dies: u64,
    pub event_lost: u64,
    pub event_twice: u64,
    pub event_late: u64,
    pub agent_dies_between_actions: u64,
    pub ignores_term: u64,
    pub image_missing: u64,
}

impl Faults {
    pub fn of(rng: &mut Rng) -> Faults {
        let mut some = |most: u64| if rng.chance(50) { rng.between(1, most) } else { 0 };
        Faults {
            job_fails: some(40),
            start_fails: some(40),
            exits: some(100),
            monitor_dies: some(30),
            event_lost: some(40),
            event_twice: some(40),
            event_late: some(60),
            agent_dies_between_actions: some(10),
            ignores_term: some(60),
            image_missing: some(60),
        }
    }
}

/// A container's record in the run dir, and its process.
#[derive(Clone, Debug)]
pub struct Proc {
    pub uid: PodUid,
    pub name: ContainerName,
    pub attempt: u32,
    pub state: ProcState,
    pub started_at: Wall,
    pub signalled: Option<u64>,
    pub policy: RestartPolicy,
}

#[derive(Clone, Debug)]
pub enum ProcState {
    /// The intent is written; a process may come.
    Intent,
    Alive,
    Exited(Termination),
    /// The monitor died without a record.
    Lost,
    Failed(StartFailure),
}

#[derive(Debug)]
pub enum What {
    Deliver(Event),
    Effect(Action),
    /// The monitor got its go and makes the container.
    Create(ContainerId),
    Exit(ContainerId, i32),
    MonitorDies(ContainerId),
    Rescan,
    Wake,
    StartAgent,
    Chaos,
}

impl What {
    /// It belongs to one run of the agent and goes with it.
    fn is_the_agents(&self) -> bool {
        match self {
            What::Deliver(_) | What::Effect(_) | What::Rescan | What::Wake => true,
            What::Create(_) | What::Exit(..) | What::MonitorDies(_) | What::StartAgent | What::Chaos => false,
        }
    }
}

/// What the root dir keeps of a pod.
#[derive(Clone, Debug)]
pub struct Dir {
    pub pod: StaticPod,
    pub memo: Option<String>,
}

pub struct World {
    pub rng: Rng,
    pub faults: Faults,
    pub time: u64,
    pub boot: u64,
    boot_time: u64,
    wall_skew: i64,
    pub agenda: BTreeMap<(u64, u64), What>,
    sequence: u64,
    /// The manifests, by file.
    pub files: BTreeMap<String, StaticPod>,
    /// What was in them when they were removed.
    pub removed_files: BTreeMap<String, StaticPod>,
    pub version: u64,
    pub marker: bool,
    pub dirs: BTreeMap<PodUid, Dir>,
    pub sandboxes: BTreeSet<PodUid>,
    pub procs: BTreeMap<ContainerId, Proc>,
    pub agent: Option<NodeState>,
    pub lanes: BTreeMap<PodUid, u64>,
    pub checks: Checks,
    pub trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let faults = Faults::of(&mut rng);
        World {
            rng,
            faults,
            time: 0,
            boot: 0,
            boot_time: 0,
            wall_skew: 0,
            agenda: BTreeMap::new(),
            sequence: 0,
            files: BTreeMap::new(),
            removed_files: BTreeMap::new(),
            version: 0,
            marker: false,
            dirs: BTreeMap::new(),
            sandboxes: BTreeSet::new(),
            procs: BTreeMap::new(),
            agent: None,
            lanes: BTreeMap::new(),
            checks: Checks::default(),
            trace: Vec::new(),
        }
    }

    pub fn now(&self) -> Now {
        let wall = i64::try_from(self.time).expect("a short run") + self.wall_skew;
        Now { mono: Mono(self.time - self.boot_time + 10 * SECOND), wall: Wall(1_700_000_000_000_000_000 + wall) }
    }

    pub fn boot_id(&self) -> BootId {
        BootId::new(&format!("boot-{}", self.boot))
    }

    pub fn note(&mut self, line: String) {
        let seconds = self.time as f64 / SECOND as f64;
        self.trace.push(format!("{seconds:10.3} {line}"));
    }

    pub fn schedule(&mut self, delay: u64, what: What) {
        self.sequence += 1;
        self.agenda.insert((self.time + delay, self.sequence), what);
    }

    /// The next thing to happen, unless it is after `until`.
    pub fn next(&mut self, until: u64) -> Option<What> {
        let ((time, _), _) = self.agenda.first_key_value()?;
        if *time > until {
            self.time = self.time.max(until);
            return None;
        }
        let ((time, _), what) = self.agenda.pop_first()?;
        // After a boot, what was planned for the time of the boot comes late.
        self.time = self.time.max(time);
        Some(what)
    }

    pub fn forget_chaos(&mut self) {
        self.agenda.retain(|_, what| !matches!(what, What::Chaos));
    }

    pub fn step_wall(&mut self) {
        let hour = 3600 * SECOND as i64;
        self.wall_skew += if self.rng.chance(50) { hour } else { -hour };
    }

    pub fn desired(&self) -> Event {
        Event::Desired(self.files.values().map(|p| Arc::new(p.clone())).collect())
    }

    /// kill -9: what its workers had in hand is done or not, and nobody hears of it.
    pub fn kill_agent(&mut self) {
        if self.agent.is_none() {
            return;
        }
        self.note("agent killed".to_owned());
        let (agents, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.agenda).into_iter().partition(|(_, w)| w.is_the_agents());
        self.agenda = others;
        self.lanes.clear();
        for what in agents.into_values() {
            if let What::Effect(action) = what
                && self.rng.chance(30)
            {
                self.effect(&action);
            }
        }
        self.agent = None;
        // A monitor that has not had its go yet makes nothing; its intent stays.
        let rng = &mut self.rng;
        self.agenda.retain(|_, what| !matches!(what, What::Create(_)) || rng.chance(70));
        let down = self.rng.between(100 * MILLI, 40 * SECOND);
        self.schedule(down, What::StartAgent);
    }

    /// Power cut and boot: no process, no run dir, another monotonic clock.
    pub fn reboot(&mut self) {
        self.note("power cut".to_owned());
        self.agent = None;
        let kept = |what: &What| matches!(what, What::Chaos);
        self.agenda = std::mem::take(&mut self.agenda).into_iter().filter(|(_, w)| kept(w)).collect();
        self.lanes.clear();
        self.procs.clear();
        self.sandboxes.clear();
        self.marker = false;
        self.boot += 1;
        self.time += SECOND;
        self.boot_time = self.time;
        self.checks.rebooted();
        self.schedule(5 * SECOND, What::StartAgent);
    }

    pub fn memo(&self, uid: &PodUid) -> Option<DurableMemo> {
        let text = self.dirs.get(uid)?.memo.as_ref()?;
        Some(serde_json::from_str(text).expect("a memo is read"))
    }
}
