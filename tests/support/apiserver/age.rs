//! Ages as kubectl's tables show them.

use super::date;
use super::shape::text;
use serde_json::Value;

pub fn since_creation(object: &Value) -> String {
    since(text(object, "/metadata/creationTimestamp"))
}

pub fn since(time: &str) -> String {
    date::parse(time).map_or_else(|| "<unknown>".to_owned(), |at| human(date::seconds() - at))
}

/// Two units at most, and only one where the second says little.
pub fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let both = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        s if s < -1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 120 => format!("{seconds}s"),
        s if s < 600 => both(minutes, "m", seconds % 60, "s"),
        s if s < 10_800 => format!("{minutes}m"),
        s if s < 28_800 => both(hours, "h", minutes % 60, "m"),
        s if s < 172_800 => format!("{hours}h"),
        s if s < 691_200 => both(days, "d", hours % 24, "h"),
        s if s < 63_072_000 => format!("{days}d"),
        _ => both(days / 365, "y", days % 365, "d"),
    }
}
