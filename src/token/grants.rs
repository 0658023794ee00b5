//! Grants: how a token is acquired from the endpoint. By the refresh token where there is a live one, then by client
//! credentials; and what came of each call, counted.

use std::sync::Arc;

use prometheus::Histogram;
use tokio::sync::watch;
use tokio::time::Instant;

use super::acquire::{Acquire, Acquired, Acquiring, NotAcquired, Origin, Wanted};
use super::call_lease::{CallLease, NoLease};
use super::call_log::CallLog;
use super::client_auth::{ClientSecret, Credential};
use super::endpoint_limiter::{EndpointLimiter, Priority};
use super::failure::Failure;
use super::refresh_token::{RefreshToken, RefreshTokenSlot};
use super::request::{Grant, Transport, request_token};
use super::response::ExpiresIn;
use super::secret_in_use::SecretInUse;
use super::token_key::TokenKey;
use bursar_base::secret::Secret;
use bursar_config::{Refresh, TokenDialect};
use bursar_telemetry::metrics::{FetchOutcome, GrantLabel};

/// How one token key is asked for.
pub(super) struct Grants {
    pub(super) key: TokenKey,
    pub(super) secret: Arc<SecretInUse>,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) refresh_token: Arc<RefreshTokenSlot>,
    pub(super) calls: CallLog,
    pub(super) durations: [Histogram; GrantLabel::COUNT],
}

impl Acquire for Grants {
    fn acquire<'a>(
        &'a self,
        wanted: Wanted,
        priority: &'a mut watch::Receiver<Priority>,
    ) -> Acquiring<'a> {
        Box::pin(async move { self.acquire_through(&wanted, priority, &NoLease).await })
    }
}

impl Grants {
    /// Asks the endpoint, each time only with the lease held.
    pub(super) async fn acquire_through(
        &self,
        wanted: &Wanted,
        priority: &mut watch::Receiver<Priority>,
        lease: &dyn CallLease,
    ) -> Result<Acquired, NotAcquired> {
        let acquired = self.try_grants(wanted, priority, lease).await;
        acquired.map_err(|failure| {
            let open_until = self.limiter.open_until(Instant::now());
            NotAcquired {
                failure,
                pause: open_until.filter(|_| failure.is_outage()),
            }
        })
    }

    /// The refresh token where there is a live one, then client credentials. Each call waits for its turn.
    async fn try_grants(
        &self,
        wanted: &Wanted,
        priority: &mut watch::Receiver<Priority>,
        lease: &dyn CallLease,
    ) -> Result<Acquired, Failure> {
        if let Some(token) = self.refresh_token.take(Instant::now()) {
            let grant = Grant::RefreshToken(&token.text);
            match self.call(priority, lease, grant).await {
                // The refused token once more, or one that has ended: what this refresh token brings is of no use.
                Ok(acquired) if let Some(outcome) = of_no_use(&acquired, wanted) => {
                    self.calls.ended(GrantLabel::RefreshToken, outcome);
                }
                Ok(mut acquired) => {
                    self.keep_refresh_token(&mut acquired, Some(token));
                    return Ok(acquired);
                }
                // Asking once more would be against the endpoint's word. A limit that was told of has used nothing
                // up; an endpoint in trouble may have, and a 403 may be the token's refusal.
                Err(failure) if failure.asks_for_pause() => {
                    let is_limit = matches!(failure, Failure::RateLimited(_));
                    self.refresh_token.put(is_limit.then_some(token));
                    return Err(failure);
                }
                Err(failure @ Failure::LeaseLost) => {
                    self.refresh_token.put(Some(token));
                    return Err(failure);
                }
                // The client itself is refused, which client credentials would not change.
                Err(failure @ Failure::Rejected(detail, _))
                    if detail.is("invalid_client") && self.dialect().refresh == Refresh::Grant =>
                {
                    return Err(failure);
                }
                Err(failure) if failure.is_unsent() => self.refresh_token.put(Some(token)),
                // Refused, or sent and never answered: it may be used up, and sending a used one again
                // makes some servers revoke everything.
                Err(_) => {}
            }
        }
        let grant = Grant::ClientCredentials {
            scopes: &self.key.scopes,
        };
        let acquired = self.call(priority, lease, grant).await;
        let brings_none = |acquired: &Acquired| acquired.response.lifetime == ExpiresIn::Already;
        if acquired.as_ref().map_or(true, brings_none) {
            self.refresh_token.trust();
        }
        let mut acquired = acquired.map_err(Failure::of_client_credentials)?;
        let unsent = self.refresh_token.take(Instant::now());
        self.refresh_token.trust();
        self.keep_refresh_token(&mut acquired, unsent);
        Ok(acquired)
    }

