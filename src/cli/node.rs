//! `get node`: this node as it would be registered, whether or not there is a cluster to register with.

use super::args::{Format, Get};
use super::client::Client;
use super::error::VerbError;
use super::get::document;
use super::output;
use super::pod_row::age;
use super::table::Table;
use crate::model::time::Wall;
use crate::sys::clock;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::json;
use std::path::Path;

const ROLE_LABEL: &str = "node-role.kubernetes.io/";

pub fn nodes(run_dir: &Path, get: &Get) -> Result<u8, VerbError> {
    // The agent reads image store and file system for it.
    let mut nodes: List<Node> = Client::new(run_dir).get_from_disk("/api/v1/nodes")?;
    if let Some(name) = &get.name {
        nodes.items.retain(|node| node.metadata.name.as_ref() == Some(name));
        if nodes.items.is_empty() {
            return Err(VerbError::NoSuchNode { name: name.clone() });
        }
    }
    let now = Wall(clock::realtime_ns());
    let text = match get.format {
        Format::Table | Format::Wide => table(&nodes.items, get.format == Format::Wide, now),
        Format::Name => nodes.items.iter().map(|node| format!("node/{}\n", name(node))).collect(),
        Format::Json | Format::Yaml => {
            let one = get.name.as_ref().and(nodes.items.first()).map(|node| json!(node));
            document(&one.unwrap_or_else(|| json!(nodes)), get.format)
        }
    };
    output::print(text.as_bytes())?;
    Ok(0)
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// kubectl's columns; where it shows blanks there are none here, as in every table.
fn table(nodes: &[Node], wide: bool, now: Wall) -> String {
    let header = [
        "NAME",
        "STATUS",
        "ROLES",
        "AGE",
        "VERSION",
        "INTERNAL-IP",
        "EXTERNAL-IP",
        "OS-IMAGE",
        "KERNEL-VERSION",
        "CONTAINER-RUNTIME",
    ];
    let columns = if wide { header.len() } else { 5 };
    let mut table = Table::new(&header[..columns]);
    for node in nodes {
        let none = NodeStatus::default();
        let status = node.status.as_ref().unwrap_or(&none);
        let info = status.node_info.clone().unwrap_or_default();
        let mut cells = vec![
            name(node).to_owned(),
            readiness(node, status),
            roles(node),
            age(node.metadata.creation_timestamp.as_ref(), now),
            info.kubelet_version,
            address(status, "InternalIP"),
            address(status, "ExternalIP"),
            info.os_image,
            info.kernel_version,
            info.container_runtime_version,
        ];
        cells.truncate(columns);
        table.add(cells);
    }
    table.render()
}

fn readiness(node: &Node, status: &NodeStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let word = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    format!("{word}{}", if cordoned { ",SchedulingDisabled" } else { "" })
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(key, _)| key.strip_prefix(ROLE_LABEL)).collect();
    roles.join(",")
}

fn address(status: &NodeStatus, kind: &str) -> String {
    let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
    found.map(|address| address.address.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).expect("a Node")
    }

    fn vm() -> Node {
        node(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "vm", "creationTimestamp": "1970-01-01T00:00:00Z", "labels": { "x": "y" } },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": "192.0.2.2" }, { "type": "Hostname", "address": "vm" }],
                "conditions": [{ "type": "Ready", "status": "True" }],
                "nodeInfo": {
                    "kubeletVersion": "v1.36.2+pinlet.0.1.0", "osImage": "Debian GNU/Linux 12 (bookworm)",
                    "kernelVersion": "6.1.0", "containerRuntimeVersion": "pinlet://0.1.0", "architecture": "",
                    "bootID": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "systemUUID": "",
                },
            },
        }))
    }

    #[test]
    fn a_node_is_a_row_as_kubectl_shows_it() {
        let expected = "\
NAME   STATUS   ROLES    AGE   VERSION
vm     Ready    <none>   2m    v1.36.2+pinlet.0.1.0
";
        assert_eq!(table(&[vm()], false, Wall(120_000_000_000)), expected);
        let wide = table(&[vm()], true, Wall(0));
        assert!(wide.contains("192.0.2.2     <none>        Debian-GNU/Linux-12-(bookworm)   6.1.0"), "{wide}");
    }

    #[test]
    fn one_that_is_not_ready_or_cordoned_says_so() {
        let mut node = vm();
        node.spec.get_or_insert_default().unschedulable = Some(true);
        let status = node.status.as_mut().expect("a status");
        status.conditions.as_mut().expect("conditions")[0].status = "Unknown".to_owned();
        assert_eq!(readiness(&node, node.status.as_ref().expect("a status")), "NotReady,SchedulingDisabled");
        node.metadata.labels.get_or_insert_default().insert(format!("{ROLE_LABEL}edge"), String::new());
        assert_eq!(
            (roles(&node), readiness(&node, &NodeStatus::default()).as_str()),
            ("edge".to_owned(), "Unknown,SchedulingDisabled")
        );
    }
}
