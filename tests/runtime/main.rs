//! The lower half of the runtime with real containers: monitor, creator, cgroups, logs, exec. Needs root and
//! `/bin/busybox` (Debian's busybox-static).
//!
//! Each test has its own directory and cgroup root, and takes both away, also when it fails.

mod host;

mod confinement;
mod execs;
mod exits;
mod failures;
mod faults;
mod logs;
mod unified;
