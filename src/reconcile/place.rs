//! Which pods have a place on the node: one pod per namespace/name and UID at a time, as many as --max-pods, and the
//! memory of pods that were removed a short while ago.

use super::container::ContainerState;
use super::state::{NodeState, PodState, Waiting, WaitingFor, Wanted};
use crate::model::id::{PodKey, PodUid};
use crate::model::pod::StaticPod;
use crate::model::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a removed pod's counters are remembered (contract 3).
const REMEMBERED: Duration = Duration::from_secs(600);
/// How many removed pods are remembered: more than a node has pods, few enough to cost nothing.
const REMEMBERED_MAX: usize = 256;

/// What is remembered of a removed pod: the same file put back is the same pod.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    uid: PodUid,
    hash: String,
    at: Mono,
    containers: Vec<ContainerState>,
}

impl NodeState {
    /// Pods that should run and have no place yet.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting<'_>> {
        self.desired.iter().flat_map(BTreeMap::values).filter_map(|wanted| {
            let why = self.obstacle(&wanted.pod)?;
            Some(Waiting { wanted, why })
        })
    }

    /// `None` if the pod has its place, or may take it.
    fn obstacle(&self, pod: &StaticPod) -> Option<WaitingFor> {
        let rival = self.pods.values().find(|p| p.pod.uid == pod.uid || p.pod.key == pod.key);
        match rival {
            Some(rival) if rival.is(pod) => None,
            Some(rival) => Some(WaitingFor::Predecessor(rival.pod.uid.clone())),
            None if self.pods.len() >= self.settings.max_pods => {
                Some(WaitingFor::Room { max_pods: self.settings.max_pods })
            }
            None => None,
        }
    }

    /// Gives every wanted pod that has no place yet, and may have one, its place.
    pub(super) fn admit(&mut self, now: Now) {
        let mut wanted: Vec<Wanted> = self.desired.iter().flat_map(BTreeMap::values).cloned().collect();
        // Whoever waits longest comes first where there is not room for all.
        wanted.sort_by_key(|w| w.since.mono);
        for Wanted { pod, since } in wanted {
            if self.pods.contains_key(&pod.uid) || self.obstacle(&pod).is_some() {
                continue;
            }
            let mut state = PodState::accepted(pod.clone(), since, now);
            self.recall(&mut state, now);
            self.pods.insert(pod.uid.clone(), state);
        }
    }

    /// Pods that share their name with another: left so by a power cut in the middle of a replacement. None of them
    /// starts anything before the other is removed.
    pub(super) fn crowded(&self) -> BTreeSet<PodUid> {
        let mut seen: BTreeMap<&PodKey, &PodUid> = BTreeMap::new();
        let mut crowded = BTreeSet::new();
        for (uid, pod) in &self.pods {
            if let Some(rival) = seen.insert(&pod.pod.key, uid) {
                crowded.extend([uid.clone(), rival.clone()]);
            }
        }
        crowded
    }

    fn recall(&mut self, state: &mut PodState, now: Now) {
        self.recent.retain(|gone| now.mono.since(gone.at) <= REMEMBERED);
        let Some(index) = self.recent.iter().position(|g| g.uid == state.pod.uid && g.hash == state.pod.hash) else {
            return;
        };
        let Some(gone) = self.recent.remove(index) else { return };
        for before in gone.containers {
            if let Some(container) = state.containers.iter_mut().find(|c| c.name == before.name) {
                container.next_attempt = before.next_attempt;
                container.created = before.created;
                container.last = before.last.map(|mut last| {
                    last.asked = true;
                    last
                });
            }
        }
    }

    pub(super) fn forget(&mut self, uid: &PodUid, now: Now) {
        let Some(state) = self.pods.remove(uid) else { return };
        self.recent.retain(|gone| gone.uid != *uid);
        if self.recent.len() == REMEMBERED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Gone {
            uid: uid.clone(),
            hash: state.pod.hash.clone(),
            at: now.mono,
            containers: state.containers,
        });
    }
}
