//! The pure core: events in, a plan out.
//!
//! It must never do I/O, read a clock, log or fail. `apply` folds a fact in; `reconcile` decides. Reconciling twice
//! without a new fact yields no action.

pub mod action;
pub mod event;

pub mod backoff;
pub mod container;
pub mod state;
pub mod timeline;

mod apply;
mod place;
pub mod plan;
mod quantity;

pub mod memo;
pub mod status;

pub use apply::apply;
pub use plan::reconcile;

#[cfg(test)]
mod tests;
