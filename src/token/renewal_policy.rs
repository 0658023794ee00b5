//! Renewal policy of a token key: whether a flight may start, and what if not; decided under the lock of its state.
//!
//! Functions of its state, the token and `now`; nothing here waits or calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::access_token::{CachedToken, Freshness};
use super::acquire::NotAcquired;
use super::backoff;
use super::endpoint_limiter::Priority;
use super::failure::Failure;
use super::refresh_token::RefreshTokenSlot;
use super::refusals::{InVain, Refusals, Unauthorized};
use bursar_base::clock;
use bursar_limits::circuit_breaker::Until;
use bursar_limits::single_flight::{Joiner, SingleFlight};
use bursar_traces::{FlightTrace, Links};

/// How many renewals 401s may cause in [`RECOVERY_WINDOW`].
const MAX_RECOVERIES: usize = 10;
const RECOVERY_WINDOW: Duration = Duration::from_secs(60);
/// How many of these may be for a generation that some route refuses whatever the token; the rest is for revocations.
const MAX_QUARANTINED_RECOVERIES: usize = 8;
/// A token of this age ends because somebody ended it.
const YOUNG: Duration = Duration::from_secs(5 * 60);
/// This many of them within [`CONTENTION_WINDOW`] are no accident.
const CONTENTION_SIGNS: usize = 3;
const CONTENTION_WINDOW: Duration = Duration::from_secs(5 * 60);
/// How long a token is wanted after a request has asked for it in vain.
const ASKED_FOR: Duration = Duration::from_secs(5 * 60);

/// What a flight brought.
pub(super) type FlightResult = Result<Arc<CachedToken>, Failure>;

/// What those who join a flight share with it.
pub(super) struct UnderWay {
    /// How urgent its calls are, which only rises.
    pub(super) priority: watch::Sender<Priority>,
    /// None: nobody is sampled.
    pub(super) trace: Option<Arc<FlightTrace>>,
    /// The generation that another one is wanted for; 0 for none.
    pub(super) replaces: u64,
}

/// What is known about the flights of a token key.
#[derive(Default)]
pub(super) struct RenewalPolicy {
    /// The one acquisition that may be under way.
    pub(super) flight: SingleFlight<FlightResult, UnderWay>,
    /// Why there was no token, and until when nobody asks again.
    pub(super) backing_off: Option<(Failure, Until)>,
    pub(super) failures: u32,
    /// When 401s caused renewals, here and at other instances of a fleet; at most [`MAX_RECOVERIES`].
    recoveries: Vec<Instant>,
    pub(super) generations: u64,
    /// The token before a reload that changed nothing of the key but its secret, until that has brought another.
    pub(super) earlier: Option<Arc<CachedToken>>,
    /// When 401s refused tokens that should have been young; at most [`MAX_RECOVERIES`].
    young_refusals: Vec<Instant>,
    /// Until when another instance is thought to revoke these tokens.
    contended_until: Option<Instant>,
    pub(super) contentions: u64,
    /// When a request last found no token.
    pub(super) asked: Option<Instant>,
    pub(super) last_error: Option<(String, SystemTime)>,
}

/// What a flight is for.
#[derive(Debug, Clone)]
pub(super) enum RenewalReason {
    /// Start-up: there is no token, and nobody asked for one yet.
    Startup,
    /// The token ages, or there was one; nobody waits for the next.
    Renewal,
    /// A request needs one.
    Request,
    /// A provider answered 401.
    Unauthorized(Unauthorized),
}

impl RenewalReason {
    /// Whether somebody waits for the token.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Self::Request | Self::Unauthorized(_))
    }

    /// The word for it.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Renewal => "renewal",
            Self::Request => "request",
            Self::Unauthorized(_) => "unauthorized",
        }
    }

    fn priority(&self) -> Priority {
        match self {
            Self::Startup => Priority::Startup,
            Self::Renewal | Self::Request => Priority::Request,
            Self::Unauthorized(_) => Priority::Recovery,
        }
    }
}

/// What came of asking for a flight.
pub(super) enum Joined {
    /// What the flight brings, and the generation that it wants another one for.
    Flight(Joiner<FlightResult>, u64),
    BackingOff(Failure, Instant),
    /// The cache is newer than the 401.
    Newer(Arc<CachedToken>),
    /// Too many renewals lately, or one in vain.
    RenewedTooOften,
}

