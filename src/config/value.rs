//! One value each: the text of a flag or of a key, checked and turned into what [`super::Config`] holds.
//!
//! Flags and file share these, so both refuse the same things in the same words. Messages are lower case, quote the
//! value and do not name the flag or key: the caller knows it.

use crate::model::id::NodeName;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The longest name of a network interface, in bytes (IFNAMSIZ without its NUL).
const INTERFACE_NAME_MAX: usize = 15;
/// Below this the rescan would be a busy loop.
const CHECK_FREQUENCY_MIN: Duration = Duration::from_millis(100);
/// kubelet: `maxContainerRestartPeriod` is 1 s to 300 s.
const RESTART_PERIOD_SECONDS: std::ops::RangeInclusive<u64> = 1..=300;
/// kubelet: `cpuCFSQuotaPeriod` is 1 ms to 1 s.
const CFS_PERIOD_MILLIS: std::ops::RangeInclusive<u128> = 1..=1000;
/// A bridge needs its own address and at least one for a pod, network and broadcast beside them.
const PREFIX_MAX: u8 = 30;

/// An IPv4 network, such as `10.85.0.0/16`; the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Where pods that do not use the host's network get theirs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// CNI where a configuration exists, else the bridge. Until CNI is built it is the bridge.
    Auto,
    Bridge,
    None,
}

/// What unknown fields and duplicate keys do to a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Strict,
    Warn,
}

/// Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is not true or false")),
    }
}

/// Made absolute against the working directory and cleaned of `.`, `..` and doubled slashes without looking at the
/// file system: symlinks stay what they are (the pod's UID is made from this path).
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    let absolute = std::path::absolute(text).map_err(|error| format!("{text:?}: {error}"))?;
    Ok(clean(&absolute))
}

/// A colon-separated list of directories.
pub fn path_list(text: &str) -> Result<Vec<PathBuf>, String> {
    text.split(':').filter(|part| !part.is_empty()).map(path).collect()
}

/// See [`path`].
pub fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Relative to the mount of each hierarchy, without a leading slash; empty for the root.
pub fn cgroup_path(text: &str) -> Result<PathBuf, String> {
    let mut relative = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(format!("{text:?} must not contain ..")),
        }
    }
    Ok(relative)
}

/// A node name must serve as the suffix of pod names, so it is an RFC 1123 subdomain.
pub fn node_name(text: &str) -> Result<NodeName, String> {
    let wrong = || format!("{text:?} is not a lower-case RFC 1123 subdomain, as a node name must be");
    let name = NodeName::new(text).ok_or_else(wrong)?;
    if is_subdomain(name.as_str()) { Ok(name) } else { Err(wrong()) }
}

fn is_subdomain(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|b| alnum(*b))
            && bytes.last().is_some_and(|b| alnum(*b))
            && bytes.iter().all(|b| alnum(*b) || *b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

pub fn domain(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('.');
    if trimmed.is_empty() || is_subdomain(&trimmed.to_ascii_lowercase()) {
        Ok(trimmed.to_owned())
    } else {
        Err(format!("{text:?} is not a domain name"))
    }
}

pub fn ip(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not an IP address"))
}

/// The kubelet takes one address, or one per family: the first is the node's. The unspecified address means
/// "choose", which is the default.
pub fn node_ip(text: &str) -> Result<Option<IpAddr>, String> {
    let addresses = ip_list(text)?;
    let first = addresses.first().copied();
    if addresses.len() > 2 {
        return Err(format!("{text:?} has more than one address per family"));
    }
    Ok(first.filter(|address| !address.is_unspecified()))
}

/// Comma-separated addresses; an empty text is an empty list.
pub fn ip_list(text: &str) -> Result<Vec<IpAddr>, String> {
    text.split(',').filter(|part| !part.trim().is_empty()).map(ip).collect()
}

pub fn cidr(text: &str) -> Result<Cidr, String> {
    let wrong = || format!("{text:?} is not an IPv4 network such as 10.85.0.0/16");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if !(1..=PREFIX_MAX).contains(&prefix) {
        return Err(format!("{text:?}: the prefix length must be 1 to {PREFIX_MAX}"));
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    Ok(Cidr { address: Ipv4Addr::from(u32::from(address) & mask), prefix })
}

pub fn interface(text: &str) -> Result<String, String> {
    let ok = !text.is_empty()
        && text.len() <= INTERFACE_NAME_MAX
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if ok {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not an interface name of at most {INTERFACE_NAME_MAX} characters"))
    }
}

pub fn network(text: &str) -> Result<Network, String> {
    match text {
        "auto" => Ok(Network::Auto),
        "bridge" => Ok(Network::Bridge),
        "none" => Ok(Network::None),
        _ => Err(format!("{text:?} is not auto, bridge or none")),
    }
}

pub fn field_validation(text: &str) -> Result<FieldValidation, String> {
    match text.to_ascii_lowercase().as_str() {
        "strict" => Ok(FieldValidation::Strict),
        "warn" => Ok(FieldValidation::Warn),
        _ => Err(format!("{text:?} is not strict or warn")),
    }
}

/// Any Go duration; the kubelet has no other syntax.
pub fn duration(text: &str) -> Result<Duration, String> {
    crate::model::duration::parse(text)
}

pub fn check_frequency(value: Duration) -> Result<Duration, String> {
    if value >= CHECK_FREQUENCY_MIN { Ok(value) } else { Err("must be at least 100ms".to_owned()) }
}

pub fn restart_period(value: Duration) -> Result<Duration, String> {
    let range =
        Duration::from_secs(*RESTART_PERIOD_SECONDS.start())..=Duration::from_secs(*RESTART_PERIOD_SECONDS.end());
    if range.contains(&value) { Ok(value) } else { Err("must be 1s to 300s".to_owned()) }
}

pub fn cfs_period(value: Duration) -> Result<Duration, String> {
    if CFS_PERIOD_MILLIS.contains(&value.as_millis()) && value <= Duration::from_secs(1) {
        Ok(value)
    } else {
        Err("must be 1ms to 1s".to_owned())
    }
}

pub fn max_pods(value: i64) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| "must not be negative".to_owned())
}

