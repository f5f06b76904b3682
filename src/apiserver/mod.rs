//! The API server as pinlet speaks to it: a kubeconfig, a credential that is kept up to date, and a blocking client.
//!
//! For worker threads. It owns no state of the agent's, decides nothing about pods, and never runs on the loop: every
//! call may take as long as its deadline.

mod answer;
mod client;
mod error;
pub mod kubeconfig;
mod rate_limit;
mod watch;

pub use answer::Answer;
pub use client::{Client, ClientError};
pub use error::{ApiError, Said};
pub use rate_limit::RateLimit;
pub use watch::{EventKind, Watch, WatchEvent};
