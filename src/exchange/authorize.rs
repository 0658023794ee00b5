//! Authorization of attempts: Bursar's token, or the caller's own where the route takes it.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::exchange::respond::{CallerToken, Refusal};
use crate::exchange::route::Destination;
use crate::token::{AccessToken, Handle, Missing, Recovery, Tokens};
use bursar_base::secret::Fingerprint;
use bursar_config::Authorization;
use bursar_http::headers::{self, OwnToken, Unusable};
use bursar_traces::Links;

/// Where the tokens of one route and account come from.
pub(super) trait TokenSource {
    /// The token, if there is one.
    fn read(&self, now: Instant) -> Option<AccessToken>;

    /// The token, once there is one. The flights that are waited for are added to the links, where the request is
    /// sampled.
    async fn obtain(&self, links: Option<&mut Links>) -> Result<AccessToken, Missing>;

    /// The provider's response to a request with generation `sent` is not a 401.
    fn record_status(&self, sent: u64, route: &Arc<str>, status: StatusCode);

    /// What to do about a 401 that a request with generation `sent` was answered with. Links as in [`Self::obtain`].
    async fn recover(&self, sent: u64, route: &Arc<str>, links: Option<&mut Links>) -> Recovery;

    /// Renews because of a 401 without anybody waiting.
    fn renew(&self, sent: u64, route: &Arc<str>);

    /// A replay with that generation was answered 401 again.
    fn replay_refused(&self, generation: u64, route: &Arc<str>);

    /// The provider says that a token lacks a scope for the route.
    fn insufficient(&self, route: &Arc<str>);
}

/// What authorizes the attempts of one request.
pub(super) enum Authorizer<'a, S = Handle> {
    /// Bursar's token.
    Bursar(&'a S),
    /// The caller's own, which nobody here can renew.
    Caller(Box<AccessToken>),
}

impl<'a> Authorizer<'a> {
    /// That of a request with such headers.
    pub(super) fn of(
        tokens: &'a Tokens,
        destination: &Destination<'_>,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let own = |scopes| {
            let (provider, account) = (destination.provider.index, destination.account);
            Self::Bursar(tokens.source(provider, account, scopes))
        };
        let scopes = match destination.authorization {
            Authorization::Bursar(scopes) => return Ok(own(scopes)),
            Authorization::CallerOrBursar(scopes) => Some(scopes),
            Authorization::Caller => None,
        };
        match headers::bearer(headers) {
            Ok(Some(OwnToken { field, token })) => {
                let access_token =
                    AccessToken::of_caller(field, Fingerprint::of(token), Instant::now());
                Ok(Self::Caller(Box::new(access_token)))
            }
            Ok(None) => {
                let missing = Refusal::CallerToken(CallerToken::Missing);
                scopes.map(own).ok_or(missing)
            }
            Err(Unusable) => Err(Refusal::CallerToken(CallerToken::Unusable)),
        }
    }
}

impl<S> Authorizer<'_, S> {
    /// Whether the provider gets Bursar's own authorization, not the caller's.
    pub(super) fn is_bursars(&self) -> bool {
        matches!(self, Self::Bursar(_))
    }
}

impl TokenSource for Handle {
    fn read(&self, now: Instant) -> Option<AccessToken> {
        Self::read(self, now)
    }

    async fn obtain(&self, links: Option<&mut Links>) -> Result<AccessToken, Missing> {
        self.obtain_linked(links).await
    }

    fn record_status(&self, sent: u64, route: &Arc<str>, status: StatusCode) {
        Self::record_status(self, sent, route, status);
    }

    async fn recover(&self, sent: u64, route: &Arc<str>, links: Option<&mut Links>) -> Recovery {
        Self::recover(self, sent, route, links).await
    }

    fn renew(&self, sent: u64, route: &Arc<str>) {
        Self::renew(self, sent, route);
    }

    fn replay_refused(&self, generation: u64, route: &Arc<str>) {
        Self::replay_refused(self, generation, route);
    }

    fn insufficient(&self, route: &Arc<str>) {
        Self::insufficient(self, route);
    }
}
