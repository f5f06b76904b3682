//! Kubeconfig files that lead to the double.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A kubeconfig in the making; JSON, which every reader of the YAML takes.
pub struct Kubeconfig {
    cluster: Value,
    user: Value,
}

impl Kubeconfig {
    pub fn new(server: &str) -> Kubeconfig {
        Kubeconfig { cluster: json!({ "server": server }), user: json!({}) }
    }

    pub fn token(mut self, token: &str) -> Kubeconfig {
        self.user["token"] = token.into();
        self
    }

    /// Any field of the cluster.
    pub fn cluster(mut self, field: &str, value: impl Into<Value>) -> Kubeconfig {
        self.cluster[field] = value.into();
        self
    }

    /// Any field of the user.
    pub fn user(mut self, field: &str, value: impl Into<Value>) -> Kubeconfig {
        self.user[field] = value.into();
        self
    }

    pub fn text(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{ "name": "double", "cluster": self.cluster }],
            "users": [{ "name": "user", "user": self.user }],
            "contexts": [{ "name": "double", "context": { "cluster": "double", "user": "user" } }],
        })
        .to_string()
    }

    pub fn write(&self, path: &Path) -> PathBuf {
        std::fs::write(path, self.text()).expect("the kubeconfig is written");
        path.to_owned()
    }
}
