//! What does a flight ask the token endpoint? The refresh token where there is a live one, then client
//! credentials; and what came of each call, counted.
//!
//! Only the one flight of a cell climbs. The mutex is there for those who look on, and never held across
//! an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use prometheus::Histogram;
use tokio::time::Instant;

use super::fetch::{Grant, Transport, fetch};
use super::refresh::RefreshToken;
use super::reply::{Failure, Reply};
use crate::clock;
use crate::config::{Provider, Refresh};
use crate::metrics::{FetchOutcome, GrantLabel};

/// How one token key is asked for.
pub(super) struct Ladder {
    provider: Arc<Provider>,
    account: usize,
    scopes: Arc<str>,
    transport: Arc<dyn Transport>,
    memory: Mutex<Memory>,
    fetches: [[AtomicU64; FetchOutcome::COUNT]; GrantLabel::COUNT],
    fetch_durations: [Histogram; GrantLabel::COUNT],
}

/// What is kept from one flight to the next.
#[derive(Default)]
struct Memory {
    refresh_token: Option<RefreshToken>,
    last: Option<(&'static str, SystemTime)>,
}

/// What the ladder brought.
pub(super) struct Climbed {
    pub(super) reply: Reply,
    /// When its request was sent.
    pub(super) issued: Instant,
    pub(super) label: GrantLabel,
}

impl Ladder {
    pub(super) fn new(
        provider: &Arc<Provider>,
        account: usize,
        scopes: &Arc<str>,
        transport: Arc<dyn Transport>,
        fetch_durations: [Histogram; GrantLabel::COUNT],
    ) -> Self {
        Self {
            provider: provider.clone(),
            account,
            scopes: scopes.clone(),
            transport,
            memory: Mutex::default(),
            fetches: Default::default(),
            fetch_durations,
        }
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refresh token where there is a live one, then client credentials.
    pub(super) async fn climb(&self) -> Result<Climbed, Failure> {
        let now = Instant::now();
        let refresh_token = self
            .memory()
            .refresh_token
            .take()
            .filter(|token| token.is_live(now));
        if let Some(token) = refresh_token {
            match self
                .call(GrantLabel::RefreshToken, Grant::RefreshToken(&token.text))
                .await
            {
                Ok(mut climbed) => {
                    self.keep_refresh_token(&mut climbed, Some(token));
                    return Ok(climbed);
                }
                // Nothing was used up, and asking once more would be against the endpoint's word.
                Err(failure @ Failure::RateLimited(_)) => {
                    self.memory().refresh_token = Some(token);
                    return Err(failure);
                }
                // The client itself is refused, which client credentials would not change.
                Err(failure @ Failure::Rejected("invalid_client"))
                    if self.provider.token.refresh == Refresh::Grant =>
                {
                    return Err(failure);
                }
                Err(failure) if failure.is_unsent() => self.memory().refresh_token = Some(token),
                // Refused, or sent and never answered: it may be used up, and sending a used one again
                // makes some servers revoke everything.
                Err(_) => {}
            }
        }
        let grant = Grant::ClientCredentials {
            scopes: &self.scopes,
        };
        let mut climbed = self.call(GrantLabel::ClientCredentials, grant).await?;
        let unsent = self.memory().refresh_token.take();
        self.keep_refresh_token(&mut climbed, unsent);
        Ok(climbed)
    }

    async fn call(&self, label: GrantLabel, grant: Grant<'_>) -> Result<Climbed, Failure> {
        let issued = Instant::now();
        let account = &self.provider.accounts[self.account];
        let result = fetch(&*self.transport, &self.provider.token, account, grant).await;
        self.fetch_durations[label as usize].observe(issued.elapsed().as_secs_f64());
        match result {
            Ok(reply) => Ok(Climbed {
                reply,
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
        self.memory().last = Some((outcome.as_str(), clock::wall()));
    }

    fn keep_refresh_token(&self, climbed: &mut Climbed, old: Option<RefreshToken>) {
        let kept = RefreshToken::after(
            &mut climbed.reply,
            old,
            &self.provider.token,
            climbed.issued,
        );
        self.memory().refresh_token = kept;
    }

    /// How many token calls with that grant ended so.
    pub(super) fn fetches(&self, grant: GrantLabel, outcome: FetchOutcome) -> u64 {
        self.fetches[grant as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// How the last call ended, and when.
    pub(super) fn last(&self) -> Option<(&'static str, SystemTime)> {
        self.memory().last
    }
}
