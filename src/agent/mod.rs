//! The agent: one thread that runs the loop and owns all state; everything that may block is done elsewhere.
//!
//! It executes what `reconcile` decides and reports back what happened. It must never decide by itself whether a pod
//! runs, and the loop must never touch a real file system.

pub mod logger;
pub mod notify;
pub mod paths;
pub mod preflight;
pub mod session;
pub mod worker;
