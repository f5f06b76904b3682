//! The start of a log line, made without allocating: the monitor writes millions of them.

/// `2024-01-02T03:04:05.123456789Z stdout F `.
pub(super) const HEADER_BYTES_MAX: usize = 48;

/// Seconds of a day, and days since the epoch, as a civil date in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`, in eras of 400 years that start on the first of March.
    pub fn of(seconds: i64) -> Civil {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
        let month = (if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 }) as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60 }
    }
}

/// The header of a line that was read at `realtime_ns`, in `buffer`.
pub(super) fn header<'b>(
    buffer: &'b mut [u8; HEADER_BYTES_MAX],
    realtime_ns: i64,
    stream: &str,
    tag: char,
) -> &'b [u8] {
    use std::io::Write;
    let Civil { year, month, day, hour, minute, second } = Civil::of(realtime_ns.div_euclid(1_000_000_000));
    let nanos = realtime_ns.rem_euclid(1_000_000_000);
    let mut rest = &mut buffer[..];
    // Fits for every time that 64 bits of nanoseconds can hold.
    let _ = write!(rest, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z {stream} {tag} ");
    let left = rest.len();
    &buffer[..HEADER_BYTES_MAX - left]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_nine_digits() {
        let mut buffer = [0; HEADER_BYTES_MAX];
        let mut text = |ns| String::from_utf8(header(&mut buffer, ns, "stderr", 'P').to_vec()).unwrap();
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z stderr P ");
        assert_eq!(text(1_709_164_799_000_000_007), "2024-02-28T23:59:59.000000007Z stderr P ");
        assert_eq!(text(1_709_164_800_000_000_000), "2024-02-29T00:00:00.000000000Z stderr P ");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z stderr P ");
        assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z stderr P ");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = Civil::of(-86_400);
        for day in 0..200_000 {
            let now = Civil::of(day * 86_400);
            let next_day = now.day == before.day + 1 && now.month == before.month && now.year == before.year;
            let next_month = now.day == 1 && now.month == before.month + 1 && before.day >= 28;
            let next_year = (now.day, now.month, before.day, before.month) == (1, 1, 31, 12);
            assert!(next_day || next_month || next_year, "{before:?} {now:?}");
            before = now;
        }
        assert_eq!((before.year, before.month, before.day), (2517, 7, 31));
    }
}
