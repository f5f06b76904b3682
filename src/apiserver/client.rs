//! The blocking client: requests with a credential that is kept up to date, within a rate, tried once more on a 401
//! with a fresh one.
//!
//! Shared by the two worker threads that talk to the API server. It holds no lock while a request is on its way, only
//! while it finds out what to send, which may run a plugin.

use super::answer::Answer;
use super::error::{ApiError, Said, is_json};
use super::kubeconfig::{Credential, Credentials, Kubeconfig, KubeconfigError, ServerTrust, Source, SourceError};
use super::rate_limit::RateLimit;
use super::watch::Watch;
use crate::http::{self, Certificates, Method, Proxies, ProxyError, TlsSettings, Trust, TrustedTime};
use crate::model::time::{Mono, Now, Wall};
use crate::sys::clock;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// Of anything but a watch.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// What a watch may take beyond the time that the server was asked to end it after.
const WATCH_TIME_BEYOND: Duration = Duration::from_secs(30);
/// A list of all pods of a node, with room: etcd holds objects of up to 1.5 MiB.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// One object as JSON, in an event.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A file with certificate authorities is looked at this often.
const AUTHORITY_LOOK: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum ClientError {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error("the variable {variable} of the environment: {fault}")]
    Proxy { variable: &'static str, fault: ProxyError },
}

#[derive(Debug)]
pub struct Client {
    /// Without a slash at the end.
    server: String,
    time: Arc<TrustedTime>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    credentials: Credentials,
    /// What changes with neither credential nor authority.
    settings: http::Settings,
    authority: Option<Authority>,
    /// And for which identity, by its number, it was made.
    connections: Option<(http::Client, u64)>,
    limit: RateLimit,
}

/// A certificate authority of the kubeconfig's, whose file may be replaced.
#[derive(Debug)]
struct Authority {
    source: Source,
    read: Option<(Vec<u8>, Mono)>,
}

impl Client {
    /// Reads the kubeconfig, and none of the files that it names; makes no connection.
    pub fn new(kubeconfig: &Path, user_agent: &str, time: Arc<TrustedTime>) -> Result<Client, ClientError> {
        Client::of(Kubeconfig::load(kubeconfig)?, user_agent, time)
    }

    pub fn of(kubeconfig: Kubeconfig, user_agent: &str, time: Arc<TrustedTime>) -> Result<Client, ClientError> {
        let proxies = match kubeconfig.proxy {
            Some(proxy) => Proxies::Fixed(proxy),
            None => Proxies::from_environment().map_err(|(variable, fault)| ClientError::Proxy { variable, fault })?,
        };
        let (trust, authority) = match kubeconfig.trust {
            ServerTrust::Host => (Trust::Host, None),
            ServerTrust::Anybody => (Trust::Anybody, None),
            ServerTrust::Authority(source) => (Trust::Host, Some(Authority { source, read: None })),
        };
        let tls = TlsSettings { trust, server_name: kubeconfig.tls_server_name, identity: None };
        let settings = http::Settings { user_agent: user_agent.to_owned(), tls, proxies, time: time.clone() };
        let credentials = Credentials::new(kubeconfig.user);
        let state = State { credentials, settings, authority, connections: None, limit: RateLimit::default() };
        Ok(Client { server: kubeconfig.server, time, state: Mutex::new(state) })
    }

    /// `https://host:port/prefix`
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What certificates are checked at; whoever keeps a time on disk tells it here.
    pub fn time(&self) -> &Arc<TrustedTime> {
        &self.time
    }

    /// One request. `path` starts with a slash; `content_type` belongs to the body. Only 2xx is an answer.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, ApiError> {
        let url = self.url(path, query);
        let wait = self.state().limit.take(now().mono);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        let asked = Asked { method, url: &url, content_type, body, deadline: REQUEST_TIME_MAX };
        let answer = self.authorized(|client, bearer| {
            let headers = asked.headers(bearer);
            let answer = client.request(asked.request(&headers, ANSWER_BYTES_MAX)).map_err(ApiError::of_http)?;
            Answer::new(self.operation(method, path), answer)
        })?;
        Ok(answer)
    }

    /// The watch of a list, which the server is asked to end after `lasts`.
    pub fn watch(&self, path: &str, query: &[(&str, &str)], lasts: Duration) -> Result<Watch, ApiError> {
        let seconds = lasts.as_secs().to_string();
        let query = [query, &[("watch", "true"), ("timeoutSeconds", &seconds)]].concat();
        let url = self.url(path, &query);
        let deadline = lasts.saturating_add(WATCH_TIME_BEYOND);
        let asked = Asked { method: Method::Get, url: &url, content_type: "", body: None, deadline };
        self.authorized(|client, bearer| {
            let headers = asked.headers(bearer);
            let stream = client.stream(asked.request(&headers, EVENT_BYTES_MAX)).map_err(ApiError::of_http)?;
            let operation = self.operation(Method::Get, path);
            if stream.head.status == 200 && is_json(&stream.head) {
                return Ok(Watch::new(operation, stream));
            }
            let answer = stream.into_answer(ANSWER_BYTES_MAX).map_err(ApiError::of_http)?;
            // A refusal, or what is neither JSON nor a refusal.
            let _ = Answer::new(operation.clone(), answer)?;
            Err(ApiError::Garbage(Said { operation, message: "the answer is no watch".to_owned() }))
        })
    }

    /// Runs `call` with the credential of now, and once more after a 401 where there is a newer one.
    fn authorized<T>(&self, call: impl Fn(&http::Client, Option<&str>) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let (client, credential) = self.state().ready(now())?;
        let bearer = |credential: &Credential| credential.bearer.as_ref().map(|bearer| bearer.reveal().to_owned());
        let refusal = match call(&client, bearer(&credential).as_deref()) {
            Err(refusal @ ApiError::Unauthorized(_)) => refusal,
            outcome => return outcome,
        };
        let mut state = self.state();
        if state.credentials.refresh(credential.number, now())?.is_none() {
            return Err(refusal);
        }
        let (client, credential) = state.ready(now())?;
        drop(state);
        call(&client, bearer(&credential).as_deref())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic left behind is at worst an older credential.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self, method: Method, path: &str) -> String {
        format!("{} {}{path}", method.name(), self.server)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.server);
        for (index, (name, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            escape(name, &mut url);
            url.push('=');
            escape(value, &mut url);
        }
        url
    }
}

