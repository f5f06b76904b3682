//! The second pure core: what an API server should show of this node, and which request is due next.
//!
//! Facts go in (the node's pods, what a watch saw, how a request ended), requests come out; nothing here does I/O, reads
//! a clock, logs or fails. It never decides what runs: a cluster that is away, or that answers nonsense, reaches no pod.

pub mod events;
pub mod fact;
pub mod node;
pub mod request;
pub mod sync;

mod plan;
mod reach;
mod seen;
mod status_patch;
#[cfg(test)]
mod tests;

pub use plan::Plan;
pub use sync::Cluster;
