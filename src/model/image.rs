//! What the rest needs to know of an image that is present: how to mount it and how to run it.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An image of the local store, pinned down: the tag may move, this does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The normalised reference (`docker.io/kalise/nodejs-web-app:latest`).
    pub reference: String,
    /// What `status.containerStatuses[].imageID` shows: `sha256:<config digest>` for imported images.
    pub image_id: String,
    /// Unpacked layers, **top layer first** as overlayfs wants them; absolute paths.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
}

/// The part of the OCI image config that a container's spec is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `user[:group]`, by name or number; empty is root.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    /// `SIGTERM`, `TERM` or a number; empty is SIGTERM.
    pub stop_signal: String,
}
