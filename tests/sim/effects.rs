//! What the agent's actions do to the node, how containers begin and end, and what the agent hears of it.

use super::pods;
use super::world::{Dir, MILLI, Proc, ProcState, SECOND, What, World};
use pinlet::model::id::{ContainerId, ContainerName, Pid, PodUid, ProcessRef};
use pinlet::model::observed::{
    ExitStatus, ImageProblem, RunningContainer, StartFailure, StartFailureReason, TerminatedReason, Termination,
};
use pinlet::model::pod::RestartPolicy;
use pinlet::model::time::Now;
use pinlet::reconcile::action::Action;
use pinlet::reconcile::event::Event;
use pinlet::reconcile::memo::Found;

impl World {
    /// Does what the agent asked for, now or later.
    pub fn execute(&mut self, action: Action) {
        self.note(format!("  {}", brief(&action)));
        self.check_action(&action);
        match &action {
            Action::Start { uid, container, attempt, .. } => self.start(uid.clone(), container.clone(), *attempt),
            Action::Signal { id, .. } => self.signal(&id.clone()),
            Action::Kill { id, .. } => {
                let delay = if self.rng.chance(20) { 15 * SECOND } else { self.rng.between(1, 200) * MILLI };
                self.schedule(delay, What::Exit(id.clone(), 137));
                self.signalled(&id.clone());
            }
            Action::ResolveImage { .. } => {
                let delay = self.rng.between(0, 50) * MILLI;
                self.schedule(delay, What::Effect(action));
            }
            Action::Prepare { uid }
            | Action::EnsureSandbox { uid }
            | Action::RemoveContainer { uid, .. }
            | Action::Persist { uid }
            | Action::StopSandbox { uid }
            | Action::Remove { uid } => {
                // One worker per pod.
                let free = self.lanes.get(uid).copied().unwrap_or(0).max(self.time);
                let most = if self.rng.chance(10) { 20_000 } else { 50 };
                let at = free + self.rng.between(0, most) * MILLI;
                self.lanes.insert(uid.clone(), at);
                self.schedule(at - self.time, What::Effect(action));
            }
        }
    }

