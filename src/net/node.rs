//! The node's own address, and the news that it may have changed.

use crate::sys::netlink::NetlinkError;
use crate::sys::netlink::RouteEvents;
use crate::sys::netlink::route::{Address, Route, RouteKind, RouteSocket};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

/// The address that the default route is taken with: what other hosts reach this node by. Loopback without one, and
/// IPv6 only on a node without an IPv4 default route.
pub fn node_ip() -> Result<IpAddr, NetlinkError> {
    let mut socket = RouteSocket::open()?;
    let addresses = socket.addresses()?;
    for ipv6 in [false, true] {
        if let Some(ip) = of_default_route(&socket.routes(ipv6)?, &addresses, ipv6) {
            return Ok(ip);
        }
    }
    Ok(Ipv4Addr::LOCALHOST.into())
}

fn of_default_route(routes: &[Route], addresses: &[Address], ipv6: bool) -> Option<IpAddr> {
    let is_default = |route: &&Route| {
        route.prefix == 0
            && route.kind == RouteKind::Unicast
            && route.table == Route::MAIN_TABLE
            && route.link.is_some()
    };
    let best = routes.iter().filter(is_default).min_by_key(|route| route.metric)?;
    let of_link = addresses
        .iter()
        .filter(|address| Some(address.link) == best.link && address.global && address.ip.is_ipv6() == ipv6)
        .min_by_key(|address| address.secondary)
        .map(|address| address.ip);
    // The source that the route itself names wins; a route over a link without addresses uses another link's.
    let anywhere =
        || addresses.iter().find(|a| a.global && !a.ip.is_loopback() && a.ip.is_ipv6() == ipv6).map(|a| a.ip);
    best.preferred_source.or(of_link).or_else(anywhere)
}

/// Becomes readable when routes or addresses change; pods coming and going are among that. Level-like: [`Watch::drain`]
/// says "look again", and nothing about what.
#[derive(Debug)]
pub struct Watch(RouteEvents);

impl Watch {
    pub fn open() -> io::Result<Watch> {
        RouteEvents::open().map(Watch)
    }

    pub fn drain(&self) -> io::Result<bool> {
        self.0.drain()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(link: u32, metric: u32) -> Route {
        Route {
            destination: Ipv4Addr::UNSPECIFIED.into(),
            prefix: 0,
            table: Route::MAIN_TABLE,
            link: Some(link),
            preferred_source: None,
            metric,
            kind: RouteKind::Unicast,
        }
    }

    fn address(link: u32, last: u8) -> Address {
        Address { link, ip: [192, 0, 2, last].into(), prefix: 24, global: true, secondary: false }
    }

    #[test]
    fn the_default_route_with_the_least_metric_says_which_address() {
        let addresses = [
            address(1, 1),
            Address { secondary: true, ..address(2, 3) },
            address(2, 2),
            Address { global: false, ..address(2, 4) },
        ];
        let ip = |routes: &[Route]| of_default_route(routes, &addresses, false).map(|ip| ip.to_string());
        assert_eq!(ip(&[]), None);
        assert_eq!(ip(&[route(1, 100), route(2, 50)]), Some("192.0.2.2".into()));
        let named = Route { preferred_source: Some([198, 51, 100, 1].into()), ..route(2, 0) };
        assert_eq!(ip(&[named]), Some("198.51.100.1".into()));
        assert_eq!(ip(&[Route { table: 100, ..route(2, 0) }, route(1, 5)]), Some("192.0.2.1".into()));
        assert_eq!(ip(&[Route { kind: RouteKind::Other, ..route(2, 0) }]), None);
        assert_eq!(ip(&[route(9, 0)]), Some("192.0.2.1".into()));
        assert_eq!(of_default_route(&[route(1, 0)], &addresses, true), None);
    }

    #[test]
    fn this_node_has_an_address() {
        node_ip().expect("an answer");
        let watch = Watch::open().expect("a socket");
        watch.drain().expect("nothing or something");
    }
}