/// -1 is no limit; the kubelet takes 0 for no limit too.
pub fn pids_limit(value: i64) -> Result<Option<u64>, String> {
    match value {
        -1 | 0 => Ok(None),
        _ => u64::try_from(value).map(Some).map_err(|_| "must be -1 (no limit) or positive".to_owned()),
    }
}

pub fn log_files(value: i64) -> Result<u32, String> {
    match u32::try_from(value) {
        Ok(files) if files >= 2 => Ok(files),
        _ => Err("must be greater than 1".to_owned()),
    }
}

/// A Kubernetes quantity in bytes; a negative one means no limit, as for the kubelet.
pub fn log_size(text: &str) -> Result<u64, String> {
    if let Some(positive) = text.strip_prefix('-') {
        return quantity(positive).map(|_| u64::MAX);
    }
    match quantity(text)? {
        0 => Err("must not be zero".to_owned()),
        bytes => Ok(bytes),
    }
}

/// `10Mi`, `1.5G`, `64e3`: rounded up to whole bytes.
pub fn quantity(text: &str) -> Result<u64, String> {
    scaled_quantity(text, 1.0)
}

/// `200m`, `1.5`: in thousandths, rounded up.
pub fn quantity_millis(text: &str) -> Result<u64, String> {
    scaled_quantity(text, 1000.0)
}

fn scaled_quantity(text: &str, scale: f64) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a quantity such as 10Mi");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Pi" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or_else(wrong)?;
            10f64.powi(exponent.parse().map_err(|_| wrong())?)
        }
    };
    let exact = value * (factor * scale);
    // 1.1 is no binary fraction: what is that near to a whole number is one.
    let near = exact.round();
    let bytes = if (exact - near).abs() < 1e-6 { near } else { exact.ceil() };
    // 2^53: what a float still holds exactly, and far above any disk's worth of logs.
    if bytes.is_finite() && bytes <= 9_007_199_254_740_992.0 {
        Ok(bytes as u64)
    } else {
        Err(format!("{text:?} is too large"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_lexically_clean() {
        assert_eq!(path("/etc/kubernetes/manifest/"), Ok(PathBuf::from("/etc/kubernetes/manifest")));
        assert_eq!(path("/a//b/./c/../d"), Ok(PathBuf::from("/a/b/d")));
        assert_eq!(path("/../x"), Ok(PathBuf::from("/x")));
        assert!(path("x").is_ok_and(|p| p.is_absolute() && p.ends_with("x")));
        assert!(path("").is_err());
    }

    #[test]
    fn cgroup_paths_are_relative_to_each_mount() {
        assert_eq!(cgroup_path("/"), Ok(PathBuf::new()));
        assert_eq!(cgroup_path("/test.slice/a/"), Ok(PathBuf::from("test.slice/a")));
        assert_eq!(cgroup_path("a"), Ok(PathBuf::from("a")));
        assert!(cgroup_path("/a/../..").is_err());
    }

    #[test]
    fn networks_lose_their_host_bits() {
        assert_eq!(cidr("10.85.3.4/16").map(|c| c.to_string()), Ok("10.85.0.0/16".to_owned()));
        for text in ["10.85.0.0", "10.85.0.0/31", "10.85.0.0/0", "fd00::/64", "10.85.0/16", "x/8"] {
            assert!(cidr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_cannot_be_names_are_refused() {
        assert_eq!(node_name("Node-1.Example").map(|n| n.to_string()), Ok("node-1.example".to_owned()));
        for text in ["", "a_b", "-a", "a-", "a..b", "a b"] {
            assert!(node_name(text).is_err(), "{text}");
        }
        for text in ["", "sixteencharacter", "a/b", "a b", "."] {
            assert!(interface(text).is_err(), "{text}");
        }
        assert!(interface("pinlet0").is_ok());
    }

    #[test]
    fn node_addresses_follow_the_kubelet() {
        assert_eq!(node_ip("192.0.2.1"), Ok(Some(IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(node_ip("192.0.2.1,fd00::1"), Ok(Some(IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(node_ip("0.0.0.0"), Ok(None));
        assert_eq!(node_ip(""), Ok(None));
        assert!(node_ip("192.0.2.300").is_err());
    }

    #[test]
    fn bounds_are_those_of_the_kubelet() {
        assert_eq!(log_size("10Mi"), Ok(10 * 1024 * 1024));
        assert_eq!(log_size("1.5k"), Ok(1500));
        assert_eq!(log_size("2e3"), Ok(2000));
        assert_eq!(log_size("-1"), Ok(u64::MAX));
        assert!(log_size("0").is_err() && log_size("ten").is_err() && log_size("10MB").is_err());
        assert!(log_files(1).is_err() && log_files(2).is_ok());
        assert_eq!(pids_limit(-1), Ok(None));
        assert_eq!(pids_limit(64), Ok(Some(64)));
        assert!(pids_limit(-2).is_err());
        assert!(
            restart_period(Duration::from_millis(999)).is_err() && restart_period(Duration::from_secs(300)).is_ok()
        );
        assert!(cfs_period(Duration::from_micros(999)).is_err() && cfs_period(Duration::from_secs(1)).is_ok());
        assert!(cfs_period(Duration::from_millis(1001)).is_err());
        assert!(check_frequency(Duration::ZERO).is_err());
    }
}
