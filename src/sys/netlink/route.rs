//! Links, addresses and routes (rtnetlink), as far as a bridge network needs them.

use super::message::{Answer, Message, attributes, text_of, u16_at, u32_at};
use super::{NetlinkError, Socket};
use nix::sys::socket::SockProtocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// linux/if_link.h and veth.h; not all of them are in libc.
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// The index that every network namespace gives its loopback device.
pub const LOOPBACK_INDEX: u32 = 1;

pub type Mac = [u8; 6];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    /// `bridge`, `veth`; empty for physical ones.
    pub kind: String,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    pub up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to; `0.0.0.0/0` for a default route.
    pub destination: IpAddr,
    pub prefix: u8,
    pub table: u32,
    /// `None` for routes that lead nowhere, such as blackholes. Of several next hops the first.
    pub link: Option<u32>,
    pub preferred_source: Option<IpAddr>,
    pub metric: u32,
    pub kind: RouteKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// To other hosts.
    Unicast,
    /// An address of this host.
    Local,
    /// Broadcast, multicast, blackhole and the like.
    Other,
}

impl Route {
    /// The table that routing uses unless told otherwise.
    pub const MAIN_TABLE: u32 = 254;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub ip: IpAddr,
    pub prefix: u8,
    /// Valid everywhere: not of this host or this link alone.
    pub global: bool,
    /// Another address of the same network comes first.
    pub secondary: bool,
}

/// rtnetlink of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct RouteSocket(Socket);

impl RouteSocket {
    pub fn open() -> Result<RouteSocket, NetlinkError> {
        Socket::open(SockProtocol::NetlinkRoute).map(RouteSocket)
    }

    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let message = Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0, 0)).text(libc::IFLA_IFNAME, name);
        self.0.ask(message)?.map(|answer| parse_link(&answer)).transpose()
    }

    /// All links, or the ports of the bridge `master`.
    pub fn links(&mut self, master: Option<u32>) -> Result<Vec<Link>, NetlinkError> {
        let mut message =
            Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0, 0)).u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        if let Some(master) = master {
            message = message.u32(libc::IFLA_MASTER, master);
        }
        let links: Vec<Link> = self.0.dump(&message)?.iter().map(parse_link).collect::<Result<_, _>>()?;
        // An old kernel may ignore the filter.
        Ok(links.into_iter().filter(|link| master.is_none() || link.master == master).collect())
    }

    /// Makes a bridge, up.
    pub fn add_bridge(&mut self, name: &str, mac: Mac) -> Result<(), NetlinkError> {
        let message = new_link(&ifinfo(0, 0, up(), up()))
            .text(libc::IFLA_IFNAME, name)
            .attribute(libc::IFLA_ADDRESS, &mac)
            .nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "bridge"));
        self.0.order(message)
    }

    /// Makes a pair: `here` as a port of `master`, up, and the other end in `namespace`.
    pub fn add_veth(
        &mut self,
        here: (&str, Mac),
        master: u32,
        there: (&str, Mac),
        namespace: BorrowedFd,
    ) -> Result<(), NetlinkError> {
        let namespace = u32::try_from(namespace.as_raw_fd()).expect("a descriptor is not negative");
        let message = new_link(&ifinfo(0, 0, up(), up()))
            .text(libc::IFLA_IFNAME, here.0)
            .attribute(libc::IFLA_ADDRESS, &here.1)
            .u32(libc::IFLA_MASTER, master)
            .nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |peer| {
                        peer.raw(&ifinfo(0, 0, 0, 0))
                            .text(libc::IFLA_IFNAME, there.0)
                            .attribute(libc::IFLA_ADDRESS, &there.1)
                            .u32(libc::IFLA_NET_NS_FD, namespace)
                    })
                })
            });
        self.0.order(message)
    }

    pub fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.0.order(Message::new(libc::RTM_NEWLINK, 0, &ifinfo(0, index, up(), up())))
    }

    /// Lets a port send frames back to where they came from: a pod that calls itself by an outside address.
    pub fn set_hairpin(&mut self, port: u32) -> Result<(), NetlinkError> {
        let message = Message::new(libc::RTM_SETLINK, 0, &ifinfo(libc::AF_BRIDGE, port, 0, 0))
            .nest(libc::IFLA_PROTINFO, |info| info.attribute(IFLA_BRPORT_MODE, &[1]));
        self.0.order(message)
    }

    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.0.order(Message::new(libc::RTM_DELLINK, 0, &ifinfo(0, index, 0, 0)))
    }

    /// Adds `address/prefix` to a link; fine if it is there already.
    pub fn add_address(&mut self, link: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetlinkError> {
        let mut fixed = vec![libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE];
        fixed.extend_from_slice(&link.to_ne_bytes());
        let last = u32::from(address) | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed)
            .attribute(libc::IFA_LOCAL, &address.octets())
            .attribute(libc::IFA_ADDRESS, &address.octets())
            .attribute(libc::IFA_BROADCAST, &Ipv4Addr::from(last).octets());
        match self.0.order(message) {
            Err(error) if error.already_exists() => Ok(()),
            other => other,
        }
    }

    pub fn add_default_route(&mut self, gateway: Ipv4Addr, link: u32) -> Result<(), NetlinkError> {
        let mut fixed = rtmsg(libc::AF_INET);
        fixed[4] = libc::RT_TABLE_MAIN;
        fixed[5] = libc::RTPROT_BOOT;
        fixed[6] = libc::RT_SCOPE_UNIVERSE;
        fixed[7] = libc::RTN_UNICAST;
        let message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed)
            .attribute(libc::RTA_GATEWAY, &gateway.octets())
            .u32(libc::RTA_OIF, link);
        self.0.order(message)
    }

    /// All IPv4 routes, or all IPv6 ones, of all tables.
    pub fn routes(&mut self, ipv6: bool) -> Result<Vec<Route>, NetlinkError> {
        let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let answers = self.0.dump(&Message::new(libc::RTM_GETROUTE, 0, &rtmsg(family)))?;
        answers.iter().map(parse_route).collect()
    }

    /// All addresses, IPv4 first.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let fixed = [family as u8, 0, 0, 0, 0, 0, 0, 0];
            for answer in self.0.dump(&Message::new(libc::RTM_GETADDR, 0, &fixed))? {
                all.extend(parse_address(&answer)?);
            }
        }
        Ok(all)
    }
}

