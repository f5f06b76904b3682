//! Kubernetes' quantities (`500m`, `1.5Gi`, `1e3`), exactly, and in the canonical spelling that an API server shows.

use std::fmt;

/// Parts of a unit: Kubernetes keeps nothing finer than a nano.
const NANO: i128 = 1_000_000_000;
/// No quantity is larger than 2^63-1: larger ones are cut, as Kubernetes does.
const MAX: i128 = i64::MAX as i128 * NANO;

const DECIMAL: [(&str, i32); 9] =
    [("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Two quantities are equal if they are spelled alike too; compare [`Quantity::nanos`] for the value alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (format, power_of_two, power_of_ten) = suffix_of(suffix)?;
        let nanos = scaled(whole, fraction, power_of_two, power_of_ten + 9).min(MAX);
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// The exact value, in billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Thousandths, rounded up; nothing below zero.
    pub fn millis(self) -> u64 {
        u64::try_from(div_ceil(self.nanos.max(0), NANO / 1000)).unwrap_or(u64::MAX)
    }

    /// Whole units, rounded up; nothing below zero.
    pub fn units(self) -> u64 {
        u64::try_from(div_ceil(self.nanos.max(0), NANO)).unwrap_or(u64::MAX)
    }

    /// Nothing finer than a thousandth, rounded up, as defaulting does with every resource.
    #[must_use]
    pub fn rounded_up_to_milli(self) -> Quantity {
        let milli = NANO / 1000;
        Quantity { nanos: div_ceil(self.nanos, milli) * milli, ..self }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.nanos % NANO == 0;
        let large = self.nanos.abs() >= 1024 * NANO;
        if self.format == Format::Binary && whole && large {
            let (mut value, mut step) = (self.nanos / NANO, 0);
            while value % 1024 == 0 && step < BINARY.len() {
                value /= 1024;
                step += 1;
            }
            return write!(f, "{value}{}", if step == 0 { "" } else { BINARY[step - 1] });
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let (mut value, mut exponent) = (self.nanos, -9);
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::Exponent if exponent != 0 => write!(f, "{value}e{exponent}"),
            Format::Decimal | Format::Binary | Format::Exponent => {
                let suffix = DECIMAL.iter().find(|(_, power)| *power == exponent).map_or("", |(suffix, _)| suffix);
                write!(f, "{value}{suffix}")
            }
        }
    }
}

/// For what is no quantity: what was probably meant, as a hint. People write bytes as `64MB`, and units in any case.
pub fn meant(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    Quantity::parse(number).ok()?;
    if suffix_of(unit).is_ok() {
        return Some(format!("did you mean {number}{unit}?"));
    }
    let lower = unit.to_ascii_lowercase();
    let letters = lower.strip_suffix("bytes").or(lower.strip_suffix("byte")).or(lower.strip_suffix('b'));
    let letters = letters.unwrap_or(&lower);
    if letters.is_empty() {
        return Some(format!("did you mean {number}?"));
    }
    let binary =
        *BINARY.iter().find(|name| letters.eq_ignore_ascii_case(name) || *letters == name.to_lowercase()[..1])?;
    if letters.len() > 1 {
        return Some(format!("did you mean {number}{binary}?"));
    }
    let decimal = if binary == "Ki" { "k" } else { &binary[..1] };
    Some(format!("did you mean {number}{decimal} or {number}{binary}?"))
}

fn suffix_of(suffix: &str) -> Result<(Format, u32, i32), QuantityError> {
    if suffix.is_empty() {
        return Ok((Format::Decimal, 0, 0));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::Decimal, 0, *power));
    }
    if let Some(step) = BINARY.iter().position(|name| *name == suffix) {
        return Ok((Format::Binary, (step as u32 + 1) * 10, 0));
    }
    let Some(exponent) = suffix.strip_prefix(['e', 'E']) else {
        let known = suffix.chars().all(|c| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit());
        return Err(if known { QuantityError::Suffix } else { QuantityError::Format });
    };
    match exponent.parse::<i32>() {
        // Beyond these the value is cut or rounded anyway.
        Ok(power) => Ok((Format::Exponent, 0, power.clamp(-60, 60))),
        Err(_) => Err(QuantityError::Suffix),
    }
}