/// Whether to start a flight.
pub(super) enum Decision {
    /// No: this is what there is.
    Join(Joined),
    /// Yes, and leave it in the policy.
    Start(Priority),
}

/// What else counts for those who ask: whether calls are made at all.
#[derive(Clone, Copy)]
pub(super) struct EndpointState<'a> {
    /// What was learnt about routes.
    pub(super) refusals: &'a Refusals,
    pub(super) refresh_token: &'a RefreshTokenSlot,
    /// Until when none is made, because the endpoint fails.
    pub(super) open_until: Option<Instant>,
    /// Whether the flight that is under way has not been let through yet.
    pub(super) are_waiting: bool,
}

fn raise(priority: &watch::Sender<Priority>, to: Priority) {
    priority.send_if_modified(|now| {
        let rises = to > *now;
        *now = to.max(*now);
        rises
    });
}

impl RenewalPolicy {
    /// What becomes of somebody who asks for a flight while `current` is the token.
    pub(super) fn decide(
        &mut self,
        current: Option<&Arc<CachedToken>>,
        reason: &RenewalReason,
        now: Instant,
        endpoint: EndpointState<'_>,
    ) -> Decision {
        if let Some(joined) = self.without_flight(current, reason, now, endpoint) {
            return Decision::Join(joined);
        }
        if matches!(reason, RenewalReason::Request) {
            self.asked = Some(now);
        }
        // Start-up waits for the endpoint in its queue; whoever has a caller who waits hears at once.
        let open_until = endpoint
            .open_until
            .filter(|_| !matches!(reason, RenewalReason::Startup));
        if let Some((joiner, under_way)) = self.flight.join() {
            if let Some(until) = open_until.filter(|_| endpoint.are_waiting) {
                return Decision::Join(Joined::BackingOff(Failure::CircuitOpen, until));
            }
            raise(&under_way.priority, reason.priority());
            return Decision::Join(Joined::Flight(joiner, under_way.replaces));
        }
        if let Some((failure, until)) = self.backing_off
            && let until = until.of(reason.is_awaited())
            && now < until
        {
            return Decision::Join(Joined::BackingOff(failure, until));
        }
        if let Some(until) = open_until {
            return Decision::Join(Joined::BackingOff(Failure::CircuitOpen, until));
        }
        if let RenewalReason::Unauthorized(unauthorized) = reason {
            let refusals = endpoint.refusals;
            let is_in_vain = refusals.is_quarantined(unauthorized.sent, None, now)
                || refusals.is_refreshed_in_vain(unauthorized.sent);
            let most = match is_in_vain {
                true => MAX_QUARANTINED_RECOVERIES,
                false => MAX_RECOVERIES,
            };
            if self.recoveries.len() >= most {
                return Decision::Join(Joined::RenewedTooOften);
            }
            self.recoveries.push(now);
            // Where another token did not help before, the trouble is another one: a missing scope.
            if !refusals.explains(unauthorized) {
                self.refused(current.map(AsRef::as_ref), unauthorized.sent, now);
            }
        }
        Decision::Start(reason.priority())
    }

    /// The flight that is under way is waited for by somebody who is sampled.
    pub(super) fn link(&self, links: &mut Links) {
        let trace = self
            .flight
            .join()
            .and_then(|(_, under_way)| under_way.trace.as_ref());
        if let Some(trace) = trace {
            links.add(trace.join());
        }
    }

    /// What needs no flight, or must not have one.
    fn without_flight(
        &mut self,
        current: Option<&Arc<CachedToken>>,
        reason: &RenewalReason,
        now: Instant,
        endpoint: EndpointState<'_>,
    ) -> Option<Joined> {
        let RenewalReason::Unauthorized(unauthorized) = reason else {
            // A flight ended between the caller's look at the token and the lock.
            let token = current.filter(|token| token.freshness(now) == Freshness::Fresh)?;
            return Some(Joined::Newer(token.clone()));
        };
        if let Some(token) = current
            && token.generation > unauthorized.sent
            && token.freshness(now) != Freshness::Expired
        {
            return Some(Joined::Newer(token.clone()));
        }
        let refusals = endpoint.refusals;
        if refusals.declines(unauthorized, now) {
            return Some(Joined::RenewedTooOften);
        }
        // Nobody replayed it then, so the next request of the route shows that it was in vain.
        if refusals.is_untried(unauthorized) {
            let may_be_refreshed = current.is_some_and(|token| token.may_be_refreshed);
            match refusals.renewed_in_vain(unauthorized, may_be_refreshed, now) {
                InVain::RefreshToken => endpoint.refresh_token.distrust(),
                InVain::Route { .. } => return Some(Joined::RenewedTooOften),
            }
        }
        self.recoveries
            .retain(|then| now.duration_since(*then) < RECOVERY_WINDOW);
        None
    }

