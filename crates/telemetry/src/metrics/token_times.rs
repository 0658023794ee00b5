//! Token calls and waits: how long they take, and how often their limits are reached.

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::labels::GrantLabel;
use super::registered::{histogram, registered};

/// Token calls end with `token.timeout`, 10 s unless configured; waits with `token.wait`, 5 s.
const TOKEN_SECONDS: [f64; 11] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// Token calls and waits.
#[derive(Debug, Clone)]
pub struct TokenTimes {
    fetch_duration: HistogramVec,
    pub(super) wait: HistogramVec,
    budget_exhausted: IntCounterVec,
    breaker_open: IntGaugeVec,
}

/// What is counted of one provider's token endpoint.
#[derive(Debug, Clone)]
pub struct EndpointSeries {
    /// Calls that had to wait for the budget.
    pub exhausted: IntCounter,
    /// 1 while calls are held because the endpoint fails.
    pub open: IntGauge,
}

impl TokenTimes {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let exhausted = Opts::new(
            "bursar_token_budget_exhausted_total",
            "Token calls that had to wait, because `token.calls_per_minute` was used up.",
        );
        let open = Opts::new(
            "bursar_token_breaker_open",
            "1 while token calls are held because the token endpoint fails.",
        );
        Ok(Self {
            budget_exhausted: registered(registry, IntCounterVec::new(exhausted, &["provider"])?)?,
            breaker_open: registered(registry, IntGaugeVec::new(open, &["provider"])?)?,
            fetch_duration: histogram(
                registry,
                "bursar_token_fetch_duration_seconds",
                "Calls to token endpoints.",
                &TOKEN_SECONDS,
                &["provider", "grant"],
            )?,
            wait: histogram(
                registry,
                "bursar_token_wait_seconds",
                "Time that requests spent waiting for a token.",
                &TOKEN_SECONDS,
                &["provider"],
            )?,
        })
    }

    /// What is counted of a provider's token endpoint.
    #[must_use]
    pub fn endpoint(&self, provider: &str) -> EndpointSeries {
        EndpointSeries {
            exhausted: self.budget_exhausted.with_label_values(&[provider]),
            open: self.breaker_open.with_label_values(&[provider]),
        }
    }

    /// How long calls with a grant take.
    #[must_use]
    pub fn fetch_duration(&self, provider: &str, grant: GrantLabel) -> Histogram {
        self.fetch_duration
            .with_label_values(&[provider, grant.as_str()])
    }
}
