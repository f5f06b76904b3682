//! Durations as Go writes them (`1h2m3.5s`): what flags, KubeletConfiguration and Kubernetes' messages use.
//!
//! Pure text: [`parse`] and [`go_text`] are inverse to each other, [`short_text`] is what kubectl's AGE shows.

use std::time::Duration;

/// Longest duration that Go can hold, about 292 years: what is longer is refused, so that sums never overflow.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Units in the order in which they are tried: `ms` must come before `m`.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's `time.ParseDuration` without negative results: `300ms`, `1.5h`, `2h45m`, `0`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 300ms, 20s or 1h30m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(wrong)?;
        total += scaled(number, *nanos).ok_or_else(wrong)?;
        if total > MAX_NANOS {
            return Err(format!("{text:?} is too long a duration"));
        }
        rest = &tail[unit.len()..];
    }
    let nanos = u64::try_from(total).map_err(|_| wrong())?;
    Ok(Duration::from_nanos(nanos))
}

/// `number` (digits with at most one point) times `unit` nanoseconds, the fraction cut.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let mut total = whole * u128::from(unit);
    let mut weight = u128::from(unit);
    for digit in fraction.bytes() {
        weight /= 10;
        total += weight * u128::from(digit - b'0');
    }
    Some(total)
}

/// Go's `Duration.String`: `1m20s`, `5m0s`, `1.5s`, `100ms`, `0s`.
pub fn go_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, name) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = nanos / 1_000_000_000;
    let last = format!("{}s", decimal(nanos - seconds / 60 * 60_000_000_000, 1_000_000_000));
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => last,
        (0, minutes) => format!("{minutes}m{last}"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}"),
    }
}

/// `value / unit` without trailing zeros.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, mut rest) = (value / unit, value % unit);
    let mut text = whole.to_string();
    let mut weight = unit / 10;
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 {
        text.push(char::from(b'0' + u8::try_from(rest / weight).unwrap_or(0)));
        rest %= weight;
        weight /= 10;
    }
    text
}

/// apimachinery's `duration.HumanDuration`, which kubectl shows as AGE: `45s`, `3m5s`, `12m`, `4h20m`, `9d`.
pub fn short_text(age: Duration) -> String {
    const YEAR_DAYS: u64 = 365;
    let seconds = age.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let pair = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    if seconds < 2 * 60 {
        format!("{seconds}s")
    } else if minutes < 10 {
        pair(minutes, "m", seconds % 60, "s")
    } else if minutes < 3 * 60 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 24 * 8 {
        pair(days, "d", hours % 24, "h")
    } else if days < 2 * YEAR_DAYS {
        format!("{days}d")
    } else if days < 8 * YEAR_DAYS {
        pair(days / YEAR_DAYS, "y", days % YEAR_DAYS, "d")
    } else {
        format!("{}y", days / YEAR_DAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read_and_written_back_as_go_writes_it() {
        for (text, millis, again) in [
            ("0", 0, "0s"),
            ("300ms", 300, "300ms"),
            ("1.5s", 1_500, "1.5s"),
            (".5s", 500, "500ms"),
            ("20s", 20_000, "20s"),
            ("80s", 80_000, "1m20s"),
            ("5m", 300_000, "5m0s"),
            ("2h45m", 9_900_000, "2h45m0s"),
            ("1h0m0.25s", 3_600_250, "1h0m0.25s"),
            ("+1m", 60_000, "1m0s"),
        ] {
            let parsed = parse(text).expect(text);
            assert_eq!(parsed, Duration::from_millis(millis), "{text}");
            assert_eq!(go_text(parsed), again, "{text}");
        }
        assert_eq!(parse("1500us"), Ok(Duration::from_micros(1500)));
        assert_eq!(go_text(Duration::from_nanos(1_500)), "1.5\u{b5}s");
        assert_eq!(go_text(Duration::from_nanos(7)), "7ns");
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "20", "s", "-5s", "1.2.3s", "1d", "5 m", "1m3", ".s", "9999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        // The table of apimachinery's TestHumanDurationBoundaries.
        let (m, h, d, y) = (60, 3600, 24 * 3600, 365 * 24 * 3600);
        for (seconds, text) in [
            (0, "0s"),
            (1, "1s"),
            (2 * m - 1, "119s"),
            (2 * m, "2m"),
            (2 * m + 1, "2m1s"),
            (10 * m - 1, "9m59s"),
            (10 * m, "10m"),
            (3 * h - 1, "179m"),
            (3 * h, "3h"),
            (3 * h + 60, "3h1m"),
            (8 * h - 1, "7h59m"),
            (8 * h, "8h"),
            (2 * d - 1, "47h"),
            (2 * d, "2d"),
            (2 * d + h, "2d1h"),
            (8 * d - 1, "7d23h"),
            (8 * d, "8d"),
            (2 * y - 1, "729d"),
            (2 * y, "2y"),
            (2 * y + d, "2y1d"),
            (8 * y - 1, "7y364d"),
            (8 * y, "8y"),
        ] {
            assert_eq!(short_text(Duration::from_secs(seconds)), text);
        }
    }
}
