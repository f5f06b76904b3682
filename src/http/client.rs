//! The blocking client: one request, one answer, both bounded; or one request and the lines that follow it.
//!
//! For worker threads: every call may take as long as its deadline. It follows no redirects and keeps no cookies.

use super::connector::{Dialler, Names, Ways};
use super::date;
use super::error::{Cause, Error};
use super::lines::Lines;
use super::proxy::{Proxies, written_port};
use super::tls::{Tls, TlsSettings};
use super::trusted_time::TrustedTime;
use super::wire::BUFFER_BYTES;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, Method as HttpMethod, Request as HttpRequest, Response, Uri};
use ureq::{Agent, Body};

/// A lease is renewed every 10 s: its connection is kept between two, and through a few that are missed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);
/// One for the requests; the one of a watch is never idle.
const IDLE_CONNECTIONS_MAX: usize = 2;
/// Connection, proxy and TLS together: a host that is down is known long before a watch's deadline.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
pub(super) const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);
/// From the request to the head of the answer, which a watch sends at once.
pub(super) const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    fn http(self) -> HttpMethod {
        match self {
            Method::Get => HttpMethod::GET,
            Method::Post => HttpMethod::POST,
            Method::Put => HttpMethod::PUT,
            Method::Patch => HttpMethod::PATCH,
            Method::Delete => HttpMethod::DELETE,
        }
    }

    /// Whether a request that may have been carried out can simply be sent again (RFC 9110, 9.2.2).
    fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Put | Method::Delete)
    }
}

/// What every request of a client has in common.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub user_agent: String,
    pub tls: TlsSettings,
    pub proxies: Proxies,
    pub time: Arc<TrustedTime>,
}

#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: &'a [(&'a str, String)],
    pub body: Option<&'a [u8]>,
    /// Of the whole exchange, from the name's resolution to the last byte of the answer.
    pub deadline: Duration,
    /// Of the answer's body, or of one line of it.
    pub bytes_max: usize,
}

/// Without headers and body, which hold secrets.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.name(), self.url)
    }
}

/// Whatever the server said, of whatever status.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub struct Head {
    pub status: u16,
    headers: HeaderMap,
}

impl Head {
    /// The first of that name, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Without its parameters.
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type").map(|value| value.split(';').next().unwrap_or_default().trim())
    }

    /// The server's clock, in seconds since the epoch.
    pub fn date(&self) -> Option<u64> {
        self.header("date").and_then(date::parse)
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        match value.parse::<u32>() {
            Ok(seconds) => Some(Duration::from_secs(seconds.into())),
            Err(_) => Some(Duration::from_secs(date::parse(value)?.saturating_sub(self.date()?))),
        }
    }
}

/// An answer that goes on, line by line. Dropping it closes the connection.
pub struct Stream {
    pub head: Head,
    lines: Lines<Box<dyn Read + Send>>,
    method: Method,
    url: String,
}

impl Stream {
    /// The rest as one body: what a server sends that does not want to be watched.
    pub fn into_answer(mut self, bytes_max: usize) -> Result<Answer, Error> {
        match self.lines.into_rest(bytes_max) {
            Ok(body) => Ok(Answer { head: self.head, body }),
            Err(cause) => Err(Error::new(self.method.name(), &std::mem::take(&mut self.url), cause)),
        }
    }
}

impl Iterator for Stream {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        let line = self.lines.next_line()?;
        Some(line.map_err(|cause| Error::new(self.method.name(), &self.url, cause)))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("head", &self.head).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// Makes no connection yet. TLS that cannot work is the error of the first request that needs it.
    pub fn new(settings: &Settings) -> Client {
        let config = Agent::config_builder()
            .user_agent(settings.user_agent.as_str())
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(HEAD_BYTES_MAX)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .max_idle_age(IDLE_TIME_MAX)
            .timeout_resolve(Some(RESOLVE_TIME_MAX))
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_recv_response(Some(HEAD_TIME_MAX))
            .build();
        let tls = Tls::new(&settings.tls, settings.time.clone()).map(Arc::new);
        let ways = Arc::new(Ways { proxies: settings.proxies.clone(), tls });
        Client { agent: Agent::with_parts(config, Dialler(ways.clone()), Names(ways)) }
    }

