//! From when to when a certificate is valid: two fields out of its DER, and nothing else of it.
//!
//! rustls checks certificates; this is for the one kind that it refuses before it looks at the dates.

use super::date::days;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notBefore` and `notAfter` in seconds since the epoch; `None` for what is no certificate.
pub(super) fn of(certificate: &[u8]) -> Option<(u64, u64)> {
    let (whole, _) = take(certificate, SEQUENCE)?;
    let (mut body, _) = take(whole, SEQUENCE)?;
    if let Some((_, rest)) = take(body, VERSION) {
        body = rest;
    }
    let (_serial, body) = take(body, INTEGER)?;
    let (_algorithm, body) = take(body, SEQUENCE)?;
    let (_issuer, body) = take(body, SEQUENCE)?;
    let (validity, _) = take(body, SEQUENCE)?;
    let (before, rest) = time(validity)?;
    let (after, _) = time(rest)?;
    Some((before, after))
}

/// The contents of a value with this tag, and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    let (text, rest) = take(der, UTC_TIME).or_else(|| take(der, GENERALIZED_TIME))?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, fields) = match text.len() {
        // X.509: 50 to 99 are of the last century.
        12 => {
            (text.get(..2)?.parse::<u64>().ok().map(|yy| if yy < 50 { 2000 + yy } else { 1900 + yy })?, text.get(2..)?)
        }
        14 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let field = |at: usize| fields.get(at..at + 2).and_then(|digits| digits.parse::<u64>().ok());
    let day = days(year, field(0)?, field(2)?)?;
    Some((day * 24 * 60 * 60 + field(4)? * 3600 + field(6)? * 60 + field(8)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(version: bool, before: &[u8], after: &[u8]) -> Vec<u8> {
        let value = |tag: u8, body: &[u8]| [&[tag, u8::try_from(body.len()).unwrap()], body].concat();
        let validity = value(SEQUENCE, &[before, after].concat());
        let empty = value(SEQUENCE, &[]);
        let version = if version { value(VERSION, &value(INTEGER, &[2])) } else { Vec::new() };
        let body = [version, value(INTEGER, &[1]), empty.clone(), empty, validity].concat();
        value(SEQUENCE, &value(SEQUENCE, &body))
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        let utc = b"\x17\x0d260601000000Z";
        let generalized = b"\x18\x0f20991231235959Z";
        for version in [true, false] {
            assert_eq!(of(&certificate(version, utc, generalized)), Some((1_780_272_000, 4_102_444_799)));
        }
        let whole = certificate(true, utc, generalized);
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None);
        }
        assert_eq!(of(&certificate(true, b"\x17\x0d26060100000xZ", generalized)), None);
    }
}
