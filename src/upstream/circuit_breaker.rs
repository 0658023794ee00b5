//! Circuit breaker of a provider, where its configuration has one: whether it is worth a connection now.
//!
//! What counts is whether it can be reached and answers at all: refused, broken and timed out
//! connections, and responses that do not come. A 5xx is a response, and may be one request's own.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

use bursar_config::BreakerLimits;
use bursar_limits::circuit_breaker::{self, CircuitBreaker};

/// One provider's; all its workers share it.
#[derive(Debug, Clone)]
pub(super) struct ProviderBreaker {
    provider: Arc<str>,
    breaker: Arc<CircuitBreaker>,
    pause: Duration,
}

/// Leave for a request to try. Dropped without a result, it is as if it had not tried.
pub(super) type Permit = circuit_breaker::Permit<Arc<CircuitBreaker>>;

impl ProviderBreaker {
    pub(super) fn new(provider: &Arc<str>, limits: BreakerLimits, open: IntGauge) -> Self {
        Self {
            provider: provider.clone(),
            breaker: Arc::new(CircuitBreaker::new(limits.failures.get(), open)),
            pause: limits.pause,
        }
    }

    /// Lets a request try, or says when to come back.
    pub(super) fn acquire(&self, now: Instant) -> Result<Permit, Duration> {
        let permit = CircuitBreaker::acquire(self.breaker.clone(), now, true);
        permit.map_err(|open| open.retry_after(now))
    }

    /// The provider answered the request that had the permit, or could not be reached.
    pub(super) fn record(&self, permit: Permit, is_reached: bool) {
        let is_news = match is_reached {
            true => permit.succeeded(),
            false => permit.failed(Instant::now(), |_earlier| self.pause.into()),
        };
        let provider = &self.provider;
        match is_reached {
            _ if !is_news => {}
            true => tracing::info!(%provider, "the provider can be reached again"),
            false => {
                tracing::warn!(%provider, "the provider cannot be reached; requests are refused, and one is tried after each pause");
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }
}
