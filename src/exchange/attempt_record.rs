//! Attempts of a request, as far as they have come: token, replay and times, for its record.
//!
//! It is written while the request is under way, so that one whose caller leaves in the middle is told as far as it
//! came.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{StatusCode, Version};
use tokio::time::Instant;

use super::respond::send_failure;
use crate::token::AccessToken;
use crate::upstream::{ConnectError, Peer, SendError};
use bursar_base::address::bare;
use bursar_base::secret::Fingerprint;
use bursar_config::Origin;
use bursar_telemetry::metrics::{Cause, PaymentOutcome, Reason};
use bursar_traces::{Failed, Links, Received, RequestTrace, Server};

/// What became known while a request was sent.
#[derive(Debug, Default)]
pub(super) struct AttemptRecord {
    /// Generation and fingerprint of the token of the latest attempt.
    token: Option<(u64, Fingerprint)>,
    /// The server of the latest attempt, or of the latest connection that could not be had.
    peer: Option<Arc<Peer>>,
    /// Whether what is sent now, or next, is the second sending.
    is_replay: bool,
    is_replayed: bool,
    token_wait: Duration,
    upstream: Duration,
    /// None: nobody can have seen it.
    outcome: Option<PaymentOutcome>,
    /// The provider's, to the latest attempt.
    status: Option<StatusCode>,
    /// None: it is not sampled.
    trace: Option<Box<RequestTrace>>,
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
        self.status = None;
        self.is_replayed = self.is_replay;
    }

    /// The provider certainly did not process it.
    pub(super) fn set_unsent(&mut self) {
        self.outcome = None;
        self.is_replayed = false;
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

    /// Whether the provider may have acted on it: it has seen it, and has not said 401.
    pub(super) fn may_be_processed(&self) -> bool {
        self.outcome.is_some() && self.status != Some(StatusCode::UNAUTHORIZED)
    }

    /// The request is to be sent a second time.
    pub(super) fn begin_replay(&mut self) {
        self.is_replay = true;
    }

    /// The request is sampled, or not.
    pub(super) fn set_trace(&mut self, trace: Option<Box<RequestTrace>>) {
        self.trace = trace;
    }

    /// The id of its trace, where it is sampled.
    pub(super) fn trace_id(&self) -> Option<u128> {
        self.trace.as_ref().map(|trace| trace.trace_id())
    }

    /// Its trace, which is over.
    pub(super) fn take_trace(&mut self) -> Option<Box<RequestTrace>> {
        self.trace.take()
    }

    /// The request begins to wait for its token. The flights that it waits for are to be added, where it is sampled.
    pub(super) fn begin_token_wait(&mut self, now: Instant) -> Option<&mut Links> {
        let trace = self.trace.as_mut()?;
        Some(trace.begin_waiting(now))
    }

    /// The request waited that long for its token, or in vain.
    pub(super) fn end_token_wait(&mut self, time: Duration, result: Result<(), Failed>) {
        self.token_wait += time;
        if let Some(trace) = &mut self.trace {
            trace.end_waiting(result);
        }
    }

    /// The request is about to be sent there.
    #[inline]
    pub(super) fn begin_sending(&mut self, now: Instant, origin: &Origin) {
        if let Some(trace) = &mut self.trace {
            begin_sending(trace, now, origin);
        }
    }

    /// There is no connection for it, after so long.
    pub(super) fn not_connected(&mut self, time: Duration, error: &ConnectError) {
        self.add_upstream(time);
        if let Some(trace) = &mut self.trace {
            let peer = error.peer().and_then(|peer| peer.address);
            let cause = error.cause().map(Cause::as_str);
            let tried = cause.filter(|_| !matches!(error, ConnectError::Held { .. }));
            let failed = Failed {
                error: tried.unwrap_or(Reason::UpstreamUnavailable.as_str()),
                cause,
            };
            trace.end_sending(Err(failed), peer);
        }
    }

    /// The head of its response has come, or none will, so long after it was sent.
    #[inline]
    pub(super) fn responded(
        &mut self,
        time: Duration,
        result: Result<(StatusCode, Version), &SendError>,
    ) {
        self.add_upstream(time);
        self.status = result.as_ref().ok().map(|(status, _)| *status);
        if let Some(trace) = &mut self.trace {
            end_sending(trace, result, self.peer.as_deref());
        }
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

// What spans take is apart, so that a request that is not sampled has a test on its way and no more.

#[cold]
fn begin_sending(trace: &mut RequestTrace, now: Instant, origin: &Origin) {
    trace.begin_sending(now, server(origin));
}

#[cold]
fn end_sending(
    trace: &mut RequestTrace,
    result: Result<(StatusCode, Version), &SendError>,
    peer: Option<&Peer>,
) {
    let result = result.map(|(status, version)| Received { status, version });
    let result = result.map_err(|error| Failed {
        error: send_failure(error).as_str(),
        cause: None,
    });
    trace.end_sending(result, peer.and_then(|peer| peer.address));
}

/// As spans name it.
fn server(origin: &Origin) -> Server {
    Server {
        host: bare(origin.authority.host()).to_owned(),
        port: origin.port(),
        is_tls: origin.scheme != Scheme::HTTP,
    }
}
