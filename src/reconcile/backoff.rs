//! When something that failed is tried again: crash loops (kubelet: `doBackOff`) and missing images.
//!
//! Delays count on the monotonic clock only; nothing here may look at the wall clock.

use super::event::BackoffMemo;
use crate::model::time::Mono;
use std::time::Duration;

/// The first delay of a crash loop, and of an image that is missing (kubelet: `initialBackOff`, `imageBackOffPeriod`).
pub const FIRST_DELAY: Duration = Duration::from_secs(10);
/// The longest delay (kubelet: `MaxCrashLoopBackOff`, `MaxImageBackOff`).
pub const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// A container that ran this long after its last restart starts from the first delay again.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Between two tries of a step that failed: volumes, sandbox, removal, creating a container (kubelet: pod worker).
pub const STEP_RETRY: Duration = Duration::from_secs(10);

/// The bounds of the crash-loop delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    first: Duration,
    longest: Duration,
}

impl Limits {
    /// `crashLoopBackOff.maxContainerRestartPeriod` lowers the cap and, below ten seconds, the start as well.
    pub fn new(max_restart_period: Duration) -> Limits {
        let longest = max_restart_period.min(LONGEST_DELAY);
        Limits { first: FIRST_DELAY.min(longest), longest }
    }
}

/// What is still remembered when a container exits: nothing, if its last restart is long ago.
pub fn remembered(memo: Option<BackoffMemo>, finished: Mono) -> Option<BackoffMemo> {
    memo.filter(|m| finished.since(m.last_update) <= FORGET_AFTER)
}

/// The delay that the next restart waits, counted from the exit; `None`: at once.
pub fn delay(memo: Option<BackoffMemo>) -> Option<Duration> {
    memo.map(|m| Duration::from_millis(m.delay_ms))
}

/// The memory after a restart at `now`: armed with the first delay, then doubled up to the cap.
pub fn armed(memo: Option<BackoffMemo>, now: Mono, limits: Limits) -> BackoffMemo {
    let next = match delay(memo) {
        None => limits.first,
        Some(before) => (before * 2).min(limits.longest),
    };
    BackoffMemo { delay_ms: u64::try_from(next.as_millis()).unwrap_or(u64::MAX), last_update: now }
}

/// A memory of an agent that may have had a longer cap.
pub fn capped(memo: BackoffMemo, limits: Limits) -> BackoffMemo {
    let longest = u64::try_from(limits.longest.as_millis()).unwrap_or(u64::MAX);
    BackoffMemo { delay_ms: memo.delay_ms.min(longest), ..memo }
}

/// How long to wait before the store is asked for a missing image again, after `tries` failures in a row.
pub fn image_delay(tries: u32) -> Duration {
    // 2^5 x 10 s is past the cap already.
    let doublings = tries.saturating_sub(1).min(5);
    (FIRST_DELAY * (1 << doublings)).min(LONGEST_DELAY)
}

/// As Go prints a duration: `10s`, `1m20s`, `5m0s`, `1.5s`, `500ms`. Users and tests match on it.
pub fn go_duration(d: Duration) -> String {
    if d.is_zero() {
        return "0s".to_owned();
    }
    if d < Duration::from_secs(1) {
        return format!("{}ms", trimmed(d.as_secs_f64() * 1000.0));
    }
    let (hours, minutes) = (d.as_secs() / 3600, d.as_secs() / 60 % 60);
    let seconds = trimmed(d.as_secs_f64() % 60.0);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// Milliseconds are as fine as any delay here gets.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    #[test]
    fn delays_are_10_20_40_80_160_300_300_seconds() {
        let mut memo = None;
        let mut seen = Vec::new();
        for _ in 0..7 {
            memo = Some(armed(memo, seconds(1), Limits::new(LONGEST_DELAY)));
            seen.push(delay(memo).map(|d| d.as_secs()));
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300].map(Some));
    }

    #[test]
    fn a_lower_restart_period_lowers_the_cap_and_below_ten_seconds_the_start() {
        let thirty = Limits::new(Duration::from_secs(30));
        let one = Limits::new(Duration::from_secs(1));
        let first = armed(None, seconds(0), thirty);
        let second = armed(Some(first), seconds(0), thirty);
        let third = armed(Some(second), seconds(0), thirty);
        assert_eq!([first, second, third].map(|m| m.delay_ms), [10_000, 20_000, 30_000]);
        assert_eq!(armed(None, seconds(0), one).delay_ms, 1_000);
        assert_eq!(armed(Some(armed(None, seconds(0), one)), seconds(0), one).delay_ms, 1_000);
    }

    #[test]
    fn the_memory_is_kept_for_600_seconds_and_not_a_second_longer() {
        let memo = Some(BackoffMemo { delay_ms: 40_000, last_update: seconds(100) });
        assert_eq!(remembered(memo, seconds(700)), memo);
        assert_eq!(remembered(memo, seconds(701)), None);
    }

    #[test]
    fn image_delays_double_from_10_to_300_seconds() {
        let seen: Vec<u64> = (1..=7).map(|tries| image_delay(tries).as_secs()).collect();
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let table = [
            (10_000, "10s"),
            (80_000, "1m20s"),
            (160_000, "2m40s"),
            (300_000, "5m0s"),
            (1_500, "1.5s"),
            (500, "500ms"),
            (3_600_000, "1h0m0s"),
            (0, "0s"),
        ];
        for (ms, text) in table {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
