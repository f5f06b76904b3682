//! What a scalar's text means where a boolean, an integer or a number is expected.

/// YAML 1.1's booleans, which a kubelet takes, beside YAML 1.2's.
pub(super) fn as_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
        _ => None,
    }
}

/// Decimal, `0644` and `0o644` octal, `0x1f`, `0b11`, with a sign, and with `_` between digits.
pub(super) fn as_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if digits.starts_with('_') || !plain.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value = if let Some(hex) = plain.strip_prefix("0x").or(plain.strip_prefix("0X")) {
        radix(hex, 16)?
    } else if let Some(binary) = plain.strip_prefix("0b").or(plain.strip_prefix("0B")) {
        radix(binary, 2)?
    } else if let Some(octal) = plain.strip_prefix("0o").or(plain.strip_prefix("0O")) {
        radix(octal, 8)?
    } else if plain.len() > 1 && plain.starts_with('0') {
        radix(&plain[1..], 8)?
    } else {
        radix(&plain, 10)?
    };
    Some(if negative { -value } else { value })
}

/// `from_str_radix` alone would take a second sign.
fn radix(digits: &str, base: u32) -> Option<i128> {
    let clean = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
    if clean { i128::from_str_radix(digits, base).ok() } else { None }
}

/// `30.0` and `3e1`: a kubelet reads them by way of JSON, which tells no integer from a float.
pub(super) fn as_whole_float(text: &str) -> Option<i128> {
    /// Above, not every integer has a float.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && text.contains(['.', 'e', 'E']);
    let value = text.parse::<f64>().ok().filter(|value| plain && value.fract() == 0.0 && value.abs() <= EXACT_MAX);
    value.map(|value| value as i128)
}

pub(super) fn as_float(text: &str) -> Option<f64> {
    let finite = text.parse::<f64>().ok().filter(|value| value.is_finite());
    finite.or_else(|| as_int(text).map(|value| value as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_every_notation_that_a_kubelet_takes() {
        let rows = [
            ("0", Some(0)),
            ("30", Some(30)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("0644", Some(0o644)),
            ("0o644", Some(0o644)),
            ("0x1F", Some(31)),
            ("0b101", Some(5)),
            ("1_000", Some(1000)),
            ("0899", None),
            ("08", None),
            ("1.0", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("0x", None),
            ("ten", None),
        ];
        for (text, value) in rows {
            assert_eq!(as_int(text), value, "{text}");
        }
    }

    #[test]
    fn a_float_without_a_fraction_may_stand_for_an_integer() {
        assert_eq!(as_whole_float("30.0"), Some(30));
        assert_eq!(as_whole_float("3e1"), Some(30));
        for text in ["30.5", "inf", "nan", "1e300", "0899", "0x1e", ""] {
            assert_eq!(as_whole_float(text), None, "{text}");
        }
    }

    #[test]
    fn yes_and_on_are_booleans_in_three_spellings() {
        for text in ["yes", "Yes", "YES", "on", "true", "True"] {
            assert_eq!(as_bool(text), Some(true), "{text}");
        }
        for text in ["no", "off", "OFF", "false"] {
            assert_eq!(as_bool(text), Some(false), "{text}");
        }
        assert_eq!(as_bool("yEs"), None);
        assert_eq!(as_bool("1"), None);
    }
}
