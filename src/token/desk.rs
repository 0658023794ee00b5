//! May a flight start, and what if not? What a cell decides under its lock.
//!
//! Functions of what is at the desk, the token and `now`; nothing here waits or calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff;
use super::lease::{Freshness, Token};
use super::reply::Failure;
use crate::clock;

/// How long a generation that 401s have shown to be no better is left alone.
const SUSPECT_TIME: Duration = Duration::from_secs(10);
/// How many renewals 401s may cause in [`RECOVERY_WINDOW`].
const MAX_RECOVERIES: usize = 10;
const RECOVERY_WINDOW: Duration = Duration::from_secs(60);

/// What a flight brought.
pub(super) type Landing = Result<Arc<Token>, Failure>;

/// What is known about a cell's flights.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) flight: Option<watch::Receiver<Option<Landing>>>,
    /// Why there was no token, and until when nobody asks again.
    pub(super) grounded: Option<(Failure, Instant)>,
    pub(super) failures: u32,
    /// A generation that further 401s do not renew, and until when.
    suspect: Option<(u64, Instant)>,
    /// When 401s caused renewals; at most [`MAX_RECOVERIES`].
    recoveries: Vec<Instant>,
    pub(super) generations: u64,
    pub(super) last_error: Option<(String, SystemTime)>,
}

/// What a flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// There is no token, or it ages.
    Need,
    /// A provider answered 401 to this generation.
    Unauthorized(u64),
}

/// What came of asking for a flight.
pub(super) enum Boarding {
    Flight(watch::Receiver<Option<Landing>>),
    Grounded(Failure, Instant),
    /// The cache is newer than the 401.
    Newer(Arc<Token>),
    TooYoung,
}

/// Whether to start a flight.
pub(super) enum Decision {
    /// No: this is what there is.
    Board(Boarding),
    /// Yes, and leave it at the desk.
    Start,
}

impl Desk {
    /// What becomes of somebody who asks for a flight while `current` is the token.
    pub(super) fn decide(
        &mut self,
        current: Option<Arc<Token>>,
        cause: Cause,
        now: Instant,
    ) -> Decision {
        if let Some(boarding) = self.without_flight(current, cause, now) {
            return Decision::Board(boarding);
        }
        if let Some(flight) = &self.flight
            && flight.has_changed().is_ok()
        {
            return Decision::Board(Boarding::Flight(flight.clone()));
        }
        if let Some((failure, until)) = self.grounded
            && now < until
        {
            return Decision::Board(Boarding::Grounded(failure, until));
        }
        if matches!(cause, Cause::Unauthorized(_)) {
            if self.recoveries.len() >= MAX_RECOVERIES {
                return Decision::Board(Boarding::TooYoung);
            }
            self.recoveries.push(now);
        }
        Decision::Start
    }

    /// What needs no flight, or must not have one.
    fn without_flight(
        &mut self,
        current: Option<Arc<Token>>,
        cause: Cause,
        now: Instant,
    ) -> Option<Boarding> {
        let Cause::Unauthorized(sent) = cause else {
            // Somebody landed between the caller's look at the token and the lock.
            let token = current.filter(|token| token.freshness(now) == Freshness::Fresh)?;
            return Some(Boarding::Newer(token));
        };
        if let Some(token) = current
            && token.generation > sent
            && token.freshness(now) != Freshness::Expired
        {
            return Some(Boarding::Newer(token));
        }
        if self
            .suspect
            .is_some_and(|(generation, until)| generation == sent && now < until)
        {
            return Some(Boarding::TooYoung);
        }
        self.recoveries
            .retain(|then| now.duration_since(*then) < RECOVERY_WINDOW);
        None
    }

    /// Further 401s do not renew this generation for a while.
    pub(super) fn suspect(&mut self, generation: u64, now: Instant) {
        self.suspect = Some((generation, now + SUSPECT_TIME));
    }

    /// Nobody asks again before the instant that this returns.
    pub(super) fn ground(&mut self, failure: Failure, now: Instant) -> Instant {
        // A long outage says nothing about how to treat a refusal that comes after it.
        if self
            .grounded
            .is_some_and(|(earlier, _)| !backoff::is_same_kind(earlier, failure))
        {
            self.failures = 0;
        }
        let until = now + backoff::pause(failure, self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.grounded = Some((failure, until));
        self.last_error = Some((failure.to_string(), clock::wall()));
        until
    }
}
