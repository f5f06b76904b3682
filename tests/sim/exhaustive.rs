//! Every sequence of a few facts, for a pod with one container, from the states in which a pod spends its time.
//!
//! Only answers to what was asked are offered. What the world tells without being asked is told twice: the second time
//! must change nothing. Beside what must never happen, every state must have a way on: something asked for, something
//! that lives, a time to wake at, or an end that is meant.

use super::pods::{image, name, pod};
use pinlet::model::id::{BootId, ContainerId, Pid, PodUid, ProcessRef};
use pinlet::model::observed::{
    ExitStatus, ImageProblem, RunningContainer, StartFailure, StartFailureReason, TerminatedReason, Termination,
};
use pinlet::model::pod::{RestartPolicy, StaticPod};
use pinlet::model::time::{Mono, Now, Wall};
use pinlet::reconcile::action::Action;
use pinlet::reconcile::event::Event;
use pinlet::reconcile::state::{NodeState, Settings};
use pinlet::reconcile::{apply, reconcile, status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Facts in a sequence that begins with nothing.
const DEPTH_FROM_NOTHING: usize = 6;
/// Facts in a sequence that begins with a pod that is up, or in a crash loop.
const DEPTH_FROM_LATER: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fact {
    Wanted,
    Edited,
    Gone,
    Marker,
    NoMarker,
    ImagesChanged,
    JobDone,
    JobFailed,
    ImageFound,
    ImageMissing,
    Started,
    NotCreated,
    NotStarted,
    Lost,
    ExitsWell,
    ExitsBadly,
    TenSeconds,
    ElevenMinutes,
}

const FACTS: [Fact; 18] = [
    Fact::Wanted,
    Fact::Edited,
    Fact::Gone,
    Fact::Marker,
    Fact::NoMarker,
    Fact::ImagesChanged,
    Fact::JobDone,
    Fact::JobFailed,
    Fact::ImageFound,
    Fact::ImageMissing,
    Fact::Started,
    Fact::NotCreated,
    Fact::NotStarted,
    Fact::Lost,
    Fact::ExitsWell,
    Fact::ExitsBadly,
    Fact::TenSeconds,
    Fact::ElevenMinutes,
];

/// What the node has of one UID.
#[derive(Clone, Debug, Default)]
struct Outside {
    job: Option<Action>,
    asked_for_image: bool,
    starting: Option<u32>,
    live: Option<u32>,
    dirs: bool,
    sandbox: bool,
}

#[derive(Clone)]
struct Case {
    state: NodeState,
    now: Now,
    policy: RestartPolicy,
    marker: bool,
    wanted: Option<PodUid>,
    wake_at: Option<Mono>,
    pods: BTreeMap<PodUid, Outside>,
}

#[test]
fn every_short_sequence_of_facts_keeps_the_rules_and_has_a_way_on() {
    let up = [Fact::Wanted, Fact::JobDone, Fact::JobDone, Fact::ImageFound, Fact::Started];
    let crashed = [Fact::ExitsBadly, Fact::ImageFound, Fact::Started, Fact::ExitsBadly];
    let mut cases = 0;
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        let mut case = Case::new(policy);
        explore(&case, DEPTH_FROM_NOTHING, &mut Vec::new(), &mut cases);
        for fact in up {
            case.happen(fact, &[]);
        }
        explore(&case, DEPTH_FROM_LATER, &mut up.to_vec(), &mut cases);
        if policy != RestartPolicy::Never {
            for fact in crashed {
                case.happen(fact, &[]);
            }
            explore(&case, DEPTH_FROM_LATER, &mut [&up[..], &crashed].concat(), &mut cases);
        }
    }
    assert!(cases > 10_000, "only {cases} cases");
}

fn explore(case: &Case, depth: usize, path: &mut Vec<Fact>, cases: &mut u64) {
    if depth == 0 {
        return;
    }
    for fact in FACTS.into_iter().filter(|f| case.offers(*f)) {
        let mut next = case.clone();
        path.push(fact);
        next.happen(fact, path);
        *cases += 1;
        explore(&next, depth - 1, path, cases);
        path.pop();
    }
}

fn manifest(policy: RestartPolicy, uid: &str) -> StaticPod {
    pod("web", uid, uid, policy, 1)
}

