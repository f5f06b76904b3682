//! The numbers of a header.

use super::{MemberKind, TarError};

/// Octal text, or a binary number behind a set high bit (GNU); an empty field is 0.
pub fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let negative = first & 0x40 != 0;
        let start = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        let value = rest.iter().try_fold(start, |n, b| n.checked_mul(256).map(|n| n | i128::from(*b)))?;
        return i64::try_from(value).ok();
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    let text = text.split('\0').next().unwrap_or_default();
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

pub fn unsigned(field: &[u8], what: &'static str) -> Result<u64, TarError> {
    number(field).and_then(|n| u64::try_from(n).ok()).ok_or(TarError::Damaged(what))
}

pub fn device_numbers(header: &tar::Header, kind: MemberKind) -> Result<(u64, u64), TarError> {
    if !matches!(kind, MemberKind::CharDevice | MemberKind::BlockDevice) {
        return Ok((0, 0));
    }
    // ustar and GNU headers have the two fields at the same place.
    let bytes = header.as_bytes();
    Ok((unsigned(&bytes[329..337], "device number")?, unsigned(&bytes[337..345], "device number")?))
}
