//! The real core on a faulty node in virtual time.
//!
//! Each run is made from one seed: which faults there are, what the user does, what is slow, lost or repeated, and when
//! the agent is killed, between any two actions too. While faults happen nothing that must never happen may happen
//! (safety); when they stop, all pods must come to what their manifests say, and stay there without an action
//! (liveness). `SIM_SEED=n` repeats one run, `SIM_RUNS=n` makes more of them.

#[path = "sim/checks.rs"]
mod checks;
#[path = "sim/effects.rs"]
mod effects;
#[path = "sim/exhaustive.rs"]
mod exhaustive;
#[path = "sim/pods.rs"]
mod pods;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/world.rs"]
mod world;

use pinlet::model::pod::RestartPolicy;
use pinlet::reconcile::event::{AdoptedPod, AdoptedSandbox, Event};
use pinlet::reconcile::memo::adopt_container;
use pinlet::reconcile::plan::MAX_ACTIONS;
use pinlet::reconcile::state::{NodeState, Sandbox, Settings};
use pinlet::reconcile::{apply, reconcile, status};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use world::{Faults, MILLI, ProcState, SECOND, What, World};

/// Runs of `cargo test`: some seconds in a debug build.
const DEFAULT_RUNS: u64 = 150;
const RESCAN: u64 = 20 * SECOND;
/// After the faults: the longest back-off, the longest life of a container that ends, and the ways between.
const TIME_TO_CONVERGE: u64 = 3000 * SECOND;

