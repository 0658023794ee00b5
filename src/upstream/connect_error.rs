//! Errors of connecting to a provider: nothing was sent.

use std::error::Error;
use std::time::Duration;

use bursar_telemetry::metrics::Cause;

/// Why there is no connection: nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It could not be had.
    #[error("no connection could be had")]
    Failed {
        /// In one word, for who asked.
        cause: Cause,
        /// What went wrong underneath, where something did: a time limit has no other reason.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The server does not agree to HTTP/2, and nothing else is wanted.
    #[error("the server does not agree to HTTP/2")]
    NoHttp2,
    /// There was no file descriptor for it.
    #[error("there is no file descriptor for a connection")]
    NoDescriptors,
    /// Too many failed lately: none was tried, and none will be for so long.
    #[error("too many connections failed lately")]
    Held(Duration),
}

impl From<Cause> for ConnectError {
    fn from(cause: Cause) -> Self {
        Self::Failed {
            cause,
            source: None,
        }
    }
}

impl ConnectError {
    /// Whether that is Bursar's own word, not the provider's.
    pub(super) fn is_own(&self) -> bool {
        let is_not_allowed =
            matches!(self, Self::Failed { cause, .. } if *cause == Cause::AddressNotAllowed);
        is_not_allowed || matches!(self, Self::NoDescriptors)
    }
}
