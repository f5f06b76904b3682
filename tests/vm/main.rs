//! The whole product on a whole machine: a Debian 12 guest with its own kernel, booted by systemd with cgroup v2 alone,
//! by systemd with `systemd.unified_cgroup_hierarchy=0`, and by sysvinit, in software emulation. Here is what no test
//! beside a host's own init can show: units, shutdown, power cuts, boots, and a clock that jumps.
//!
//! `make vm-test` builds what it needs (root) and runs it; `cargo test` alone does not.

mod disk;
mod guest;
mod manifests;
mod node;
mod payload;
mod scenarios;
