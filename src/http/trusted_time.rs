//! The time that certificates are checked at. A board without a clock starts in 1970, where every certificate is "not
//! yet valid"; so this is the newest of the clock, the date of the source, and whatever the owner was told since.
//! It never sets a clock.

use crate::sys::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds since the epoch: no binary of this source is older. 2026-06-01; packages say it more closely.
const SOURCE_DATE: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => seconds_of(text.as_bytes()),
    None => 1_780_272_000,
};

const fn seconds_of(digits: &[u8]) -> u64 {
    let (mut at, mut seconds) = (0, 0u64);
    while at < digits.len() {
        assert!(digits[at].is_ascii_digit(), "SOURCE_DATE_EPOCH is a number of seconds");
        seconds = seconds * 10 + (digits[at] - b'0') as u64;
        at += 1;
    }
    seconds
}

/// Shared by every client of a process.
#[derive(Debug, Default)]
pub struct TrustedTime {
    told: AtomicU64,
}

impl TrustedTime {
    /// A time in seconds since the epoch that somebody vouches for: a verified server, or a file that kept one.
    pub fn tell(&self, seconds: u64) {
        self.told.fetch_max(seconds, Ordering::Relaxed);
    }

    /// Seconds since the epoch.
    pub fn now(&self) -> u64 {
        let clock = u64::try_from(clock::realtime_ns() / 1_000_000_000).unwrap_or(0);
        clock.max(self.floor())
    }

    /// How far the clock is behind what is known; zero for a clock that can be right.
    pub fn clock_is_behind(&self) -> Duration {
        let clock = u64::try_from(clock::realtime_ns() / 1_000_000_000).unwrap_or(0);
        Duration::from_secs(self.floor().saturating_sub(clock))
    }

    fn floor(&self) -> u64 {
        SOURCE_DATE.max(self.told.load(Ordering::Relaxed))
    }
}

impl rustls::time_provider::TimeProvider for TrustedTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_counts_and_never_goes_back() {
        let time = TrustedTime::default();
        assert_eq!(time.clock_is_behind(), Duration::ZERO);
        assert!(time.now() >= SOURCE_DATE);
        time.tell(32_503_680_000);
        time.tell(5);
        assert_eq!(time.now(), 32_503_680_000);
        assert!(time.clock_is_behind() > Duration::from_secs(1));
        assert_eq!(seconds_of(b"1780272000"), 1_780_272_000);
    }
}