    fn start(&mut self, uid: PodUid, name: ContainerName, attempt: u32) {
        let mut bytes = [0_u8; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.next().to_be_bytes());
        }
        let id = ContainerId::from_bytes(bytes);
        let policy = self.dirs.get(&uid).map_or(RestartPolicy::Always, |d| d.pod.restart_policy);
        let (state, started_at) = (ProcState::Intent, self.now().wall);
        let proc = Proc { uid, name, attempt, state, started_at, signalled: None, policy };
        self.procs.insert(id.clone(), proc);
        let delay = self.rng.between(1, 60) * MILLI;
        self.schedule(delay, What::Create(id));
    }

    /// The monitor makes the container, or fails to.
    pub fn create(&mut self, id: &ContainerId) {
        let fails = self.rng.chance(self.faults.start_fails);
        let reason = *self
            .rng
            .pick(&[
                StartFailureReason::CreateContainerConfigError,
                StartFailureReason::CreateContainerError,
                StartFailureReason::RunContainerError,
            ])
            .expect("three reasons");
        let Some(proc) = self.procs.get_mut(id) else { return };
        if fails {
            proc.state = ProcState::Failed(StartFailure { reason, message: "it failed".to_owned() });
        } else {
            proc.state = ProcState::Alive;
            let (uid, name) = (proc.uid.clone(), proc.name.clone());
            self.check_single(&uid, &name);
            self.plan_end(id);
        }
        self.report(id);
    }

    /// Most containers run on; some end by themselves, some lose their monitor.
    fn plan_end(&mut self, id: &ContainerId) {
        let one_shot = self.procs.get(id).is_some_and(|p| p.policy != RestartPolicy::Always);
        if self.rng.chance(self.faults.exits) {
            let most = if self.rng.chance(10) { 900_000 } else { 8_000 };
            let delay = self.rng.between(0, most) * MILLI;
            let code = *self.rng.pick(&[0, 0, 1, 3, 137]).expect("five codes");
            self.schedule(delay, What::Exit(id.clone(), code));
        } else if one_shot && self.rng.chance(50) {
            self.schedule(5 * SECOND, What::Exit(id.clone(), 0));
        }
        if self.rng.chance(self.faults.monitor_dies) {
            let delay = self.rng.between(0, 20_000) * MILLI;
            self.schedule(delay, What::MonitorDies(id.clone()));
        }
    }

    fn signal(&mut self, id: &ContainerId) {
        self.signalled(id);
        if !self.rng.chance(self.faults.ignores_term) {
            let delay = self.rng.between(0, 5_000) * MILLI;
            let code = if self.rng.chance(50) { 143 } else { 0 };
            self.schedule(delay, What::Exit(id.clone(), code));
        }
    }

    fn signalled(&mut self, id: &ContainerId) {
        let time = self.time;
        if let Some(proc) = self.procs.get_mut(id) {
            proc.signalled.get_or_insert(time);
        }
    }

    pub fn exit(&mut self, id: &ContainerId, code: i32) {
        let now = self.now();
        let Some(proc) = self.procs.get_mut(id) else { return };
        if !matches!(proc.state, ProcState::Alive) {
            return;
        }
        proc.state = ProcState::Exited(termination(id, proc, code, now));
        let line = format!("exit {code} of {} {} {}", proc.uid, proc.name, proc.attempt);
        self.note(line);
        self.report(id);
    }

    pub fn monitor_dies(&mut self, id: &ContainerId) {
        let Some(proc) = self.procs.get_mut(id) else { return };
        if matches!(proc.state, ProcState::Alive) {
            proc.state = ProcState::Lost;
            let line = format!("monitor of {} {} {} died", proc.uid, proc.name, proc.attempt);
            self.note(line);
            self.report(id);
        }
    }

    /// What the loop would see of this container now; it may come late, twice, or not before the next rescan.
    fn report(&mut self, id: &ContainerId) {
        let Some(event) = self.container_event(id) else { return };
        if self.agent.is_none() || self.rng.chance(self.faults.event_lost) {
            return;
        }
        let times = if self.rng.chance(self.faults.event_twice) { 2 } else { 1 };
        for _ in 0..times {
            let most = if self.rng.chance(self.faults.event_late) { 10_000 } else { 20 };
            let delay = self.rng.between(0, most) * MILLI;
            self.schedule(delay, What::Deliver(event.clone()));
        }
    }

    pub fn container_event(&self, id: &ContainerId) -> Option<Event> {
        let proc = self.procs.get(id)?;
        let (uid, container) = (proc.uid.clone(), proc.name.clone());
        match &proc.state {
            ProcState::Intent => None,
            ProcState::Alive => Some(Event::Started { uid, container, running: running(id, proc, self.now()) }),
            ProcState::Exited(termination) => Some(Event::Exited { uid, container, termination: termination.clone() }),
            ProcState::Lost => Some(Event::Lost { uid, container, id: id.clone(), attempt: proc.attempt }),
            ProcState::Failed(failure) => Some(Event::StartFailed {
                uid,
                container,
                id: id.clone(),
                attempt: proc.attempt,
                failure: failure.clone(),
            }),
        }
    }

    /// What a new agent finds of a container in the run dir.
    pub fn found(&self, uid: &PodUid, name: &ContainerName) -> Vec<Found> {
        let mut found = Vec::new();
        for (id, proc) in self.procs.iter().filter(|(_, p)| p.uid == *uid && p.name == *name) {
            match &proc.state {
                ProcState::Intent => found.push(Found::NotCreated { attempt: proc.attempt }),
                ProcState::Failed(failure) if failure.reason != StartFailureReason::RunContainerError => {
                    found.push(Found::NotCreated { attempt: proc.attempt });
                }
                ProcState::Failed(_) => found.push(Found::Exited(termination(id, proc, 128, self.now()))),
                ProcState::Alive => found.push(Found::Running(running(id, proc, self.now()))),
                ProcState::Exited(t) if proc.signalled.is_some() => found.push(Found::Interrupted(t.clone())),
                ProcState::Exited(t) => found.push(Found::Exited(t.clone())),
                ProcState::Lost => found.push(Found::Lost { id: id.clone(), attempt: proc.attempt }),
            }
        }
        found
    }

    /// Carries out a job and tells what the agent hears.
    pub fn effect(&mut self, action: &Action) -> Option<Event> {
        let fails = self.rng.chance(self.faults.job_fails);
        let message = "it failed".to_owned();
        match action {
            Action::Prepare { uid } if fails => Some(Event::PrepareFailed { uid: uid.clone(), message }),
            Action::EnsureSandbox { uid } if fails => Some(Event::SandboxFailed { uid: uid.clone(), message }),
            Action::StopSandbox { uid } if fails => Some(Event::SandboxStopFailed { uid: uid.clone(), message }),
            Action::Remove { uid } if fails => Some(Event::RemoveFailed { uid: uid.clone(), message }),
            Action::Prepare { uid } => {
                let pod = self.agent.as_ref().and_then(|a| a.pod(uid)).map(|p| (*p.pod).clone())?;
                self.check_place(&pod);
                let memo = self.dirs.remove(uid).and_then(|d| d.memo);
                self.dirs.insert(uid.clone(), Dir { pod, memo });
                Some(Event::Prepared { uid: uid.clone() })
            }
            Action::EnsureSandbox { uid } => {
                self.check_has_dir(uid);
                self.sandboxes.insert(uid.clone());
                let ip = "10.85.0.2".parse().ok();
                Some(Event::SandboxReady { uid: uid.clone(), ip })
            }
            Action::StopSandbox { uid } => {
                self.check_no_process(uid);
                self.sandboxes.remove(uid);
                Some(Event::SandboxStopped { uid: uid.clone() })
            }
            Action::Remove { uid } => {
                self.check_no_process(uid);
                self.sandboxes.remove(uid);
                self.dirs.remove(uid);
                self.procs.retain(|_, p| p.uid != *uid);
                self.agenda.retain(|_, what| !matches!(what, What::Deliver(event) if container_of(event) == Some(uid)));
                self.checks.removed(uid);
                Some(Event::Removed { uid: uid.clone() })
            }
            Action::ResolveImage { uid, container } => {
                let (uid, container) = (uid.clone(), container.clone());
                if self.rng.chance(self.faults.image_missing) {
                    let problem = ImageProblem::ErrImagePull { message };
                    return Some(Event::ImageMissing { uid, container, problem });
                }
                Some(Event::ImageFound { uid, container, image: pods::image() })
            }
            Action::RemoveContainer { id, .. } => {
                self.check_dead(id);
                if let Some(proc) = self.procs.remove(id) {
                    self.checks.container_removed(&proc.uid, &proc.name, proc.attempt);
                }
                None
            }
            Action::Persist { uid } => {
                let boot = self.boot_id();
                let memo = self.agent.as_ref().and_then(|a| a.pod(uid)).map(|p| p.memo(&boot))?;
                if let Some(dir) = self.dirs.get_mut(uid) {
                    dir.memo = Some(serde_json::to_string(&memo).expect("a memo is written"));
                }
                None
            }
            Action::Start { .. } | Action::Signal { .. } | Action::Kill { .. } => None,
        }
    }
}

