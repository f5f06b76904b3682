//! Running a container: what it is given (spec, sandbox, volumes) and who runs it (monitor, creator, records).
//!
//! The agent never calls libcontainer: it spawns a monitor, and the monitor forks a creator, which does
//! (docs/architecture.md). cgroups are made, joined and removed here and nowhere else.

pub mod env;
pub mod host_facts;
pub mod host_identity;
pub mod hosts;
pub mod pod_files;
pub mod pod_paths;
pub mod resolv;
pub mod resources;
pub mod run_dir;
pub mod sandbox;
pub mod sandbox_record;
pub mod spec;
pub mod stop_signal;
pub mod termination;
pub mod volumes;

pub mod cgroup;
mod creator;
pub mod crilog;
pub mod devices;
pub mod exec;
pub mod exec_files;
pub mod exec_role;
mod executor;
pub mod handshake;
pub mod launch;
pub mod monitor;
mod output;
pub mod overlay;
mod progress;
pub mod record;
pub mod rootfs;
pub mod spawn;
mod told;
mod trace;
pub mod user;

#[cfg(test)]
mod damaged_records;
#[cfg(test)]
mod testing;
