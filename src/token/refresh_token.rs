//! Refresh token of a token key: how long it may be offered, and what a response makes of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::response::{ExpiresIn, TokenResponse};
use bursar_base::secret::Secret;
use bursar_config::{Refresh, TokenDialect};
use bursar_fleet::RefreshValue;

/// A refresh token and its end.
pub(super) struct RefreshToken {
    pub(super) text: Secret,
    /// None: until it is refused.
    deadline: Option<Instant>,
}

impl RefreshToken {
    /// One that the fleet shares, with a token that was issued then.
    pub(super) fn of_fleet(shared: RefreshValue, issued: Instant) -> Self {
        Self {
            text: shared.text,
            deadline: shared
                .lifetime
                .and_then(|lifetime| issued.checked_add(lifetime)),
        }
    }

    /// The same for the fleet, with a token that was issued then.
    pub(super) fn for_fleet(self, issued: Instant) -> RefreshValue {
        RefreshValue {
            text: self.text,
            lifetime: self
                .deadline
                .map(|deadline| deadline.saturating_duration_since(issued)),
        }
    }

    /// Whether it may still be offered.
    fn is_live(&self, now: Instant) -> bool {
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
        // One that brings what has ended already would be offered at once, and bring that again.
        let is_of_use = response.lifetime != ExpiresIn::Already;
        let Some(text) = response.refresh_token.take().filter(|_| is_of_use) else {
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

/// Where the refresh token is between two calls; it outlives the key's sources. Whoever takes it is the only one that has
/// it, and puts it back only where it was certainly not used up: sending a used one again makes some servers revoke
/// everything. So it is gone after a call that never ends.
#[derive(Default)]
pub(super) struct RefreshTokenSlot(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    token: Option<RefreshToken>,
    /// Whether a provider refuses what it brings: it is not offered, and neither is one that is still in use.
    is_distrusted: bool,
}

impl RefreshTokenSlot {
    /// A panic elsewhere leaves nothing half-done here.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that may be offered now, if there is one; it is taken to be in use.
    pub(super) fn take(&self, now: Instant) -> Option<RefreshToken> {
        let mut slot = self.lock();
        if slot.is_distrusted {
            return None;
        }
        slot.token.take().filter(|token| token.is_live(now))
    }

    /// The one to be offered next.
    pub(super) fn put(&self, token: Option<RefreshToken>) {
        self.lock().token = token;
    }

    /// None is offered before client credentials were tried. It is kept until they have brought a token.
    pub(super) fn distrust(&self) {
        self.lock().is_distrusted = true;
    }

    /// Client credentials have brought a token, and whatever refresh token comes with that is another one. Or they have
    /// brought none, and then the one that there is still serves the routes that take its tokens.
    pub(super) fn trust(&self) {
        self.lock().is_distrusted = false;
    }

    /// The same where another instance's token was adopted: one that is distrusted goes now.
    pub(super) fn trust_next(&self) {
        let mut slot = self.lock();
        if std::mem::take(&mut slot.is_distrusted) {
            slot.token = None;
        }
    }
}
