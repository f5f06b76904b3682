//! Whether a server is who it should be. rustls decides, but for one case that it refuses and Go accepts: a server whose
//! own certificate is the configured authority, which is what `openssl req -x509` makes.

use super::trusted_time::TrustedTime;
use super::validity;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Verifier {
    pub inner: Arc<WebPkiServerVerifier>,
    /// What was configured, to compare a leaf with.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.authorities.contains(end_entity) => {
                verify_own_authority(end_entity, server_name, now)
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trust is given; the name and the dates are left to check.
fn verify_own_authority(
    end_entity: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
    let (not_before, not_after) = validity::of(end_entity).ok_or(CertificateError::BadEncoding)?;
    let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    if now.as_secs() < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: time(not_before) }.into());
    }
    if now.as_secs() > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after: time(not_after) }.into());
    }
    Ok(ServerCertVerified::assertion())
}

/// For `insecure-skip-tls-verify`: anybody who answers.
#[derive(Debug)]
pub(super) struct Anybody {
    pub schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// `DnsName("a")` or `IpAddress(::1)` without what only a programmer reads.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// What a user can do something with, of a failed handshake. `trusted`: whom we trust, in words.
pub(super) fn explain(error: &Error, trusted: &str, time: &TrustedTime) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("the server's certificate is not signed by {trusted}")
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let names = if presented.is_empty() {
                "no name at all".to_owned()
            } else {
                presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
            };
            format!("the server's certificate is not for {}; it is for {names}", expected.to_str())
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            let behind = time.clock_is_behind().as_secs();
            let clock =
                if behind > 0 { format!("; this host's clock is at least {behind} s behind") } else { String::new() };
            let ahead = not_before.as_secs().saturating_sub(time.now());
            format!("the server's certificate becomes valid in {ahead} s only{clock}")
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            format!("the server's certificate expired {} s ago", time.now().saturating_sub(not_after.as_secs()))
        }
        Error::AlertReceived(alert) => format!("the server ended the TLS handshake: {alert:?}"),
        Error::InvalidMessage(_) => format!("the server does not speak TLS: {error}"),
        other => format!("TLS: {other}"),
    }
}
