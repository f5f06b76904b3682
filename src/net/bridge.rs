//! The built-in bridge: a pod is attached to it, detached, and with the last pod it goes.
//!
//! No lease files and no external programs: what is attached is what the kernel says is a port of the bridge.

use super::plan::{self, MacOf, Subnet};
use crate::model::id::PodKey;
use crate::sys::namespace::{is_pinned, within_net};
use crate::sys::netlink::NetlinkError;
use crate::sys::netlink::nftables::TableSocket;
use crate::sys::netlink::route::{Link, RouteKind, RouteSocket};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a pod's link is called inside the pod.
const POD_LINK: &str = "eth0";
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("{0:?} cannot be the name of a bridge")]
    Name(String),
    #[error("pod CIDR {address}/{prefix} has no room for pods")]
    Cidr { address: Ipv4Addr, prefix: u8 },
    #[error("pod CIDR {subnet} overlaps the route {route} on {link}")]
    Overlap { subnet: Subnet, route: String, link: String },
    #[error("no free address is left in pod CIDR {0}")]
    NoAddress(Subnet),
    #[error("{0} exists and is not a bridge of pinlet's")]
    Foreign(String),
    #[error("the pod's network namespace has a link {POD_LINK} that pinlet did not make")]
    Occupied,
    #[error("cannot switch on IP forwarding ({IP_FORWARD})")]
    Forwarding(#[source] io::Error),
    #[error("this kernel has no nf_tables, which the pod network's masquerading needs")]
    NoNfTables(#[source] NetlinkError),
    #[error("cannot set up masquerading for pods (nf_tables table {table})")]
    Masquerade { table: String, source: NetlinkError },
    #[error("cannot enter the pod's network namespace {pin}")]
    Enter { pin: PathBuf, source: io::Error },
    #[error("cannot {what}")]
    Kernel { what: &'static str, source: NetlinkError },
}

impl NetError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            NetError::Overlap { .. } => Some("choose another network with --pod-cidr"),
            NetError::NoNfTables(_) | NetError::Masquerade { .. } => {
                Some("the kernel needs nf_tables with nft_masq and nft_chain_nat; pods with hostNetwork do not")
            }
            NetError::Forwarding(_) => Some("set net.ipv4.ip_forward=1 on the host"),
            NetError::Foreign(_) => Some("choose another name with --bridge-name"),
            _ => None,
        }
    }
}

fn masquerade(table: &str, source: NetlinkError) -> NetError {
    if source.nobody_answers() {
        NetError::NoNfTables(source)
    } else {
        NetError::Masquerade { table: table.to_owned(), source }
    }
}

fn kernel(what: &'static str) -> impl FnOnce(NetlinkError) -> NetError {
    move |source| NetError::Kernel { what, source }
}

/// What a pod got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub ip: IpAddr,
    pub bridge: String,
    /// The host's end of the pod's link.
    pub veth: String,
    /// Of the pod's end.
    pub mac: String,
}

/// One agent's bridge. Whole operations exclude each other: workers may share it.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    subnet: Subnet,
    table: String,
    /// True once this agent has written the nft table: before, it may be one of an older version.
    written: Mutex<bool>,
}

impl Bridge {
    pub fn new(name: &str, address: Ipv4Addr, prefix: u8) -> Result<Bridge, NetError> {
        if !plan::is_link_name(name) {
            return Err(NetError::Name(name.to_owned()));
        }
        let subnet = Subnet::new(address, prefix).ok_or(NetError::Cidr { address, prefix })?;
        let table = format!("pinlet-{name}");
        Ok(Bridge { name: name.to_owned(), subnet, table, written: Mutex::new(false) })
    }

    /// The addresses of the pod network.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the pod whose network namespace is pinned at `netns` an address and a way out. `taken` are the addresses
    /// in the sandbox records; those of the bridge's ports are known from the kernel. If it fails, nothing is left.
    pub fn attach(&self, netns: &Path, key: &PodKey, taken: &[IpAddr]) -> Result<Attachment, NetError> {
        let mut written = self.exclusively();
        let mut route = open_route()?;
        self.refuse_overlap(&mut route)?;
        switch_on_forwarding()?;
        let attached = self.attach_to_bridge(&mut route, &mut written, netns, key, taken);
        if attached.is_err() {
            // What went wrong first is what is told.
            let _ = self.remove_without_ports(&mut route, &mut written);
        }
        attached
    }

