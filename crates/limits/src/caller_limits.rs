//! Limits of callers: requests in flight, requests in a second, and connections.
//!
//! It knows numbers and instants; token calls are paced by the same [`RateLimiter`]. A request counts from when its
//! caller is verified until the last byte of its answer, because its [`RequestPermit`] goes with it; a connection from
//! its first verified request until it is closed.

mod unknown;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rate_limiter::{Exceeded, RateLimiter};
use bursar_config as config;
pub use unknown::{Place, Unknown, Verifying};

/// When it is worth asking again after too many requests in flight: nobody knows when one will end.
const IN_FLIGHT_PAUSE: Duration = Duration::from_secs(1);

/// One caller's.
#[derive(Debug)]
pub struct Limits {
    configured: config::Limits,
    max_in_flight: usize,
    in_flight: AtomicUsize,
    rate: Option<Rate>,
    max_connections: usize,
    connections: AtomicUsize,
}

/// A number of requests in a second, spread evenly, and as many at once after a quiet second.
#[derive(Debug)]
struct Rate {
    /// How far ahead of the even pace requests may be.
    tolerance: Duration,
    /// Written by each request under the lock, which nobody holds for longer than that.
    pace: Mutex<RateLimiter>,
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
        let most =
            |limit: Option<NonZeroU32>| limit.map_or(usize::MAX, |limit| limit.get() as usize);
        Some(Arc::new(Self {
            max_connections: most(connections),
            connections: AtomicUsize::new(0),
            max_in_flight: most(in_flight),
            configured,
            in_flight: AtomicUsize::new(0),
            rate: per_second.map(|limit| {
                let interval = Duration::from_secs(1) / limit.get();
                Rate {
                    tolerance: interval * (limit.get() - 1),
                    pace: Mutex::new(RateLimiter::new(interval)),
                }
            }),
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
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = RequestPermit(self.clone());
        if before >= self.max_in_flight {
            return Err(TooMany::InFlight);
        }
        if let Some(rate) = &self.rate {
            rate.take(now)?;
        }
        Ok(permit)
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

impl Rate {
    fn take(&self, now: Instant) -> Result<(), Exceeded> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(now, self.tolerance)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
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
        assert_eq!(limits.in_flight.load(Ordering::Relaxed), 0);
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
