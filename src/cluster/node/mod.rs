//! This node's Node object and its lease: how others see that the node is there, what it has, and that it lives.
//!
//! [`NodeFacts`] say what is so here, [`NodeSync`] says which request is due. Nothing here decides about pods, and
//! nothing here ever touches a taint of a Node that exists: a node may set taints only when it creates its Node.

mod capacity;
mod conditions;
mod facts;
mod lease;
mod object;
mod ours;
mod patch;
mod request;
mod sync;
#[cfg(test)]
pub(super) mod tests;
mod timing;

pub use conditions::{Pressures, Readiness};
pub use facts::{NodeFacts, NodeImage};
pub use object::node;
pub use ours::{STATIC_PODS_ONLY, lacks_our_taint, taint_command};
pub use request::{NodeAnswer, NodeNews, NodePlan, NodeRequest, NodeRequestKind};
pub use sync::{NodeSettings, NodeSync};
