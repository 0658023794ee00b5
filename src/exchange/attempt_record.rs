//! Attempts of a request, as far as they have come: token, replay and times, for its record.
//!
//! It is written while the request is under way, so that one whose caller leaves in the middle is told as far as it
//! came.

use std::sync::Arc;
use std::time::Duration;

use crate::token::AccessToken;
use crate::upstream::Peer;
use bursar_base::secret::Fingerprint;
use bursar_telemetry::metrics::PaymentOutcome;

/// What became known while a request was sent.
#[derive(Debug, Default)]
pub(super) struct AttemptRecord {
    /// Generation and fingerprint of the token of the latest attempt.
    token: Option<(u64, Fingerprint)>,
    /// The server of the latest attempt, or of the latest connection that could not be had.
    peer: Option<Arc<Peer>>,
    is_replayed: bool,
    token_wait: Duration,
    upstream: Duration,
    /// None: nobody can have seen it.
    outcome: Option<PaymentOutcome>,
}

impl AttemptRecord {
    /// The request goes out with that token.
    pub(super) fn set_token(&mut self, access_token: &AccessToken) {
        self.token = Some((access_token.generation, access_token.fingerprint));
    }

    /// The request goes to that server, or cannot.
    pub(super) fn set_peer(&mut self, peer: Option<&Arc<Peer>>) {
        self.peer = peer.cloned();
    }

    /// Where it went last.
    #[must_use]
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.peer.as_deref()
    }

    /// The provider may see the request from now on.
    pub(super) fn set_sent(&mut self) {
        self.outcome = Some(PaymentOutcome::InDoubt);
    }

    /// The provider certainly did not process it.
    pub(super) fn set_unsent(&mut self) {
        self.outcome = None;
    }

    /// The provider's whole response came, or it did not act.
    pub(super) fn set_answered(&mut self) {
        self.outcome = Some(PaymentOutcome::Answered);
    }

    /// What became of the request, as the journal would have it.
    #[must_use]
    pub(super) fn outcome(&self) -> PaymentOutcome {
        self.outcome.unwrap_or(PaymentOutcome::NotSent)
    }

    /// The request is sent a second time.
    pub(super) fn set_replayed(&mut self) {
        self.is_replayed = true;
    }

    /// The request waited that long for its token.
    pub(super) fn add_token_wait(&mut self, time: Duration) {
        self.token_wait += time;
    }

    /// The provider was busy with the request for that long.
    pub(super) fn add_upstream(&mut self, time: Duration) {
        self.upstream += time;
    }

    /// Generation and fingerprint of the latest token.
    #[must_use]
    pub(super) fn token(&self) -> Option<(u64, Fingerprint)> {
        self.token
    }

    /// Whether the request was sent a second time.
    #[must_use]
    pub(super) fn is_replayed(&self) -> bool {
        self.is_replayed
    }

    /// Time spent waiting for tokens.
    #[must_use]
    pub(super) fn token_wait(&self) -> Duration {
        self.token_wait
    }

    /// Time spent with the provider.
    #[must_use]
    pub(super) fn upstream(&self) -> Duration {
        self.upstream
    }
}
