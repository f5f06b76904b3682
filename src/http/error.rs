//! What can go wrong with a request, typed: the text names the operation and the URL, once.

use super::client::{CONNECT_TIME_MAX, HEAD_TIME_MAX, RESOLVE_TIME_MAX};
use std::io;
use std::time::Duration;
use thiserror::Error;

/// A request that got no answer, or none that can be used.
#[derive(Debug, Error)]
#[error("{method} {url}: {cause}")]
pub struct Error {
    method: &'static str,
    /// Without query and user: neither says more about what failed, and a user may come with a password.
    url: String,
    cause: Box<Cause>,
}

impl Error {
    pub(super) fn new(method: &'static str, url: &str, cause: Cause) -> Error {
        let (rest, host_on) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
        let host_on = host_on.split(['?', '#']).next().unwrap_or_default();
        let authority_end = host_on.find('/').unwrap_or(host_on.len());
        let host = host_on[..authority_end].rsplit('@').next().unwrap_or_default();
        let url = format!("{rest}://{host}{}", &host_on[authority_end..]);
        Error { method, url, cause: Box::new(cause) }
    }

    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

#[derive(Debug, Error)]
pub enum Cause {
    #[error("{0}")]
    Url(String),
    #[error("the name {name} does not resolve: {why}")]
    Resolve { name: String, why: String },
    #[error("no connection to {peer}: {source}")]
    Connect { peer: String, source: io::Error },
    #[error("the proxy {proxy} {what}")]
    Proxy { proxy: String, what: String },
    #[error("{0}")]
    Tls(String),
    #[error("no answer within {}", seconds(*.0))]
    Deadline(Duration),
    /// Also what a server does that closes an idle connection at the moment of its next use.
    #[error("the server closed the connection before the end of its answer")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("not an HTTP answer: {0}")]
    Protocol(String),
    #[error("the answer is larger than {max} bytes")]
    TooLarge { max: usize },
    #[error("a line of the answer is longer than {max} bytes")]
    LineTooLong { max: usize },
}

impl Cause {
    /// What ureq says, or what our connector said through ureq.
    pub(super) fn of(error: ureq::Error, deadline: Duration) -> Cause {
        match error {
            ureq::Error::Other(inner) => match inner.downcast::<Cause>() {
                Ok(cause) => *cause,
                Err(inner) => Cause::Protocol(inner.to_string()),
            },
            ureq::Error::Timeout(phase) => Cause::Deadline(deadline.min(bound_of(phase))),
            ureq::Error::Io(inner) => Cause::of_io(inner, deadline),
            ureq::Error::BadUri(text) => Cause::Url(text),
            ureq::Error::Http(inner) => Cause::Url(inner.to_string()),
            ureq::Error::Protocol(inner) => Cause::Protocol(inner.to_string()),
            other => Cause::Protocol(other.to_string()),
        }
    }

    /// An error of reading a body, which may hold one of ureq's.
    pub(super) fn of_io(error: io::Error, deadline: Duration) -> Cause {
        if error.get_ref().is_some_and(|inner| inner.is::<ureq::Error>()) {
            return Cause::of(ureq::Error::from(error), deadline);
        }
        match error.kind() {
            // With a number it is the kernel's: a peer that answers no probe.
            io::ErrorKind::TimedOut if error.raw_os_error().is_none() => Cause::Deadline(deadline),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Cause::Closed,
            _ => Cause::Io(error),
        }
    }

    /// For ureq to carry to whoever asked.
    pub(super) fn carried(self) -> ureq::Error {
        ureq::Error::Other(Box::new(self))
    }
}

/// What a phase of an exchange may take, whatever the deadline of the whole.
fn bound_of(phase: ureq::Timeout) -> Duration {
    match phase {
        ureq::Timeout::Resolve => RESOLVE_TIME_MAX,
        ureq::Timeout::Connect => CONNECT_TIME_MAX,
        ureq::Timeout::RecvResponse => HEAD_TIME_MAX,
        _ => Duration::MAX,
    }
}

fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{:.1} s", time.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_operation_and_url_once_and_no_secret() {
        let error =
            Error::new("GET", "https://u:secret@api:6443/a/b?token=x", Cause::Deadline(Duration::from_secs(10)));
        assert_eq!(error.to_string(), "GET https://api:6443/a/b: no answer within 10 s");
        let error = Error::new("PUT", "http://[::1]:1", Cause::Deadline(Duration::from_millis(1500)));
        assert_eq!(error.to_string(), "PUT http://[::1]:1: no answer within 1.5 s");
    }

    #[test]
    fn a_cause_of_ours_comes_back_through_ureq() {
        let carried = Cause::TooLarge { max: 3 }.carried().into_io();
        assert!(matches!(Cause::of_io(carried, Duration::ZERO), Cause::TooLarge { max: 3 }));
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(matches!(Cause::of(ureq::Error::Io(eof), Duration::ZERO), Cause::Closed));
        let dead = io::Error::from_raw_os_error(110);
        assert!(matches!(Cause::of(ureq::Error::Io(dead), Duration::ZERO), Cause::Io(_)));
        let slow = ureq::Error::Timeout(ureq::Timeout::Connect);
        assert_eq!(Cause::of(slow, Duration::from_secs(330)).to_string(), "no answer within 10 s");
    }
}
