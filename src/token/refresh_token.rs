//! Which refresh token is there, and for how long? What a response makes of the one that was there before.

use tokio::time::Instant;

use super::response::{ExpiresIn, TokenResponse};
use bursar_base::secret::Secret;
use bursar_config::{Refresh, TokenDialect};

/// A refresh token and its end.
pub(super) struct RefreshToken {
    pub(super) text: Secret,
    /// None: until it is refused.
    deadline: Option<Instant>,
}

impl RefreshToken {
    /// Whether it may still be offered.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }

    /// The one that a response leaves: a new one replaces the old one; where the response has none, the old one
    /// is kept, and its own deadline with it. A stated lifetime of zero means that it is not to be used.
    pub(super) fn after(
        response: &mut TokenResponse,
        old: Option<Self>,
        dialect: &TokenDialect,
        issued: Instant,
    ) -> Option<Self> {
        if dialect.refresh == Refresh::None {
            return None;
        }
        let Some(text) = response.refresh_token.take() else {
            return old;
        };
        let lifetime = match response.refresh_lifetime {
            ExpiresIn::For(lifetime) => Some(lifetime),
            ExpiresIn::Unstated => dialect.refresh_lifetime,
            ExpiresIn::Already => return None,
        };
        if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            return None;
        }
        Some(Self {
            text,
            deadline: lifetime.and_then(|lifetime| issued.checked_add(lifetime)),
        })
    }
}
