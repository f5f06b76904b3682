//! What the tests of this folder share, and those that compare with recordings.

pub mod fixture;
mod golden;
