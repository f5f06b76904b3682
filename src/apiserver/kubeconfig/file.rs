//! The file as it is written: every field that means something, all optional. What else is in it is passed over, since
//! kubectl and its friends keep things of their own there.

use super::secret::Secret;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct File {
    pub kind: Option<String>,
    pub api_version: Option<String>,
    #[serde(rename = "current-context")]
    pub current_context: Option<String>,
    pub contexts: Option<Vec<NamedContext>>,
    pub clusters: Option<Vec<NamedCluster>>,
    pub users: Option<Vec<NamedUser>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedContext {
    pub name: Option<String>,
    pub context: Option<Context>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Context {
    pub cluster: Option<String>,
    pub user: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedCluster {
    pub name: Option<String>,
    pub cluster: Option<Cluster>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Cluster {
    pub server: Option<String>,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: Option<bool>,
    pub certificate_authority: Option<String>,
    pub certificate_authority_data: Option<String>,
    pub proxy_url: Option<Secret>,
    pub disable_compression: Option<bool>,
    pub extensions: Option<Vec<NamedExtension>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedExtension {
    pub name: Option<String>,
    pub extension: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedUser {
    pub name: Option<String>,
    pub user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct User {
    pub client_certificate: Option<String>,
    pub client_certificate_data: Option<String>,
    pub client_key: Option<String>,
    pub client_key_data: Option<Secret>,
    pub token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    pub token_file: Option<String>,
    pub exec: Option<Exec>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub auth_provider: Option<Refused>,
    #[serde(rename = "as")]
    pub impersonate: Option<String>,
    pub as_uid: Option<String>,
    pub as_groups: Option<Refused>,
    pub as_user_extra: Option<Refused>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Exec {
    pub api_version: Option<String>,
    pub command: Option<String>,
    pub args: Option<Vec<String>>,
    pub env: Option<Vec<ExecVariable>>,
    pub install_hint: Option<String>,
    pub provide_cluster_info: Option<bool>,
    pub interactive_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ExecVariable {
    pub name: Option<String>,
    pub value: Option<Secret>,
}

/// A field that is refused by its name, whatever it holds.
pub(super) struct Refused;

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Refused, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Refused)
    }
}

/// The configuration of a plugin, which a cluster holds for it.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

impl Cluster {
    pub fn exec_configuration(&self) -> Option<&serde_json::Value> {
        let extensions = self.extensions.as_deref().unwrap_or_default();
        extensions.iter().find(|e| e.name.as_deref() == Some(EXEC_EXTENSION)).and_then(|e| e.extension.as_ref())
    }
}

/// Equal names: the first counts, as it does for kubectl.
pub(super) fn by_name<'a, T>(
    list: Option<&'a [T]>,
    name_of: impl Fn(&T) -> Option<&str>,
    name: &str,
) -> Option<(usize, &'a T)> {
    list.unwrap_or_default().iter().enumerate().find(|(_, entry)| name_of(entry) == Some(name))
}
