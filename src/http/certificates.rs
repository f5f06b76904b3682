//! Certificates and keys from PEM, as a client needs them: whom it trusts, and who it is. Keys are never printed.

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Far above any bundle of roots, in bytes.
const BUNDLE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Where distributions keep the roots that they trust: the list that Go knows.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const DIRECTORIES: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The text never holds what was read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateFault {
    #[error("no PEM certificate in it")]
    NoCertificate,
    #[error("not PEM")]
    Pem,
    #[error("no PEM private key in it")]
    NoKey,
    #[error("the private key is encrypted, and nobody here knows its password")]
    Encrypted,
    #[error("a private key of a kind that TLS does not take here (RSA of 2048 bits or more, P-256, P-384, Ed25519)")]
    Kind,
    #[error("the private key belongs to another certificate")]
    Mismatch,
}

/// At least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates(pub(super) Vec<CertificateDer<'static>>);

impl Certificates {
    /// All of a PEM text; what else is in it does not matter.
    pub fn from_pem(pem: &[u8]) -> Result<Certificates, CertificateFault> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let all = all.map_err(|_| CertificateFault::Pem)?;
        if all.is_empty() { Err(CertificateFault::NoCertificate) } else { Ok(Certificates(all)) }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

/// A client's certificate, with its chain and key, which belong together.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<CertifiedKey>);

impl Identity {
    /// From two PEM texts, which may be one: the key is the first of any known kind (PKCS#1, SEC1, PKCS#8).
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Identity, CertificateFault> {
        let chain = Certificates::from_pem(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            _ if is_encrypted(key) => CertificateFault::Encrypted,
            PemError::NoItemsFound => CertificateFault::NoKey,
            _ => CertificateFault::Pem,
        })?;
        let signer = ring::sign::any_supported_type(&key).map_err(|_| CertificateFault::Kind)?;
        let pair = CertifiedKey::new(chain.0, signer);
        // What cannot be compared (a certificate of version 1, say) is left to the server to judge.
        match pair.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(CertificateFault::Mismatch)
            }
            Ok(()) | Err(_) => Ok(Identity(Arc::new(pair))),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

fn is_encrypted(pem: &[u8]) -> bool {
    // `BEGIN ENCRYPTED PRIVATE KEY`, or the older `Proc-Type: 4,ENCRYPTED`.
    let mark = b"ENCRYPTED";
    pem.windows(mark.len()).any(|window| window == mark)
}

/// What this host trusts: SSL_CERT_FILE and SSL_CERT_DIR as `get` knows them, else what the distribution keeps. There
/// may be none.
pub(super) fn of_host(get: impl Fn(&str) -> Option<String>) -> Vec<CertificateDer<'static>> {
    let (file, directories) = (get("SSL_CERT_FILE"), get("SSL_CERT_DIR"));
    let mut files: Vec<PathBuf> = match &file {
        Some(file) => vec![PathBuf::from(file)],
        None => BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()).into_iter().collect(),
    };
    let directories: Vec<PathBuf> = match &directories {
        Some(list) => list.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect(),
        None if files.is_empty() => DIRECTORIES.iter().map(PathBuf::from).collect(),
        None => Vec::new(),
    };
    for entry in directories.iter().filter_map(|dir| dir.read_dir().ok()).flatten().flatten() {
        files.push(entry.path());
    }
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    for file in files {
        // A directory of roots holds other things too: what is no certificate is passed over.
        let pem = read_bundle(&file).unwrap_or_default();
        found.extend(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    found.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    found
}

fn read_bundle(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(BUNDLE_BYTES_MAX).read_to_end(&mut pem)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{Dice, damaged};

    const DAMAGES: u64 = 2000;

    fn data(name: &str) -> String {
        format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_roots_of_a_host_are_where_it_says() {
        let of = |file: Option<String>, directory: Option<String>| {
            let get = move |name: &str| match name {
                "SSL_CERT_FILE" => file.clone(),
                "SSL_CERT_DIR" => directory.clone(),
                _ => None,
            };
            of_host(get).len()
        };
        assert_eq!(of(Some(data("ca.pem")), None), 1);
        assert_eq!(of(Some(data("make.sh")), None), 0);
        assert_eq!(of(Some("/nowhere".to_owned()), Some("/nowhere".to_owned())), 0);
        // Keys and scripts beside them are passed over, and what is there twice counts once.
        let directory = format!("{}:{}", data(""), data(""));
        assert!(of(Some(data("ca.pem")), Some(directory)) > 5);
    }

    #[test]
    fn no_damage_makes_the_readers_panic() {
        let read = |name: &str| std::fs::read(data(name)).unwrap();
        for (certificate, key) in [("client-p256.pem", "p256.sec1.key"), ("client-rsa.pem", "rsa.pkcs1.key")] {
            let (certificate, key) = (read(certificate), read(key));
            assert!(Identity::from_pem(&certificate, &key).is_ok());
            for seed in 0..DAMAGES / 4 {
                let mut dice = Dice::new(seed);
                let _ = Identity::from_pem(&damaged(&certificate, &mut dice), &damaged(&key, &mut dice));
            }
            let der = Certificates::from_pem(&certificate).unwrap().0.remove(0);
            for seed in 0..DAMAGES {
                let _ = super::super::validity::of(&damaged(&der, &mut Dice::new(seed)));
            }
        }
    }
}
