//! The API server double against what a real API server did: a double that is wrong would prove the wrong agent.

#[path = "../support/apiserver/mod.rs"]
mod apiserver;

mod client;
mod failing;
mod kubectl;
mod merging;
mod nodes;
mod replay;
mod secure;
mod watching;
mod writing;
