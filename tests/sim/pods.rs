//! Pods for the simulation.

use k8s_openapi::api::core::v1;
use pinlet::model::id::{ContainerName, NodeName, PodKey, PodUid};
use pinlet::model::image::{ImageConfig, ImageFacts};
use pinlet::model::pod::{
    Container, DnsPolicy, PullPolicy, QosClass, Resources, RestartPolicy, StaticPod, TerminationMessagePolicy,
};
use std::time::Duration;

pub fn uid(text: &str) -> PodUid {
    PodUid::new(text).expect("a valid uid")
}

pub fn name(text: &str) -> ContainerName {
    ContainerName::new(text).expect("a valid container name")
}

pub fn image() -> Box<ImageFacts> {
    Box::new(ImageFacts {
        reference: "localhost/image:1".to_owned(),
        image_id: "sha256:1".to_owned(),
        layers: Vec::new(),
        config: ImageConfig::default(),
    })
}

fn container(text: &str) -> Container {
    Container {
        name: name(text),
        image: "localhost/image:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        resources: Resources::default(),
        mounts: Vec::new(),
        termination_message_path: "/dev/termination-log".to_owned(),
        termination_message_policy: TerminationMessagePolicy::File,
    }
}

/// What the file `manifest_name` holds in its given version.
pub fn pod(manifest_name: &str, uid_text: &str, hash: &str, policy: RestartPolicy, containers: usize) -> StaticPod {
    let containers: Vec<_> = ["a", "b", "c"].iter().take(containers).map(|n| container(n)).collect();
    let spec = |c: &Container| v1::Container {
        name: c.name.as_str().to_owned(),
        image: Some(c.image.clone()),
        ..Default::default()
    };
    let object = v1::Pod {
        spec: Some(v1::PodSpec { containers: containers.iter().map(spec).collect(), ..Default::default() }),
        ..Default::default()
    };
    StaticPod {
        uid: uid(uid_text),
        key: PodKey { namespace: "default".to_owned(), name: format!("{manifest_name}-vm") },
        manifest_name: manifest_name.to_owned(),
        node_name: NodeName::new("vm").expect("a name"),
        source: format!("/manifests/{manifest_name}.yaml").into(),
        hash: hash.to_owned(),
        restart_policy: policy,
        grace: Duration::from_secs(10),
        host_network: false,
        host_pid: false,
        host_ipc: false,
        hostname: manifest_name.to_owned(),
        host_aliases: Vec::new(),
        dns_policy: DnsPolicy::Default,
        qos: QosClass::BestEffort,
        containers,
        volumes: Vec::new(),
        object,
    }
}
