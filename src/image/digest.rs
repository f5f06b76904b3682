//! Content digests: the text form, checked once, and a reader that computes one on the way.
//!
//! Only sha256 is known: nothing else is in use for images, and a digest becomes a file name here, so it must be
//! exactly 64 hex digits.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};

/// `sha256:` and 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    hex: String,
}

impl Digest {
    /// `None` unless `text` is `sha256:` and 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Digest> {
        Digest::from_hex(text.strip_prefix("sha256:")?)
    }

    pub fn from_hex(hex: &str) -> Option<Digest> {
        let ok = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Digest { hex: hex.to_owned() })
    }

    pub fn of(bytes: &[u8]) -> Digest {
        finish(Sha256::new().chain_update(bytes))
    }

    /// The 64 digits: safe as a file name.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Digest, String> {
        Digest::parse(&text).ok_or_else(|| format!("{text:?} is no sha256 digest"))
    }
}

/// The identity of a layer on top of what lies below it (OCI image-spec, config.md, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

/// Passes `inner` through, and hashes and counts what passes.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hash: Sha256,
    len: u64,
    failed: bool,
}

impl<R: Read> HashingReader<R> {
    pub fn new(inner: R) -> HashingReader<R> {
        HashingReader { inner, hash: Sha256::new(), len: 0, failed: false }
    }

    /// True if reading `inner` itself failed, whatever a decoder between here and the reader made of that.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Reads to the end, then gives the digest of all that passed and its length in bytes.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((finish(self.hash), self.len))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match self.inner.read(buffer) {
            Ok(n) => n,
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                return Err(error);
            }
        };
        self.hash.update(&buffer[..n]);
        self.len += n as u64;
        Ok(n)
    }
}

fn finish(hash: Sha256) -> Digest {
    Digest { hex: hash.finalize().iter().map(|b| format!("{b:02x}")).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_sha256_in_lower_case_is_a_digest() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::parse(EMPTY).unwrap(), Digest::of(b""));
        for bad in ["", "sha256:", "sha512:00", &EMPTY.to_uppercase(), &EMPTY[..70], "sha256:../../etc/passwd"] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:00\"").is_err());
    }

    #[test]
    fn a_chain_id_depends_on_all_below() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let ids = chain_ids(&[a.clone(), b.clone(), b.clone()]);
        assert_eq!(ids[0], a);
        assert_eq!(ids[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(ids[1], ids[2]);
        assert_eq!(chain_ids(&[]), []);
    }

    #[test]
    fn a_reader_hashes_also_what_its_user_left_unread() {
        let mut reader = HashingReader::new(&b"hello"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(reader.finish().unwrap(), (Digest::of(b"hello"), 5));
    }
}
