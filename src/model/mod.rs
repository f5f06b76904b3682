//! The pure vocabulary: ids, times, the Pod as admitted, and what was observed of it.
//!
//! Everything here is data. It must never do I/O, read a clock or log, and it imports nothing of ours:
//! `reconcile` decides with these types, and the edges turn them into effects.

pub mod duration;
pub mod id;
pub mod image;
pub mod observed;
pub mod pod;
pub mod time;
