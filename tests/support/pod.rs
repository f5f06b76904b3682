//! A manifest in the making.

use serde_json::{Value, json};

/// A shell program that does nothing until it is told to stop, and then stops at once.
pub const IDLE: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

/// A Pod document; printed as YAML.
#[derive(Clone, Debug)]
pub struct Pod(pub Value);

impl Pod {
    /// One container `c` of `busybox:1` that runs `script` in a shell, on the host network, with a short grace period.
    pub fn new(name: &str, script: &str) -> Pod {
        Pod(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"hostNetwork": true, "terminationGracePeriodSeconds": 2, "containers": []},
        }))
        .container("c", script)
    }

    /// A pod that just stays.
    pub fn idle(name: &str) -> Pod {
        Pod::new(name, IDLE)
    }

    /// On the pod network instead of the host's.
    pub fn own_network(mut self) -> Pod {
        self.spec().remove("hostNetwork");
        self
    }

    pub fn container(mut self, name: &str, script: &str) -> Pod {
        let container = json!({"name": name, "image": "busybox:1", "command": ["/bin/sh", "-c", script]});
        self.0["spec"]["containers"].as_array_mut().expect("a list").push(container);
        self
    }

    /// Sets a field of the pod's spec.
    pub fn spec_field(mut self, name: &str, value: Value) -> Pod {
        self.spec().insert(name.to_owned(), value);
        self
    }

    pub fn metadata(mut self, name: &str, value: Value) -> Pod {
        self.0["metadata"][name] = value;
        self
    }

    /// Sets a field of the container that was added last; `null` takes it away.
    pub fn with(mut self, name: &str, value: Value) -> Pod {
        let containers = self.0["spec"]["containers"].as_array_mut().expect("a list");
        let container = containers.last_mut().and_then(Value::as_object_mut).expect("a container");
        if value.is_null() {
            container.remove(name);
        } else {
            container.insert(name.to_owned(), value);
        }
        self
    }

    pub fn restart(self, policy: &str) -> Pod {
        self.spec_field("restartPolicy", json!(policy))
    }

    pub fn grace(self, seconds: u32) -> Pod {
        self.spec_field("terminationGracePeriodSeconds", json!(seconds))
    }

    pub fn image(self, image: &str) -> Pod {
        self.with("image", json!(image))
    }

    /// Adds a volume to the pod and mounts it in the last container.
    pub fn volume(mut self, name: &str, source: Value, mount_path: &str) -> Pod {
        let mut volume = source;
        volume["name"] = json!(name);
        push(&mut self.0["spec"]["volumes"], volume);
        self.mount(name, mount_path)
    }

    /// Mounts a volume that the pod has already.
    pub fn mount(mut self, name: &str, mount_path: &str) -> Pod {
        let containers = self.0["spec"]["containers"].as_array_mut().expect("a list");
        let container = containers.last_mut().expect("a container");
        push(&mut container["volumeMounts"], json!({"name": name, "mountPath": mount_path}));
        self
    }

    fn spec(&mut self) -> &mut serde_json::Map<String, Value> {
        self.0["spec"].as_object_mut().expect("a mapping")
    }

    pub fn yaml(&self) -> String {
        serde_yaml::to_string(&self.0).expect("JSON is YAML")
    }
}

fn push(list: &mut Value, item: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().expect("a list").push(item);
}
