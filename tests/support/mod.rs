//! What the end-to-end tests share: a node of their own, driven by nothing but the public contract.
//!
//! Each test file is a crate of its own that uses a part of this, hence the lint below. The code here must leave the
//! machine as it found it whatever a test does: everything that a [`node::Node`] makes carries the node's tag.

#![allow(dead_code, unused_imports)]

pub mod dump;
pub mod host;
pub mod http;
pub mod identity;
pub mod image;
pub mod loopfs;
pub mod node;
pub mod pod;
pub mod seccomp;
pub mod verb;
pub mod view;
pub mod wait;

pub use node::{Node, Setup};
pub use pod::{IDLE, Pod};
pub use serde_json::json;
pub use view::PodView;
pub use wait::{PATIENCE, wait_for};

/// The program under test: `PINLET_BIN` (the static build), else the one that cargo built for these tests.
pub fn binary() -> std::path::PathBuf {
    std::env::var_os("PINLET_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pinlet").into(), Into::into)
}
