//! What does a flight ask the token endpoint? The refresh token where there is a live one, then client
//! credentials; and what came of each call, counted.
//!
//! Only the one flight of a source acquires. The mutex is there for those who look on, and never held across
//! an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prometheus::Histogram;
use tokio::sync::watch;
use tokio::time::Instant;

use super::endpoint_limiter::{EndpointLimiter, Priority};
use super::failure::Failure;
use super::refresh_token::RefreshToken;
use super::request::{Credentials, Grant, Transport, fetch};
use super::response::TokenResponse;
use super::secret_in_use::SecretInUse;
use bursar_base::clock;
use bursar_base::secret::Secret;
use bursar_config::{Account, Provider, Refresh, SecretName};
use bursar_telemetry::metrics::{FetchOutcome, GrantLabel};

/// How many calls for one account ended how. All its sources share them, and they outlive its secrets, because
/// a counter never goes back.
pub(super) type FetchCounts = [[AtomicU64; FetchOutcome::COUNT]; GrantLabel::COUNT];

/// How one token key is asked for.
pub(super) struct Grants {
    pub(super) provider: Arc<Provider>,
    pub(super) account: usize,
    pub(super) scopes: Arc<str>,
    pub(super) secret: Arc<SecretInUse>,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) grant_state: Arc<Mutex<GrantState>>,
    pub(super) fetches: Arc<FetchCounts>,
    pub(super) fetch_durations: [Histogram; GrantLabel::COUNT],
}

/// What is kept from one flight to the next.
#[derive(Default)]
pub(super) struct GrantState {
    /// Whether a call waits for its turn: the flight's, whichever configuration it began under.
    is_waiting: bool,
    refresh_token: Option<RefreshToken>,
    last: Option<(&'static str, SystemTime)>,
}

/// What the grants brought.
pub(super) struct Acquired {
    pub(super) response: TokenResponse,
    /// When its request was sent.
    pub(super) issued: Instant,
    pub(super) label: GrantLabel,
}

impl Grants {
    /// A panic elsewhere leaves nothing half-done here.
    fn grant_state(&self) -> MutexGuard<'_, GrantState> {
        self.grant_state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The refresh token where there is a live one, then client credentials. Each call waits for its turn.
    pub(super) async fn acquire(
        &self,
        priority: &mut watch::Receiver<Priority>,
    ) -> Result<Acquired, Failure> {
        let now = Instant::now();
        let refresh_token = self
            .grant_state()
            .refresh_token
            .take()
            .filter(|token| token.is_live(now));
        if let Some(token) = refresh_token {
            match self.call(priority, Grant::RefreshToken(&token.text)).await {
                Ok(mut acquired) => {
                    self.keep_refresh_token(&mut acquired, Some(token));
                    return Ok(acquired);
                }
                // Asking once more would be against the endpoint's word. A limit that was told of has used nothing
                // up; an endpoint in trouble may have, and a 403 may be the token's refusal.
                Err(failure) if failure.asks_for_pause() => {
                    let is_limit = matches!(failure, Failure::RateLimited(_));
                    self.grant_state().refresh_token = is_limit.then_some(token);
                    return Err(failure);
                }
                // The client itself is refused, which client credentials would not change.
                Err(failure @ Failure::Rejected(detail, _))
                    if detail.is("invalid_client")
                        && self.provider.token.refresh == Refresh::Grant =>
                {
                    return Err(failure);
                }
                Err(failure) if failure.is_unsent() => {
                    self.grant_state().refresh_token = Some(token)
                }
                // Refused, or sent and never answered: it may be used up, and sending a used one again
                // makes some servers revoke everything.
                Err(_) => {}
            }
        }
        let grant = Grant::ClientCredentials {
            scopes: &self.scopes,
        };
        let mut acquired = self.call(priority, grant).await?;
        let unsent = self.grant_state().refresh_token.take();
        self.keep_refresh_token(&mut acquired, unsent);
        Ok(acquired)
    }

