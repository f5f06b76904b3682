//! How many requests a client may make: a bucket that fills at a steady rate. Pure: the time is given in.

use crate::model::time::Mono;
use std::time::Duration;

/// A kubelet's `kubeAPIQPS` and `kubeAPIBurst`.
const REQUESTS_PER_SECOND: u32 = 50;
const BURST: u32 = 100;
/// A token in the unit that the bucket counts in, so that no fraction is lost: nanoseconds times the rate.
const TOKEN: u128 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    per_second: u128,
    room: u128,
    /// May be below zero: what was taken on credit is waited for.
    level: i128,
    filled_at: Option<Mono>,
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit::new(REQUESTS_PER_SECOND, BURST)
    }
}

impl RateLimit {
    /// Full at first.
    pub fn new(per_second: u32, burst: u32) -> RateLimit {
        let room = u128::from(burst.max(1)) * TOKEN;
        let level = i128::try_from(room).unwrap_or(i128::MAX);
        RateLimit { per_second: u128::from(per_second.max(1)), room, level, filled_at: None }
    }

    /// Takes one, and says how long to wait before using it. Whoever takes later waits longer.
    pub fn take(&mut self, now: Mono) -> Duration {
        let passed = self.filled_at.map_or(Duration::ZERO, |at| now.since(at));
        // A clock that seems to go back fills nothing, and is not followed back.
        self.filled_at = Some(self.filled_at.map_or(now, |at| at.max(now)));
        let room = i128::try_from(self.room).unwrap_or(i128::MAX);
        let gained = i128::try_from(passed.as_nanos().saturating_mul(self.per_second)).unwrap_or(i128::MAX);
        self.level = self.level.saturating_add(gained).min(room) - TOKEN.cast_signed();
        let owed = self.level.min(0).unsigned_abs();
        Duration::from_nanos(u64::try_from(owed.div_ceil(self.per_second)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn the_burst_is_free_and_then_the_rate_holds() {
        let mut limit = RateLimit::default();
        for _ in 0..BURST {
            assert_eq!(limit.take(at(0)), Duration::ZERO);
        }
        assert_eq!(limit.take(at(0)), Duration::from_millis(20));
        assert_eq!(limit.take(at(0)), Duration::from_millis(40));
        // 60 ms later three have come in, of which two are owed.
        assert_eq!(limit.take(at(60)), Duration::ZERO);
        assert_eq!(limit.take(at(60)), Duration::from_millis(20));
    }

    #[test]
    fn rest_never_fills_more_than_the_burst() {
        let mut limit = RateLimit::new(2, 3);
        limit.take(at(0));
        let free = (0..9).filter(|_| limit.take(at(3_600_000)) == Duration::ZERO).count();
        assert_eq!(free, 3);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut limit = RateLimit::new(1, 1);
        assert_eq!(limit.take(at(5000)), Duration::ZERO);
        assert_eq!(limit.take(at(0)), Duration::from_secs(1));
        assert_eq!(limit.take(at(5000)), Duration::from_secs(2));
    }
}
