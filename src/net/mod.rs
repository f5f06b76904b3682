//! The pod network: a pure plan of addresses and names, and its application to the kernel by netlink.
//!
//! It knows pods by namespace and name and a pinned network namespace, nothing else of them, and keeps no files: what
//! is attached is read from the kernel. Foreign links, routes, tables and rules are looked at and never changed.

pub mod bridge;
pub mod node;
pub mod plan;

pub use bridge::{Attachment, Bridge, NetError};
pub use node::{Watch, node_ip};
