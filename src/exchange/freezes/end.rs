//! End of a freeze that ends by itself, by a clock that goes on while the machine is suspended and that nobody sets.
//!
//! Timers and [`Instant`] stand still in that time. The wall clock does not, but it may be set: forward, a freeze would end
//! too soon, and backward too late.

use std::time::Duration;

use tokio::time::Instant;

use bursar_base::clock;

/// When it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    at: Instant,
    /// For how long the machine had been suspended when that was said.
    suspended: Duration,
}

impl End {
    /// At that instant, unless the machine is suspended meanwhile.
    pub(super) fn at(at: Instant) -> Self {
        let suspended = clock::suspended();
        Self { at, suspended }
    }

    /// How long it is until then; zero: it is over.
    pub(super) fn left(self, now: Instant) -> Duration {
        self.left_after(now, clock::suspended())
    }

    fn left_after(self, now: Instant, suspended: Duration) -> Duration {
        let left = self.at.saturating_duration_since(now);
        left.saturating_sub(suspended.saturating_sub(self.suspended))
    }

    pub(super) fn is_over(self, now: Instant) -> bool {
        self.left(now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_machine_was_suspended_counts() {
        let now = Instant::now();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let end = End {
            at: now + minutes(30),
            suspended: minutes(7),
        };
        for (passed, suspended, left) in [
            (0, 7, 30),
            (10, 7, 20),
            (10, 12, 15),
            (10, 27, 0),
            (0, 600, 0),
            (31, 7, 0),
        ] {
            let left_then = end.left_after(now + minutes(passed), minutes(suspended));
            assert_eq!(left_then, minutes(left), "{passed} {suspended}");
        }
    }
}
