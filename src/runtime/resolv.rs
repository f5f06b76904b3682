//! What a pod's `/etc/resolv.conf` says. Pure; the kubelet's rules (`pkg/kubelet/network/dns`), containerd's layout.
//!
//! One thing more than a kubelet does: a nameserver on the node's loopback device, such as systemd-resolved's
//! 127.0.0.53, cannot be reached from a pod's own network, so the servers behind it take its place.

use crate::model::pod::{DnsPolicy, StaticPod};
use std::net::IpAddr;

/// glibc reads no more.
const NAMESERVERS: usize = 3;
/// The kubelet's bounds on searches: how many, how long each, how long together.
const SEARCHES: usize = 32;
const SEARCH_BYTES: usize = 255;
const SEARCH_LINE_BYTES: usize = 2048;

/// One resolv.conf, as far as it is handed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// What the node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeResolvers {
    /// The file of `--resolv-conf`; `None` where that is empty.
    pub own: Option<Resolver>,
    /// systemd-resolved's list of the servers that its stub asks.
    pub behind_stub: Option<Resolver>,
}

/// `--cluster-dns` and `--cluster-domain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    pub servers: Vec<IpAddr>,
    /// Empty for none.
    pub domain: String,
}

/// A pod's file, and what its owner should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub content: String,
    pub warnings: Vec<String>,
}

/// The last `search` wins, options add up, trailing dots go; anything else is passed over.
pub fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                let bare =
                    |word: &str| if word == "." { "." } else { word.strip_suffix('.').unwrap_or(word) }.to_owned();
                resolver.searches = words.map(bare).collect();
            }
            Some("options") => words.for_each(|word| merge_option(&mut resolver.options, word)),
            _ => {}
        }
    }
    resolver
}

/// A later option of the same name (`ndots:1`, `ndots:5`) takes the place of the earlier one.
fn merge_option(options: &mut Vec<String>, word: &str) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|known| name(known) == name(word)) {
        Some(known) => *known = word.to_owned(),
        None => options.push(word.to_owned()),
    }
}

/// The file of `pod`.
pub fn for_pod(pod: &StaticPod, node: &NodeResolvers, cluster: &ClusterDns) -> Resolved {
    let mut warnings = Vec::new();
    let wants_cluster = pod.dns_policy == DnsPolicy::ClusterFirst && !pod.host_network;
    let mut resolver = if wants_cluster && !cluster.servers.is_empty() {
        of_cluster(pod, node, cluster)
    } else {
        if wants_cluster {
            warnings.push(format!(
                "pod: {:?}. pinlet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" \
                 policy. Falling back to \"Default\" policy.",
                format!("{}({})", pod.key, pod.uid)
            ));
        }
        of_node(pod, node, &mut warnings)
    };
    limit(&mut resolver, &mut warnings);
    Resolved { content: render(&resolver), warnings }
}

fn of_cluster(pod: &StaticPod, node: &NodeResolvers, cluster: &ClusterDns) -> Resolver {
    let mut searches = Vec::new();
    if !cluster.domain.is_empty() {
        let service = format!("svc.{}", cluster.domain);
        searches = vec![format!("{}.{service}", pod.key.namespace), service, cluster.domain.clone()];
    }
    for search in node.own.iter().flat_map(|own| &own.searches) {
        if !searches.contains(search) {
            searches.push(search.clone());
        }
    }
    Resolver {
        nameservers: cluster.servers.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn of_node(pod: &StaticPod, node: &NodeResolvers, warnings: &mut Vec<String>) -> Resolver {
    let Some(own) = &node.own else {
        // The kubelet's way to leave a pod without names.
        return Resolver {
            nameservers: vec!["127.0.0.1".to_owned()],
            searches: vec![".".to_owned()],
            options: Vec::new(),
        };
    };
    let mut resolver = own.clone();
    if !pod.host_network && own.nameservers.iter().any(|server| is_loopback(server)) {
        resolver.nameservers = reachable(own, node.behind_stub.as_ref(), warnings);
    }
    resolver
}

/// `own`'s servers with those behind the stub in place of the ones on loopback.
fn reachable(own: &Resolver, behind_stub: Option<&Resolver>, warnings: &mut Vec<String>) -> Vec<String> {
    let real: Vec<&String> =
        behind_stub.into_iter().flat_map(|stub| &stub.nameservers).filter(|server| !is_loopback(server)).collect();
    let others = own.nameservers.iter().filter(|server| !is_loopback(server));
    let mut servers: Vec<String> = Vec::new();
    for server in real.into_iter().chain(others) {
        if !servers.contains(server) {
            servers.push(server.clone());
        }
    }
    if servers.is_empty() {
        warnings.push(format!(
            "nameserver {} is on the node's loopback device, which the pod network does not reach, and no other is known",
            own.nameservers.join(", ")
        ));
        return own.nameservers.clone();
    }
    servers
}

fn is_loopback(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn limit(resolver: &mut Resolver, warnings: &mut Vec<String>) {
    if resolver.nameservers.len() > NAMESERVERS {
        resolver.nameservers.truncate(NAMESERVERS);
        warnings.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            resolver.nameservers.join(" ")
        ));
    }
    let all = resolver.searches.len();
    resolver.searches.truncate(SEARCHES);
    resolver.searches.retain(|search| search.len() <= SEARCH_BYTES);
    while resolver.searches.join(" ").len() > SEARCH_LINE_BYTES {
        resolver.searches.pop();
    }
    if resolver.searches.len() < all {
        warnings.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            resolver.searches.join(" ")
        ));
    }
}