    /// One exchange. Any status is an answer.
    pub fn request(&self, request: Request<'_>) -> Result<Answer, Error> {
        let fault = |cause| Error::new(request.method.name(), request.url, cause);
        match self.exchange(request) {
            // A kept connection that the server closed when it was used again.
            Err(Cause::Closed) if request.method.is_idempotent() => self.exchange(request).map_err(fault),
            outcome => outcome.map_err(fault),
        }
    }

    /// One request, and the lines of its answer as they come.
    pub fn stream(&self, request: Request<'_>) -> Result<Stream, Error> {
        let fault = |cause| Error::new(request.method.name(), request.url, cause);
        let opened = match self.send(request) {
            Err(Cause::Closed) if request.method.is_idempotent() => self.send(request),
            outcome => outcome,
        };
        let (head, body) = opened.map_err(fault)?;
        let reader: Box<dyn Read + Send> = Box::new(body.into_reader());
        let lines = Lines::new(reader, request.bytes_max, request.deadline);
        Ok(Stream { head, lines, method: request.method, url: request.url.to_owned() })
    }

    fn exchange(&self, request: Request<'_>) -> Result<Answer, Cause> {
        let (head, body) = self.send(request)?;
        let max = request.bytes_max;
        let announced = body.content_length().unwrap_or(0);
        if announced > max as u64 {
            return Err(Cause::TooLarge { max });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        let mut reader = body.into_reader().take(max as u64 + 1);
        reader.read_to_end(&mut bytes).map_err(|error| Cause::of_io(error, request.deadline))?;
        if bytes.len() > max {
            return Err(Cause::TooLarge { max });
        }
        Ok(Answer { head, body: bytes })
    }

    fn send(&self, request: Request<'_>) -> Result<(Head, Body), Cause> {
        let uri = checked(request.url).ok_or_else(|| Cause::Url("not a URL that can be asked".to_owned()))?;
        let mut builder = HttpRequest::builder().method(request.method.http()).uri(uri);
        for (name, value) in request.headers {
            builder = builder.header(*name, value);
        }
        let refused = |error: ureq::http::Error| Cause::Url(error.to_string());
        let answer = match request.body {
            Some(body) => self.run(builder.body(body).map_err(refused)?, request.deadline),
            None => self.run(builder.body(()).map_err(refused)?, request.deadline),
        };
        let (parts, body) = answer.map_err(|error| Cause::of(error, request.deadline))?.into_parts();
        Ok((Head { status: parts.status.as_u16(), headers: parts.headers }, body))
    }

    fn run(
        &self,
        request: HttpRequest<impl ureq::AsSendBody>,
        deadline: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request).timeout_global(Some(deadline)).build();
        self.agent.run(request)
    }
}

/// A whole http or https URL.
fn checked(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let whole = uri.authority().is_some_and(|a| !a.host().is_empty() && written_port(a).is_some());
    (known && whole).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_urls_are_asked() {
        for url in ["http://a", "https://a:6443/x?y=z", "http://[::1]:1/", "https://a:/"] {
            assert!(checked(url).is_some(), "{url}");
        }
        for url in ["", "a", "/x", "ftp://a", "http://", "http://a:99999", "http://a:x", "http://:1", "http://a b"] {
            assert!(checked(url).is_none(), "{url}");
        }
    }

    fn head(pairs: &[(&'static str, &'static str)]) -> Head {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        Head { status: 200, headers }
    }

    #[test]
    fn a_server_says_in_seconds_or_as_a_date_when_to_come_back() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (pairs, seconds) in [
            (&[("retry-after", "7")][..], Some(7)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT"), date], Some(60)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), date], Some(0)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], None),
            (&[("retry-after", "soon"), date], None),
            (&[date], None),
        ] {
            assert_eq!(head(pairs).retry_after().map(|time| time.as_secs()), seconds, "{pairs:?}");
        }
        assert_eq!(head(&[date]).date(), Some(784_111_777));
        assert_eq!(
            head(&[("content-type", "application/json; charset=utf-8")]).content_type(),
            Some("application/json")
        );
    }
}
