//! Recovery from a provider's 401: a renewal, or the knowledge that another token would not help.

use std::sync::Arc;

use tokio::time::Instant;

use super::access_token::{CachedToken, Freshness, Recovery};
use super::failure::Failure;
use super::refusals::Unauthorized;
use super::renewal_policy::{Joined, RenewalReason};
use super::source::{Source, wait_for};
use bursar_traces::Links;

impl Source {
    /// What to do about a 401. The flights that are waited for are added to the links.
    pub(super) async fn recover_linked(
        self: &Arc<Self>,
        unauthorized: Unauthorized,
        mut links: Option<&mut Links>,
    ) -> Recovery {
        let deadline = Instant::now() + self.dialect().wait;
        loop {
            let reason = RenewalReason::Unauthorized(unauthorized.clone());
            let (result, replaces) = match self.join(reason, links.as_deref_mut()) {
                Joined::Newer(token) => (Ok(token), unauthorized.sent),
                Joined::Flight(flight, replaces) => (wait_for(flight, deadline).await, replaces),
                Joined::RenewedTooOften => return Recovery::RenewedTooOften,
                // The old token at its very end. The next one is a second away, as in `obtain`.
                Joined::BackingOff(Failure::AlreadyExpired, until) if until < deadline => {
                    tokio::time::sleep_until(until).await;
                    continue;
                }
                Joined::BackingOff(..) => return Recovery::Unavailable,
            };
            return match result {
                Ok(token) if token.generation == unauthorized.sent => {
                    // The flight wanted another one than that before, and took the one that was refused since.
                    if replaces < unauthorized.sent {
                        continue;
                    }
                    // The flight learnt it for the route that it was for.
                    if !self.state.refusals.is_quarantined(
                        unauthorized.sent,
                        Some(&unauthorized.route),
                        Instant::now(),
                    ) {
                        self.quarantine(&unauthorized, unauthorized.sent);
                    }
                    Recovery::Unchanged
                }
                Ok(token) if token.freshness(Instant::now()) != Freshness::Expired => {
                    Recovery::Replay(token.access_token())
                }
                Err(Failure::AlreadyExpired) => continue,
                Ok(_) | Err(_) => Recovery::Unavailable,
            };
        }
    }

    /// Renews because of a 401 without anybody waiting: the request was too large to be replayed.
    pub(super) fn renew_after(self: &Arc<Self>, unauthorized: Unauthorized) {
        // Whatever comes of it is for the next request.
        drop(self.join(RenewalReason::Unauthorized(unauthorized), None));
    }

    /// A replay was answered 401 again: a second 401. Where the generation that it was sent with was obtained because of a
    /// 401, another one would be no better for its route.
    pub(super) fn replay_was_refused(&self, unauthorized: &Unauthorized) {
        let current = self.state.token.load();
        let is_recovered = |token: &Arc<CachedToken>| {
            token.generation == unauthorized.sent && token.after_unauthorized
        };
        if current.as_ref().is_some_and(is_recovered) {
            self.quarantine(unauthorized, unauthorized.sent);
        }
    }
}
