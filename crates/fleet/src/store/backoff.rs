//! Backoff between attempts to connect, with jitter: instances that lost one store do not all come back at once.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Kind;

/// A connection that has lasted as long was good; the next attempt follows at once.
const GOOD: Duration = Duration::from_secs(2);
/// At once, but not for all instances at the same time.
const FIRST: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(1);
/// Where a person has to do something first.
const LASTING: Duration = Duration::from_secs(5);

/// Attempts that failed in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after that. `up_since`: since when it had been in use.
    pub(super) fn pause(&mut self, why: Kind, up_since: Option<Instant>) -> Duration {
        if up_since.is_some_and(|since| since.elapsed() >= GOOD) {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        let whole = match (why.lasts(), failures) {
            (true, _) => return LASTING + LASTING.mul_f64(fastrand::f64() / 10.0),
            (false, 0) => return FIRST.mul_f64(fastrand::f64()),
            (false, failures) => SHORTEST * 2_u32.saturating_pow(failures - 1).min(16),
        };
        // Between its half and its whole.
        (whole.min(LONGEST))
            .mul_f64(0.5 + fastrand::f64() / 2.0)
            .max(SHORTEST)
    }

    /// Which attempt in a row the next one is.
    pub(super) const fn attempt(&self) -> usize {
        self.failures as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_follow_soon_and_then_slowly_and_few_where_a_person_is_needed() {
        let mut backoff = Backoff::default();
        assert!(backoff.pause(Kind::Disconnected, None) <= FIRST);
        for _ in 0..100 {
            let pause = backoff.pause(Kind::Unreachable, None);
            assert!((SHORTEST..=LONGEST).contains(&pause), "{pause:?}");
            let pause = backoff.pause(Kind::WrongPassword, None);
            assert!((LASTING..LASTING * 2).contains(&pause), "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_did_not_last_is_no_reason_to_hurry() {
        let mut backoff = Backoff::default();
        let _ = backoff.pause(Kind::Unreachable, None);
        let since = Instant::now();
        assert!(backoff.pause(Kind::Disconnected, Some(since)) >= SHORTEST);
        tokio::time::advance(GOOD).await;
        assert!(backoff.pause(Kind::Disconnected, Some(since)) <= FIRST);
    }
}
