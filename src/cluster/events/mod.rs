//! Kubernetes events: what happened on the node, counted, bounded, and due to be posted.
//!
//! The rules are client-go's (`tools/record/events_cache.go`): the same event again counts up, similar ones are combined,
//! and an object that has much to tell is let through slowly. Where no API server is configured the events are kept
//! here alone; with one, this says what to post next. Nothing is ever decided by an event, and one that cannot be kept
//! or posted is dropped, never waited for.

mod happening;
mod kept;
mod posting;
mod recorder;
mod similar;
mod spam;

pub use happening::{Happening, Severity, Subject};
pub use posting::{EventAnswer, EventId, EventPost, EventRequest};
pub use recorder::Recorder;

#[cfg(test)]
mod tests;
