//! Which address, which names: everything about the bridge network that can be decided without the kernel. Pure.

use crate::model::id::PodKey;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// The longest name of a link, in bytes (IFNAMSIZ less its NUL).
const LINK_NAME_BYTES: usize = 15;
/// The host's ends of pods' links: this and the pod's address in hex.
const VETH: &str = "veth";
/// How tunnels cover everything without replacing the default route: two halves.
const HALF_OF_EVERYTHING: u8 = 1;

/// The addresses of the pod network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// `None` unless there is room for the bridge and one pod.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Subnet> {
        (1..=30).contains(&prefix).then(|| Subnet { network: (u32::from(address) & mask(prefix)).into(), prefix })
    }

    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bridge's own address, and the pods' default route: the first.
    pub fn gateway(self) -> Ipv4Addr {
        self.nth(1)
    }

    pub fn contains(self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & mask(self.prefix) == u32::from(self.network)
    }

    /// Whether a route to `destination/prefix` leads to some of these addresses. One that leads to everything does
    /// not count: whatever is nearer wins over it.
    pub fn overlaps(self, destination: IpAddr, prefix: u8) -> bool {
        let IpAddr::V4(destination) = destination else { return false };
        let shorter = mask(prefix.min(self.prefix));
        prefix > HALF_OF_EVERYTHING && (u32::from(destination) ^ u32::from(self.network)) & shorter == 0
    }

    /// An address for `key` that is not taken: where a hash of the name points, else the next free one. So a pod
    /// mostly has the same one after a reboot, and no file says so. `None`: all are taken.
    pub fn choose(self, key: &PodKey, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        // Without the network's, the bridge's and the broadcast address.
        let places = u64::from(!mask(self.prefix)) - 2;
        let start = hash(key) % places;
        (0..places)
            .map(|step| self.nth(2 + u32::try_from((start + step) % places).expect("fewer than 2^32 places")))
            .find(|ip| !taken.contains(ip))
    }

    fn nth(self, number: u32) -> Ipv4Addr {
        (u32::from(self.network) + number).into()
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// FNV-1a: must never change, or pods change their addresses with an upgrade.
fn hash(key: &PodKey) -> u64 {
    let bytes = key.namespace.bytes().chain([b'/']).chain(key.name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What identifies the host's end of the link of the pod at `ip`: no two pods of a node have the same address.
pub fn veth_name(ip: Ipv4Addr) -> String {
    format!("{VETH}{:08x}", u32::from(ip))
}

/// The address in a name that [`veth_name`] made.
pub fn address_of_veth(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix(VETH).filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(Ipv4Addr::from)
}

/// Whose hardware address it is; each has a block of the locally administered ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacOf {
    Bridge,
    PodEnd,
    HostEnd,
}

/// It follows from the address, so that neighbours' caches stay right when an address is used again.
pub fn mac(of: MacOf, ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    let [first, second] = block(of);
    [first, second, a, b, c, d]
}

/// A bridge with such an address was made by pinlet, whatever its pod CIDR was then.
pub fn is_own_bridge(mac: [u8; 6]) -> bool {
    mac[..2] == block(MacOf::Bridge)
}

fn block(of: MacOf) -> [u8; 2] {
    match of {
        MacOf::Bridge => [0x06, 0x58],
        MacOf::PodEnd => [0x0a, 0x58],
        MacOf::HostEnd => [0x0e, 0x58],
    }
}

/// `0a:58:0a:55:00:02`.
pub fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What the kernel takes as a link's name.
pub fn is_link_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && c != '/' && c != ':' && c != '\0';
    !name.is_empty() && name.len() <= LINK_NAME_BYTES && name != "." && name != ".." && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str, prefix: u8) -> Subnet {
        Subnet::new(text.parse().expect("an address"), prefix).expect("a subnet")
    }

    fn key(name: &str) -> PodKey {
        PodKey { namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn an_address_depends_on_the_name_alone_and_never_changes() {
        let net = subnet("10.85.0.0", 16);
        let none = BTreeSet::new();
        // Golden: pods keep their addresses over upgrades.
        assert_eq!(net.choose(&key("nodejs-vm"), &none), Some(Ipv4Addr::new(10, 85, 19, 217)));
        assert_eq!(net.choose(&key("nodejs-vm"), &none), net.choose(&key("nodejs-vm"), &none));
        assert_ne!(net.choose(&key("nodejs-vm"), &none), net.choose(&key("other-vm"), &none));
    }

    #[test]
    fn a_taken_address_leads_to_the_next_and_a_full_network_to_none() {
        let net = subnet("192.0.2.8", 29);
        let mut taken = BTreeSet::new();
        for _ in 0..5 {
            let ip = net.choose(&key("p"), &taken).expect("a free one");
            assert!(net.contains(ip) && ip != net.gateway() && taken.insert(ip), "{ip}");
        }
        let all: Vec<String> = taken.iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(all, ["192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14"]);
        assert_eq!(net.choose(&key("p"), &taken), None);
        assert_eq!(subnet("10.0.0.0", 30).choose(&key("p"), &BTreeSet::new()), Some(Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn only_a_route_to_some_of_the_addresses_overlaps() {
        let net = subnet("10.85.0.0", 16);
        for (destination, prefix, expected) in [
            ("10.85.0.0", 16, true),
            ("10.85.3.0", 24, true),
            ("10.85.3.4", 32, true),
            ("10.0.0.0", 8, true),
            ("8.0.0.0", 5, true),
            ("0.0.0.0", 0, false),
            ("0.0.0.0", 1, false),
            ("10.86.0.0", 16, false),
            ("192.168.0.0", 16, false),
        ] {
            assert_eq!(
                net.overlaps(destination.parse().expect("an address"), prefix),
                expected,
                "{destination}/{prefix}"
            );
        }
        assert!(!net.overlaps("fd00::".parse().expect("an address"), 8));
    }

    #[test]
    fn a_subnet_without_room_is_none() {
        for (prefix, expected) in [(0, false), (8, true), (30, true), (31, false), (32, false), (33, false)] {
            assert_eq!(Subnet::new(Ipv4Addr::new(10, 0, 0, 0), prefix).is_some(), expected, "{prefix}");
        }
        assert_eq!(subnet("10.85.3.4", 16).to_string(), "10.85.0.0/16");
        assert_eq!(subnet("128.0.0.0", 1).gateway(), Ipv4Addr::new(128, 0, 0, 1));
    }

    #[test]
    fn names_tell_the_address_and_fit_the_kernel() {
        let ip = Ipv4Addr::new(10, 85, 0, 2);
        assert_eq!(veth_name(ip), "veth0a550002");
        assert!(is_link_name(&veth_name(ip)));
        assert_eq!(address_of_veth("veth0a550002"), Some(ip));
        assert_eq!(address_of_veth("eth0"), None);
        assert_eq!(address_of_veth("veth12345"), None);
        assert_eq!(show_mac(mac(MacOf::PodEnd, ip)), "0a:58:0a:55:00:02");
        assert!(is_own_bridge(mac(MacOf::Bridge, ip)) && !is_own_bridge(mac(MacOf::HostEnd, ip)));
        for name in ["", "..", "a b", "a/b", "sixteen-bytes-xx"] {
            assert!(!is_link_name(name), "{name:?}");
        }
    }
}
