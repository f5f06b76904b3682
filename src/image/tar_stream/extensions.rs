//! Headers that only speak of the next member: pax records and GNU's long names.

use super::TarError;
use crate::sys::openat::Timestamp;

/// What extension headers say of the member that follows them.
#[derive(Debug, Default)]
pub struct Extensions {
    pub any: bool,
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub gnu_name: Option<Vec<u8>>,
    pub gnu_link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timestamp>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub pax_sparse: bool,
}

impl Extensions {
    /// Records are `LENGTH KEY=VALUE\n`, and only the length says where one ends.
    pub fn read_pax(&mut self, mut records: &[u8]) -> Result<(), TarError> {
        const DAMAGED: TarError = TarError::Damaged("pax record");
        while !records.is_empty() {
            let blank = records.iter().take(20).position(|b| *b == b' ').ok_or(DAMAGED)?;
            let len = std::str::from_utf8(&records[..blank]).ok().and_then(|t| t.parse::<usize>().ok());
            let record = len.and_then(|len| records.get(blank + 1..len)).ok_or(DAMAGED)?;
            records = &records[blank + 1 + record.len()..];
            let record = record.strip_suffix(b"\n").ok_or(DAMAGED)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or(DAMAGED)?;
            self.set_pax(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    /// An empty value means what the plain header says (Go's reader).
    fn set_pax(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if key.starts_with(b"GNU.sparse.") {
            self.pax_sparse = true;
        }
        if value.is_empty() {
            return Ok(());
        }
        // Go's bound, and ours in the plain header: what fits a signed number.
        let decimal = || std::str::from_utf8(value).ok().and_then(|t| u64::try_from(t.parse::<i64>().ok()?).ok());
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal().ok_or(TarError::Damaged("pax size"))?),
            b"uid" => self.uid = Some(decimal().ok_or(TarError::Damaged("pax uid"))?),
            b"gid" => self.gid = Some(decimal().ok_or(TarError::Damaged("pax gid"))?),
            b"mtime" => self.mtime = Some(pax_time(value).ok_or(TarError::Damaged("pax mtime"))?),
            _ => {}
        }
        Ok(())
    }
}

/// Decimal seconds with an optional fraction, of which nine digits count; may be negative.
pub fn pax_time(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    match (text.starts_with('-'), nanos) {
        (true, 1..) => Some(Timestamp { seconds: seconds.checked_sub(1)?, nanos: 1_000_000_000 - nanos }),
        _ => Some(Timestamp { seconds, nanos }),
    }
}
