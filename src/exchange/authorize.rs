//! Authorization of attempts: Bursar's token, or the caller's own where the route takes it.

use http::HeaderMap;
use tokio::time::Instant;

use crate::exchange::respond::{CallerToken, Refusal};
use crate::exchange::route::Destination;
use crate::token::{AccessToken, Handle, Tokens};
use bursar_base::secret::Fingerprint;
use bursar_config::Authorization;
use bursar_http::headers::{self, OwnToken, Unusable};

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