    fn attach_to_bridge(
        &self,
        route: &mut RouteSocket,
        written: &mut bool,
        netns: &Path,
        key: &PodKey,
        taken: &[IpAddr],
    ) -> Result<Attachment, NetError> {
        let bridge = self.ensure_bridge(route)?;
        self.ensure_table(written)?;
        let ip = match self.add_link(route, &bridge, netns, key, taken) {
            // An attach that was cut short leaves a link in the pod's namespace, which may hold the last address.
            Ok(None) | Err(NetError::NoAddress(_)) => {
                forget_earlier_link(netns)?;
                self.add_link(route, &bridge, netns, key, taken)?.ok_or(NetError::Occupied)?
            }
            added => added?.ok_or(NetError::Occupied)?,
        };
        let veth = plan::veth_name(ip);
        match set_up_link(route, netns, &veth, ip, self.subnet) {
            Ok(()) => {
                let mac = plan::show_mac(plan::mac(MacOf::PodEnd, ip));
                Ok(Attachment { ip: ip.into(), bridge: self.name.clone(), veth, mac })
            }
            Err(error) => {
                let _ = delete_veth(route, &veth);
                Err(error)
            }
        }
    }

    /// The address whose link was made; `None` if the namespace has a link already.
    fn add_link(
        &self,
        route: &mut RouteSocket,
        bridge: &Link,
        netns: &Path,
        key: &PodKey,
        taken: &[IpAddr],
    ) -> Result<Option<Ipv4Addr>, NetError> {
        let wrong = |source| NetError::Enter { pin: netns.to_owned(), source };
        if !is_pinned(netns).map_err(wrong)? {
            return Err(wrong(io::Error::new(io::ErrorKind::InvalidInput, "it is no namespace")));
        }
        let namespace = File::open(netns).map_err(wrong)?;
        let mut used: BTreeSet<Ipv4Addr> = ports(route, bridge.index)?.iter().filter_map(address_of_port).collect();
        used.extend(taken.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }));
        let ip = self.subnet.choose(key, &used).ok_or(NetError::NoAddress(self.subnet))?;
        let veth = plan::veth_name(ip);
        // Nobody holds this address, so a link of that name is the leaving of a pod that is gone.
        delete_veth(route, &veth)?;
        let host_end = (veth.as_str(), plan::mac(MacOf::HostEnd, ip));
        let pod_end = (POD_LINK, plan::mac(MacOf::PodEnd, ip));
        match route.add_veth(host_end, bridge.index, pod_end, namespace.as_fd()) {
            Ok(()) => Ok(Some(ip)),
            Err(error) if error.already_exists() => Ok(None),
            Err(error) => Err(kernel("make the pod's link")(error)),
        }
    }

    /// Takes a pod's link away, and bridge and table with the last one. Fine if it is gone.
    pub fn detach(&self, veth: &str) -> Result<(), NetError> {
        let mut written = self.exclusively();
        let mut route = open_route()?;
        delete_veth(&mut route, veth)?;
        self.remove_without_ports(&mut route, &mut written)
    }

    /// [`Bridge::detach`] for a pod whose record is lost or was never written: by its pinned network namespace. Fine if
    /// nothing is pinned there.
    pub fn detach_netns(&self, netns: &Path) -> Result<(), NetError> {
        let mut written = self.exclusively();
        let wrong = |source| NetError::Enter { pin: netns.to_owned(), source };
        if is_pinned(netns).map_err(wrong)? {
            forget_earlier_link(netns)?;
        }
        self.remove_without_ports(&mut open_route()?, &mut written)
    }

    /// At start: takes away the bridge's ports that belong to none of the `known` links, and what is unused then.
    /// True if anything was there to be taken away.
    pub fn sweep(&self, known: &[String]) -> Result<bool, NetError> {
        let mut written = self.exclusively();
        let mut route = open_route()?;
        let mut any = false;
        if let Some(bridge) = self.find(&mut route)? {
            for port in ports(&mut route, bridge.index)? {
                if port.kind == "veth" && address_of_port(&port).is_some() && !known.contains(&port.name) {
                    delete_veth(&mut route, &port.name)?;
                    any = true;
                }
            }
        }
        self.remove_without_ports(&mut route, &mut written)?;
        Ok(any)
    }

    /// Takes bridge and table away unless a pod is attached.
    pub fn remove_if_unused(&self) -> Result<(), NetError> {
        let mut written = self.exclusively();
        self.remove_without_ports(&mut open_route()?, &mut written)
    }

    /// Whether the host's end of a pod's link is there and a port of the bridge.
    pub fn is_attached(&self, veth: &str) -> Result<bool, NetError> {
        let mut route = open_route()?;
        let Some(bridge) = self.find(&mut route)? else { return Ok(false) };
        let link = route.link(veth).map_err(kernel("look for the pod's link"))?;
        Ok(link.is_some_and(|link| link.master == Some(bridge.index)))
    }

    /// Puts the nft table back if pods are attached and somebody has flushed it; true if it had to.
    pub fn restore_table(&self) -> Result<bool, NetError> {
        let mut written = self.exclusively();
        let mut route = open_route()?;
        let Some(bridge) = self.find(&mut route)? else { return Ok(false) };
        if ports(&mut route, bridge.index)?.is_empty() {
            return Ok(false);
        }
        self.ensure_table(&mut written)
    }

    /// The error that an attach would meet: a route on another link that leads to pods' addresses.
    pub fn check_overlap(&self) -> Result<(), NetError> {
        self.refuse_overlap(&mut open_route()?)
    }

    fn refuse_overlap(&self, route: &mut RouteSocket) -> Result<(), NetError> {
        let own = self.find(route)?.map(|link| link.index);
        let routes = route.routes(false).map_err(kernel("list routes"))?;
        let rival = routes.into_iter().find(|route| {
            let leads_away = matches!(route.kind, RouteKind::Unicast | RouteKind::Local);
            let foreign = own.is_none() || route.link != own;
            leads_away && foreign && self.subnet.overlaps(route.destination, route.prefix)
        });
        let Some(rival) = rival else { return Ok(()) };
        let links = route.links(None).map_err(kernel("list links"))?;
        let link = links.into_iter().find(|link| Some(link.index) == rival.link);
        Err(NetError::Overlap {
            subnet: self.subnet,
            route: format!("{}/{}", rival.destination, rival.prefix),
            link: link.map_or_else(|| "another link".to_owned(), |link| link.name),
        })
    }

    fn exclusively(&self) -> MutexGuard<'_, bool> {
        // A panic of another worker leaves the kernel's state as it is, and that is read anew each time.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, route: &mut RouteSocket) -> Result<Option<Link>, NetError> {
        route.link(&self.name).map_err(kernel("look for the bridge"))
    }

    /// The bridge, up and with its address.
    fn ensure_bridge(&self, route: &mut RouteSocket) -> Result<Link, NetError> {
        if self.find(route)?.is_none() {
            let mac = plan::mac(MacOf::Bridge, self.subnet.gateway());
            route.add_bridge(&self.name, mac).map_err(kernel("make the bridge"))?;
            // Pods must not become the host's routers: router advertisements on the bridge are not heard.
            quiet_ipv6(&self.name);
        }
        let bridge = self.find(route)?.ok_or_else(|| NetError::Foreign(self.name.clone()))?;
        if !is_own(&bridge) {
            return Err(NetError::Foreign(self.name.clone()));
        }
        let gateway = self.subnet.gateway();
        route
            .add_address(bridge.index, gateway, self.subnet.prefix())
            .map_err(kernel("give the bridge its address"))?;
        route.set_up(bridge.index).map_err(kernel("bring the bridge up"))?;
        Ok(bridge)
    }

    /// True if it had to be written.
    fn ensure_table(&self, written: &mut bool) -> Result<bool, NetError> {
        let wrong = |source| masquerade(&self.table, source);
        let mut socket = TableSocket::open().map_err(wrong)?;
        if *written && socket.exists(&self.table).map_err(wrong)? {
            return Ok(false);
        }
        socket
            .replace_with_masquerade(&self.table, self.subnet.network(), self.subnet.prefix(), &self.name)
            .map_err(wrong)?;
        *written = true;
        Ok(true)
    }

    fn remove_without_ports(&self, route: &mut RouteSocket, written: &mut bool) -> Result<(), NetError> {
        if let Some(bridge) = self.find(route)? {
            if !ports(route, bridge.index)?.is_empty() {
                return Ok(());
            }
            if is_own(&bridge) {
                ignore_missing(route.delete_link(bridge.index)).map_err(kernel("remove the bridge"))?;
            }
        }
        *written = false;
        // A kernel without nf_tables has no table to remove.
        let Ok(mut socket) = TableSocket::open() else { return Ok(()) };
        match socket.exists(&self.table) {
            Ok(true) => socket.delete(&self.table).map_err(|source| masquerade(&self.table, source)),
            Ok(false) | Err(_) => Ok(()),
        }
    }
}