/// As containerd writes it.
fn render(resolver: &Resolver) -> String {
    let mut text = String::new();
    let mut line = |word: &str, values: &[String]| {
        if !values.is_empty() {
            text.push_str(&format!("{word} {}\n", values.join(" ")));
        }
    };
    line("search", &resolver.searches);
    for server in &resolver.nameservers {
        line("nameserver", std::slice::from_ref(server));
    }
    line("options", &resolver.options);
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn node(text: &str) -> NodeResolvers {
        NodeResolvers { own: Some(parse(text)), behind_stub: None }
    }

    fn pod(policy: DnsPolicy, host_network: bool) -> StaticPod {
        let mut pod = testing::pod();
        (pod.dns_policy, pod.host_network) = (policy, host_network);
        pod
    }

    fn cluster() -> ClusterDns {
        ClusterDns { servers: vec![[10, 96, 0, 10].into()], domain: "cluster.local".into() }
    }

    #[test]
    fn the_nodes_file_is_read_as_the_kubelet_reads_it() {
        let text = "# a comment\nnameserver 1.1.1.1\n nameserver\t2.2.2.2 extra\nsearch old\nsearch a. b .\n\
                    options ndots:1 edns0\noptions ndots:3\nsortlist 10.0.0.0\nnameserver\n;x\n";
        let resolver = parse(text);
        assert_eq!(resolver.nameservers, ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(resolver.searches, ["a", "b", "."]);
        assert_eq!(resolver.options, ["ndots:3", "edns0"]);
    }

    #[test]
    fn each_policy_gives_the_kubelets_file() {
        let text = "search example.org\nnameserver 1.1.1.1\noptions edns0\n";
        let of_node = "search example.org\nnameserver 1.1.1.1\noptions edns0\n";
        let of_cluster = "search default.svc.cluster.local svc.cluster.local cluster.local example.org\n\
                          nameserver 10.96.0.10\noptions ndots:5\n";
        use DnsPolicy::*;
        for (policy, host_network, expected) in [
            (Default, false, of_node),
            (Default, true, of_node),
            (ClusterFirst, false, of_cluster),
            (ClusterFirst, true, of_node),
        ] {
            let resolved = for_pod(&pod(policy, host_network), &node(text), &cluster());
            assert_eq!(
                (resolved.content.as_str(), resolved.warnings.len()),
                (expected, 0),
                "{policy:?} {host_network}"
            );
        }
    }

    #[test]
    fn without_cluster_dns_the_nodes_file_is_used_and_said_so() {
        let resolved =
            for_pod(&pod(DnsPolicy::ClusterFirst, false), &node("nameserver 1.1.1.1\n"), &ClusterDns::default());
        assert_eq!(resolved.content, "nameserver 1.1.1.1\n");
        assert!(resolved.warnings[0].contains("does not have ClusterDNS IP configured"), "{:?}", resolved.warnings);
    }

    #[test]
    fn a_stub_on_loopback_gives_way_to_the_servers_behind_it_on_the_pod_network_alone() {
        let stub = NodeResolvers {
            own: Some(parse("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n")),
            behind_stub: Some(parse("nameserver 192.0.2.53\nnameserver 192.0.2.54\n")),
        };
        let on_pod_network = for_pod(&pod(DnsPolicy::Default, false), &stub, &cluster());
        assert_eq!(
            on_pod_network.content,
            "search lan\nnameserver 192.0.2.53\nnameserver 192.0.2.54\noptions edns0 trust-ad\n"
        );
        let on_host = for_pod(&pod(DnsPolicy::Default, true), &stub, &cluster());
        assert!(on_host.content.contains("nameserver 127.0.0.53\n"));
        let blind = NodeResolvers { behind_stub: None, ..stub };
        let resolved = for_pod(&pod(DnsPolicy::Default, false), &blind, &cluster());
        assert!(resolved.content.contains("127.0.0.53") && resolved.warnings.len() == 1);
    }

    #[test]
    fn an_empty_resolv_conf_flag_gives_a_pod_no_names() {
        let resolved = for_pod(&pod(DnsPolicy::Default, false), &NodeResolvers::default(), &cluster());
        assert_eq!(resolved.content, "search .\nnameserver 127.0.0.1\n");
    }

    #[test]
    fn what_resolvers_would_not_take_is_left_out_with_a_warning() {
        let many: String = (1..=5).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        let long = "x".repeat(256);
        let searches: Vec<String> = (0..40).map(|n| format!("{n:0>70}")).collect();
        let text = format!("{many}search {long} {}\n", searches.join(" "));
        let resolved = for_pod(&pod(DnsPolicy::Default, false), &node(&text), &cluster());
        assert_eq!(resolved.warnings.len(), 2);
        assert_eq!(resolved.content.matches("nameserver").count(), 3);
        let line = resolved.content.lines().next().expect("a search line");
        assert!(line.len() <= 2048 + "search ".len() && !line.contains(&long));
    }
}
