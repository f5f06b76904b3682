//! The node's lease in `kube-node-lease`: the heartbeat that costs an API server little.

use crate::model::id::NodeName;
use crate::model::time::Wall;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use std::time::Duration;

/// Where leases of nodes are; the namespace comes with the cluster.
pub const NAMESPACE: &str = "kube-node-lease";
/// kubelet: renewed four times before it runs out.
const RENEWALS: u32 = 4;

/// Time between two renewals.
pub fn renew_every(duration: Duration) -> Duration {
    duration / RENEWALS
}

/// As created. `uid` is the Node's: the lease goes with the Node.
pub fn new(name: &NodeName, uid: &str, duration: Duration, now: Wall) -> Lease {
    let metadata =
        ObjectMeta { name: Some(name.to_string()), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() };
    renewed(Lease { metadata, spec: None }, name, uid, duration, now)
}

/// `lease` as last seen, with its resource version, renewed. Owners that are no Node stay.
pub fn renewed(mut lease: Lease, name: &NodeName, uid: &str, duration: Duration, now: Wall) -> Lease {
    // The server keeps its own of an object that comes without any.
    lease.metadata.managed_fields = None;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_string(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let owners = lease.metadata.owner_references.get_or_insert_default();
    if !owners.iter().any(|there| there.kind == "Node" && there.uid == uid) {
        // A Node of an earlier life: the garbage collector would take the lease with it.
        owners.retain(|there| there.kind != "Node");
        owners.push(owner);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.to_string());
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(micro_time(now));
    lease
}

/// Out of range (a clock that was never set to anything sane) is the epoch.
fn micro_time(now: Wall) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(now.0.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::UID;
    use super::*;
    use serde_json::{Value, json};

    const FORTY: Duration = Duration::from_secs(40);

    fn vm() -> NodeName {
        NodeName::new("vm").expect("a name")
    }

    /// 2026-11-23T23:05:41.128866Z, with nanoseconds that are cut.
    fn moment() -> Wall {
        Wall(1_795_475_141_128_866_987)
    }

    #[test]
    fn a_new_lease_is_held_by_the_node_and_owned_by_its_object() {
        assert_eq!(
            json!(new(&vm(), UID, FORTY, moment())),
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": "vm",
                    "namespace": "kube-node-lease",
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "vm", "uid": UID }],
                },
                "spec": {
                    "holderIdentity": "vm",
                    "leaseDurationSeconds": 40,
                    "renewTime": "2026-11-23T23:05:41.128866Z",
                },
            })
        );
        assert_eq!(renew_every(FORTY), Duration::from_secs(10));
    }

    #[test]
    fn a_renewal_keeps_what_the_server_added_and_mends_what_is_wrong() {
        let mut seen = new(&vm(), "of-an-earlier-life", FORTY, Wall::EPOCH);
        seen.metadata.resource_version = Some("309".to_owned());
        seen.metadata.managed_fields = Some(Vec::new());
        let owners = seen.metadata.owner_references.as_mut().expect("an owner");
        owners.push(OwnerReference { kind: "ConfigMap".into(), uid: "other".into(), ..OwnerReference::default() });
        seen.spec.as_mut().expect("a spec").holder_identity = Some("somebody".to_owned());
        let lease: Value = json!(renewed(seen, &vm(), UID, Duration::from_secs(20), moment()));
        assert_eq!(lease["metadata"]["resourceVersion"], "309");
        assert_eq!(lease["metadata"].get("managedFields"), None);
        let owners: Vec<&Value> = lease["metadata"]["ownerReferences"].as_array().expect("owners").iter().collect();
        assert_eq!((owners.len(), &owners[0]["uid"], &owners[1]["uid"]), (2, &json!("other"), &json!(UID)));
        assert_eq!(
            (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]),
            (&json!("vm"), &json!(20))
        );
    }
}
