//! Call log of a token key: how its token calls ended, how often, and whether one waits for its turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::{StatusCode, Uri};
use tokio::time::Instant;

use super::failure::Failure;
use crate::upstream::{Peer, server_name};
use bursar_base::clock;
use bursar_telemetry::metrics::{Cause, FetchOutcome, GrantLabel};
use bursar_traces::{FlightTrace, TokenCall};

/// How many calls for one account ended how. All its sources share them, and they outlive its secrets, because
/// a counter never goes back.
#[derive(Debug, Default)]
pub(super) struct CallCounts([[AtomicU64; FetchOutcome::COUNT]; GrantLabel::COUNT]);

/// The latest call of one token key. It outlives the key's sources: a call that an earlier one makes is this key's too.
#[derive(Debug, Default)]
pub(super) struct LatestCall(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    is_waiting: bool,
    is_leased_by_another: bool,
    ended: Option<(&'static str, SystemTime)>,
    call: Option<LastCall>,
    /// Whether that is of the call that is under way.
    has_begun: bool,
    /// Whether that takes too long.
    is_given_up: bool,
    /// Why the call before it had no connection to the same server, while it has none itself.
    earlier_cause: Option<Cause>,
    /// What keeps the calls of the flight that is under way. None: nobody is sampled.
    flight: Option<Arc<FlightTrace>>,
}

/// The last token call, as far as it has come: everything that can be shown of it, which is no secret.
#[derive(Debug, Clone)]
pub struct LastCall {
    /// Without its query.
    pub url: Box<str>,
    /// The server, and the address that was tried.
    pub peer: Arc<Peer>,
    /// Why there was no connection.
    pub cause: Option<Cause>,
    /// The same in words.
    pub error: Option<Box<str>>,
    /// What the response said; None: none has come.
    pub response: Option<ResponseHead>,
}

/// What the head of a token response says beside its status.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// Of `Content-Type`, without parameters; None: there is none, or it is none that can be shown.
    pub media_type: Option<Box<str>>,
    /// Where a redirect leads: a host, with its port where that is said.
    pub redirect_host: Option<Box<str>>,
}

impl LastCall {
    fn begin(url: &Uri) -> Self {
        let scheme = url.scheme_str().unwrap_or_default();
        let host = url.host().unwrap_or_default();
        let port = url.port_u16().map(|port| format!(":{port}"));
        let port = port.unwrap_or_default();
        Self {
            url: format!("{scheme}://{host}{port}{}", url.path()).into(),
            peer: Peer::new(&server_name(url), None),
            cause: None,
            error: None,
            response: None,
        }
    }
}

impl LatestCall {
    /// A panic elsewhere leaves nothing half-done here.
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written down of the calls for one token key, by who makes them, for who shows them.
#[derive(Debug, Clone)]
pub(super) struct CallLog {
    counts: Arc<CallCounts>,
    latest: Arc<LatestCall>,
}

impl CallLog {
    pub(super) fn new(counts: Arc<CallCounts>, latest: Arc<LatestCall>) -> Self {
        Self { counts, latest }
    }

    /// What all sources of the account count with.
    pub(super) fn counts(&self) -> &Arc<CallCounts> {
        &self.counts
    }

    /// A call waits for its turn, or does not any more.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.latest.lock().is_waiting = is_waiting;
    }