/// `whole.fraction` x 2^`power_of_two` x 10^`power_of_ten`, rounded up, and cut where it leaves [`MAX`] far behind.
fn scaled(whole: &str, fraction: &str, power_of_two: u32, power_of_ten: i32) -> i128 {
    // 38 digits fit an i128; no number of use has more than 18 before the point and 9 behind.
    const DIGITS_MAX: usize = 27;
    let digits: String = whole.chars().chain(fraction.chars()).collect();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let mut power = power_of_ten - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let (kept, dropped) = digits.split_at(digits.len().min(DIGITS_MAX));
    power = power.saturating_add(i32::try_from(dropped.len()).unwrap_or(i32::MAX));
    let mut value = kept.parse::<i128>().unwrap_or(MAX);
    let mut inexact = dropped.bytes().any(|digit| digit != b'0');
    // Each factor is applied where it loses nothing: multiply first, cut at MAX, divide last.
    value = value.checked_mul(1_i128 << power_of_two).unwrap_or(i128::MAX);
    while power > 0 && value < i128::MAX / 10 {
        value *= 10;
        power -= 1;
    }
    if power > 0 {
        return MAX;
    }
    while power < 0 && value > 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        power += 1;
    }
    value.saturating_add(i128::from(inexact))
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suffix_has_its_value_and_its_canonical_spelling() {
        let rows = [
            ("0", 0, "0"),
            ("1", 1000, "1"),
            ("100m", 100, "100m"),
            ("0.1", 100, "100m"),
            (".5", 500, "500m"),
            ("2.", 2000, "2"),
            ("1000m", 1000, "1"),
            ("1500m", 1500, "1500m"),
            ("0.5m", 1, "500u"),
            ("1n", 1, "1n"),
            ("1k", 1_000_000, "1k"),
            ("1000", 1_000_000, "1k"),
            ("1e3", 1_000_000, "1e3"),
            ("1E3", 1_000_000, "1e3"),
            ("12E", 12_000_000_000_000_000_000, "9223372036854775807"),
            ("64Mi", 67_108_864_000, "64Mi"),
            ("1024Mi", 1_073_741_824_000, "1Gi"),
            ("1.5Gi", 1_610_612_736_000, "1536Mi"),
            ("0.5Ki", 512_000, "512"),
            ("0.1Mi", 104_857_600, "104857600m"),
            ("1e-3", 1, "1e-3"),
            ("+3", 3000, "3"),
        ];
        for (text, millis, canonical) in rows {
            let quantity = Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(quantity.to_string(), canonical, "{text}");
            if text != "12E" {
                assert_eq!(quantity.millis(), millis, "{text}");
            }
        }
    }

    #[test]
    fn rounding_goes_up() {
        let quantity = Quantity::parse("1.0001").expect("valid");
        assert_eq!(quantity.millis(), 1001);
        assert_eq!(quantity.units(), 2);
        assert_eq!(quantity.rounded_up_to_milli().to_string(), "1001m");
        assert_eq!(Quantity::parse("0.0000000001").expect("valid").to_string(), "1n");
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        let rows = [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            (".", QuantityError::Format),
            ("1GB", QuantityError::Format),
            ("1Kii", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1mm", QuantityError::Suffix),
        ];
        for (text, error) in rows {
            assert_eq!(Quantity::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_guessed_from_the_units_that_people_write() {
        let rows = [
            ("64mb", Some("did you mean 64M or 64Mi?")),
            ("64MB", Some("did you mean 64M or 64Mi?")),
            ("1.5g", Some("did you mean 1.5G or 1.5Gi?")),
            ("64K", Some("did you mean 64k or 64Ki?")),
            ("64kB", Some("did you mean 64k or 64Ki?")),
            ("64MiB", Some("did you mean 64Mi?")),
            ("64mi", Some("did you mean 64Mi?")),
            ("64 Mi", Some("did you mean 64Mi?")),
            ("500 m", Some("did you mean 500m?")),
            ("64B", Some("did you mean 64?")),
            ("64 bytes", Some("did you mean 64?")),
            ("many", None),
            ("64x", None),
            ("1.2.3M", None),
            ("", None),
            ("64\u{212a}", None),
        ];
        for (text, hint) in rows {
            assert_eq!(meant(text).as_deref(), hint, "{text}");
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_number_of_digits_overflows() {
        for text in
            ["9".repeat(200), format!("0.{}1", "0".repeat(200)), format!("{}Ei", "9".repeat(60)), "1e60".to_owned()]
        {
            assert!(Quantity::parse(&text).is_ok(), "{text}");
        }
        assert_eq!(Quantity::parse("9e99").expect("valid").units(), i64::MAX as u64);
    }
}