fn running(id: &ContainerId, proc: &Proc, now: Now) -> RunningContainer {
    RunningContainer {
        id: id.clone(),
        attempt: proc.attempt,
        init: ProcessRef { pid: Pid(100), start_ticks: 1 },
        started_at: proc.started_at,
        started_mono: now.mono,
        image: "localhost/image:1".to_owned(),
        image_id: "sha256:1".to_owned(),
        stop_signal: 15,
        user: None,
    }
}

fn container_of(event: &Event) -> Option<&PodUid> {
    match event {
        Event::Started { uid, .. }
        | Event::StartFailed { uid, .. }
        | Event::Exited { uid, .. }
        | Event::Lost { uid, .. } => Some(uid),
        _ => None,
    }
}

fn termination(id: &ContainerId, proc: &Proc, code: i32, now: Now) -> Termination {
    Termination {
        id: id.clone(),
        attempt: proc.attempt,
        status: ExitStatus::Code(code),
        reason: if code == 0 { TerminatedReason::Completed } else { TerminatedReason::Error },
        message: String::new(),
        started_at: proc.started_at,
        finished_at: now.wall,
        finished_mono: now.mono,
        image: "localhost/image:1".to_owned(),
        image_id: "sha256:1".to_owned(),
    }
}

fn brief(action: &Action) -> String {
    match action {
        Action::Prepare { uid } => format!("Prepare {uid}"),
        Action::EnsureSandbox { uid } => format!("EnsureSandbox {uid}"),
        Action::ResolveImage { uid, container } => format!("ResolveImage {uid} {container}"),
        Action::Start { uid, container, attempt, .. } => format!("Start {uid} {container} {attempt}"),
        Action::Signal { uid, container, id, .. } => format!("Signal {uid} {container} {:.6}", id.as_str()),
        Action::Kill { uid, container, id } => format!("Kill {uid} {container} {:.6}", id.as_str()),
        Action::RemoveContainer { uid, container, id } => {
            format!("RemoveContainer {uid} {container} {:.6}", id.as_str())
        }
        Action::Persist { uid } => format!("Persist {uid}"),
        Action::StopSandbox { uid } => format!("StopSandbox {uid}"),
        Action::Remove { uid } => format!("Remove {uid}"),
    }
}
