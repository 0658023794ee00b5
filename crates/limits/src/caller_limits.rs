//! Limits of callers: requests in flight, requests in a second, and connections.
//!
//! It knows numbers and instants; token calls are paced by the same [`RateLimiter`]. A request counts from when its
//! caller is verified until the last byte of its answer, because its [`RequestPermit`] goes with it; a connection from
//! its first verified request until it is closed.

mod unknown;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rate_limiter::{Exceeded, RateLimiter};
use crate::share::{self, Divisible, LimitKind, Share};
use bursar_config as config;
pub use unknown::{Place, Unknown, Verifying};

/// When it is worth asking again after too many requests in flight: nobody knows when one will end.
const IN_FLIGHT_PAUSE: Duration = Duration::from_secs(1);
/// Where other instances have all of a rate, one is asked for at once, and takes a second to come about.
const NOTHING: Exceeded = Exceeded {
    retry_after: Duration::from_secs(1),
};
/// Nothing is let through until the share is another one.
const NEVER: Duration = Duration::from_secs(1 << 30);
/// The demand of a caller that comes seldom: a request in ten seconds, or a tenth of the time in flight.
const LEAST: f64 = 0.1;

/// One caller's.
#[derive(Debug)]
pub struct Limits {
    configured: config::Limits,
    in_flight: InFlight,
    rate: Option<Rate>,
    max_connections: usize,
    connections: AtomicUsize,
}

/// Requests in flight. Requests write `now`, `refused` and, where there were never as many, `peak`; whoever divides the limit
/// among instances writes `most`. Nothing rests on their order.
#[derive(Debug)]
struct InFlight {
    /// None: there is no limit.
    limit: Option<NonZeroU32>,
    /// This instance's share of it.
    most: AtomicUsize,
    now: AtomicUsize,
    /// The most at a time since the last look at the demand.
    peak: AtomicUsize,
    /// How many were refused since then. Each would have been in flight beside the others.
    refused: AtomicUsize,
    share: AtomicU32,
}

/// A number of requests in a second, spread evenly, and as many at once after a quiet second.
#[derive(Debug)]
struct Rate {
    limit: NonZeroU32,
    /// Written by each request under the lock, and by whoever divides the limit; nobody holds it for longer than that.
    pace: Mutex<Pace>,
    share: AtomicU32,
}

#[derive(Debug)]
struct Pace {
    /// Requests in a second; 0: none.
    units: u32,
    limiter: RateLimiter,
    /// How far ahead of the even pace requests may be.
    tolerance: Duration,
    /// Requests since the last look at the demand.
    asked: u32,
}

/// A request that counts; dropping it makes room.
#[derive(Debug)]
pub struct RequestPermit(Arc<Limits>);

/// A connection that counts, once for its caller; dropping it makes room.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Limits>);

/// Too many requests of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// As many as there may be at once are under way.
    #[error("too many requests are under way")]
    InFlight,
    /// As many as there may be in a second have come.
    #[error("too many requests have come in a second")]
    PerSecond(#[from] Exceeded),
}

impl TooMany {
    /// When it is worth asking again.
    #[must_use]
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::InFlight => IN_FLIGHT_PAUSE,
            Self::PerSecond(exceeded) => exceeded.retry_after,
        }
    }
}

impl Limits {
    /// None where there is no limit.
    #[must_use]
    pub fn new(configured: config::Limits) -> Option<Arc<Self>> {
        let config::Limits {
            in_flight,
            per_second,
            connections,
        } = configured;
        if in_flight.is_none() && per_second.is_none() && connections.is_none() {
            return None;
        }
        Some(Arc::new(Self {
            max_connections: most(connections),
            connections: AtomicUsize::new(0),
            in_flight: InFlight::new(in_flight),
            configured,
            rate: per_second.map(Rate::new),
        }))
    }

    /// Whether they are what the configuration says.
    #[must_use]
    pub fn are(&self, configured: config::Limits) -> bool {
        self.configured == configured
    }

