//! NO_PROXY by Go's rules, which Kubernetes users write it for: addresses, CIDRs, domains, each with or without a port.

use std::net::IpAddr;

/// What is reached without a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NoProxy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    All,
    Network {
        address: IpAddr,
        bits: u8,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// `suffix` begins with a dot; `itself` if the name without it matches too.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl NoProxy {
    /// What cannot be read is passed over, as Go does.
    pub fn parse(text: &str) -> NoProxy {
        NoProxy { rules: text.split(',').filter_map(|entry| rule(&entry.trim().to_lowercase())).collect() }
    }

    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).to_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        self.rules.iter().any(|rule| match rule {
            Rule::All => true,
            Rule::Network { address: network, bits } => address.is_some_and(|address| within(address, *network, *bits)),
            Rule::Address { address: wanted, port: only } => {
                address.map(|a| a.to_canonical()) == Some(*wanted) && only.is_none_or(|only| only == port)
            }
            Rule::Domain { suffix, itself, port: only } => {
                let named = host.ends_with(suffix) || (*itself && host == suffix[1..]);
                named && only.is_none_or(|only| only == port)
            }
        })
    }
}

/// Of one entry, in lower case.
fn rule(entry: &str) -> Option<Rule> {
    if entry == "*" {
        return Some(Rule::All);
    }
    if let Some((address, bits)) = entry.split_once('/')
        && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
    {
        let most = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= most).then_some(Rule::Network { address, bits });
    }
    let (host, port) = split_port(entry)?;
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Rule::Address { address: address.to_canonical(), port });
    }
    let name = if host.starts_with("*.") { &host[1..] } else { host };
    match name.strip_prefix('.') {
        Some("") => None,
        Some(_) => Some(Rule::Domain { suffix: name.to_owned(), itself: false, port }),
        None if name.is_empty() => None,
        None => Some(Rule::Domain { suffix: format!(".{name}"), itself: true, port }),
    }
}

/// `host:port`, `[v6]:port`, or a host alone. A port that is none matches nothing.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = entry.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    match entry.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((_, rest)) if rest.contains(':') => Some((entry, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((entry, None)),
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network) = (address.to_canonical(), network.to_canonical());
    let (a, n, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let ignored = width - u32::from(bits).min(width);
    a.checked_shr(ignored).unwrap_or(0) == n.checked_shr(ignored).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_cover_what_go_says_they_cover() {
        for (entries, host, port, covered) in [
            ("", "a.com", 443, false),
            ("*", "a.com", 443, true),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("0.0.0.0/0", "11.1.2.3", 443, true),
            ("0.0.0.0/0", "fd00::1", 443, false),
            ("fd00::/8", "[fd00::1]", 443, true),
            ("::/0", "[fd00::1]", 443, true),
            ("10.0.0.0/33", "10.1.2.3", 443, false),
            ("10.0.0.1", "10.0.0.1", 443, true),
            ("10.0.0.1:443", "10.0.0.1", 443, true),
            ("10.0.0.1:80", "10.0.0.1", 443, false),
            ("[fd00::1]:443", "[fd00::1]", 443, true),
            ("[fd00::1]:80", "[fd00::1]", 443, false),
            ("fd00::1", "[fd00::1]", 443, true),
            ("foo.com", "foo.com", 443, true),
            ("foo.com", "bar.foo.com", 443, true),
            ("foo.com", "barfoo.com", 443, false),
            (".foo.com", "foo.com", 443, false),
            (".foo.com", "a.foo.com", 443, true),
            ("*.foo.com", "a.foo.com", 443, true),
            ("*.foo.com", "foo.com", 443, false),
            ("foo.com:8443", "foo.com", 443, false),
            ("foo.com:443", "a.foo.com", 443, true),
            (" x , FOO.com ", "foo.COM", 443, true),
            ("foo.com:port,:80,.,/", "foo.com", 443, false),
        ] {
            assert_eq!(NoProxy::parse(entries).covers(host, port), covered, "{entries} {host}:{port}");
        }
    }
}
