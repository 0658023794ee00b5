//! Handle of a source, for requests: it has the source's token beside it.
//!
//! With ten thousand accounts everything of an account is out of the processor's cache when a request comes for
//! it: who finds a fresh token here does not look at the source.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::access_token::{AccessToken, Recovery};
use super::refusals::Unauthorized;
use super::source::{KeyState, Source};
use bursar_traces::Links;

/// A source, and its token.
#[derive(Clone)]
pub struct Handle {
    state: Arc<KeyState>,
    source: Arc<Source>,
}

impl Handle {
    /// As [`Source::read`].
    #[must_use]
    pub fn read(&self, now: Instant) -> Option<AccessToken> {
        self.state.read(now, &self.source)
    }

    /// The provider's response to a request with generation `sent` is not a 401.
    pub fn record_status(&self, sent: u64, route: &Arc<str>, status: StatusCode) {
        if self.state.refusals.any() || status == StatusCode::FORBIDDEN {
            self.note(sent, route, status);
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

    /// What to do about a 401 that a request with generation `sent` was answered with.
    /// The flights that are waited for are added to the links.
    pub async fn recover(
        &self,
        sent: u64,
        route: &Arc<str>,
        links: Option<&mut Links>,
    ) -> Recovery {
        let unauthorized = Self::unauthorized(sent, route, true);
        self.source.recover_linked(unauthorized, links).await
    }

    /// Renews because of a 401 without anybody waiting: the request cannot be replayed.
    pub fn renew(&self, sent: u64, route: &Arc<str>) {
        self.source
            .renew_after(Self::unauthorized(sent, route, false));
    }

    /// A replay with that generation was answered 401 again.
    pub fn replay_refused(&self, generation: u64, route: &Arc<str>) {
        self.source
            .replay_was_refused(&Self::unauthorized(generation, route, true));
    }

    /// The provider says that a token lacks a scope for the route.
    pub fn insufficient(&self, route: &Arc<str>) {
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
