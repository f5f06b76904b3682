//! The system's edge: the only place with `unsafe`, `nix` and `libc`.
//!
//! It offers operations by name and knows no pods. Every unsafe block says why it is sound; anything that has an
//! ordering rule says `INVARIANT:`.

pub mod bpf;
pub mod bump;
pub mod child;
pub mod clock;
pub mod file;
pub mod lease;
pub mod memory;
pub mod mount;
pub mod mount_tree;
pub mod namespace;
pub mod netlink;
pub mod openat;
pub mod poll;
pub mod process;
pub mod rooted;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tcp;
pub mod term;
pub mod unix_socket;
pub mod watch;