#[test]
fn pods_come_to_what_their_manifests_say_and_nothing_forbidden_happens_on_the_way() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("SIM_SEED") {
        run(seed);
        return;
    }
    let (mut starts, mut removals) = (0, 0);
    for seed in 0..number("SIM_RUNS").unwrap_or(DEFAULT_RUNS) {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(checks) => {
                starts += checks.starts;
                removals += checks.removals;
            }
            Err(panic) => {
                eprintln!("failed with SIM_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    assert!(starts > 1000 && removals > 100, "the runs exercise something: {starts} starts, {removals} removals");
}

fn run(seed: u64) -> checks::Checks {
    let mut world = World::new(seed);
    world.schedule(0, What::StartAgent);
    for _ in 0..3 {
        world.chaos();
    }
    world.schedule(SECOND, What::Chaos);
    let faulty_until = world.rng.between(100, 900) * SECOND;
    world.go_on(faulty_until);
    world.heal();
    let end = world.time + TIME_TO_CONVERGE;
    world.go_on(end);
    world.check_converged();
    world.checks
}

impl World {
    fn go_on(&mut self, until: u64) {
        while let Some(what) = self.next(until) {
            self.happen(what);
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::StartAgent => self.start_agent(),
            What::Deliver(event) => self.deliver(event),
            What::Effect(action) => {
                if let Some(event) = self.effect(&action) {
                    self.deliver(event);
                }
            }
            What::Create(id) => self.create(&id),
            What::Exit(id, code) => self.exit(&id, code),
            What::MonitorDies(id) => self.monitor_dies(&id),
            What::Wake => self.turn(),
            What::Rescan => self.rescan(),
            What::Chaos => {
                self.chaos();
                let pause = self.rng.between(0, 20_000) * MILLI;
                self.schedule(pause, What::Chaos);
            }
        }
    }

    fn start_agent(&mut self) {
        if self.agent.is_some() {
            return;
        }
        self.note(format!("agent starts, marker {}", self.marker));
        self.checks.agent_started();
        self.agent = Some(NodeState::new(Settings {
            max_restart_period: Duration::from_secs(300),
            max_starts: 2,
            max_pods: 110,
            boot: self.boot_id(),
        }));
        self.take_in(Event::NodeAddress("192.0.2.2".parse().ok()));
        self.take_in(Event::StopMarker(self.marker));
        for (uid, dir) in self.dirs.clone() {
            let memo = self.memo(&uid).filter(|m| m.hash == dir.pod.hash);
            let mut containers = Vec::new();
            for container in &dir.pod.containers {
                let kept = memo.as_ref().and_then(|m| {
                    let container = m.containers.iter().find(|c| c.name == container.name)?;
                    Some((m, container))
                });
                let found = self.found(&uid, &container.name);
                let adopted = adopt_container(&container.name, kept, found, &self.boot_id(), self.now());
                self.checks.adopted(&uid, &adopted, dir.pod.restart_policy, self.now().mono);
                containers.push(adopted);
            }
            let sandbox = self.sandboxes.contains(&uid).then_some(AdoptedSandbox { ip: None });
            let (created, started) = (self.now().wall, None);
            let (pod, ip) = (Arc::new(dir.pod), memo.and_then(|m| m.ip));
            self.take_in(Event::Adopted(Box::new(AdoptedPod { pod, created, started, ip, sandbox, containers })));
        }
        self.procs.retain(|_, p| !matches!(p.state, ProcState::Intent));
        self.turn();
        let first_scan = self.rng.between(0, 3_000) * MILLI;
        self.schedule(first_scan, What::Rescan);
    }

    /// Looks at everything again, as the loop does: what was lost is made good by it.
    fn rescan(&mut self) {
        if self.agent.is_none() {
            return;
        }
        self.take_in(self.desired());
        let ids: Vec<_> = self.procs.keys().cloned().collect();
        for event in ids.iter().filter_map(|id| self.container_event(id)).collect::<Vec<_>>() {
            self.take_in(event);
        }
        self.turn();
        self.schedule(RESCAN, What::Rescan);
    }

    fn deliver(&mut self, event: Event) {
        self.take_in(event);
        // The loop drains its sources before it decides.
        if self.rng.chance(80) {
            self.turn();
        } else {
            let delay = self.rng.between(0, 5) * MILLI;
            self.schedule(delay, What::Wake);
        }
    }

    fn take_in(&mut self, mut event: Event) {
        let now = self.now();
        if let Event::Exited { termination, .. } = &mut event {
            termination.finished_mono = now.mono;
        }
        self.check_event(&event);
        let Some(mut state) = self.agent.take() else { return };
        let known: Vec<_> = state.pods().map(|p| (p.pod.uid.clone(), p.pod.hash.clone())).collect();
        match &event {
            Event::Desired(pods) => {
                let gone = |(uid, hash): &(_, _)| !pods.iter().any(|p| p.uid == *uid && p.hash == *hash);
                self.checks.unwanted(known.into_iter().filter(gone).map(|(uid, _)| uid), self.time);
            }
            Event::StopMarker(true) => self.checks.marked(known.into_iter().map(|(uid, _)| uid), self.time),
            Event::StopMarker(false) => self.checks.resumed(),
            Event::Adopted(adopted) if state.stop_marker() => {
                self.checks.marked(std::iter::once(adopted.pod.uid.clone()), self.time);
            }
            _ => {}
        }
        apply(&mut state, event, now);
        self.agent = Some(state);
    }

    fn turn(&mut self) {
        let now = self.now();
        let Some(mut state) = self.agent.take() else { return };
        let plan = reconcile(&mut state, now);
        let again = reconcile(&mut state, now);
        if self.rng.chance(5) {
            for pod in state.pods() {
                check_object(pod, &state, now);
            }
        }
        self.agent = Some(state);
        if plan.actions.len() < MAX_ACTIONS && !again.actions.is_empty() {
            self.fail(&format!("reconciling again yields {:?}", again.actions));
        }
        let wake_at = again.wake_at.map(|at| at.since(now.mono));
        for action in plan.actions {
            if self.rng.chance(self.faults.agent_dies_between_actions) && self.rng.chance(10) {
                self.kill_agent();
                return;
            }
            self.execute(action);
        }
        if let Some(delay) = wake_at {
            self.schedule(u64::try_from(delay.as_nanos()).expect("a short wait"), What::Wake);
        }
    }

    /// What users, power and other programs do.
    fn chaos(&mut self) {
        let file = *self.rng.pick(&["web", "db", "job"]).expect("three files");
        match self.rng.below(20) {
            0..=4 => self.write_file(file),
            5..=6 => {
                self.note(format!("rm {file}"));
                if let Some(pod) = self.files.remove(file) {
                    self.removed_files.insert(file.to_owned(), pod);
                }
            }
            7..=9 => {
                if let Some(pod) = self.removed_files.remove(file) {
                    self.note(format!("{file} is put back"));
                    self.files.insert(file.to_owned(), pod);
                }
            }
            10..=11 => {
                self.marker = !self.marker;
                self.note(format!("marker {}", self.marker));
                self.deliver(Event::StopMarker(self.marker));
                return;
            }
            12..=13 => self.kill_agent(),
            14 => self.reboot(),
            15 => self.step_wall(),
            16 => self.deliver(Event::ImagesChanged),
            17 => self.lose_sandbox(),
            _ => return,
        }
        if self.rng.chance(80) && self.agent.is_some() {
            self.deliver(self.desired());
        }
    }

    fn write_file(&mut self, file: &str) {
        self.version += 1;
        let version = format!("{file}-{}", self.version);
        let same_uid = self.files.get(file).filter(|_| self.rng.chance(20)).map(|p| p.uid.as_str().to_owned());
        let policy = *self
            .rng
            .pick(&[RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never])
            .expect("three policies");
        let containers = usize::try_from(self.rng.between(1, 2)).expect("one or two");
        let pod = pods::pod(file, same_uid.as_deref().unwrap_or(&version), &version, policy, containers);
        self.note(format!("{file} is now {} {version} {policy:?}", pod.uid));
        self.removed_files.remove(file);
        self.files.insert(file.to_owned(), pod);
    }

    /// The run dir is wiped, and the agent finds out at once.
    fn lose_sandbox(&mut self) {
        let ready = |state: &NodeState| {
            let pod = state.pods().find(|p| p.sandbox == Sandbox::Ready && p.job.is_none())?;
            Some(pod.pod.uid.clone())
        };
        if let Some(uid) = self.agent.as_ref().and_then(ready) {
            self.note(format!("sandbox of {uid} is wiped"));
            self.sandboxes.remove(&uid);
            self.take_in(Event::SandboxLost { uid });
            self.turn();
        }
    }

    /// No more faults: the agent is up, the marker is gone, and every file is there to be read.
    fn heal(&mut self) {
        self.note("no more faults".to_owned());
        self.faults = Faults::default();
        self.forget_chaos();
        self.marker = false;
        if self.agent.is_none() {
            self.start_agent();
        }
        self.deliver(Event::StopMarker(false));
        self.deliver(Event::ImagesChanged);
        self.deliver(self.desired());
    }

    fn check_converged(&mut self) {
        let wanted: Vec<_> = self.files.values().map(|p| p.uid.clone()).collect();
        if self.dirs.len() != wanted.len() || !wanted.iter().all(|uid| self.dirs.contains_key(uid)) {
            self.fail(&format!("directories {:?}, wanted {wanted:?}", self.dirs.keys().collect::<Vec<_>>()));
        }
        let Some(state) = self.agent.clone() else { self.fail("no agent") };
        if state.pods().count() != wanted.len() || state.waiting().count() != 0 {
            self.fail("the agent knows other pods than it should");
        }
        for pod in self.files.values() {
            let Some(known) = state.pod(&pod.uid).filter(|p| p.is(pod)) else { self.fail("a pod is missing") };
            for container in &known.containers {
                let alive = self.procs.iter().filter(|(_, p)| {
                    p.uid == pod.uid && p.name == container.name && matches!(p.state, ProcState::Alive)
                });
                let alive: Vec<_> = alive.map(|(id, _)| id).collect();
                match (container.running(), container.is_done()) {
                    (Some(running), false) if alive == [&running.id] => {}
                    (None, true) if alive.is_empty() && pod.restart_policy != RestartPolicy::Always => {}
                    other => self.fail(&format!("{} {}: {other:?}, {alive:?}", pod.uid, container.name)),
                }
            }
            // One that was wiped under a running pod comes back with its next start.
            let there = self.sandboxes.contains(&pod.uid);
            if there != (known.sandbox == Sandbox::Ready) || there && known.is_finished() {
                self.fail("a sandbox is there that should not be, or is not known");
            }
        }
        self.check_quiet(state);
    }

    fn check_quiet(&mut self, mut state: NodeState) {
        apply(&mut state, self.desired(), self.now());
        for id in self.procs.keys() {
            if let Some(event) = self.container_event(id) {
                apply(&mut state, event, self.now());
            }
        }
        let plan = reconcile(&mut state, self.now());
        if !plan.actions.is_empty() || plan.wake_at.is_some() {
            self.fail(&format!("a converged node is not quiet: {plan:?}"));
        }
    }
}

/// What users are shown makes sense in every state.
fn check_object(pod: &pinlet::reconcile::state::PodState, state: &NodeState, now: pinlet::model::time::Now) {
    let object = status::pod_object(pod, state, now);
    assert_eq!(object.metadata.deletion_timestamp.is_some(), pod.is_terminating());
    let shown = object.status.expect("a status");
    let containers = shown.container_statuses.expect("statuses");
    let phase = shown.phase.expect("a phase");
    let running = containers.iter().filter(|c| c.ready).count();
    for container in &containers {
        let one = container.state.as_ref().expect("a state");
        let states = [one.running.is_some(), one.terminated.is_some(), one.waiting.is_some()];
        assert_eq!(states.iter().filter(|s| **s).count(), 1, "{one:?}");
        assert_eq!(one.running.is_some(), container.ready);
    }
    match phase.as_str() {
        "Pending" | "Running" => {}
        "Succeeded" | "Failed" => assert_eq!(running, 0, "{phase} and running"),
        other => panic!("phase {other}"),
    }
    let ready = shown.conditions.expect("conditions").into_iter().find(|c| c.type_ == "Ready").expect("Ready");
    assert_eq!(ready.status == "True", running == containers.len());
    assert!(!status::reasons(pod, state, now).is_empty() || running == containers.len());
}
