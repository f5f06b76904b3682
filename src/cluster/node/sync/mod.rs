//! Which request about Node and lease is due: a small machine that is told facts, answers and the time.
//!
//! Two tracks, each with at most one request under way: the Node (look, create, mend labels, report status) and the
//! lease (look, create, renew), so that a slow answer about one never holds up the other. What an answer says is
//! trusted over what was remembered; without an answer nothing is assumed, and everything is tried again.

mod registration;
mod renewal;
#[cfg(test)]
mod tests;

use super::conditions;
use super::facts::NodeFacts;
use super::ours;
use super::request::{NodeAnswer, NodeNews, NodePlan, NodeRequestKind};
use crate::model::id::NodeName;
use crate::model::time::{Mono, Now};
use k8s_openapi::api::core::v1::Node;
use registration::Registration;
use renewal::Renewal;
use std::time::Duration;

/// What the configuration says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    pub name: NodeName,
    /// `--register-node`: whether a Node that is not there is created.
    pub register: bool,
    /// `nodeLeaseDurationSeconds`.
    pub lease_duration: Duration,
    /// `nodeStatusUpdateFrequency`: changes that are not urgent are collected for that long.
    pub update_every: Duration,
    /// `nodeStatusReportFrequency`: the status is reported at least that often.
    pub report_every: Duration,
    /// `nodeStatusMaxImages`; `None` for all.
    pub max_images: Option<usize>,
}

#[derive(Debug)]
pub struct NodeSync {
    settings: NodeSettings,
    registration: Registration,
    renewal: Renewal,
    /// The statuses of which was told last.
    told: Option<[bool; 4]>,
    news: Vec<NodeNews>,
}

impl NodeSync {
    pub fn new(settings: NodeSettings) -> NodeSync {
        NodeSync {
            registration: Registration::default(),
            renewal: Renewal::default(),
            told: None,
            news: Vec::new(),
            settings,
        }
    }

    /// What is due. Asked twice without an answer or a new fact between, the second plan holds no request.
    pub fn plan(&mut self, facts: &NodeFacts, now: Now) -> NodePlan {
        self.tell_conditions(facts);
        let uid = self.registration.uid().map(str::to_owned);
        let lease = self.renewal.plan(&self.settings, uid.as_deref(), now);
        let node = self.registration.plan(&self.settings, facts, now);
        NodePlan {
            requests: lease.request.into_iter().chain(node.request).collect(),
            wake_at: [lease.wake_at, node.wake_at].into_iter().flatten().min(),
        }
    }

    /// Takes the answer to the one request of that kind that is under way. One that nobody waits for is dropped.
    pub fn answer(&mut self, kind: NodeRequestKind, answer: NodeAnswer, now: Mono) {
        if kind.is_lease() {
            if self.renewal.answer(&self.settings, kind, answer, now) {
                self.registration.look_again(now);
            }
            return;
        }
        let news = self.registration.answer(kind, answer, now);
        if news.iter().any(|news| matches!(news, NodeNews::There { .. })) {
            let lacking = self.lacks_taint().map(|command| NodeNews::LacksTaint { command });
            self.news.extend(news.into_iter().chain(lacking));
        } else {
            self.news.extend(news);
        }
    }

    /// Something hints that the Node may be gone or changed: a mirror pod vanished or was refused. Costs one request
    /// at most each second.
    pub fn look_again(&mut self, now: Mono) {
        self.registration.look_again(now);
    }

    /// The Node's UID, which mirror pods name as their owner; `None` while no Node is known to be there.
    pub fn uid(&self) -> Option<&str> {
        self.registration.uid()
    }

    /// The Node as the API server last showed it (its `spec.podCIDR`, its taints).
    pub fn node(&self) -> Option<&Node> {
        self.registration.node()
    }

    /// The command that sets our taint, where the Node is there without it.
    pub fn lacks_taint(&self) -> Option<String> {
        self.node().filter(|node| ours::lacks_our_taint(node)).map(|_| ours::taint_command(&self.settings.name))
    }

    /// Why Node and lease are not as they should be, in the server's words.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.registration.problem().into_iter().chain(self.renewal.problem())
    }

    /// What happened since this was last asked.
    pub fn take_news(&mut self) -> Vec<NodeNews> {
        std::mem::take(&mut self.news)
    }

    fn tell_conditions(&mut self, facts: &NodeFacts) {
        let said = conditions::said(facts.pressures, &facts.readiness);
        let statuses = said.map(|said| said.status);
        let changed = |at: usize| self.told.is_none_or(|told| told[at] != statuses[at]);
        let news = (0..said.len()).filter(|at| changed(*at)).map(|at| NodeNews::Condition { reason: said[at].event });
        self.news.extend(news);
        self.told = Some(statuses);
    }
}
