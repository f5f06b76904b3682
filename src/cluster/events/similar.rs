//! Combining what differs by its message alone (client-go: `EventAggregator`), so that a failure whose text has a number
//! in it does not become a hundred events.

use super::happening::Happening;
use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// So many different messages are told apart; the next one is combined with all that follow.
const APART: usize = 9;
/// After this long without a similar event, messages are told apart again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Groups remembered at once; those that have been silent longest go first.
const GROUPS_MAX: usize = 1000;
const PREFIX: &str = "(combined from similar events): ";

/// By object, severity and reason. Hashes stand for texts, for they are only compared: two that are equal by chance
/// would combine what should be apart, which nobody could tell from a group that is full.
#[derive(Clone, Debug, Default)]
pub(super) struct Similar {
    groups: BTreeMap<u64, Group>,
}

#[derive(Clone, Debug)]
struct Group {
    messages: Vec<u64>,
    last: Mono,
}

impl Similar {
    /// The message to record instead, if the event is to be combined with others.
    pub(super) fn combined(&mut self, happening: &Happening, now: Mono) -> Option<String> {
        self.groups.retain(|_, group| now.since(group.last) <= FORGOTTEN_AFTER);
        let key = hash(&(happening.subject.object(), happening.severity, happening.reason));
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.drop_oldest();
        }
        let group = self.groups.entry(key).or_insert_with(|| Group { messages: Vec::new(), last: now });
        group.last = now;
        let message = hash(&happening.message);
        if group.messages.contains(&message) {
            return None;
        }
        if group.messages.len() < APART {
            group.messages.push(message);
            return None;
        }
        Some(format!("{PREFIX}{}", happening.message))
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.groups.iter().min_by_key(|(_, group)| group.last).map(|(key, _)| *key) {
            self.groups.remove(&oldest);
        }
    }
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
