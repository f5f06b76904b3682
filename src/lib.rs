//! pinlet: Kubernetes static pods from one static binary.
//!
//! Modules in reading order; who may import whom is checked by `tests/tidy.rs`.

#![deny(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod error;

#[cfg(test)]
mod damage;

pub mod model;

pub mod cluster;
pub mod reconcile;

#[allow(unsafe_code)]
pub mod sys;

pub mod yaml;

pub mod http;

pub mod apiserver;
pub mod config;
pub mod image;
pub mod manifest;
pub mod net;
pub mod runtime;

pub mod cli;
pub mod server;

pub mod agent;
