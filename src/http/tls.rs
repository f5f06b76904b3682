//! TLS as a client is told to do it: whom to trust, under which name, as whom, and at what time.

use super::certificates::{self, Certificates, Identity};
use super::error::Cause;
use super::trusted_time::TrustedTime;
use super::verify::{self, Anybody, Verifier};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::{Arc, LazyLock};

/// A client talks to one server, over two connections.
const SESSIONS_MAX: usize = 4;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

/// Who may answer.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Whoever this host's own roots vouch for.
    #[default]
    Host,
    /// Whoever these vouch for, and nobody else.
    Only(Certificates),
    /// Anybody: what is sent can be read and changed on the way.
    Anybody,
}

#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    pub trust: Trust,
    /// The name that the server must prove, instead of the URL's host; also sent as SNI.
    pub server_name: Option<String>,
    pub identity: Option<Identity>,
}

/// Ready to make connections.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
    trusted: &'static str,
    time: Arc<TrustedTime>,
}

impl Tls {
    pub fn new(settings: &TlsSettings, time: Arc<TrustedTime>) -> Result<Tls, String> {
        let builder = ClientConfig::builder_with_details(PROVIDER.clone(), time.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let (configured, trusted) = match &settings.trust {
            Trust::Host => (Vec::new(), "an authority that this host trusts"),
            Trust::Only(only) => (only.0.clone(), "the configured certificate authority"),
            Trust::Anybody => (Vec::new(), "anybody"),
        };
        let verifier: Arc<dyn ServerCertVerifier> = match settings.trust {
            Trust::Anybody => {
                Arc::new(Anybody { schemes: PROVIDER.signature_verification_algorithms.supported_schemes() })
            }
            Trust::Host | Trust::Only(_) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(configured.iter().cloned());
                if matches!(settings.trust, Trust::Host) {
                    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
                    roots.add_parsable_certificates(certificates::of_host(get));
                }
                let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone()).build();
                Arc::new(Verifier { inner: inner.map_err(|_| no_roots(&settings.trust))?, authorities: configured })
            }
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match &settings.identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.0.as_ref().clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config), server_name: settings.server_name.clone(), trusted, time })
    }

    /// A connection that has not shaken hands yet.
    pub fn connection(&self, host: &str) -> Result<ClientConnection, Cause> {
        let name = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        let checked = ServerName::try_from(name.to_owned());
        let checked = checked.map_err(|_| Cause::Tls(format!("{name:?} is no name that a server can prove")))?;
        ClientConnection::new(self.config.clone(), checked).map_err(|error| self.fault(&error))
    }

    pub fn fault(&self, error: &rustls::Error) -> Cause {
        Cause::Tls(verify::explain(error, self.trusted, &self.time))
    }
}

fn no_roots(trust: &Trust) -> String {
    match trust {
        Trust::Only(_) => {
            "the configured certificate authority holds no certificate that can vouch for a server".to_owned()
        }
        Trust::Host | Trust::Anybody => {
            "this host has no certificate authorities (ca-certificates is not installed)".to_owned()
        }
    }
}
