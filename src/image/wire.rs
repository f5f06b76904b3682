//! The JSON of OCI and docker images, as far as it is needed to import one.
//!
//! Lenient where Go's decoder is (null or nothing for an empty list, any unknown field), since that is what the builders
//! of images are tested against; `oci-spec`'s types insist on fields that real docker archives leave out.

use super::digest::Digest;
use crate::model::image::ImageConfig;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// An OCI image index or a docker manifest list; also a layout's `index.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    #[serde(default, deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub config: Descriptor,
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    pub size: u64,
    pub digest: Digest,
    #[serde(default, skip_serializing)]
    pub platform: Option<PlatformField>,
    #[serde(default, deserialize_with = "or_default", skip_serializing)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PlatformField {
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    pub variant: String,
}

/// The image config: OCI's and docker's are alike in what counts here.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub platform: PlatformField,
    #[serde(default, deserialize_with = "or_default")]
    config: ExecutionConfig,
    pub rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecutionConfig {
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    #[serde(default, deserialize_with = "or_default")]
    stop_signal: String,
}

impl Config {
    pub fn into_image_config(self) -> ImageConfig {
        let ExecutionConfig { user, env, entrypoint, cmd, working_dir, stop_signal } = self.config;
        ImageConfig { user, env, entrypoint, cmd, working_dir, stop_signal }
    }
}

/// One entry of a docker archive's `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerEntry {
    pub config: String,
    #[serde(default, deserialize_with = "or_default")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<String>,
}

/// The manifest that a docker archive lacks, made from its parts as containerd's import does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeManifest {
    pub schema_version: u32,
    pub media_type: &'static str,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// `null` is as good as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_old_docker_configs_are_empty() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"","Env":null,"Cmd":["a"],"Entrypoint":null,
            "WorkingDir":"/w","Volumes":null,"StopSignal":"SIGQUIT","Labels":null},"container_config":{"Cmd":["x"]},
            "history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.platform.architecture, "amd64");
        assert_eq!(config.rootfs.diff_ids, []);
        let image = config.into_image_config();
        assert_eq!((image.cmd, image.working_dir.as_str()), (vec!["a".to_owned()], "/w"));
        assert_eq!((image.stop_signal.as_str(), image.env), ("SIGQUIT", vec![]));
        let config: Config = serde_json::from_str(r#"{"config":null,"rootfs":{}}"#).unwrap();
        assert_eq!(config.into_image_config(), ImageConfig::default());
    }

    #[test]
    fn a_config_without_rootfs_is_no_image() {
        assert!(serde_json::from_str::<Config>(r#"{"config":{}}"#).is_err());
    }

    #[test]
    fn a_digest_of_another_kind_is_refused_where_it_stands() {
        let text = r#"{"manifests":[{"mediaType":"x","size":1,"digest":"sha512:00"}]}"#;
        let error = serde_json::from_str::<Index>(text).unwrap_err().to_string();
        assert!(error.contains("\"sha512:00\" is no sha256 digest"), "{error}");
    }
}
