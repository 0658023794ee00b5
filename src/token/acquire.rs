//! Acquiring a token: what a source asks for one, wherever it comes from.

use std::future::Future;
use std::pin::Pin;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::access_token::{CachedToken, LAST_SECOND};
use super::endpoint_limiter::Priority;
use super::failure::Failure;
use super::response::{ExpiresIn, TokenResponse};
use bursar_base::secret::Fingerprint;
use bursar_config::TokenDialect;
use bursar_limits::circuit_breaker::Until;
use bursar_telemetry::metrics::GrantLabel;

/// Where the tokens of one key come from. Its source has one acquisition under way at a time, and keeps what that
/// brings; instants are this process's, and whoever shares tokens with others turns them into wall time.
pub(super) trait Acquire: Send + Sync {
    /// Brings a token. The priority may rise meanwhile, because somebody joins who needs the token sooner.
    fn acquire<'a>(
        &'a self,
        wanted: Wanted,
        priority: &'a mut watch::Receiver<Priority>,
    ) -> Acquiring<'a>;
}

/// What is wanted: another token than the one that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    current: Option<Current>,
    /// Whether a provider refused it.
    pub(super) is_refused: bool,
    /// Whether a refresh token that brings the refused one again is of no use.
    pub(super) may_drop_refresh_token: bool,
    /// Why none came the last time, and how often in a row.
    pub(super) failed: Option<(Failure, u32)>,
}

/// The token that there is.
#[derive(Debug, Clone, Copy)]
struct Current {
    fingerprint: Fingerprint,
    issued: Instant,
    /// From then on it is not sent.
    expires: Instant,
    ends: Instant,
}

impl Wanted {
    /// One that can be used for longer than this one, or at all where it is refused.
    pub(super) fn instead_of(current: Option<&CachedToken>, is_refused: bool) -> Self {
        Self {
            current: current.map(|token| Current {
                fingerprint: token.fingerprint,
                issued: token.issued,
                expires: token.expires,
                ends: token.ends,
            }),
            is_refused,
            may_drop_refresh_token: is_refused,
            failed: None,
        }
    }

    /// The token that there is.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.current.map(|current| current.fingerprint)
    }

    /// Whether that is the token that a provider refused, and its refresh token is to be dropped for that.
    pub(super) fn is_refused_once_more(&self, acquired: &Acquired) -> bool {
        self.may_drop_refresh_token && self.fingerprint() == Some(acquired.fingerprint())
    }

    /// Whether there is a token that has not ended; a provider may refuse it.
    pub(super) fn has_live_token(&self, now: Instant) -> bool {
        self.current.is_some_and(|current| now < current.expires)
    }

    /// How long ago that token was issued.
    pub(super) fn token_age(&self, now: Instant) -> Duration {
        let issued = self.current.map(|current| current.issued);
        issued.map_or(Duration::ZERO, |issued| now.duration_since(issued))
    }

    /// Whether that token will do.
    pub(super) fn is_met_by(
        &self,
        acquired: &Acquired,
        dialect: &TokenDialect,
        now: Instant,
    ) -> bool {
        let ends = acquired.ends(dialect.default_lifetime);
        if ends <= now + LAST_SECOND {
            return false;
        }
        let Some(current) = self.current else {
            return true;
        };
        if current.fingerprint == acquired.fingerprint() {
            return false;
        }
        // Where each new token ends the one before, the one that was issued last is the one that counts.
        match self.is_refused || dialect.single_active {
            true => acquired.issued > current.issued,
            false => ends > current.ends,
        }
    }
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
    /// Where it comes from.
    pub(super) origin: Origin,
}

/// Where a token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The token endpoint, which was asked with that grant; what it is worth is counted under that.
    Endpoint(GrantLabel),
    /// Another instance of the fleet, which asked for it.
    Fleet {
        /// Because a provider had answered 401.
        after_unauthorized: bool,
    },
}

impl Acquired {
    /// Names the token without giving it away.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.response.access_token.expose())
    }

    /// When it ends; where its response does not say, after the default.
    fn ends(&self, default_lifetime: Duration) -> Instant {
        let lifetime = match self.response.lifetime {
            ExpiresIn::For(lifetime) => lifetime,
            ExpiresIn::Unstated => default_lifetime,
            ExpiresIn::Already => Duration::ZERO,
        };
        self.issued.checked_add(lifetime).unwrap_or(self.issued)
    }
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
