//! The two clocks. [`Mono`] measures (back-off, grace, deadlines) and never jumps; [`Wall`] is only shown to people.
//!
//! Nothing here reads a clock: the loop stamps one [`Now`] per turn and hands it down.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Nanoseconds of CLOCK_BOOTTIME: since boot, with time in suspend, untouched by clock steps. One boot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Nanoseconds of CLOCK_REALTIME since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

impl Wall {
    pub const EPOCH: Wall = Wall(0);

    /// As Kubernetes' `Time`, which is written with whole seconds.
    pub fn to_time(self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
        let seconds = self.0.div_euclid(1_000_000_000);
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(timestamp(seconds, 0))
    }

    /// RFC 3339 in UTC with nine fractional digits: CRI log lines and `kubernetes.io/config.seen`.
    pub fn rfc3339_nanos(self) -> String {
        let (seconds, nanos) = (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000));
        timestamp(seconds, 0).strftime("%Y-%m-%dT%H:%M:%S").to_string() + &format!(".{nanos:09}Z")
    }

    /// Whole seconds since `earlier`, never negative.
    pub fn seconds_since(self, earlier: Wall) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0).max(0) / 1_000_000_000).unwrap_or(0)
    }
}

/// Out-of-range seconds (a clock that was never set to anything sane) become the epoch: they are only shown.
fn timestamp(seconds: i64, nanos: i32) -> k8s_openapi::jiff::Timestamp {
    k8s_openapi::jiff::Timestamp::new(seconds, nanos).unwrap_or(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}

/// Both clocks, read once per turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}
