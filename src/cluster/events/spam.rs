//! How much one object may tell the API server (client-go: `EventSourceObjectSpamFilter`): a burst, then a trickle.

use super::happening::Subject;
use super::similar::hash;
use crate::model::time::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

const BURST: u32 = 25;
/// One more event is let through this often.
const REFILL: Duration = Duration::from_secs(300);
/// Objects remembered at once; those that have been silent longest go first.
const OBJECTS_MAX: usize = 1000;

#[derive(Clone, Debug, Default)]
pub(super) struct SpamFilter {
    buckets: BTreeMap<u64, Bucket>,
}

/// What an object may still tell, as the time that it takes to earn it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    credit: Duration,
    at: Mono,
}

impl Bucket {
    const FULL: Duration = REFILL.saturating_mul(BURST);

    fn credit(self, now: Mono) -> Duration {
        (self.credit + now.since(self.at)).min(Bucket::FULL)
    }
}

impl SpamFilter {
    /// Takes one event's worth from the object; `false` if it has none left.
    pub(super) fn admits(&mut self, subject: &Subject, now: Mono) -> bool {
        self.buckets.retain(|_, bucket| bucket.credit(now) < Bucket::FULL);
        let key = hash(&subject.object());
        if self.buckets.len() >= OBJECTS_MAX
            && !self.buckets.contains_key(&key)
            && let Some(oldest) = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| *key)
        {
            self.buckets.remove(&oldest);
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { credit: Bucket::FULL, at: now });
        *bucket = Bucket { credit: bucket.credit(now), at: now };
        match bucket.credit.checked_sub(REFILL) {
            Some(rest) => {
                bucket.credit = rest;
                true
            }
            None => false,
        }
    }
}
