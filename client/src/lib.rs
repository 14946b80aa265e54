//! Calls an upstream: connection pool, TLS, credentials, deadlines. Live calls, shadows, replays and judges all come
//! through here.
//!
//! Never follows a redirect, never sends again what may have reached the upstream, and sends a credential only where its
//! owner addressed it.

mod answer;
mod body;
mod connect;
mod error;
mod resolve;
mod secret;
pub mod sigv4;
mod socket;
mod tls;
mod upload;
mod upstream;

pub use answer::{Answer, AskError};
pub use body::{BoxError, RequestBody, empty, full};
pub use error::{SendError, SendErrorKind, chain};
pub use resolve::is_refused_url;
pub use secret::Secret;
pub use sigv4::{AwsCredentials, Signing};
pub use tls::TlsError;
pub use upstream::{OpenError, SelfHosted, Timeouts, Upstream, UpstreamConfig};