    /// One of the grants: a call, and another one with the account's other secret where this one is
    /// refused.
    async fn call(
        &self,
        priority: &mut watch::Receiver<Priority>,
        lease: &dyn CallLease,
        grant: Grant<'_>,
    ) -> Result<Acquired, Failure> {
        let account = self.key.account();
        let name = self.secret.name();
        let first = account.secret(name).unwrap_or(&account.client_secret);
        let refused = match self.call_with(first, priority, lease, grant).await {
            Err(failure) if self.is_secret_refused(failure, grant) => failure,
            outcome => return outcome,
        };
        let Some(second) = account.secret(name.other()) else {
            return Err(refused);
        };
        let outcome = self.call_with(second, priority, lease, grant).await;
        let is_known = match &outcome {
            Ok(_) => true,
            Err(failure @ Failure::Rejected(..)) => {
                !failure.is_about_secret() && !self.is_secret_refused(*failure, grant)
            }
            Err(_) => false,
        };
        if is_known && self.secret.remember(name.other()) {
            tracing::warn!(provider = %self.key.provider.name, account = %account.name, refused = name.as_str(), works = name.other().as_str(), "the token endpoint refuses one secret and takes the other");
        }
        outcome
    }

    /// A refresh token that is refused must not be sent again, so there the response has to be about the
    /// client.
    fn is_secret_refused(&self, failure: Failure, grant: Grant<'_>) -> bool {
        match grant {
            Grant::ClientCredentials { .. } => {
                failure.is_about_secret() || failure.is_about_grant()
            }
            Grant::RefreshToken(_) => {
                self.dialect().refresh == Refresh::Grant && failure.is_about_client()
            }
        }
    }

    async fn call_with(
        &self,
        secret: &Secret,
        priority: &mut watch::Receiver<Priority>,
        lease: &dyn CallLease,
        grant: Grant<'_>,
    ) -> Result<Acquired, Failure> {
        let label = match grant {
            Grant::ClientCredentials { .. } => GrantLabel::ClientCredentials,
            Grant::RefreshToken(_) => GrantLabel::RefreshToken,
        };
        self.calls.set_waiting(true);
        let permit = self.limiter.acquire(priority).await;
        self.calls.set_waiting(false);
        if let Err(failure) = lease.hold().await {
            permit.give_back();
            return Err(failure);
        }
        let issued = Instant::now();
        let client = ClientSecret {
            id: &self.key.account().client_id,
            secret,
        };
        let dialect = self.dialect();
        let credential = Credential::of_secret(client, dialect.client_auth);
        let overdue = async {
            match grant {
                Grant::ClientCredentials { .. } => permit.overdue(priority).await,
                // The token may be used up by a call that is abandoned.
                Grant::RefreshToken(_) => std::future::pending().await,
            }
        };
        let transport = &*self.transport;
        let calls = &self.calls;
        let result = request_token(transport, dialect, credential, grant, calls, overdue).await;
        self.durations[label as usize].observe(issued.elapsed().as_secs_f64());
        permit.record(result.as_ref().err().copied());
        self.calls
            .trace(label, issued, result.as_ref().err().copied());
        match result {
            Ok(response) => Ok(Acquired {
                response,
                issued,
                origin: Origin::Endpoint(label),
            }),
            Err(failure) => {
                self.calls.ended(label, failure.outcome());
                Err(failure)
            }
        }
    }

    fn keep_refresh_token(&self, acquired: &mut Acquired, old: Option<RefreshToken>) {
        let kept =
            RefreshToken::after(&mut acquired.response, old, self.dialect(), acquired.issued);
        self.refresh_token.put(kept);
    }

    fn dialect(&self) -> &TokenDialect {
        &self.key.provider.token
    }
}

/// What a refresh token's call is counted as that brought nothing of use.
fn of_no_use(acquired: &Acquired, wanted: &Wanted) -> Option<FetchOutcome> {
    if wanted.is_refused_once_more(acquired) {
        return Some(FetchOutcome::Unchanged);
    }
    (acquired.response.lifetime == ExpiresIn::Already).then(|| Failure::AlreadyExpired.outcome())
}
