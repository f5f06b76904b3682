//! Which proxy leads to a host: the one that is named for this client, else the environment's by Go's rules (per
//! scheme, upper and lower case names, NO_PROXY, loopback exempt). Only HTTP proxies, by CONNECT, whatever the scheme
//! of the request: a tunnel is the same for both.

use super::no_proxy::NoProxy;
use base64::Engine as _;
use std::fmt;
use std::net::IpAddr;
use ureq::http::Uri;
use ureq::http::uri::Authority;

#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of a Proxy-Authorization header.
    pub(super) authorization: Option<String>,
}

/// Without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a URL names no proxy that is used here. The text never holds the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("not a URL")]
    Url,
    #[error("{0} proxies are not supported; an http:// one is")]
    Scheme(String),
}

impl Proxy {
    /// `http://[user[:password]@]host[:port]`, or the same without its scheme.
    pub fn parse(text: &str) -> Result<Proxy, ProxyError> {
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_| ProxyError::Url)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(other @ ("https" | "socks4" | "socks5" | "socks5h")) => {
                return Err(ProxyError::Scheme(other.to_owned()));
            }
            Some(_) | None => return Err(ProxyError::Url),
        }
        let authority = uri.authority().filter(|a| !a.host().is_empty()).ok_or(ProxyError::Url)?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let pair = [unescaped(name), vec![b':'], unescaped(password)].concat();
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        let port = written_port(authority).ok_or(ProxyError::Url)?.unwrap_or(80);
        Ok(Proxy { host: authority.host().to_owned(), port, authorization })
    }
}

/// The port, if there is one; `None` where what is written there is none. (The crate's own reader takes a port that is
/// too large for no port at all.)
pub(super) fn written_port(authority: &Authority) -> Option<Option<u16>> {
    let host_on = authority.as_str().rsplit('@').next().unwrap_or_default();
    match host_on.strip_prefix(authority.host())?.strip_prefix(':') {
        None | Some("") => Some(None),
        Some(text) => text.parse().ok().map(Some),
    }
}

/// `%41` as `A`; what is no escape stays.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).1,
            None => (bytes.push(*first), rest = tail).1,
        }
    }
    bytes
}

/// How a client reaches its hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxies {
    #[default]
    Direct,
    /// For every host.
    Fixed(Proxy),
    Environment(Environment),
}

/// What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    https: Option<Proxy>,
    http: Option<Proxy>,
    none_for: NoProxy,
}

impl Environment {
    /// From variables as `get` knows them. A proxy that cannot be used is an error that names the variable: to go past
    /// it would send what was to go through it.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Environment, (&'static str, ProxyError)> {
        let any = |upper: &str, lower: &str| [upper, lower].iter().find_map(|name| get(name).filter(|v| !v.is_empty()));
        let proxy = |upper: &'static str, lower| {
            any(upper, lower).map(|text| Proxy::parse(&text)).transpose().map_err(|error| (upper, error))
        };
        Ok(Environment {
            https: proxy("HTTPS_PROXY", "https_proxy")?,
            http: proxy("HTTP_PROXY", "http_proxy")?,
            none_for: NoProxy::parse(&any("NO_PROXY", "no_proxy").unwrap_or_default()),
        })
    }
}

impl Proxies {
    /// By the environment of this process.
    pub fn from_environment() -> Result<Proxies, (&'static str, ProxyError)> {
        Ok(Proxies::Environment(Environment::read(|name| std::env::var(name).ok())?))
    }

    pub(super) fn to(&self, uri: &Uri) -> Option<&Proxy> {
        match self {
            Proxies::Direct => None,
            Proxies::Fixed(proxy) => Some(proxy),
            Proxies::Environment(environment) => {
                let https = uri.scheme_str() == Some("https");
                let proxy = if https { environment.https.as_ref() } else { environment.http.as_ref() }?;
                let host = uri.host().unwrap_or_default();
                let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
                let exempt = is_loopback(host) || environment.none_for.covers(host, port);
                (!exempt).then_some(proxy)
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Proxies {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxies::Environment(Environment::read(get).unwrap())
    }

    fn way(proxies: &Proxies, url: &str) -> String {
        proxies.to(&url.parse().unwrap()).map_or("direct".to_owned(), ToString::to_string)
    }

    #[test]
    fn the_environment_is_read_as_go_reads_it() {
        let both =
            environment(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2"), ("no_proxy", "in.corp,10.0.0.0/8")]);
        for (url, wanted) in [
            ("https://api:6443/x", "s:1"),
            ("http://api/", "p:2"),
            ("https://a.in.corp/", "direct"),
            ("https://10.9.9.9:6443", "direct"),
            ("https://localhost:6443", "direct"),
            ("https://127.3.2.1:6443", "direct"),
            ("https://[::1]:6443", "direct"),
        ] {
            assert_eq!(way(&both, url), wanted, "{url}");
        }
        let upper_wins = environment(&[("HTTPS_PROXY", "a"), ("https_proxy", "b"), ("ALL_PROXY", "c")]);
        assert_eq!(way(&upper_wins, "https://x"), "a:80");
        assert_eq!(way(&upper_wins, "http://x"), "direct");
        let empty = environment(&[("HTTPS_PROXY", ""), ("https_proxy", "b:3")]);
        assert_eq!(way(&empty, "https://x"), "b:3");
        let fixed = Proxies::Fixed(Proxy::parse("http://p:9").unwrap());
        assert_eq!(way(&fixed, "https://localhost"), "p:9");
    }

    #[test]
    fn a_proxy_url_holds_a_user_and_never_shows_it() {
        let proxy = Proxy::parse("http://us%40er:p%3Aw@[fd00::1]:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("[fd00::1]", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dXNAZXI6cDp3"));
        assert_eq!(format!("{proxy:?}"), "Proxy([fd00::1]:3128)");
        for (text, error) in [
            ("", ProxyError::Url),
            ("http://", ProxyError::Url),
            ("ftp://x", ProxyError::Url),
            ("http://x:99999", ProxyError::Url),
            ("https://x", ProxyError::Scheme("https".to_owned())),
            ("socks5://x:1", ProxyError::Scheme("socks5".to_owned())),
        ] {
            assert_eq!(Proxy::parse(text), Err(error), "{text}");
        }
        let refused = Environment::read(|name| (name == "HTTPS_PROXY").then(|| "socks5://u:secret@x".to_owned()));
        assert_eq!(refused.unwrap_err(), ("HTTPS_PROXY", ProxyError::Scheme("socks5".to_owned())));
    }
}
