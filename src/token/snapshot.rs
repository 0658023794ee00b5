//! Snapshot of a source: everything that can be shown of its token but the token.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::Freshness;
use super::call_log::Exchange;
use super::refusals::RefusedRoute;
use super::source::Source;
use bursar_base::secret::Fingerprint;
use bursar_config::SecretName;

/// What `/status` and `/metrics` show of a source.
#[derive(Debug)]
pub struct Snapshot {
    /// None: there is no token.
    pub token: Option<TokenSnapshot>,
    /// Why there was no token when it was last asked for; None where there was one.
    pub failing: Option<String>,
    /// Whether another instance seems to revoke its tokens.
    pub is_contended: bool,
    /// How often a token was refused because of that.
    pub contentions: u64,
    /// The secret that the endpoint took last.
    pub secret_in_use: SecretName,
    /// How the last call ended, and when.
    pub last: Option<(&'static str, SystemTime)>,
    /// The last error of a flight, and when.
    pub last_error: Option<(String, SystemTime)>,
    /// The routes that the provider refuses with its tokens.
    pub refused_routes: Vec<RefusedRoute>,
}

/// A token, without its text.
#[derive(Debug)]
pub struct TokenSnapshot {
    /// Counts the tokens of the key.
    pub generation: u64,
    /// Names it.
    pub fingerprint: Fingerprint,
    /// Since its request was sent.
    pub age: Duration,
    /// From its request to its end.
    pub lifetime: Duration,
    /// Whether requests still go with it: not at its very end.
    pub is_valid: bool,
    /// Asked, but not granted.
    pub missing_scopes: String,
}

impl TokenSnapshot {
    /// Until its end; None: it is over.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.lifetime
            .checked_sub(self.age)
            .filter(|left| !left.is_zero())
    }
}

impl Source {
    /// The last token call, as far as it has come.
    #[must_use]
    pub fn last_exchange(&self) -> Option<Exchange> {
        self.calls.exchange()
    }

    /// What there is to show.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let token = self.state.token.load_full().map(|token| TokenSnapshot {
            generation: token.generation,
            fingerprint: token.fingerprint,
            age: now.saturating_duration_since(token.issued),
            lifetime: token.ends.duration_since(token.issued),
            is_valid: token.freshness(now) != Freshness::Expired,
            missing_scopes: token.missing_scopes.clone(),
        });
        let policy = self.policy();
        Snapshot {
            token,
            failing: policy
                .backing_off
                .map(|(failure, _)| failure)
                .or_else(|| self.calls.is_waiting().then(|| self.limiter.wait(now).0))
                .map(|failure| failure.to_string()),
            is_contended: policy.is_contended(now),
            contentions: policy.contentions,
            last: self.calls.last(),
            secret_in_use: self.secret.name(),
            last_error: policy.last_error.clone(),
            refused_routes: self.state.refusals.snapshot(),
        }
    }
}
