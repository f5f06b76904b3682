//! All events of the node: told, counted, kept within bounds, listed.

use super::happening::Happening;
use super::kept::{Kept, cut};
use super::posting::{EventId, Posting, Remote};
use super::similar::Similar;
use super::spam::SpamFilter;
use crate::model::id::NodeName;
use crate::model::time::{Mono, Now};
use k8s_openapi::api::core::v1;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

/// Events kept at once; what happened longest ago goes first.
pub(super) const EVENTS_MAX: usize = 1000;
/// The API server's own time to live.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// A clock that was set back by more than this has been set: names follow it.
const CLOCK_SET_NANOS: i64 = 1_000_000_000;

#[derive(Clone, Debug)]
pub struct Recorder {
    pub(super) node: NodeName,
    /// In the order in which they happened last.
    pub(super) kept: VecDeque<Kept>,
    similar: Similar,
    spam: SpamFilter,
    pub(super) posting: Posting,
    next_id: u64,
    last_stamp: i64,
}

impl Recorder {
    /// Keeps events and posts none until [`Recorder::begin_posting`].
    pub fn new(node: NodeName) -> Recorder {
        Recorder {
            node,
            kept: VecDeque::new(),
            similar: Similar::default(),
            spam: SpamFilter::default(),
            posting: Posting::default(),
            next_id: 0,
            last_stamp: 0,
        }
    }

    pub fn record(&mut self, mut happening: Happening, now: Now) {
        self.forget(now.mono);
        let combined = self.similar.combined(&happening, now.mono);
        let is_combined = combined.is_some();
        happening.message = cut(combined.map_or(happening.message, Cow::Owned));
        let known = self.kept.iter().rposition(|kept| kept.is(&happening, is_combined));
        let admitted = self.spam.admits(&happening.subject, now.mono);
        let mut kept = match known.and_then(|at| self.kept.remove(at)) {
            Some(kept) => Kept {
                count: kept.count.saturating_add(1),
                last: now,
                // Of combined ones the latest is shown.
                message: happening.message,
                ..kept
            },
            None => self.first(happening, is_combined, now),
        };
        // What is held back is counted, and told with the next one that is let through.
        if admitted {
            self.posting.owe(&mut kept.remote);
        }
        if self.kept.len() >= EVENTS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    /// All that is remembered, in the order in which it happened last.
    pub fn events(&self, now: Now) -> Vec<v1::Event> {
        let young = self.kept.iter().filter(|kept| is_young(kept, now.mono));
        young.map(|kept| kept.shown(&self.node)).collect()
    }

    fn first(&mut self, happening: Happening, combined: bool, now: Now) -> Kept {
        self.next_id += 1;
        Kept {
            id: EventId(self.next_id),
            subject: happening.subject,
            severity: happening.severity,
            reason: happening.reason,
            message: happening.message,
            combined,
            count: 1,
            first: now.wall,
            last: now,
            stamp: self.stamp(now),
            remote: Remote::default(),
        }
    }

    /// The loop stamps one time for all that it sees in a turn, and names must differ.
    fn stamp(&mut self, now: Now) -> i64 {
        let ahead = self.last_stamp.saturating_sub(now.wall.0);
        let stamp = if (0..CLOCK_SET_NANOS).contains(&ahead) { self.last_stamp + 1 } else { now.wall.0 };
        self.last_stamp = stamp;
        stamp
    }

    fn forget(&mut self, now: Mono) {
        let posts = self.posting.is_on();
        // What an outage holds up is news still when it ends.
        self.kept.retain(|kept| is_young(kept, now) || (posts && kept.remote.is_awaited()));
    }
}

fn is_young(kept: &Kept, now: Mono) -> bool {
    now.since(kept.last.mono) < FORGOTTEN_AFTER
}