struct Asked<'a> {
    method: Method,
    url: &'a str,
    content_type: &'a str,
    body: Option<&'a [u8]>,
    deadline: Duration,
}

impl<'a> Asked<'a> {
    fn headers(&self, bearer: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = vec![("accept", "application/json".to_owned())];
        if let Some(bearer) = bearer {
            headers.push(("authorization", format!("Bearer {bearer}")));
        }
        if self.body.is_some() {
            headers.push(("content-type", self.content_type.to_owned()));
        }
        headers
    }

    fn request<'h>(&'h self, headers: &'h [(&'static str, String)], bytes_max: usize) -> http::Request<'h>
    where
        'a: 'h,
    {
        http::Request {
            method: self.method,
            url: self.url,
            headers,
            body: self.body,
            deadline: self.deadline,
            bytes_max,
        }
    }
}

impl State {
    /// Connections for who we are now, and the credential.
    fn ready(&mut self, now: Now) -> Result<(http::Client, Credential), ApiError> {
        let credential = self.credentials.current(now)?;
        let authorities = self.authority.as_mut().map(|authority| authority.look(now.mono)).transpose();
        let authorities = authorities.map_err(|error| ApiError::Credentials(error.into()))?.flatten();
        if let Some(authorities) = authorities {
            self.settings.tls.trust = Trust::Only(authorities);
            self.connections = None;
        }
        if let Some((client, number)) = &self.connections
            && *number == credential.identity_number
        {
            return Ok((client.clone(), credential));
        }
        self.settings.tls.identity = credential.identity.clone();
        let client = http::Client::new(&self.settings);
        self.connections = Some((client.clone(), credential.identity_number));
        Ok((client, credential))
    }
}

impl Authority {
    /// The certificates, if they are others than at the last look.
    fn look(&mut self, now: Mono) -> Result<Option<Certificates>, SourceError> {
        if self.read.as_ref().is_some_and(|(_, at)| now.since(*at) < AUTHORITY_LOOK || self.source.path().is_none()) {
            return Ok(None);
        }
        let fresh = self.source.read().and_then(|pem| {
            let certificates = Certificates::from_pem(&pem).map_err(|fault| self.source.fault(fault))?;
            Ok((pem, certificates))
        });
        match (fresh, &mut self.read) {
            (Ok((pem, _)), Some((known, at))) if pem == *known => {
                *at = now;
                Ok(None)
            }
            (Ok((pem, certificates)), read) => {
                *read = Some((pem, now));
                Ok(Some(certificates))
            }
            (Err(error), Some((_, at))) => {
                *at = now;
                log::warn!("{error}; the certificate authority before it stays in use");
                Ok(None)
            }
            (Err(error), None) => Err(error),
        }
    }
}

fn now() -> Now {
    Now { mono: Mono(clock::boottime_ns()), wall: Wall(clock::realtime_ns()) }
}

/// For a query: all but what RFC 3986 calls unreserved.
fn escape(text: &str, into: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let mut text = String::new();
        escape("spec.nodeName=n 1&\u{e4}", &mut text);
        assert_eq!(text, "spec.nodeName%3Dn%201%26%C3%A4");
    }
    #[test]
    fn an_authority_that_is_replaced_is_read_again() {
        let ca: &[u8] = include_bytes!("../../tests/data/tls/ca.pem");
        let other: &[u8] = include_bytes!("../../tests/data/tls/other-ca.pem");
        let path = std::env::temp_dir().join(format!("pinlet-authority-{}", std::process::id()));
        let mut authority = Authority { source: Source::file("ca".to_owned(), path.clone()), read: None };
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        assert!(authority.look(at(0)).is_err());
        for (seconds, pem, fresh) in [
            (1, ca, true),
            (2, other, false),
            (12, other, true),
            (30, other, false),
            (50, b"half", false),
            (70, ca, true),
        ] {
            std::fs::write(&path, pem).unwrap();
            assert_eq!(authority.look(at(seconds)).unwrap().is_some(), fresh, "{seconds}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(authority.look(at(90)).unwrap().is_none());
    }
}
