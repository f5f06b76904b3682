//! The local API on `<run-dir>/pinlet.sock`: the kubelet's endpoints, Kubernetes-shaped reads, and our own.
//!
//! Connection threads own no state: each question goes to the loop as a [`query::Pending`] and its answer is written
//! out. They are bounded in number, and so is all that a peer can make them hold.

mod connection;
mod crilog;
pub mod frame;
pub mod http;
pub mod listen;
mod logs;
pub mod query;
mod status;
pub mod wire;

#[cfg(test)]
mod tests;