    /// Lets a request in, or says when to come back.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn enter(self: &Arc<Self>, now: Instant) -> Result<RequestPermit, TooMany> {
        let before = self.in_flight.now.fetch_add(1, Ordering::Relaxed);
        let permit = RequestPermit(self.clone());
        if before >= self.in_flight.most.load(Ordering::Relaxed) {
            self.in_flight.refused.fetch_add(1, Ordering::Relaxed);
            self.in_flight.want();
            return Err(TooMany::InFlight);
        }
        if before >= self.in_flight.peak.load(Ordering::Relaxed) {
            self.in_flight.peak.store(before + 1, Ordering::Relaxed);
        }
        if let Some(rate) = &self.rate {
            rate.take(now).inspect_err(|_| rate.want())?;
        }
        Ok(permit)
    }

    /// What instances divide among themselves. Connections are each instance's own.
    pub fn divisible(&self) -> impl Iterator<Item = (LimitKind, &dyn Divisible)> {
        let in_flight = self.in_flight.limit.is_some();
        let in_flight = in_flight.then_some(&self.in_flight as &dyn Divisible);
        let rate = self.rate.as_ref().map(|rate| rate as &dyn Divisible);
        let in_flight = in_flight.map(|limit| (LimitKind::InFlight, limit));
        in_flight
            .into_iter()
            .chain(rate.map(|limit| (LimitKind::PerSecond, limit)))
    }

    /// Counts a connection; None: there are too many.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let joined = ConnectionPermit(self.clone());
        (before < self.max_connections).then_some(joined)
    }

    /// Whether connections are limited at all.
    #[must_use]
    pub fn counts_connections(&self) -> bool {
        self.max_connections != usize::MAX
    }
}

impl ConnectionPermit {
    /// Whether it counts there.
    #[must_use]
    pub fn is_of(&self, limits: &Arc<Limits>) -> bool {
        Arc::ptr_eq(&self.0, limits)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn most(limit: Option<NonZeroU32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit.get() as usize)
}

impl InFlight {
    fn new(limit: Option<NonZeroU32>) -> Self {
        Self {
            limit,
            most: AtomicUsize::new(most(limit)),
            now: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            share: AtomicU32::new(Share::WHOLE.millionths()),
        }
    }

    /// Others have what this instance does without.
    #[cold]
    fn want(&self) {
        if self.share() < Share::WHOLE {
            share::want();
        }
    }

    fn limit(&self) -> u32 {
        self.limit.map_or(u32::MAX, NonZeroU32::get)
    }
}

impl Divisible for InFlight {
    fn demand(&self, _over: Duration) -> f64 {
        let now = self.now.load(Ordering::Relaxed);
        let peak = self.peak.swap(now, Ordering::Relaxed).max(now);
        let refused = self.refused.swap(0, Ordering::Relaxed);
        let wanted = u32::try_from(peak.saturating_add(refused)).unwrap_or(u32::MAX);
        f64::from(wanted) / f64::from(self.limit())
    }

    fn least_demand(&self) -> f64 {
        LEAST / f64::from(self.limit())
    }

    fn grain(&self) -> u32 {
        Share::grain(self.limit())
    }

    /// Requests under way are not ended because the share has become smaller.
    fn in_use(&self) -> u32 {
        let now = self.now.load(Ordering::Relaxed);
        u32::try_from(now)
            .unwrap_or(u32::MAX)
            .saturating_mul(self.grain())
    }

    fn share(&self) -> Share {
        Share::of_millionths(self.share.load(Ordering::Relaxed).into())
    }

