//! The sampler: which requests have spans.
//!
//! A caller's word counts only where the caller is known: anybody else could have every request of its own recorded, or
//! put spans into traces of others. Nor can strangers use up what known callers are sampled by: theirs is a small share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::context::{Parent, SpanContext};
use bursar_config::Traces;
use bursar_limits::rate_limiter::RateLimiter;

/// Of what may be sampled, as much is for requests without a known caller, where there are known ones: one in so many.
const SHARE_OF_STRANGERS: u32 = 10;

/// Decides for one configuration.
#[derive(Debug)]
pub(crate) struct Sampler {
    ratio: f64,
    /// Locked for requests that would be sampled alone.
    limits: Mutex<Limits>,
}

/// How many requests may be sampled.
#[derive(Debug)]
struct Limits {
    all: Limit,
    /// None: nobody is known, so that nobody is a stranger.
    strangers: Option<Limit>,
}

/// A second's requests may come at once.
#[derive(Debug)]
struct Limit {
    limiter: RateLimiter,
    tolerance: Duration,
}

impl Limit {
    /// One in each interval.
    fn new(interval: Duration) -> Self {
        Self {
            limiter: RateLimiter::new(interval),
            tolerance: Duration::from_secs(1).saturating_sub(interval),
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        self.limiter.take(now, self.tolerance).is_ok()
    }
}

impl Limits {
    fn take(&mut self, is_known: bool, now: Instant) -> bool {
        let strangers = self.strangers.as_mut().filter(|_| !is_known);
        strangers.is_none_or(|strangers| strangers.take(now)) && self.all.take(now)
    }
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
        let of_strangers = || Limit::new(interval * SHARE_OF_STRANGERS);
        Self {
            ratio: config.ratio,
            limits: Mutex::new(Limits {
                all: Limit::new(interval),
                strangers: config.has_callers.then(of_strangers),
            }),
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
            self.sampled(followed, is_known, now)
        } else {
            None
        }
    }

    /// One that `per_second` does not allow is none.
    #[cold]
    fn sampled(&self, followed: Option<Parent>, is_known: bool, now: Instant) -> Option<Sampled> {
        let is_allowed = {
            let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
            limits.take(is_known, now)
        };
        is_allowed.then(|| match followed {
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

    fn of(ratio: f64, per_second: u32, has_callers: bool) -> Sampler {
        Sampler::new(&Traces {
            endpoint: "http://127.0.0.1:4318/v1/traces".parse().unwrap(),
            ratio,
            per_second: per_second.try_into().unwrap(),
            has_callers,
            tls: None,
        })
    }

    fn sampler(ratio: f64, per_second: u32) -> Sampler {
        of(ratio, per_second, true)
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
        let sampler = of(0.25, 1_000_000, false);
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

    /// How many of so many requests without a known caller are sampled.
    fn strangers(sampler: &Sampler, count: usize, now: Instant) -> usize {
        let asked = (0..count).filter(|_| sampler.sample(None, false, now).is_some());
        asked.count()
    }

    #[test]
    fn strangers_leave_nine_tenths_to_known_callers_and_no_more_are_sampled_than_may_be() {
        let sampler = sampler(1.0, 20);
        let now = Instant::now();
        let known = |now| {
            let asked = (0..100).filter(|_| sampler.sample(None, true, now).is_some());
            asked.count()
        };
        assert_eq!(strangers(&sampler, 1000, now), 2);
        assert_eq!(known(now), 18);
        let later = now + Duration::from_secs(60);
        assert_eq!(known(later), 20);
        assert_eq!(strangers(&sampler, 1000, later), 0);
    }

    #[test]
    fn strangers_share_what_is_less_than_one_in_a_second() {
        let sampler = sampler(1.0, 2);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let sampled = (0..20).map(|second| strangers(&sampler, 50, at(second)));
        assert_eq!(sampled.sum::<usize>(), 4);
    }

    #[test]
    fn where_nobody_can_be_known_nobody_is_a_stranger() {
        let sampler = of(1.0, 20, false);
        assert_eq!(strangers(&sampler, 1000, Instant::now()), 20);
    }
}
