//! Age of a decision that the journal has, which knows wall time alone.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use bursar_journal::KeptDecision;

/// Longer than decisions wait for a store.
const LONG_AGO: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When it was made. Where the clock was set back since, that cannot be told: a freeze is then as new as it can be, and a
/// thaw as old.
pub(super) fn made(kept: &KeptDecision, now: Instant, wall: SystemTime) -> Instant {
    match wall.duration_since(kept.made) {
        Ok(age) => now.checked_sub(age).unwrap_or(now),
        Err(_later) if kept.decision.is_frozen => now,
        Err(_later) => now.checked_sub(LONG_AGO).unwrap_or(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bursar_base::decision::Decision;

    #[tokio::test]
    async fn a_clock_that_was_set_back_makes_a_freeze_of_the_journal_new_and_a_thaw_old() {
        let (now, wall) = (
            Instant::now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        );
        let age = |is_frozen, at: SystemTime| {
            let kept = KeptDecision {
                provider: "acme".to_owned(),
                decision: Decision {
                    is_frozen,
                    since: at,
                    until: None,
                    by: None,
                    reason: None,
                },
                made: at,
                number: None,
                after: 0,
            };
            now.duration_since(made(&kept, now, wall))
        };
        let minute = Duration::from_secs(60);
        for is_frozen in [true, false] {
            assert_eq!(age(is_frozen, wall - minute), minute);
        }
        assert_eq!(age(true, wall + minute), Duration::ZERO);
        assert_eq!(age(false, wall + minute), LONG_AGO);
    }
}
