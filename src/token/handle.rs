//! Handle of a source, for requests: what they ask of it, and the source's token beside it.
//!
//! With ten thousand accounts everything of an account is out of the processor's cache when a request comes for
//! it: who finds a fresh token here does not look at the source.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::access_token::{AccessToken, CachedToken, Freshness, Missing, Recovery};
use super::failure::Failure;
use super::refusals::Unauthorized;
use super::renewal_policy::{Joined, RenewalReason};
use super::source::{KeyState, Source, wait_for};
use bursar_traces::Links;

/// Where a request has its tokens from: those of one route and account.
pub trait Supply {
    /// The valid token, if there is one: without a lock, without an allocation, without waiting.
    fn read(&self, now: Instant) -> Option<AccessToken>;

    /// The valid token; where there is none, what the flight brings within `token.wait`. The flights that are waited
    /// for are added to the links, where the request is sampled.
    ///
    /// # Errors
    /// Where the flight fails, none may start for now, or the wait is over.
    fn obtain(
        &self,
        links: Option<&mut Links>,
    ) -> impl Future<Output = Result<AccessToken, Missing>>;

    /// The provider's response to a request with generation `sent` is not a 401.
    fn record_status(&self, sent: u64, route: &Arc<str>, status: StatusCode);

    /// What to do about a 401 that a request with generation `sent` was answered with: a renewal, or the knowledge that
    /// another token would not help. Links as in [`Self::obtain`].
    fn recover(
        &self,
        sent: u64,
        route: &Arc<str>,
        links: Option<&mut Links>,
    ) -> impl Future<Output = Recovery>;

    /// Renews because of a 401 without anybody waiting: the request cannot be replayed.
    fn renew(&self, sent: u64, route: &Arc<str>);

    /// A replay with that generation was answered 401 again. Where the generation was obtained because of a 401,
    /// another one would be no better for the route.
    fn replay_refused(&self, generation: u64, route: &Arc<str>);

    /// The provider says that a token lacks a scope for the route.
    fn insufficient(&self, route: &Arc<str>);
}

/// A source, and its token.
#[derive(Clone)]
pub struct Handle {
    state: Arc<KeyState>,
    source: Arc<Source>,
}

impl Handle {
    /// What the flight brings within `token.wait`.
    async fn obtain_next(&self, mut links: Option<&mut Links>) -> Result<AccessToken, Missing> {
        let source = &self.source;
        let deadline = Instant::now() + source.dialect().wait;
        loop {
            let now = Instant::now();
            if let Some(access_token) = self.read(now) {
                return Ok(access_token);
            }
            if now >= deadline {
                return Err(source.missing(Failure::TimedOut, now));
            }
            match source.join(RenewalReason::Request, links.as_deref_mut()) {
                Joined::Newer(_) | Joined::RenewedTooOften => {}
                Joined::Flight(flight, _) => match wait_for(flight, deadline).await {
                    Ok(token) if token.freshness(Instant::now()) != Freshness::Expired => {
                        return Ok(token.access_token());
                    }
                    Ok(_) | Err(Failure::AlreadyExpired) => {}
                    Err(failure) => {
                        let now = Instant::now();
                        // This process was held up, perhaps, and a token came all the same.
                        return self.read(now).ok_or_else(|| source.missing(failure, now));
                    }
                },
                // Shorter than the request may wait: what the next flight brings is the answer to it.
                Joined::BackingOff(failure, until)
                    if failure.is_transient() && until < deadline =>
                {
                    tokio::time::sleep_until(until).await;
                }
                Joined::BackingOff(failure, until) => {
                    let retry_after = until.saturating_duration_since(now);
                    return Err(source.missing_without_call(failure, retry_after));
                }
            }
        }
    }

    #[cold]
    fn note(&self, sent: u64, route: &Arc<str>, status: StatusCode) {
        match status.as_u16() {
            403 => self.state.refusals.forbidden(route),
            // Said by what stands before the API, perhaps.
            407 | 408 | 429 | 500.. => {}
            _ => self.state.refusals.accepted(route, sent, Instant::now()),
        }
    }

    fn unauthorized(sent: u64, route: &Arc<str>, is_replayed: bool) -> Unauthorized {
        Unauthorized {
            sent,
            route: route.clone(),
            is_replayed,
        }
    }
}

impl Supply for Handle {
    /// The source is only looked at where it has to renew.
    fn read(&self, now: Instant) -> Option<AccessToken> {
        let token = self.state.token.load();
        let token = token.as_ref()?;
        match token.freshness(now) {
            Freshness::Fresh => Some(token.access_token()),
            Freshness::Stale => {
                // Taken first: the renewal loop looks at whether it is used.
                let access_token = token.access_token();
                if token.ask_for_renewal() {
                    self.source.schedule_renewal(now);
                }
                Some(access_token)
            }
            Freshness::Expired => None,
        }
    }

    async fn obtain(&self, links: Option<&mut Links>) -> Result<AccessToken, Missing> {
        let obtained = self.obtain_next(links).await;
        obtained.or_else(|missing| {
            let now = Instant::now();
            self.source.fall_back(now);
            self.read(now).ok_or(missing)
        })
    }

    fn record_status(&self, sent: u64, route: &Arc<str>, status: StatusCode) {
        if self.state.refusals.any() || status == StatusCode::FORBIDDEN {
            self.note(sent, route, status);
        }
    }

    async fn recover(
        &self,
        sent: u64,
        route: &Arc<str>,
        mut links: Option<&mut Links>,
    ) -> Recovery {
        let unauthorized = Self::unauthorized(sent, route, true);
        let deadline = Instant::now() + self.source.dialect().wait;
        loop {
            let reason = RenewalReason::Unauthorized(unauthorized.clone());
            let (result, replaces) = match self.source.join(reason, links.as_deref_mut()) {
                Joined::Newer(token) => (Ok(token), sent),
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
                Ok(token) if token.generation == sent => {
                    // The flight wanted another one than that before, and took the one that was refused since.
                    if replaces < sent {
                        continue;
                    }
                    // The flight learnt it for the route that it was for.
                    let refusals = &self.state.refusals;
                    if !refusals.is_quarantined(sent, Some(route), Instant::now()) {
                        let may_be_refreshed = token.may_be_refreshed;
                        self.source.renewed_in_vain(&unauthorized, may_be_refreshed);
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

    fn renew(&self, sent: u64, route: &Arc<str>) {
        let unauthorized = Self::unauthorized(sent, route, false);
        // Whatever comes of it is for the next request.
        drop(
            self.source
                .join(RenewalReason::Unauthorized(unauthorized), None),
        );
    }

    fn replay_refused(&self, generation: u64, route: &Arc<str>) {
        let current = self.state.token.load();
        let is_recovered =
            |token: &Arc<CachedToken>| token.generation == generation && token.after_unauthorized;
        if let Some(token) = current.as_ref().filter(|token| is_recovered(token)) {
            let unauthorized = Self::unauthorized(generation, route, true);
            let may_be_refreshed = token.may_be_refreshed;
            self.source.renewed_in_vain(&unauthorized, may_be_refreshed);
        }
    }

    fn insufficient(&self, route: &Arc<str>) {
        self.state.refusals.insufficient(route);
    }
}

impl From<Arc<Source>> for Handle {
    fn from(source: Arc<Source>) -> Self {
        let state = source.state.clone();
        Self { state, source }
    }
}

impl Deref for Handle {
    type Target = Arc<Source>;

    fn deref(&self) -> &Arc<Source> {
        &self.source
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(formatter)
    }
}
