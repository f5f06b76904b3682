//! Manifests: from a directory to pods as admitted.
//!
//! `scan` and `read` look at files, `decode` turns their bytes into a pod in a child with limits, `table` remembers
//! what each file stands for and decides which pods should run. Foreign bytes never enter the agent: it sees only what
//! the child answers. A file that goes bad, or a directory that vanishes, stops nothing.

pub mod check;
pub mod decode;
pub mod path;
pub mod read;
pub mod scan;
pub mod table;

mod admit;
mod defaults;
mod quantity;
mod refuse;
mod report;
mod uid;
mod validate;
