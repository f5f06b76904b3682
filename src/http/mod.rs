//! HTTP/1.1 as a blocking client, the only user of ureq and rustls: requests and answers with deadlines and bounds,
//! TLS with roots, names and times of our choosing, and proxies by Go's rules.
//!
//! It knows no Kubernetes and no registries, and it never decides whether to try again, but for a kept connection
//! that the server closed at the moment of its next use. Everything here may block for as long as its deadline says:
//! workers only.

mod certificates;
mod client;
mod connector;
mod date;
mod error;
mod lines;
mod no_proxy;
mod proxy;
mod tls;
mod trusted_time;
mod tunnel;
mod validity;
mod verify;
mod wire;

pub use certificates::{CertificateFault, Certificates, Identity};
pub use client::{Answer, Client, Head, Method, Request, Settings, Stream};
pub use error::{Cause, Error};
pub use proxy::{Environment, Proxies, Proxy, ProxyError};
pub use tls::{TlsSettings, Trust};
pub use trusted_time::TrustedTime;