fn up() -> u32 {
    libc::IFF_UP as u32
}

fn new_link(fixed: &[u8]) -> Message {
    Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, fixed)
}

/// struct ifinfomsg.
fn ifinfo(family: libc::c_int, index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![family as u8, 0, 0, 0];
    for number in [index, flags, change] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// struct rtmsg, all zero but the family.
fn rtmsg(family: libc::c_int) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family as u8;
    bytes
}

fn parse_link(answer: &Answer) -> Result<Link, NetlinkError> {
    const FIXED: usize = 16;
    let bytes = &answer.payload;
    let header = |at| u32_at(bytes, at).ok_or(NetlinkError::Malformed);
    let mut link = Link {
        index: header(4)?,
        name: String::new(),
        mac: None,
        kind: String::new(),
        master: None,
        up: header(8)? & up() != 0,
    };
    for (kind, value) in attributes(bytes.get(FIXED..).unwrap_or_default()) {
        match kind {
            libc::IFLA_IFNAME => link.name = text_of(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_MASTER => link.master = u32_at(value, 0),
            libc::IFLA_LINKINFO => {
                let found = attributes(value).find(|(kind, _)| *kind == libc::IFLA_INFO_KIND);
                link.kind = found.map(|(_, text)| text_of(text)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(link)
}

fn parse_route(answer: &Answer) -> Result<Route, NetlinkError> {
    const FIXED: usize = 12;
    let bytes = &answer.payload;
    let fixed = bytes.get(..FIXED).ok_or(NetlinkError::Malformed)?;
    let ipv6 = libc::c_int::from(fixed[0]) == libc::AF_INET6;
    let mut route = Route {
        destination: if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() },
        prefix: fixed[1],
        table: u32::from(fixed[4]),
        link: None,
        preferred_source: None,
        metric: 0,
        kind: match fixed[7] {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_LOCAL => RouteKind::Local,
            _ => RouteKind::Other,
        },
    };
    for (kind, value) in attributes(&bytes[FIXED..]) {
        match kind {
            libc::RTA_DST => route.destination = ip_of(value).ok_or(NetlinkError::Malformed)?,
            libc::RTA_OIF => route.link = u32_at(value, 0),
            libc::RTA_PREFSRC => route.preferred_source = ip_of(value),
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0).unwrap_or(0),
            libc::RTA_TABLE => route.table = u32_at(value, 0).unwrap_or(route.table),
            // struct rtnexthop: length, flags, hops, then the link's index.
            libc::RTA_MULTIPATH if u16_at(value, 0).is_some_and(|length| length >= 8) => route.link = u32_at(value, 4),
            _ => {}
        }
    }
    Ok(route)
}

fn parse_address(answer: &Answer) -> Result<Option<Address>, NetlinkError> {
    const FIXED: usize = 8;
    let bytes = &answer.payload;
    let fixed = bytes.get(..FIXED).ok_or(NetlinkError::Malformed)?;
    let (mut local, mut address, mut flags) = (None, None, u32::from(fixed[2]));
    for (kind, value) in attributes(&bytes[FIXED..]) {
        match kind {
            libc::IFA_LOCAL => local = ip_of(value),
            libc::IFA_ADDRESS => address = ip_of(value),
            libc::IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
            _ => {}
        }
    }
    // On a point-to-point link the other one is the peer's.
    let Some(ip) = local.or(address) else { return Ok(None) };
    Ok(Some(Address {
        link: u32_at(bytes, 4).ok_or(NetlinkError::Malformed)?,
        ip,
        prefix: fixed[1],
        global: fixed[3] == libc::RT_SCOPE_UNIVERSE,
        secondary: flags & libc::IFA_F_SECONDARY != 0,
    }))
}

fn ip_of(value: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_and_listed() {
        let mut socket = RouteSocket::open().expect("rtnetlink");
        let lo = socket.link("lo").expect("an answer").expect("a loopback device");
        assert_eq!((lo.index, lo.name.as_str(), lo.kind.as_str()), (LOOPBACK_INDEX, "lo", ""));
        assert!(socket.links(None).expect("a list").iter().any(|link| link.name == "lo"));
        assert_eq!(socket.link("pinlet-none").expect("an answer"), None);
        assert!(socket.addresses().expect("a list").iter().any(|a| a.ip.is_loopback() && !a.global));
        assert!(!socket.routes(false).expect("a list").is_empty());
    }
}
