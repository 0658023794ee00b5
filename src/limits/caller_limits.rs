//! How much may one caller ask for? Requests in flight, requests per second, and connections.
//!
//! It knows numbers and instants; token calls are paced by the same [`Pace`]. A request counts from when its
//! caller is verified until the last byte of its answer, because its [`Slot`] goes with it; a connection from
//! its first verified request until it is closed.

mod unknown;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;
pub use unknown::{Place, Unknown};

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

/// So many in a second, spread evenly, and as many at once after a quiet second.
#[derive(Debug)]
struct Rate {
    /// How far ahead of the even pace requests may be.
    tolerance: Duration,
    /// Written by each request under the lock, which nobody holds for longer than that.
    pace: Mutex<Pace>,
}

/// One thing in each interval: the generic cell rate algorithm (ITU-T I.371), whose one state is when the
/// next one would be due at an even pace.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

/// A request that counts; dropping it makes room.
#[derive(Debug)]
pub struct Slot(Arc<Limits>);

/// A connection that counts, once for its caller; dropping it makes room.
#[derive(Debug)]
pub struct Joined(Arc<Limits>);

/// The caller has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// For so long, probably.
    pub retry_after: Duration,
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
                    pace: Mutex::new(Pace::new(interval)),
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
    pub fn enter(self: &Arc<Self>, now: Instant) -> Result<Slot, Exceeded> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(self.clone());
        if before >= self.max_in_flight {
            return Err(Exceeded {
                retry_after: IN_FLIGHT_PAUSE,
            });
        }
        if let Some(rate) = &self.rate {
            rate.take(now)?;
        }
        Ok(slot)
    }

    /// Counts a connection; None: there are too many.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Option<Joined> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let joined = Joined(self.clone());
        (before < self.max_connections).then_some(joined)
    }

    /// Whether connections are limited at all.
    #[must_use]
    pub fn counts_connections(&self) -> bool {
        self.max_connections != usize::MAX
    }
}

impl Joined {
    /// Whether it counts there.
    #[must_use]
    pub fn is_of(&self, limits: &Arc<Limits>) -> bool {
        Arc::ptr_eq(&self.0, limits)
    }
}

impl Drop for Joined {
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

impl Pace {
    /// One in each interval; the first may come at once.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            due: None,
        }
    }

    /// The pace changes; what was let through counts, at the faster of both.
    pub fn go_on_at(&mut self, interval: Duration, now: Instant) {
        let faster = interval.div_duration_f64(self.interval).min(1.0);
        let ahead = self.wait(now, Duration::ZERO);
        self.due = Some(now + ahead.mul_f64(faster));
        self.interval = interval;
    }

    /// Lets one more through where it is no further ahead of the even pace than `tolerance`.
    ///
    /// # Errors
    /// Where it would be.
    pub fn take(&mut self, now: Instant, tolerance: Duration) -> Result<(), Exceeded> {
        let wait = self.wait(now, tolerance);
        if !wait.is_zero() {
            return Err(Exceeded { retry_after: wait });
        }
        let at = self.due.map_or(now, |due| due.max(now));
        self.due = Some(at + self.interval);
        Ok(())
    }

    /// How long until one more may come; zero: now.
    #[must_use]
    pub fn wait(&self, now: Instant, tolerance: Duration) -> Duration {
        let ahead = self
            .due
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        ahead.saturating_sub(tolerance)
    }
}

impl Drop for Slot {
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
            Some(Exceeded {
                retry_after: Duration::from_millis(milliseconds),
            })
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
        assert_eq!(
            limits.enter(now).err().map(|exceeded| exceeded.retry_after),
            Some(IN_FLIGHT_PAUSE)
        );
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
    fn no_limit_costs_nothing() {
        let none = config::Limits {
            in_flight: None,
            per_second: None,
            connections: None,
        };
        assert!(Limits::new(none).is_none());
    }
}