    /// Keeps count of tokens that a provider took at first and refused while they were young. One may be a
    /// revocation; several in a row are another instance, whose every new token ends ours.
    fn refused(&mut self, current: Option<&CachedToken>, sent: u64, now: Instant) {
        let is_young = current.is_some_and(|token| {
            token.generation == sent
                && now.duration_since(token.issued) < YOUNG
                && token.freshness(now) == Freshness::Fresh
        });
        if !is_young {
            return;
        }
        self.young_refusals
            .retain(|then| now.duration_since(*then) < CONTENTION_WINDOW);
        self.young_refusals.truncate(MAX_RECOVERIES - 1);
        self.young_refusals.push(now);
        if self.young_refusals.len() >= CONTENTION_SIGNS {
            self.contentions += 1;
            self.contended_until = Some(now + CONTENTION_WINDOW);
        }
    }

    /// Another instance of the fleet obtained that token. Where it did because of a 401, that counts here, too: the limit
    /// is for all of them together.
    pub(super) fn adopted(&mut self, token: &CachedToken, now: Instant) {
        self.recoveries
            .retain(|then| now.duration_since(*then) < RECOVERY_WINDOW);
        let is_recent = now.duration_since(token.issued) < RECOVERY_WINDOW;
        if !token.after_unauthorized || !is_recent {
            return;
        }
        // Each makes no more than the limit, but two may have made the last one at a time.
        if self.recoveries.len() >= MAX_RECOVERIES {
            self.recoveries.remove(0);
        }
        self.recoveries.push(token.issued);
    }

    /// The fleet had another token already: the 401 was neither cause for a call nor a sign of contention.
    pub(super) fn was_replaced_by_fleet(&mut self) {
        self.recoveries.pop();
        if self.young_refusals.pop().is_some() && self.young_refusals.len() < CONTENTION_SIGNS {
            self.contended_until = None;
        }
    }

    /// What the account shows has changed, so that a refusal says nothing about the next call.
    pub(super) fn forget_refusal(&mut self) {
        if matches!(self.backing_off, Some((Failure::Rejected(..), _))) {
            self.backing_off = None;
            self.failures = 0;
        }
    }

    /// Whether instances are revoking each other's tokens.
    pub(super) fn is_contended(&self, now: Instant) -> bool {
        self.contended_until.is_some_and(|until| now < until)
    }

    /// Whether requests have lately asked for a token that was not there.
    pub(super) fn is_asked_for(&self, now: Instant) -> bool {
        self.asked
            .is_some_and(|asked| now.duration_since(asked) < ASKED_FOR)
    }

    /// The flight brought a token.
    pub(super) fn succeeded(&mut self) {
        self.backing_off = None;
        self.failures = 0;
        self.earlier = None;
    }

    /// The flight brought none. Without being wanted nobody asks again before the instant that this returns.
    pub(super) fn back_off(&mut self, none: NotAcquired, now: Instant) -> Instant {
        let NotAcquired { failure, pause } = none;
        // A long outage says nothing about how to treat a refusal that comes after it.
        if self
            .backing_off
            .is_some_and(|(earlier, _)| !backoff::is_same_kind(earlier, failure))
        {
            self.failures = 0;
        }
        let own = backoff::pause(failure, self.failures, fastrand::f64());
        let until = pause.unwrap_or_else(|| own.from(now));
        self.failures = self.failures.saturating_add(1);
        self.backing_off = Some((failure, until));
        self.last_error = Some((failure.to_string(), clock::wall()));
        until.background
    }
}

#[cfg(test)]
mod tests;
