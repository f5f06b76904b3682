//! The pods' hosts, hostname and resolv.conf, kept as the node's own files and addresses change: pods start before
//! DHCP and DNS have been there.

use super::node::Node;
use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use crate::error::chain;
use crate::model::pod::StaticPod;
use crate::model::time::Now;
use crate::runtime::host_facts;
use crate::runtime::pod_files::{self, NodeFiles, PodFileError, Stamp};
use crate::runtime::resolv::ClusterDns;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("cannot read the host's name")]
    HostName(#[source] io::Error),
    #[error(transparent)]
    File(#[from] PodFileError),
}

/// Worker: brings one pod's files up to date; writes only what has changed.
pub fn refresh(node: &Node, pod: &StaticPod, ip: Option<IpAddr>) -> Result<(), FilesError> {
    let hostname = host_facts::kernel_hostname().map_err(FilesError::HostName)?;
    let files = NodeFiles::read(node.config.resolv_conf.as_deref(), &hostname)?;
    let cluster = ClusterDns { servers: node.config.cluster_dns.clone(), domain: node.config.cluster_domain.clone() };
    let refreshed = pod_files::refresh(pod, &node.pod_paths(&pod.uid), ip, &files, &cluster)?;
    if refreshed.changed {
        for warning in refreshed.warnings {
            log::warn!("{}: {warning}", pod.key);
        }
    }
    Ok(())
}

impl Agent {
    /// Stats the node's own files; a change is handed on to every pod.
    pub(super) fn look_at_node_files(&mut self, now: Now) {
        if !self.workers.idle(&Lane::NodeFiles) {
            return;
        }
        let node = Arc::clone(&self.node);
        let before = self.node_files.clone();
        self.workers.submit(Lane::NodeFiles, "node files", now.mono, move || {
            let stamp = Stamp::take(node.config.resolv_conf.as_deref());
            let news = before.as_ref() != Some(&stamp);
            Outcome::NodeFiles { stamp, news }
        });
    }

    pub(super) fn take_node_files(&mut self, stamp: Stamp, now: Now) {
        // At the first look nobody knows since when they stand so: pods may run since before the last agent ended.
        if self.node_files.as_ref() == Some(&stamp) {
            return;
        }
        self.node_files = Some(stamp);
        let pods: Vec<_> = self.core.pods().filter(|p| p.prepared).map(|p| (Arc::clone(&p.pod), p.ip)).collect();
        for (pod, ip) in pods {
            let node = Arc::clone(&self.node);
            self.workers.submit(Lane::Pod(pod.uid.clone()), "node files", now.mono, move || {
                if let Err(error) = refresh(&node, &pod, ip) {
                    log::warn!("{}: {}", pod.key, chain(&error));
                }
                Outcome::Nothing
            });
        }
    }
}
