//! How long to wait after a failure, so that many clients do not come back together. Pure: random bits are given in.

use std::time::Duration;

/// What a whole fleet spreads its first request over, after an outage.
const SPREAD_MAX: Duration = Duration::from_secs(60);

/// Doubling waits between two bounds, each shortened at random by up to half.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, failures: 0 }
    }

    /// After one more failure. A server that said how long to stay away is obeyed, also beyond the bounds.
    pub fn next(&mut self, random: u64, asked_for: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(self.most);
        let wait = whole / 2 + fraction(whole - whole / 2, random);
        match asked_for {
            // Everybody was told the same.
            Some(asked_for) => asked_for.max(wait).saturating_add(fraction(asked_for / 4, random.rotate_left(32))),
            None => wait,
        }
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// When to make the first request after an outage of this length: anywhere within it, at most a minute.
pub fn spread(outage: Duration, random: u64) -> Duration {
    fraction(outage.min(SPREAD_MAX), random)
}

/// A part of `whole` that is uniform in `random`, both ends included.
fn fraction(whole: Duration, random: u64) -> Duration {
    let nanos = whole.as_nanos() * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_bound_and_start_again() {
        let mut backoff = Backoff::new(SECOND, 30 * SECOND);
        let waits: Vec<u64> = (0..7).map(|_| backoff.next(u64::MAX, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.next(0, None), 15 * SECOND);
        for _ in 0..100 {
            assert_eq!(backoff.next(u64::MAX, None), 30 * SECOND);
        }
        backoff.reset();
        assert_eq!(backoff.next(0, None), SECOND / 2);
    }

    #[test]
    fn a_server_that_asks_for_more_gets_it() {
        let mut backoff = Backoff::new(SECOND, 30 * SECOND);
        assert_eq!(backoff.next(0, Some(100 * SECOND)), 100 * SECOND);
        assert_eq!(backoff.next(u64::MAX, Some(100 * SECOND)), 125 * SECOND);
        assert_eq!(backoff.next(0, Some(Duration::ZERO)), 2 * SECOND);
        assert_eq!(backoff.failures(), 3);
    }

    #[test]
    fn a_fleet_comes_back_spread_over_its_outage() {
        assert_eq!(spread(10 * SECOND, u64::MAX), 10 * SECOND);
        assert_eq!(spread(3600 * SECOND, u64::MAX), 60 * SECOND);
        assert_eq!(spread(3600 * SECOND, u64::MAX / 2), Duration::from_nanos(29_999_999_999));
        assert_eq!(spread(3600 * SECOND, 0), Duration::ZERO);
    }
}
