//! Times as objects carry them.

use k8s_openapi::jiff::Timestamp;
use std::time::SystemTime;

/// Now, to the second.
pub fn now() -> String {
    after(0)
}

/// So many seconds from now.
pub fn after(seconds: i64) -> String {
    text(self::seconds() + seconds)
}

pub fn text(seconds: i64) -> String {
    Timestamp::from_second(seconds).expect("a time that calendars have").to_string()
}

/// Seconds since 1970, if it is a time.
pub fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|at| at.as_second())
}

pub fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock that calendars have")
}

/// As HTTP's `Date` has it.
pub fn http() -> String {
    let now = Timestamp::from_second(seconds()).expect("a time that calendars have");
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
