//! A rate limiter: one thing in each interval, by the generic cell rate algorithm (ITU-T I.371).

use std::time::Duration;

use tokio::time::Instant;

/// Lets one thing through in each interval. Its one state is when the
/// next one would be due at an even pace.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    due: Option<Instant>,
}

/// The caller has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit is exceeded")]
pub struct Exceeded {
    /// For so long, probably.
    pub retry_after: Duration,
}

impl RateLimiter {
    /// One in each interval; the first may come at once.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            due: None,
        }
    }

    /// The even pace.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    /// The pace changes; what was let through counts, at the faster of both.
    pub fn go_on_at(&mut self, interval: Duration, now: Instant) {
        let faster = interval.div_duration_f64(self.interval).min(1.0);
        let ahead = self.wait(now, Duration::ZERO);
        self.due = Some(now + ahead.mul_f64(faster));
        self.interval = interval;
    }

    /// The pace changes, and so does how far ahead of it things are.
    pub fn change(&mut self, interval: Duration, ahead: Duration, now: Instant) {
        self.due = Some(now + ahead);
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
