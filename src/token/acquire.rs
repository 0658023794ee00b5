//! Acquiring a token: what a source asks for one, wherever it comes from.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;
use tokio::time::Instant;

use super::endpoint_limiter::Priority;
use super::failure::Failure;
use super::response::TokenResponse;
use bursar_limits::circuit_breaker::Until;
use bursar_telemetry::metrics::GrantLabel;

/// Where the tokens of one key come from. Its source has one acquisition under way at a time, and keeps what that
/// brings; instants are this process's, and whoever shares tokens with others turns them into wall time.
pub(super) trait Acquire: Send + Sync {
    /// Brings a token. The priority may rise meanwhile, because somebody joins who needs the token sooner.
    fn acquire<'a>(&'a self, priority: &'a mut watch::Receiver<Priority>) -> Acquiring<'a>;
}

/// What becomes of it.
pub(super) type Acquiring<'a> =
    Pin<Box<dyn Future<Output = Result<Acquired, NotAcquired>> + Send + 'a>>;

/// A token that came.
#[derive(Debug)]
pub(super) struct Acquired {
    /// As the endpoint described it; lifetimes count from `issued`.
    pub(super) response: TokenResponse,
    /// When its request was sent.
    pub(super) issued: Instant,
    /// What it was asked for with; what it is worth is counted under that.
    pub(super) grant: GrantLabel,
}

/// None came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no token was acquired")]
pub(super) struct NotAcquired {
    /// Why.
    #[source]
    pub(super) failure: Failure,
    /// Until when it is not worth asking again, where that is known better than from this failure: others failed
    /// before it. None: the source backs off by itself.
    pub(super) pause: Option<Until>,
}

impl From<Failure> for NotAcquired {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            pause: None,
        }
    }
}
