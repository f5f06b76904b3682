//! How ureq gets a connection: the name of whoever is dialled (the server, or the proxy that leads to it), a socket that
//! notices a dead peer, a tunnel through the proxy, and TLS.

use super::error::Cause;
use super::proxy::Proxies;
use super::tls::Tls;
use super::tunnel;
use super::wire::{Until, Wire};
use crate::sys::tcp::{self, KeepAlive};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout};

/// A peer that died without a word is noticed within 30 s, reading or writing.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    probes: 3,
    unacknowledged: Duration::from_secs(30),
};
/// The last of many addresses gets at least this much.
const ADDRESS_TIME_MIN: Duration = Duration::from_millis(100);

/// What connections are made from.
#[derive(Debug)]
pub(super) struct Ways {
    pub proxies: Proxies,
    /// Or why there can be no TLS.
    pub tls: Result<Arc<Tls>, String>,
}

/// Finds the address of whoever is dialled.
#[derive(Debug)]
pub(super) struct Names(pub Arc<Ways>);

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = match self.0.proxies.to(uri) {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (uri.host().unwrap_or_default(), port_of(uri)),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let mut only = self.empty();
            only.push(SocketAddr::new(address, port));
            return Ok(only);
        }
        let dialled: Uri = format!("http://{host}:{port}").parse().map_err(|_| ureq::Error::BadUri(host.to_owned()))?;
        DefaultResolver::default().resolve(&dialled, config, timeout).map_err(|error| match error {
            ureq::Error::Timeout(ureq::Timeout::Resolve) => {
                Cause::Resolve { name: host.to_owned(), why: "no name server answers".to_owned() }.carried()
            }
            ureq::Error::Timeout(_) => error,
            other => Cause::Resolve { name: host.to_owned(), why: why_no_address(host, &other) }.carried(),
        })
    }
}

/// A static binary has no resolver but DNS and /etc/hosts.
fn why_no_address(name: &str, error: &ureq::Error) -> String {
    let text = match error {
        ureq::Error::Io(inner) => inner.to_string(),
        ureq::Error::HostNotFound => "no address".to_owned(),
        other => other.to_string(),
    };
    let mdns = if name.ends_with(".local") { "; names that only mDNS knows are not looked up" } else { "" };
    text + mdns
}

pub(super) fn port_of(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialler(pub Arc<Ways>);

impl Connector for Dialler {
    type Out = Wire;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Wire>, ureq::Error> {
        let until = Until::new(details.timeout);
        let uri = details.uri;
        let host = uri.host().unwrap_or_default();
        let peer = match self.0.proxies.to(uri) {
            Some(proxy) => Peer::Proxy(proxy.to_string()),
            None => Peer::Server(format!("{host}:{}", port_of(uri))),
        };
        let socket = dial(&details.addrs, until, &peer)?;
        if let Some(proxy) = self.0.proxies.to(uri) {
            tunnel::open(&socket, proxy, host, port_of(uri), until)?;
        }
        if !details.needs_tls() {
            return Ok(Some(Wire::plain(socket)));
        }
        let tls = self.0.tls.as_ref().map_err(|why| Cause::Tls(why.clone()).carried())?;
        Ok(Some(Wire::secured(socket, tls.clone(), host, until)?))
    }
}

enum Peer {
    Server(String),
    Proxy(String),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Server(name) => f.write_str(name),
            Peer::Proxy(name) => write!(f, "the proxy {name}"),
        }
    }
}

/// The first address that accepts; each gets an equal part of the time that is left.
fn dial(addresses: &[SocketAddr], until: Until, peer: &Peer) -> Result<TcpStream, ureq::Error> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        let to_come = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let connected = match until.left() {
            Err(_) => return Err(until.over()),
            Ok(None) => TcpStream::connect(address),
            Ok(Some(left)) => TcpStream::connect_timeout(address, (left / to_come).max(ADDRESS_TIME_MIN).min(left)),
        };
        match connected.and_then(|socket| prepare(&socket).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    let timed_out = matches!(last.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
    let source = if timed_out { io::Error::other("nobody answers") } else { last };
    Err(Cause::Connect { peer: peer.to_string(), source }.carried())
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    tcp::keep_alive(socket, KEEP_ALIVE)
}