    /// Whether a call waits for its turn: it is not made yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.latest.lock().is_waiting
    }

    /// Another instance of the fleet has the lease, and its token is waited for; or it is not any more.
    pub(super) fn set_leased_by_another(&self, is_leased: bool) {
        self.latest.lock().is_leased_by_another = is_leased;
    }

    /// Whether another instance's token is waited for: no call is made here.
    pub(super) fn is_leased_by_another(&self) -> bool {
        self.latest.lock().is_leased_by_another
    }

    /// From now on calls are those of that flight, or of none that is traced.
    pub(super) fn begin_flight(&self, flight: Option<Arc<FlightTrace>>) {
        self.latest.lock().flight = flight;
    }

    /// That flight is over; another one may have begun.
    pub(super) fn end_flight(&self, flight: &Arc<FlightTrace>) {
        let mut latest = self.latest.lock();
        latest.flight.take_if(|known| Arc::ptr_eq(known, flight));
    }

    /// A call begins.
    pub(super) fn begin(&self, url: &Uri) {
        let mut latest = self.latest.lock();
        let call = LastCall::begin(url);
        let before = latest.call.take();
        let before = before.filter(|before| before.peer.host == call.peer.host);
        latest.earlier_cause = before.and_then(|before| before.cause);
        latest.call = Some(call);
        latest.has_begun = true;
        latest.is_given_up = false;
    }

    /// The call that began then is over; None: it brought a token.
    pub(super) fn trace(&self, grant: GrantLabel, began: Instant, failure: Option<Failure>) {
        let mut latest = self.latest.lock();
        let has_begun = std::mem::take(&mut latest.has_begun);
        let (Some(flight), Some(call), true) = (&latest.flight, &latest.call, has_begun) else {
            return;
        };
        flight.add(TokenCall {
            began,
            took: began.elapsed(),
            grant: grant.as_str(),
            server: call.peer.host.clone(),
            is_tls: call.url.starts_with("https:"),
            peer: call.peer.address,
            status: call.response.as_ref().map(|head| head.status.as_u16()),
            cause: call.cause.map(Cause::as_str),
            error: failure.map(|failure| failure.outcome().as_str()),
        });
    }

    /// Its connection is there.
    pub(super) fn connected(&self, peer: &Arc<Peer>) {
        self.note(|call| {
            call.peer = peer.clone();
        });
        self.latest.lock().earlier_cause = None;
    }

    /// It has none, or none that was of use.
    pub(super) fn not_connected(&self, peer: &Arc<Peer>, cause: Cause, error: String) {
        self.note(|call| {
            call.peer = peer.clone();
            call.error = Some(error.into());
            call.cause = Some(cause);
        });
    }

    /// Its response begins.
    pub(super) fn responded(&self, head: ResponseHead) {
        self.note(|call| call.response = Some(head));
    }

    /// Leaves out of the response's head what is a secret.
    pub(super) fn leave_out(&self, is_secret: impl Fn(&str) -> bool) {
        self.note(|call| {
            if let Some(head) = &mut call.response {
                head.media_type.take_if(|text| is_secret(text));
                head.redirect_host.take_if(|text| is_secret(text));
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut LastCall)) {
        if let Some(call) = &mut self.latest.lock().call {
            change(call);
        }
    }

    /// The last call; None: there was none.
    pub(super) fn last_call(&self) -> Option<LastCall> {
        self.latest.lock().call.clone()
    }

    /// The call that is under way takes too long, and ends without a response.
    pub(super) fn give_up(&self) {
        self.latest.lock().is_given_up = true;
    }

    /// Whether the call that is under way ends for the time that it took.
    pub(super) fn is_given_up(&self) -> bool {
        self.latest.lock().is_given_up
    }

    /// Why the call that is under way has no connection, if it has none.
    pub(super) fn cause(&self) -> Option<Cause> {
        let latest = self.latest.lock();
        let call = latest.call.as_ref().filter(|_| latest.has_begun);
        call.and_then(|call| call.cause)
    }

    /// The same; while it is still connecting, what kept the one before it from that counts.
    pub(super) fn likely_cause(&self) -> Option<Cause> {
        let latest = self.latest.lock();
        let call = latest.call.as_ref().filter(|_| latest.has_begun)?;
        call.cause.or(latest.earlier_cause)
    }

    /// A call with that grant ended so.
    pub(super) fn ended(&self, grant: GrantLabel, outcome: FetchOutcome) {
        self.counts.0[grant as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.latest.lock().ended = Some((outcome.as_str(), clock::wall()));
    }

    /// How many calls with that grant ended so.
    pub(super) fn count(&self, grant: GrantLabel, outcome: FetchOutcome) -> u64 {
        self.counts.0[grant as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// How the last call ended, and when.
    pub(super) fn last(&self) -> Option<(&'static str, SystemTime)> {
        self.latest.lock().ended
    }
}
