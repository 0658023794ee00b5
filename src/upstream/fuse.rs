//! Is a provider worth a connection now? Its breaker, where the configuration has one.
//!
//! What counts is whether it can be reached and answers at all: refused, broken and timed out
//! connections, and answers that do not come. A 5xx is an answer, and may be one request's own.
//! Requests write the breaker under its lock, never across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

use bursar_config::BreakerLimits;
use bursar_limits::circuit_breaker::{Breaker, Passage};

/// One provider's.
#[derive(Debug)]
pub(super) struct Fuse {
    provider: Arc<str>,
    breaker: Mutex<Breaker>,
    pause: Duration,
}

/// A request that may try. Dropped without a result, it is as if it had not tried.
#[derive(Debug)]
pub(super) struct Attempt {
    fuse: Arc<Fuse>,
    is_probe: bool,
    is_settled: bool,
}

impl Fuse {
    pub(super) fn new(provider: &Arc<str>, limits: BreakerLimits, open: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            provider: provider.clone(),
            breaker: Mutex::new(Breaker::new(limits.failures.get(), open)),
            pause: limits.pause,
        })
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request try, or says when to come back.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Result<Attempt, Duration> {
        let mut breaker = self.breaker();
        if let Some(pause) = breaker.held_for(now) {
            return Err(pause);
        }
        let is_probe = breaker.passage(now, true) == Passage::Probe;
        if is_probe {
            breaker.probe();
        }
        Ok(Attempt {
            fuse: self.clone(),
            is_probe,
            is_settled: false,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.breaker().is_open()
    }
}

impl Attempt {
    /// The provider answered, or could not be reached.
    pub(super) fn settle(mut self, is_reached: bool) {
        self.is_settled = true;
        let Fuse {
            provider, pause, ..
        } = &*self.fuse;
        let mut breaker = self.fuse.breaker();
        let is_news = match is_reached {
            true => breaker.succeeded(),
            false => breaker.failed(self.is_probe, Instant::now(), |_earlier| (*pause).into()),
        };
        drop(breaker);
        if !is_news {
            return;
        }
        if is_reached {
            tracing::info!(%provider, "the provider can be reached again");
        } else {
            tracing::warn!(%provider, "the provider cannot be reached; requests are refused, and one is tried after each pause");
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
            self.fuse.breaker().give_up();
        }
    }
}