    fn divide(&self, share: Share, _now: Instant) {
        if self.share.swap(share.millionths(), Ordering::Relaxed) != share.millionths() {
            let most = share.units(self.limit()) as usize;
            self.most.store(most, Ordering::Relaxed);
        }
    }
}

impl Rate {
    fn new(limit: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / limit.get();
        Self {
            limit,
            pace: Mutex::new(Pace {
                units: limit.get(),
                limiter: RateLimiter::new(interval),
                tolerance: interval * (limit.get() - 1),
                asked: 0,
            }),
            share: AtomicU32::new(Share::WHOLE.millionths()),
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Others have what this instance does without.
    #[cold]
    fn want(&self) {
        if self.share() < Share::WHOLE {
            share::want();
        }
    }

    fn take(&self, now: Instant) -> Result<(), Exceeded> {
        let pace = &mut *self.pace();
        pace.asked = pace.asked.wrapping_add(1);
        let taken = pace.limiter.take(now, pace.tolerance);
        taken.map_err(|exceeded| match pace.units {
            0 => NOTHING,
            _ => exceeded,
        })
    }
}

impl Divisible for Rate {
    fn demand(&self, over: Duration) -> f64 {
        let asked = std::mem::take(&mut self.pace().asked);
        let over = over.max(Duration::from_millis(1));
        f64::from(asked) / over.as_secs_f64() / f64::from(self.limit.get())
    }

    fn least_demand(&self) -> f64 {
        LEAST / f64::from(self.limit.get())
    }

    fn grain(&self) -> u32 {
        Share::grain(self.limit.get())
    }

    fn share(&self) -> Share {
        Share::of_millionths(self.share.load(Ordering::Relaxed).into())
    }

    fn divide(&self, share: Share, now: Instant) {
        if self.share.swap(share.millionths(), Ordering::Relaxed) != share.millionths() {
            self.pace().change(share.units(self.limit.get()), now);
        }
    }
}

impl Pace {
    /// Another number of requests in a second. What others had, and have perhaps used up, comes empty; what others get
    /// takes its part of what was left with it.
    fn change(&mut self, units: u32, now: Instant) {
        let before = std::mem::replace(&mut self.units, units);
        if units == before {
            return;
        }
        if units == 0 {
            self.limiter.change(Duration::from_secs(1), NEVER, now);
            self.tolerance = Duration::ZERO;
            return;
        }
        let [all, old] = [units, before].map(f64::from);
        let left = match before {
            0 => 0.0,
            _ => {
                let ahead = self.limiter.wait(now, Duration::ZERO);
                old - ahead.div_duration_f64(self.limiter.interval())
            }
        };
        let left = left.max(0.0);
        // A whole request that has come about stays: its caller may have been told that there is one.
        let left = (left * (all / old).min(1.0)).max(left.min(1.0));
        let interval = Duration::from_secs(1) / units;
        // Rounded, a little more may be left than there can be.
        let ahead = interval.mul_f64((all - left).max(0.0));
        self.limiter.change(interval, ahead, now);
        self.tolerance = interval * (units - 1);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.in_flight.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(in_flight: u32, per_second: u32) -> Arc<Limits> {
        Limits::new(config::Limits {
            in_flight: NonZeroU32::new(in_flight),
            per_second: NonZeroU32::new(per_second),
            connections: None,
        })
        .unwrap()
    }

    #[test]
    fn a_second_holds_as_many_as_it_may_and_recovers_evenly() {
        let limits = limits(0, 4);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let retry = |milliseconds| {
            Some(TooMany::PerSecond(Exceeded {
                retry_after: Duration::from_millis(milliseconds),
            }))
        };
        for (now, refused) in [
            (0, None),
            (0, None),
            (0, None),
            (0, None),
            (0, retry(250)),
            (100, retry(150)),
            (250, None),
            (250, retry(250)),
            (1250, None),
            (1250, None),
            (1250, None),
            (1250, None),
            (1250, retry(250)),
            (60_000, None),
        ] {
            assert_eq!(limits.enter(at(now)).err(), refused, "at {now} ms");
        }
    }

    #[test]
    fn a_request_counts_until_its_slot_is_dropped() {
        let limits = limits(2, 0);
        let now = Instant::now();
        let first = limits.enter(now).unwrap();
        let second = limits.enter(now).unwrap();
        assert_eq!(limits.enter(now).err(), Some(TooMany::InFlight));
        drop(first);
        let third = limits.enter(now).unwrap();
        assert!(limits.enter(now).is_err());
        drop((second, third));
        assert_eq!(limits.in_flight.now.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_refused_for_another_limit_does_not_use_up_the_second() {
        let limits = limits(1, 2);
        let now = Instant::now();
        let only = limits.enter(now).unwrap();
        assert!(limits.enter(now).is_err());
        drop(only);
        assert!(limits.enter(now).is_ok());
    }

    #[test]
    fn a_connection_counts_until_its_permit_is_dropped() {
        let limits = Limits::new(config::Limits {
            in_flight: None,
            per_second: None,
            connections: NonZeroU32::new(2),
        })
        .unwrap();
        assert!(limits.counts_connections());
        let first = limits.join().unwrap();
        let second = limits.join().unwrap();
        assert!(first.is_of(&limits));
        // One that is turned away does not count.
        assert!(limits.join().is_none());
        assert!(limits.join().is_none());
        drop(first);
        let third = limits.join().unwrap();
        assert!(limits.join().is_none());
        drop((second, third));
        assert_eq!(limits.connections.load(Ordering::Relaxed), 0);
    }

    fn divide(limits: &Limits, share: Share, now: Instant) {
        for (_, limit) in limits.divisible() {
            limit.divide(share, now);
        }
    }

    #[test]
    fn a_share_lets_its_part_through_and_gives_no_second_burst_when_it_grows() {
        let limits = limits(0, 8);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let let_through = |now| {
            let permits = (0..100).map_while(|_| limits.enter(now).ok());
            permits.count()
        };
        divide(&limits, Share::one_of(4), at(0));
        assert_eq!(let_through(at(0)), 2);
        assert_eq!(let_through(at(1000)), 2);
        // What was used up stays so.
        divide(&limits, Share::WHOLE, at(1000));
        assert_eq!(let_through(at(1000)), 0);
        assert_eq!(let_through(at(1500)), 4);
        divide(&limits, Share::one_of(4), at(1500));
        assert_eq!(let_through(at(1999)), 0);
        assert_eq!(let_through(at(3000)), 2);
        // Less than one is nothing, and one that comes is not there at once.
        divide(&limits, Share::one_of(9), at(20_000));
        assert_eq!(limits.enter(at(30_000)).err(), Some(NOTHING.into()));
        divide(&limits, Share::one_of(8), at(30_000));
        assert_eq!(let_through(at(30_999)), 0);
        assert_eq!(let_through(at(31_000)), 1);
        // Neither is what comes to what is there.
        divide(&limits, Share::WHOLE, at(40_000));
        assert_eq!(let_through(at(40_000)), 1);
    }

    #[test]
    fn a_request_that_has_come_about_outlasts_smaller_shares() {
        let limits = limits(0, 8);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        divide(&limits, Share::NONE, at(0));
        divide(&limits, Share::one_of(2), at(0));
        for (parts, now) in [(4, 250), (8, 251)] {
            divide(&limits, Share::one_of(parts), at(now));
        }
        let let_through = (0..10).map_while(|_| limits.enter(at(251)).ok()).count();
        assert_eq!(let_through, 1);
    }

    #[test]
    fn of_what_is_left_a_smaller_share_keeps_as_much_as_there_can_be() {
        let limits = limits(0, 64);
        let mut now = Instant::now();
        for (before, after) in
            (1..=64).flat_map(|before| (1..=before).map(move |after| (before, after)))
        {
            divide(&limits, Share::of_millionths(before * 15_625), now);
            now += Duration::from_secs(2);
            divide(&limits, Share::of_millionths(after * 15_625), now);
            let permits = (0..100).map_while(|_| limits.enter(now).ok());
            // Rounded, one may come a nanosecond later.
            let count = permits.count() as u64;
            assert!(
                (after.max(2) - 1..=after).contains(&count),
                "{after} of {before}: {count}"
            );
        }
    }

    #[test]
    fn a_share_of_requests_in_flight_is_rounded_down() {
        let limits = limits(8, 0);
        let let_through = || {
            let now = Instant::now();
            let permits = (0..100).map_while(|_| limits.enter(now).ok());
            permits.collect::<Vec<_>>().len()
        };
        for (share, most) in [(1, 8), (2, 4), (3, 2), (8, 1), (9, 0), (1000, 0), (1, 8)] {
            divide(&limits, Share::one_of(share), Instant::now());
            assert_eq!(let_through(), most, "one of {share}");
        }
    }

    #[test]
    fn the_demand_is_what_was_asked_for_since_the_last_look_whether_it_was_let_through_or_not() {
        let limits = limits(4, 10);
        let now = Instant::now();
        let demand = || {
            let demands = limits.divisible();
            let demands = demands.map(|(kind, limit)| (kind, limit.demand(Duration::from_secs(1))));
            demands.collect::<Vec<_>>()
        };
        let first: Vec<_> = (0..6).map(|_| limits.enter(now)).collect();
        drop(first);
        let both = |in_flight, per_second| {
            vec![
                (LimitKind::InFlight, in_flight),
                (LimitKind::PerSecond, per_second),
            ]
        };
        assert_eq!(demand(), both(1.5, 0.4));
        assert_eq!(demand(), both(0.0, 0.0));
        let one = limits.enter(now).unwrap();
        assert_eq!(demand(), both(0.25, 0.1));
        assert_eq!(demand(), both(0.25, 0.0));
        drop(one);
    }

    #[test]
    fn no_limit_costs_nothing() {
        let none = config::Limits {
            in_flight: None,
            per_second: None,
            connections: None,
        };
        assert!(Limits::new(none).is_none());
    }
}
