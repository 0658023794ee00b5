//! Totals since the start, all providers, callers and accounts together.

use prometheus::IntCounterVec;
use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily};

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that are over.
    pub requests: u64,
    /// 401s of providers that no caller saw.
    pub absorbed: u64,
    /// Responses of Bursar's own, and responses that it cut off.
    pub refusals: u64,
    /// Requests that moved money and were in doubt when they were over.
    pub in_doubt: u64,
}

impl Totals {
    /// What was counted since then.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(then.requests),
            absorbed: self.absorbed.saturating_sub(then.absorbed),
            refusals: self.refusals.saturating_sub(then.refusals),
            in_doubt: self.in_doubt.saturating_sub(then.in_doubt),
        }
    }
}

/// The sum of those series that are meant.
pub(super) fn sum(counters: &IntCounterVec, is_meant: impl Fn(&Metric) -> bool) -> u64 {
    let families = counters.collect();
    let metrics = families.iter().flat_map(MetricFamily::get_metric);
    let meant = metrics.filter(|metric| is_meant(metric));
    // Whole numbers, exact up to 2^53.
    let sum: f64 = meant.map(|metric| metric.get_counter().get_value()).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a counter is a whole number that only grows"
    )]
    let sum = sum as u64;
    sum
}
