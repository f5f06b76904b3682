//! How long to wait: after failures, after deletions, between reports.

use crate::model::id::NodeName;
use crate::model::time::Mono;
use std::time::Duration;

/// A wait that doubles with every failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    until: Option<Mono>,
}

impl Backoff {
    pub const fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, next: first, until: None }
    }

    /// `least` is what the other side asked for; it counts up to the longest wait.
    pub fn failed(&mut self, now: Mono, least: Option<Duration>) {
        let wait = self.next.max(least.unwrap_or_default().min(self.most));
        self.until = Some(now + wait);
        self.next = (self.next * 2).min(self.most);
    }

    pub fn reset(&mut self) {
        *self = Backoff::new(self.first, self.most);
    }

    /// The instant to wait for, if it is still to come.
    pub fn waits(&self, now: Mono) -> Option<Mono> {
        self.until.filter(|until| *until > now)
    }
}

/// A part of `period`, from half to all of it, that is always the same for one node: nodes that changed at once do not
/// report at once for ever after.
pub fn spread(period: Duration, name: &NodeName) -> Duration {
    // FNV-1a
    let hash = name
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let thousandths = u32::try_from(hash % 501).unwrap_or(0);
    period * (500 + thousandths) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
        let mut waits = Vec::new();
        for _ in 0..9 {
            backoff.failed(Mono(0), None);
            waits.push(backoff.waits(Mono(0)).expect("a wait").0 / 1_000_000);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 7000, 7000]);
        backoff.failed(Mono(0), Some(Duration::from_secs(3600)));
        assert_eq!(backoff.waits(Mono(0)), Some(Mono(7_000_000_000)));
        assert_eq!(backoff.waits(Mono(7_000_000_000)), None);
        backoff.reset();
        assert_eq!(backoff.waits(Mono(0)), None);
        backoff.failed(Mono(0), Some(Duration::from_secs(2)));
        assert_eq!(backoff.waits(Mono(0)), Some(Mono(2_000_000_000)));
    }

    #[test]
    fn nodes_are_spread_over_half_a_period_and_each_keeps_its_place() {
        let place = |name: &str| spread(Duration::from_secs(300), &NodeName::new(name).expect("a name"));
        let places: Vec<Duration> = (0..1000).map(|n| place(&format!("edge-{n}"))).collect();
        assert!(places.iter().all(|p| (150..=300).contains(&p.as_secs())));
        let early = places.iter().filter(|p| p.as_secs() < 225).count();
        assert!((400..600).contains(&early), "{early}");
        assert_eq!(place("edge-7"), places[7]);
    }
}
