//! The agent: one thread that runs the loop and owns all state; everything that may block is done elsewhere.
//!
//! It executes what `reconcile` decides and reports back what happened. It must never decide by itself whether a pod
//! runs, and the loop must never touch a real file system.

pub mod logger;
pub mod node;
pub mod node_facts;
pub mod notify;
pub mod offline;
pub mod paths;
pub mod preflight;
pub mod startup;
pub mod worker;

mod addresses;
mod adopt;
mod answers;
mod api;
mod cluster;
mod crew;
mod execute;
mod exits;
mod explain;
mod happenings;
mod images;
mod journal;
mod manifests;
mod monitors;
mod newer;
mod outcome;
mod pod_files;
mod pods;
mod preloads;
mod records;
mod run;
mod session;
mod spawning;
mod start;
mod stop;
mod sweep;
