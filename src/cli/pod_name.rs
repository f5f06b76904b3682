//! Finding the pod that a user named: by manifest name or full name, in one namespace or in all.

use super::args::PodName;
use super::client::Client;
use super::error::VerbError;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;

/// All pods, or those of one namespace, sorted by namespace and name.
pub fn list(client: &Client, namespace: Option<&str>) -> Result<Vec<Pod>, VerbError> {
    let target = match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/pods", super::client::percent_encode(namespace)),
        None => "/api/v1/pods".to_owned(),
    };
    let list: List<Pod> = client.get(&target)?;
    Ok(list.items)
}

/// True if `name` is the pod's full name, or that without the node's name behind it.
pub fn fits(pod: &Pod, name: &str) -> bool {
    let full = pod.metadata.name.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let manifest_name = full.strip_suffix(node).and_then(|rest| rest.strip_suffix('-'));
    full == name || manifest_name == Some(name)
}

/// The pods that fit: those by full name, else those by manifest name.
pub fn matching(pods: Vec<Pod>, name: &str) -> Vec<Pod> {
    let fitting: Vec<Pod> = pods.into_iter().filter(|pod| fits(pod, name)).collect();
    let (full, short): (Vec<Pod>, Vec<Pod>) =
        fitting.into_iter().partition(|pod| pod.metadata.name.as_deref() == Some(name));
    if full.is_empty() { short } else { full }
}

/// The one pod that is meant.
pub fn find(client: &Client, wanted: &PodName) -> Result<Pod, VerbError> {
    let mut pods = matching(list(client, wanted.namespace.as_deref())?, &wanted.name);
    if pods.len() > 1 {
        let found = pods.iter().map(|pod| key(pod).join("/")).collect();
        return Err(VerbError::Ambiguous { name: wanted.name.clone(), found });
    }
    pods.pop().ok_or_else(|| VerbError::NoSuchPod { name: wanted.name.clone() })
}

/// Namespace and full name.
pub fn key(pod: &Pod) -> [&str; 2] {
    [pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default()]
}

/// The container that is meant: the one named, else the first. The second value is true where there was a choice.
pub fn container(pod: &Pod, wanted: Option<&str>) -> Result<(String, bool), VerbError> {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let found = match wanted {
        Some(name) => containers.iter().find(|container| container.name == name),
        None => containers.first(),
    };
    let found = found.ok_or_else(|| VerbError::NoSuchContainer {
        pod: key(pod)[1].to_owned(),
        container: wanted.unwrap_or_default().to_owned(),
    })?;
    Ok((found.name.clone(), wanted.is_none() && containers.len() > 1))
}

/// kubectl's line on stderr where a choice was made for the user.
pub fn say_defaulted(pod: &Pod, container: &str) {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    super::output::complain(&format!("Defaulted container {container:?} out of: {}", names.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn pod(namespace: &str, name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some(namespace.to_owned());
        pod.metadata.name = Some(name.to_owned());
        pod.spec = Some(PodSpec { node_name: Some("n-1".to_owned()), ..PodSpec::default() });
        pod
    }

    #[test]
    fn a_pod_goes_by_its_manifest_name_and_by_its_full_name() {
        let web = pod("default", "web-n-1");
        assert!(fits(&web, "web") && fits(&web, "web-n-1"));
        assert!(!fits(&web, "we") && !fits(&web, "web-n") && !fits(&web, "web-"));
    }

    #[test]
    fn a_full_name_wins_over_a_manifest_name() {
        let pods = vec![pod("default", "web-n-1"), pod("default", "web-n-1-n-1")];
        let found = matching(pods, "web-n-1");
        assert_eq!(found.iter().map(|pod| key(pod)[1]).collect::<Vec<_>>(), ["web-n-1"]);
    }
}