    /// One step of the grants: a call, and another one with the account's other secret where this one is
    /// refused.
    async fn call(
        &self,
        priority: &mut watch::Receiver<Priority>,
        grant: Grant<'_>,
    ) -> Result<Acquired, Failure> {
        let account = self.account();
        let name = self.secret.name();
        let first = account.secret(name).unwrap_or(&account.client_secret);
        let refused = match self.call_with(first, priority, grant).await {
            Err(failure) if self.is_secret_refused(failure, grant) => failure,
            outcome => return outcome,
        };
        let Some(second) = account.secret(name.other()) else {
            return Err(refused);
        };
        let outcome = self.call_with(second, priority, grant).await;
        let is_known = match &outcome {
            Ok(_) => true,
            Err(failure @ Failure::Rejected(..)) => !failure.is_about_secret(),
            Err(_) => false,
        };
        if is_known && self.secret.remember(name.other()) {
            tracing::warn!(provider = %self.provider.name, account = %account.name, refused = name.as_str(), works = name.other().as_str(), "the token endpoint refuses one secret and takes the other");
        }
        outcome
    }

    /// A refresh token that is refused must not be sent again, so there the response has to be about the
    /// client.
    fn is_secret_refused(&self, failure: Failure, grant: Grant<'_>) -> bool {
        match grant {
            Grant::ClientCredentials { .. } => failure.is_about_secret(),
            Grant::RefreshToken(_) => {
                self.provider.token.refresh == Refresh::Grant && failure.is_about_client()
            }
        }
    }

    async fn call_with(
        &self,
        secret: &Secret,
        priority: &mut watch::Receiver<Priority>,
        grant: Grant<'_>,
    ) -> Result<Acquired, Failure> {
        let label = match grant {
            Grant::ClientCredentials { .. } => GrantLabel::ClientCredentials,
            Grant::RefreshToken(_) => GrantLabel::RefreshToken,
        };
        self.grant_state().is_waiting = true;
        let permit = self.limiter.acquire(priority).await;
        self.grant_state().is_waiting = false;
        let issued = Instant::now();
        let credentials = Credentials {
            id: &self.account().client_id,
            secret,
        };
        let dialect = &self.provider.token;
        let fetching = fetch(&*self.transport, dialect, credentials, grant);
        let result = match grant {
            Grant::ClientCredentials { .. } => tokio::select! {
                biased;
                result = fetching => result,
                () = permit.overdue(priority) => Err(Failure::TimedOut),
            },
            // The token may be used up by a call that is abandoned.
            Grant::RefreshToken(_) => fetching.await,
        };
        self.fetch_durations[label as usize].observe(issued.elapsed().as_secs_f64());
        permit.record(result.as_ref().err().copied());
        match result {
            Ok(response) => Ok(Acquired {
                response,
                issued,
                label,
            }),
            Err(failure) => {
                self.count(label, failure.outcome());
                Err(failure)
            }
        }
    }

    /// Counts how a call ended.
    pub(super) fn count(&self, label: GrantLabel, outcome: FetchOutcome) {
        self.fetches[label as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.grant_state().last = Some((outcome.as_str(), clock::wall()));
    }

    fn keep_refresh_token(&self, acquired: &mut Acquired, old: Option<RefreshToken>) {
        let kept = RefreshToken::after(
            &mut acquired.response,
            old,
            &self.provider.token,
            acquired.issued,
        );
        self.grant_state().refresh_token = kept;
    }

    /// What the sources of its account share.
    pub(super) fn shared(&self) -> (&Arc<FetchCounts>, &Arc<SecretInUse>) {
        (&self.fetches, &self.secret)
    }

    /// How many token calls with that grant ended so.
    pub(super) fn fetches(&self, grant: GrantLabel, outcome: FetchOutcome) -> u64 {
        self.fetches[grant as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// Whether a call waits for its turn: it is not made yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.grant_state().is_waiting
    }

    /// The secret that the endpoint took last.
    pub(super) fn secret_in_use(&self) -> SecretName {
        self.secret.name()
    }

    fn account(&self) -> &Account {
        &self.provider.accounts[self.account]
    }

    /// How the last call ended, and when.
    pub(super) fn last(&self) -> Option<(&'static str, SystemTime)> {
        self.grant_state().last
    }
}
