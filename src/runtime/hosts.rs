//! What a pod's `/etc/hosts` says. Pure; the kubelet's text, byte for byte (`managedHostsFileContent`).

use crate::model::pod::{HostAlias, StaticPod};
use std::fmt::Write;
use std::net::IpAddr;

const POD_NETWORK: &str = "# Kubernetes-managed hosts file.\n\
    127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";
const HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";

/// `ip` is the pod's, where it has one yet; `node_hosts` the node's own file.
pub fn content(pod: &StaticPod, ip: Option<IpAddr>, node_hosts: &str) -> String {
    let mut text = String::new();
    if pod.host_network {
        text.push_str(HOST_NETWORK);
        text.push_str(node_hosts);
    } else {
        text.push_str(POD_NETWORK);
        if let Some(ip) = ip {
            let _ = writeln!(text, "{ip}\t{}", pod.hostname);
        }
    }
    add_aliases(&mut text, &pod.host_aliases);
    text
}

fn add_aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_pod_of_the_pod_network_gets_localhost_itself_and_its_aliases() {
        let mut pod = testing::pod();
        pod.host_aliases =
            vec![HostAlias { ip: [10, 0, 0, 9].into(), hostnames: vec!["db".into(), "db.example".into()] }];
        let text = content(&pod, Some([10, 85, 0, 7].into()), "ignored");
        let expected = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
            ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
            fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n10.85.0.7\tnodejs-vm\n\
            \n# Entries added by HostAliases.\n10.0.0.9\tdb\tdb.example\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_host_network_pod_gets_the_nodes_file_under_another_heading() {
        let mut pod = testing::pod();
        pod.host_network = true;
        let text = content(&pod, Some([192, 0, 2, 1].into()), "127.0.0.1 localhost\n");
        assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n");
    }
}
