//! Snapshot of a source: everything that can be shown of its token but the token.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::Freshness;
use super::call_log::LastCall;
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
    /// Whether a token is wanted and the last attempt to have one has failed. Nobody wants one that was not used since it
    /// was obtained, so its end is no failure.
    pub is_renewal_failing: bool,
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
    /// What is odd about its response.
    pub remarks: Vec<&'static str>,
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
    pub fn last_call(&self) -> Option<LastCall> {
        self.calls.last_call()
    }

    /// What there is to show.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let token = self.state.token.load_full().map(|token| TokenSnapshot {
            generation: token.generation,
            fingerprint: token.fingerprint,
            age: now.saturating_duration_since(token.issued),
            lifetime: token.lifetime(),
            is_valid: token.freshness(now) != Freshness::Expired,
            missing_scopes: token.missing_scopes.clone(),
            remarks: token.oddities.remarks().collect(),
        });
        let policy = self.policy();
        let failing = policy
            .backing_off
            .map(|(failure, _)| failure)
            .or_else(|| self.calls.is_waiting().then(|| self.limiter.wait(now).0));
        let is_asked_for = policy.is_asked_for(now);
        let is_wanted = match self.state.token.load().as_ref() {
            Some(token) => token.is_used() || is_asked_for,
            None => self.at_startup || is_asked_for,
        };
        let is_valid = token.as_ref().is_some_and(|token| token.is_valid);
        // Where calls are held, the trouble is another account's that was asked for before.
        let is_held = || !is_valid && self.limiter.open_until_for(now, true).is_some();
        Snapshot {
            token,
            is_renewal_failing: is_wanted && (failing.is_some() || is_held()),
            failing: failing.map(|failure| failure.to_string()),
            is_contended: policy.is_contended(now),
            contentions: policy.contentions,
            last: self.calls.last(),
            secret_in_use: self.secret.name(),
            last_error: policy.last_error.clone(),
            refused_routes: self.state.refusals.snapshot(),
        }
    }
}
