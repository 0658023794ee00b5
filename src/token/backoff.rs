//! Back-off after a token call that failed: a function of what went wrong and how often.

use std::time::Duration;

use super::failure::Failure;
use bursar_limits::circuit_breaker::Pause;

/// From the pause after the first failure to the longest one.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: Duration,
    most: Duration,
}

/// The range of exponential back-off with full jitter.
const BACKOFF: Range = Range {
    least: Duration::from_millis(200),
    most: Duration::from_secs(30),
};
/// The same where somebody waits for the token, so that an outage that is over is noticed.
const AWAITED: Range = Range {
    least: Duration::from_millis(200),
    most: Duration::from_secs(3),
};
/// The same after a call that hung, which took time already.
const AWAITED_AFTER_TIMEOUT: Range = Range {
    least: Duration::from_millis(200),
    most: Duration::from_secs(1),
};
/// The range of the cool-down of an account that is refused.
const COOL_DOWN: Range = Range {
    least: Duration::from_secs(5),
    most: Duration::from_secs(5 * 60),
};
/// Rate limited, but not told for how long.
const RATE_LIMITED: Range = Range {
    least: Duration::from_secs(1),
    most: Duration::from_secs(60),
};
/// A token that is already over is asked for again at most that often.
const ALREADY_EXPIRED: Duration = Duration::from_secs(1);

/// The pause after a failure, `earlier` of which came before it without a success between; `jitter` is
/// from 0 to 1.
pub(super) fn pause(failure: Failure, earlier: u32, jitter: f64) -> Pause {
    let background = background_pause(failure, earlier, jitter);
    match failure.is_transient() && failure != Failure::AlreadyExpired {
        true => {
            let range = match failure {
                Failure::TimedOut => AWAITED_AFTER_TIMEOUT,
                _ => AWAITED,
            };
            Pause {
                background,
                awaited: background.min(jittered(range, earlier, jitter)),
            }
        }
        // What the endpoint asked for, what a refusal costs, and a token's last second are the same for all.
        false => background.into(),
    }
}

fn background_pause(failure: Failure, earlier: u32, jitter: f64) -> Duration {
    match failure {
        Failure::Rejected(_, asked) => doubled(COOL_DOWN, earlier).max(asked.unwrap_or_default()),
        Failure::RateLimited(Some(asked)) | Failure::LimitedOrRefused(Some(asked)) => {
            asked.max(ALREADY_EXPIRED)
        }
        Failure::RateLimited(None) | Failure::LimitedOrRefused(None) => {
            doubled(RATE_LIMITED, earlier)
        }
        Failure::AlreadyExpired => ALREADY_EXPIRED,
        // One that asks for no time at all is still in trouble.
        Failure::RetryLater(_, asked) => asked.max(jittered(BACKOFF, earlier, jitter)),
        Failure::ErrorStatus(..)
        | Failure::ServerError(_)
        | Failure::TimedOut
        | Failure::NotAllowed(_)
        | Failure::NoConnection(_)
        | Failure::Broken
        | Failure::NoCloseNotify
        | Failure::Malformed(_)
        | Failure::QuotaExhausted
        | Failure::CircuitOpen
        | Failure::LeaseLost
        | Failure::FleetHold => jittered(BACKOFF, earlier, jitter),
    }
}

fn jittered(range: Range, earlier: u32, jitter: f64) -> Duration {
    doubled(range, earlier).mul_f64(jitter.clamp(0.0, 1.0))
}

/// The least, doubled once for each failure, but never above the most.
fn doubled(range: Range, times: u32) -> Duration {
    let doubled = range
        .least
        .saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX));
    doubled.min(range.most)
}

/// Whether two failures in a row are one trouble that lasts.
pub(super) fn is_same_kind(one: Failure, other: Failure) -> bool {
    let kind = |failure| match failure {
        Failure::Rejected(..) => 0,
        Failure::RateLimited(_) | Failure::LimitedOrRefused(_) => 1,
        _ => 2,
    };
    kind(one) == kind(other)
}

impl Failure {
    /// Whether it may be over in a moment, so that a request may as well wait for the next flight.
    pub(super) fn is_transient(self) -> bool {
        !matches!(self, Self::Rejected(..)) && !self.asks_for_pause()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::Detail;

    #[test]
    fn a_cool_down_grows_to_five_minutes() {
        let seconds = |earlier| {
            pause(Failure::Rejected(Detail::Is(""), None), earlier, 0.0)
                .background
                .as_secs()
        };
        assert_eq!([0, 1, 2, 6, 7, 99].map(seconds), [5, 10, 20, 300, 300, 300]);
        // The endpoint may want it longer, not shorter.
        for (asked, expected) in [(0, 5), (7, 7), (900, 900)] {
            let asked = Some(Duration::from_secs(asked));
            let pause = pause(Failure::Rejected(Detail::Is(""), asked), 0, 0.0);
            assert_eq!(
                (pause.background.as_secs(), pause.awaited.as_secs()),
                (expected, expected)
            );
        }
    }

    proptest! {
        #[test]
        fn backoff_stays_in_its_range(earlier: u32, jitter in 0.0..=1.0) {
            let pause = pause(Failure::Broken, earlier, jitter);
            prop_assert!(pause.background <= Duration::from_secs(30));
            prop_assert!(pause.awaited <= pause.background.min(Duration::from_secs(3)));
            let full = super::pause(Failure::Broken, earlier, 1.0);
            prop_assert!(pause.background <= full.background && full.awaited >= Duration::from_millis(200));
        }

        #[test]
        fn no_call_comes_before_the_asked_wait(earlier: u32, asked in 0_u64..900, jitter in 0.0..=1.0) {
            let asked = Duration::from_secs(asked);
            for failure in [
                Failure::RateLimited(Some(asked)),
                Failure::LimitedOrRefused(Some(asked)),
                Failure::RetryLater(503, asked),
            ] {
                let pause = pause(failure, earlier, jitter);
                prop_assert!(pause.background >= asked && pause.awaited >= asked);
            }
        }
    }
}