impl Case {
    fn new(policy: RestartPolicy) -> Case {
        let settings = Settings {
            max_restart_period: Duration::from_secs(300),
            max_starts: 2,
            max_pods: 110,
            boot: BootId::new("boot"),
        };
        Case {
            state: NodeState::new(settings),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_700_000_000_000_000_000) },
            policy,
            marker: false,
            wanted: None,
            wake_at: None,
            pods: BTreeMap::new(),
        }
    }

    fn find(&self, has: impl Fn(&Outside) -> bool) -> Option<(PodUid, Outside)> {
        self.pods.iter().find(|(_, o)| has(o)).map(|(uid, o)| (uid.clone(), o.clone()))
    }

    fn offers(&self, fact: Fact) -> bool {
        match fact {
            Fact::Wanted => self.wanted.as_ref().is_none_or(|uid| uid.as_str() != "one"),
            Fact::Edited => self.wanted.as_ref().is_some_and(|uid| uid.as_str() == "one"),
            Fact::Gone => self.wanted.is_some(),
            Fact::Marker => !self.marker,
            Fact::NoMarker => self.marker,
            Fact::ImagesChanged => self.find(|o| o.asked_for_image).is_some(),
            Fact::JobDone | Fact::JobFailed => self.find(|o| o.job.is_some()).is_some(),
            Fact::ImageFound | Fact::ImageMissing => self.find(|o| o.asked_for_image).is_some(),
            Fact::Started | Fact::NotCreated | Fact::NotStarted => self.find(|o| o.starting.is_some()).is_some(),
            Fact::Lost | Fact::ExitsWell | Fact::ExitsBadly => {
                self.find(|o| o.live.is_some() || o.starting.is_some()).is_some()
            }
            Fact::TenSeconds => self.wake_at.is_some(),
            Fact::ElevenMinutes => self.find(|o| o.live.is_some()).is_some(),
        }
    }

    fn happen(&mut self, fact: Fact, path: &[Fact]) {
        let event = self.event(fact);
        // Workers answer exactly once; everything else may be seen again.
        let answers = [Fact::JobDone, Fact::JobFailed, Fact::ImageFound, Fact::ImageMissing, Fact::ImagesChanged];
        let times: &[&str] = if answers.contains(&fact) { &["once"] } else { &["once", "twice"] };
        for time in times {
            if let Some(event) = event.clone() {
                apply(&mut self.state, event, self.now);
            }
            let plan = reconcile(&mut self.state, self.now);
            assert!(*time == "once" || plan.actions.is_empty(), "{path:?} {time}: {:?}", plan.actions);
            for action in plan.actions {
                self.take(action, path);
            }
            let again = reconcile(&mut self.state, self.now);
            assert!(again.actions.is_empty(), "{path:?} reconciled again: {:?}", again.actions);
            assert!(again.wake_at.is_none_or(|at| at > self.now.mono), "{path:?} is due already");
            self.wake_at = again.wake_at;
        }
        self.check_way_on(path);
        for pod in self.state.pods() {
            let object = status::pod_object(pod, &self.state, self.now);
            assert!(object.status.and_then(|s| s.phase).is_some());
        }
    }

    fn event(&mut self, fact: Fact) -> Option<Event> {
        match fact {
            Fact::Wanted | Fact::Edited | Fact::Gone => {
                let uid = match fact {
                    Fact::Wanted => Some("one"),
                    Fact::Edited => Some("two"),
                    _ => None,
                };
                let pods: Vec<_> = uid.map(|uid| Arc::new(manifest(self.policy, uid))).into_iter().collect();
                self.wanted = pods.first().map(|p| p.uid.clone());
                Some(Event::Desired(pods))
            }
            Fact::Marker | Fact::NoMarker => {
                self.marker = fact == Fact::Marker;
                Some(Event::StopMarker(self.marker))
            }
            Fact::ImagesChanged => Some(Event::ImagesChanged),
            Fact::JobDone | Fact::JobFailed => self.answer(fact == Fact::JobDone),
            Fact::ImageFound | Fact::ImageMissing => {
                let (uid, _) = self.find(|o| o.asked_for_image)?;
                self.outside(&uid).asked_for_image = false;
                let container = name("a");
                if fact == Fact::ImageFound {
                    return Some(Event::ImageFound { uid, container, image: image() });
                }
                let problem = ImageProblem::ErrImagePull { message: "not there".to_owned() };
                Some(Event::ImageMissing { uid, container, problem })
            }
            Fact::Started | Fact::NotCreated | Fact::NotStarted => self.start_answer(fact),
            Fact::Lost | Fact::ExitsWell | Fact::ExitsBadly => self.end(fact),
            Fact::TenSeconds | Fact::ElevenMinutes => {
                let seconds = if fact == Fact::TenSeconds { 10 } else { 660 };
                self.now.mono.0 += seconds * 1_000_000_000;
                None
            }
        }
    }

    fn answer(&mut self, done: bool) -> Option<Event> {
        let (uid, outside) = self.find(|o| o.job.is_some())?;
        let job = outside.job?;
        self.outside(&uid).job = None;
        let message = "it failed".to_owned();
        match (job, done) {
            (Action::Prepare { .. }, true) => {
                self.outside(&uid).dirs = true;
                Some(Event::Prepared { uid })
            }
            (Action::EnsureSandbox { .. }, true) => {
                self.outside(&uid).sandbox = true;
                Some(Event::SandboxReady { uid, ip: None })
            }
            (Action::StopSandbox { .. }, true) => {
                self.outside(&uid).sandbox = false;
                Some(Event::SandboxStopped { uid })
            }
            (Action::Remove { .. }, true) => {
                self.pods.remove(&uid);
                Some(Event::Removed { uid })
            }
            (Action::Prepare { .. }, false) => Some(Event::PrepareFailed { uid, message }),
            (Action::EnsureSandbox { .. }, false) => Some(Event::SandboxFailed { uid, message }),
            (Action::StopSandbox { .. }, false) => Some(Event::SandboxStopFailed { uid, message }),
            (Action::Remove { .. }, false) => Some(Event::RemoveFailed { uid, message }),
            (other, _) => panic!("{other:?} is no job of a pod"),
        }
    }

    fn start_answer(&mut self, fact: Fact) -> Option<Event> {
        let (uid, outside) = self.find(|o| o.starting.is_some())?;
        let attempt = outside.starting?;
        self.outside(&uid).starting = None;
        let (container, id) = (name("a"), id(attempt));
        let reason = match fact {
            Fact::Started => {
                self.outside(&uid).live = Some(attempt);
                let running = RunningContainer {
                    id,
                    attempt,
                    init: ProcessRef { pid: Pid(100), start_ticks: 1 },
                    started_at: self.now.wall,
                    started_mono: self.now.mono,
                    image: String::new(),
                    image_id: String::new(),
                    stop_signal: 15,
                    user: None,
                };
                return Some(Event::Started { uid, container, running });
            }
            Fact::NotCreated => StartFailureReason::CreateContainerError,
            _ => StartFailureReason::RunContainerError,
        };
        let failure = StartFailure { reason, message: "it failed".to_owned() };
        Some(Event::StartFailed { uid, container, id, attempt, failure })
    }

    fn end(&mut self, fact: Fact) -> Option<Event> {
        let (uid, outside) = self.find(|o| o.live.is_some() || o.starting.is_some())?;
        let attempt = outside.live.or(outside.starting)?;
        let here = self.outside(&uid);
        (here.live, here.starting) = (None, None);
        let (container, id) = (name("a"), id(attempt));
        let code = match fact {
            Fact::Lost => return Some(Event::Lost { uid, container, id, attempt }),
            Fact::ExitsWell => 0,
            _ => 1,
        };
        let termination = Termination {
            id,
            attempt,
            status: ExitStatus::Code(code),
            reason: TerminatedReason::Error,
            message: String::new(),
            started_at: self.now.wall,
            finished_at: self.now.wall,
            finished_mono: self.now.mono,
            image: String::new(),
            image_id: String::new(),
        };
        Some(Event::Exited { uid, container, termination })
    }

    fn outside(&mut self, uid: &PodUid) -> &mut Outside {
        self.pods.entry(uid.clone()).or_default()
    }

    fn take(&mut self, action: Action, path: &[Fact]) {
        let marker = self.marker;
        let uid = match &action {
            Action::Prepare { uid }
            | Action::EnsureSandbox { uid }
            | Action::ResolveImage { uid, .. }
            | Action::Start { uid, .. }
            | Action::Signal { uid, .. }
            | Action::Kill { uid, .. }
            | Action::RemoveContainer { uid, .. }
            | Action::Persist { uid }
            | Action::StopSandbox { uid }
            | Action::Remove { uid } => uid.clone(),
        };
        let others = self.pods.keys().any(|other| *other != uid);
        let here = self.outside(&uid);
        let lives = here.live.is_some() || here.starting.is_some();
        let allowed = match &action {
            Action::Prepare { .. } => here.job.is_none() && !marker && !others,
            Action::EnsureSandbox { .. } => here.job.is_none() && here.dirs && !marker,
            Action::StopSandbox { .. } | Action::Remove { .. } => here.job.is_none() && !lives,
            Action::ResolveImage { .. } => !here.asked_for_image && !marker,
            Action::Start { .. } => here.dirs && here.sandbox && !lives && !marker,
            Action::Signal { .. } | Action::Kill { .. } => here.live.is_some(),
            Action::RemoveContainer { id: dead, .. } => here.live.map(id).as_ref() != Some(dead),
            Action::Persist { .. } => here.dirs,
        };
        assert!(allowed, "{path:?}: {action:?} with {here:?}, marker {marker}, others {others}");
        match action {
            Action::ResolveImage { .. } => here.asked_for_image = true,
            Action::Start { attempt, .. } => here.starting = Some(attempt),
            Action::Prepare { .. }
            | Action::EnsureSandbox { .. }
            | Action::StopSandbox { .. }
            | Action::Remove { .. } => here.job = Some(action),
            Action::Signal { .. } | Action::Kill { .. } | Action::RemoveContainer { .. } | Action::Persist { .. } => {}
        }
    }

    /// Nothing is ever stuck.
    fn check_way_on(&self, path: &[Fact]) {
        let busy = |o: &Outside| o.job.is_some() || o.asked_for_image || o.starting.is_some() || o.live.is_some();
        if self.wake_at.is_some() || self.pods.values().any(busy) {
            return;
        }
        for pod in self.state.pods() {
            let rests = pod.is_finished() || self.marker && pod.is_stopped();
            assert!(rests, "{path:?}: stuck in {:?} with {:?}", pod.phase, pod.containers);
        }
        assert!(self.marker || self.state.waiting().count() == 0, "{path:?}: a pod waits for nothing");
    }
}

fn id(attempt: u32) -> ContainerId {
    ContainerId::from_bytes([u8::try_from(attempt).expect("few attempts"); 32])
}