/// What an admin made under the same name is left alone.
fn is_own(link: &Link) -> bool {
    link.kind == "bridge" && link.mac.is_some_and(plan::is_own_bridge)
}

fn open_route() -> Result<RouteSocket, NetError> {
    RouteSocket::open().map_err(kernel("look at the host's network"))
}

fn ports(route: &mut RouteSocket, bridge: u32) -> Result<Vec<Link>, NetError> {
    route.links(Some(bridge)).map_err(kernel("list the bridge's ports"))
}

fn address_of_port(port: &Link) -> Option<Ipv4Addr> {
    plan::address_of_veth(&port.name)
}

fn ignore_missing(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

fn delete_veth(route: &mut RouteSocket, name: &str) -> Result<(), NetError> {
    let link = route.link(name).map_err(kernel("look for the pod's link"))?;
    let Some(link) = link.filter(|link| link.kind == "veth") else { return Ok(()) };
    ignore_missing(route.delete_link(link.index)).map_err(kernel("remove the pod's link"))
}

fn forget_earlier_link(netns: &Path) -> Result<(), NetError> {
    in_pod(netns, |pod| delete_veth(pod, POD_LINK))
}

fn set_up_link(
    route: &mut RouteSocket,
    netns: &Path,
    veth: &str,
    ip: Ipv4Addr,
    subnet: Subnet,
) -> Result<(), NetError> {
    quiet_ipv6(veth);
    let port = route.link(veth).map_err(kernel("look for the pod's link"))?;
    if let Some(port) = port {
        route.set_hairpin(port.index).map_err(kernel("set up the bridge's port"))?;
    }
    in_pod(netns, |pod| {
        let link = pod.link(POD_LINK).map_err(kernel("look for the pod's link"))?;
        let index = link.map(|link| link.index).unwrap_or_default();
        pod.add_address(index, ip, subnet.prefix()).map_err(kernel("give the pod its address"))?;
        pod.set_up(index).map_err(kernel("bring the pod's link up"))?;
        pod.add_default_route(subnet.gateway(), index).map_err(kernel("give the pod its default route"))
    })
}

fn in_pod(netns: &Path, work: impl FnOnce(&mut RouteSocket) -> Result<(), NetError> + Send) -> Result<(), NetError> {
    let entered = within_net(netns, || work(&mut open_route()?));
    entered.map_err(|source| NetError::Enter { pin: netns.to_owned(), source })?
}

/// The host's ends carry IPv4 for pods and nothing of their own. A host without IPv6 has no such file.
fn quiet_ipv6(link: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    match fs::write(&path, "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("cannot write {path}: {error}"),
        _ => {}
    }
}

/// Once, when the first pod needs it; it is never put back, since others may rely on it by then.
fn switch_on_forwarding() -> Result<(), NetError> {
    let now = fs::read_to_string(IP_FORWARD).map_err(NetError::Forwarding)?;
    if now.trim() != "0" {
        return Ok(());
    }
    fs::write(IP_FORWARD, "1").map_err(NetError::Forwarding)?;
    log::info!("net.ipv4.ip_forward was 0 and is now 1, for the pod network; it is not put back");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn a_kernel_without_nf_tables_is_named() {
        // EOPNOTSUPP, and EPERM.
        let of = |errno| masquerade("pinlet-x", NetlinkError::Refused { errno, reason: String::new() });
        let (missing, refused) = (of(95), of(1));
        let text = chain(&missing);
        assert!(
            text.starts_with("this kernel has no nf_tables, which the pod network's masquerading needs: "),
            "{text}"
        );
        assert!(missing.hint().is_some_and(|hint| hint.contains("hostNetwork")), "{missing:?}");
        assert!(chain(&refused).starts_with("cannot set up masquerading for pods (nf_tables table pinlet-x): "));
    }
}
