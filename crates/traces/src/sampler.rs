//! The sampler: which requests have spans.
//!
//! A caller's word counts only where the caller is known: anybody else could have every request of its own recorded, or
//! put spans into traces of others.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::context::{Parent, SpanContext};
use bursar_config::Traces;
use bursar_limits::rate_limiter::RateLimiter;

/// Decides for one configuration.
#[derive(Debug)]
pub(crate) struct Sampler {
    ratio: f64,
    /// Locked for requests that would be sampled alone.
    limiter: Mutex<RateLimiter>,
    /// A second's requests may come at once.
    tolerance: Duration,
}

/// A request that is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampled {
    /// Of its own span.
    pub(crate) context: SpanContext,
    /// The span of its caller that it belongs to; None: it begins a trace.
    pub(crate) parent: Option<u64>,
}

impl Sampler {
    pub(crate) fn new(config: &Traces) -> Self {
        let interval = Duration::from_secs(1) / config.per_second.get();
        Self {
            ratio: config.ratio,
            limiter: Mutex::new(RateLimiter::new(interval)),
            tolerance: Duration::from_secs(1).saturating_sub(interval),
        }
    }

    /// Decides for a request whose caller said that, and is known or not.
    pub(crate) fn sample(
        &self,
        parent: Option<Parent>,
        is_known: bool,
        now: Instant,
    ) -> Option<Sampled> {
        let followed = parent.filter(|_| is_known);
        let is_wanted = followed.is_some_and(|parent| parent.is_sampled)
            || (self.ratio > 0.0 && fastrand::f64() < self.ratio);
        if is_wanted {
            self.sampled(followed, now)
        } else {
            None
        }
    }

    /// One that `per_second` does not allow is none.
    #[cold]
    fn sampled(&self, followed: Option<Parent>, now: Instant) -> Option<Sampled> {
        let taken = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.take(now, self.tolerance)
        };
        taken.ok()?;
        Some(match followed {
            Some(parent) => Sampled {
                context: parent.context.another(),
                parent: Some(parent.context.span_id),
            },
            None => Sampled {
                context: SpanContext::root(),
                parent: None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(ratio: f64, per_second: u32) -> Sampler {
        Sampler::new(&Traces {
            endpoint: "http://127.0.0.1:4318/v1/traces".parse().unwrap(),
            ratio,
            per_second: per_second.try_into().unwrap(),
            tls: None,
        })
    }

    fn parent(is_sampled: bool) -> Parent {
        Parent {
            context: SpanContext {
                trace_id: 7,
                span_id: 8,
            },
            is_sampled,
        }
    }

    #[test]
    fn a_sampled_parent_is_followed_for_known_callers_and_for_nobody_else() {
        let sampler = sampler(0.0, 100);
        let now = Instant::now();
        let sampled = sampler.sample(Some(parent(true)), true, now).unwrap();
        assert_eq!((sampled.context.trace_id, sampled.parent), (7, Some(8)));
        assert!(sampled.context.span_id != 8);
        assert_eq!(sampler.sample(Some(parent(true)), false, now), None);
        assert_eq!(sampler.sample(Some(parent(false)), true, now), None);
        assert_eq!(sampler.sample(None, true, now), None);
    }

    #[test]
    fn what_the_ratio_picks_stays_in_the_trace_of_a_known_caller_and_begins_one_for_others() {
        let sampler = sampler(1.0, 100);
        let now = Instant::now();
        let known = sampler.sample(Some(parent(false)), true, now).unwrap();
        assert_eq!((known.context.trace_id, known.parent), (7, Some(8)));
        for unknown in [Some(parent(true)), None] {
            let sampled = sampler.sample(unknown, false, now).unwrap();
            assert!(sampled.context.trace_id != 7 && sampled.parent.is_none());
        }
    }

    #[test]
    fn the_ratio_is_that_of_sampled_requests() {
        let sampler = sampler(0.25, 1_000_000);
        let now = Instant::now();
        let count = (0..10_000).filter(|_| sampler.sample(None, false, now).is_some());
        let count = count.count();
        assert!((2200..2800).contains(&count), "{count}");
    }

    #[test]
    fn no_more_are_sampled_in_a_second_than_may_be_whoever_asks_for_it() {
        let sampler = sampler(1.0, 10);
        let now = Instant::now();
        let count = |now| {
            let asked = (0..50).filter(|at| {
                let parent = (at % 2 == 0).then(|| parent(true));
                sampler.sample(parent, true, now).is_some()
            });
            asked.count()
        };
        assert_eq!(count(now), 10);
        assert_eq!(count(now), 0);
        assert_eq!(count(now + Duration::from_millis(500)), 5);
        assert_eq!(count(now + Duration::from_secs(60)), 10);
    }
}
