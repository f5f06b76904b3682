//! The pure vocabulary: ids, times, the Pod as admitted, what was observed of it, and what the node is told to be.
//!
//! Everything here is data. It must never do I/O, read a clock or log, and it imports nothing of ours:
//! `reconcile` decides with these types, and the edges turn them into effects.

pub mod duration;
pub mod id;
pub mod image;
pub mod names;
pub mod node;
pub mod observed;
pub mod pod;
pub mod time;
