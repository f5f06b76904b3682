//! What a request is to carry now: read when it is first needed, again when a file was replaced, when a plugin's
//! answer expires, and when the server says 401.
//!
//! A new file that cannot be used leaves the last good credential in place: files are replaced one after the other.

use super::exec::ExecError;
use super::resolve::is_header_text;
use super::secret::Secret;
use super::source::{Source, SourceError, Stamp};
use super::{CertificateSource, TokenSource, User};
use crate::error::chain;
use crate::http::{CertificateFault, Identity};
use crate::model::time::{Mono, Now};
use std::time::Duration;
use thiserror::Error;

/// A token file is looked at once a minute, as client-go does: kubelets of other nodes rotate within hours.
const TOKEN_LOOK: Duration = Duration::from_secs(60);
/// Certificate files are looked at with every request, but not more often than this.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(1);
/// A plugin's answer is renewed this long before it expires, so that no request meets its end, in seconds.
const EXPIRY_MARGIN: i64 = 10;

#[derive(Debug, Error)]
pub enum CredentialError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("the certificate of the plugin: {0}")]
    Printed(CertificateFault),
}

/// One state of who we are.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    pub bearer: Option<Secret>,
    pub identity: Option<Identity>,
    /// Differs whenever the identity does: connections of another one are not to be used.
    pub identity_number: u64,
    /// Differs whenever anything does.
    pub number: u64,
}

/// Keeps a user's credential up to date.
#[derive(Debug)]
pub struct Credentials {
    user: User,
    current: Credential,
    certificate: Look<[Stamp; 2]>,
    token: Look<Stamp>,
    plugin: PluginState,
}

/// What was seen of files at the last look.
#[derive(Debug)]
struct Look<S> {
    at: Option<Mono>,
    seen: Option<S>,
}

impl<S> Default for Look<S> {
    fn default() -> Look<S> {
        Look { at: None, seen: None }
    }
}

impl<S: PartialEq> Look<S> {
    fn is_due(&self, now: Mono, every: Duration) -> bool {
        self.at.is_none_or(|at| now.since(at) >= every)
    }
}

#[derive(Debug)]
enum PluginState {
    NeverRan,
    Ran { expires: Option<i64> },
}

impl Credentials {
    pub fn new(user: User) -> Credentials {
        Credentials {
            user,
            current: Credential::default(),
            certificate: Look::default(),
            token: Look::default(),
            plugin: PluginState::NeverRan,
        }
    }

    /// What to send now. May read files and run a plugin.
    pub fn current(&mut self, now: Now) -> Result<Credential, CredentialError> {
        self.look_at_certificate(now.mono, CERTIFICATE_LOOK)?;
        self.look_at_token(now.mono, TOKEN_LOOK)?;
        let due = match self.plugin {
            PluginState::NeverRan => true,
            PluginState::Ran { expires: Some(at) } => now.wall.0 / 1_000_000_000 >= at.saturating_sub(EXPIRY_MARGIN),
            PluginState::Ran { expires: None } => false,
        };
        if due {
            self.run_plugin()?;
        }
        Ok(self.current.clone())
    }

    /// After a 401 to credential `refused`: a newer one, if there is one now.
    pub fn refresh(&mut self, refused: u64, now: Now) -> Result<Option<Credential>, CredentialError> {
        if self.current.number == refused {
            self.look_at_certificate(now.mono, Duration::ZERO)?;
            self.look_at_token(now.mono, Duration::ZERO)?;
            self.run_plugin()?;
        }
        Ok((self.current.number != refused).then(|| self.current.clone()))
    }

    fn look_at_certificate(&mut self, now: Mono, every: Duration) -> Result<(), CredentialError> {
        let Some(source) = self.user.certificate.as_ref().filter(|_| self.certificate.is_due(now, every)) else {
            return Ok(());
        };
        let seen = [source.certificate.stamp(), source.key.stamp()];
        if self.certificate.seen == Some(seen) {
            self.certificate.at = Some(now);
            return Ok(());
        }
        match identity_of(source) {
            Ok(identity) => {
                self.certificate = Look { at: Some(now), seen: Some(seen) };
                self.current.identity = Some(identity);
                self.current.identity_number += 1;
                self.current.number += 1;
                Ok(())
            }
            Err(error) if self.current.identity.is_some() => {
                // Not noted as seen: the other file of the two may still be on its way.
                self.certificate.at = Some(now);
                log::warn!("{}; the certificate before it stays in use", chain(&error));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn look_at_token(&mut self, now: Mono, every: Duration) -> Result<(), CredentialError> {
        let (file, fallback) = match &self.user.token {
            None => return Ok(()),
            Some(TokenSource::Inline(token)) => {
                if self.current.bearer.is_none() {
                    self.current.bearer = Some(token.clone());
                    self.current.number += 1;
                }
                return Ok(());
            }
            Some(TokenSource::File { .. }) if !self.token.is_due(now, every) => return Ok(()),
            Some(TokenSource::File { file, fallback }) => (file, fallback),
        };
        let seen = file.stamp();
        if self.token.seen == Some(seen) {
            self.token.at = Some(now);
            return Ok(());
        }
        let bearer = match (token_of(file), &self.current.bearer, fallback) {
            (Ok(token), _, _) => {
                self.token = Look { at: Some(now), seen: Some(seen) };
                token
            }
            (Err(error), Some(_), _) => {
                self.token.at = Some(now);
                log::warn!("{}; the token before it stays in use", chain(&error));
                return Ok(());
            }
            (Err(_), None, Some(fallback)) => {
                self.token.at = Some(now);
                fallback.clone()
            }
            (Err(error), None, None) => return Err(error.into()),
        };
        if self.current.bearer.as_ref() != Some(&bearer) {
            self.current.bearer = Some(bearer);
            self.current.number += 1;
        }
        Ok(())
    }

    fn run_plugin(&mut self) -> Result<(), CredentialError> {
        let Some(plugin) = &self.user.exec else { return Ok(()) };
        let printed = plugin.run()?;
        let identity = printed.certificate.as_ref().map(|(certificate, key)| {
            Identity::from_pem(certificate.as_bytes(), key.reveal().as_bytes()).map_err(CredentialError::Printed)
        });
        let identity = identity.transpose()?;
        self.plugin = PluginState::Ran { expires: printed.expires };
        if identity.is_some() || self.current.identity.is_some() {
            self.current.identity_number += 1;
        }
        self.current.identity = identity;
        self.current.bearer = printed.token;
        self.current.number += 1;
        Ok(())
    }
}

fn identity_of(source: &CertificateSource) -> Result<Identity, SourceError> {
    let (certificate, key) = (source.certificate.read()?, source.key.read()?);
    Identity::from_pem(&certificate, &key).map_err(|fault| match fault {
        CertificateFault::NoCertificate => source.certificate.fault(fault),
        _ => source.key.fault(fault),
    })
}

fn token_of(file: &Source) -> Result<Secret, SourceError> {
    let text = String::from_utf8(file.read()?).map_err(|_| file.fault("not a token"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(file.fault("is empty"));
    }
    if !is_header_text(text) {
        return Err(file.fault("holds characters that no HTTP header may hold"));
    }
    Ok(Secret::new(text))
}
