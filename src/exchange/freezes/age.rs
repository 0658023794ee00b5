//! Age of a decision that the journal has, which knows wall time alone, and the wall times of one that it is to have, or
//! that somebody is shown.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::merge::{Held, SAME_END};
use bursar_base::decision::Decision;
use bursar_journal::KeptDecision;

/// So far from where it was the system's clock is another one.
const CLOCK_SET: Duration = Duration::from_secs(2);
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

/// A decision of the fleet with the wall times of this instance, for people and for after a restart: whoever decided may
/// have another clock. Its end is known by the store's; since when it holds is as long before that as he said.
pub(super) fn by_own_clock(
    mut decision: Decision,
    ends: Option<Instant>,
    now: Instant,
    wall: SystemTime,
) -> Decision {
    let until = ends.and_then(|ends| match ends.checked_duration_since(now) {
        Some(left) => wall.checked_add(left),
        None => wall.checked_sub(now - ends),
    });
    match (decision.until, until) {
        (Some(said), Some(own)) if apart(said, own) > SAME_END => {
            let lasts = said.duration_since(decision.since).unwrap_or_default();
            decision.since = own.checked_sub(lasts).unwrap_or(decision.since);
            decision.until = Some(own);
        }
        (Some(_), Some(_)) => {}
        (_, until) => decision.until = until,
    }
    decision
}

/// A decision with its end by the clock as it is now: it may have been set since.
pub(super) fn as_shown(held: Held, now: Instant, wall: SystemTime) -> Decision {
    let mut decision = held.decision;
    let end = held.ends.and_then(|end| wall.checked_add(end.left(now)));
    if let (Some(until), Some(end)) = (&mut decision.until, end)
        && apart(*until, end) >= CLOCK_SET
    {
        *until = end;
    }
    decision
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    let forward = one.duration_since(other);
    forward.unwrap_or_else(|backward| backward.duration())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::freezes::wish::Wish;

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

    #[tokio::test]
    async fn a_freeze_from_an_instance_with_another_clock_has_the_times_of_this_one() {
        let (now, wall) = (
            Instant::now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        );
        let seconds = Duration::from_secs;
        let freeze = |since: SystemTime, until| Decision {
            is_frozen: true,
            since,
            until,
            by: None,
            reason: None,
        };
        let hour = seconds(3600);
        let own = |decision, ends| by_own_clock(decision, ends, now, wall);
        for theirs in [wall - 3 * hour, wall + 3 * hour] {
            let said = freeze(theirs, Some(theirs + hour));
            let live = own(said.clone(), Some(now + hour - seconds(4)));
            let expected = wall - seconds(4);
            assert_eq!(live, freeze(expected, Some(expected + hour)));
            let past = own(said, Some(now - seconds(4)));
            assert_eq!(past.until, Some(wall - seconds(4)));
        }
        // A clock that is as good as the same changes nothing.
        let said = freeze(wall, Some(wall + hour));
        assert_eq!(own(said.clone(), Some(now + hour + seconds(1))), said);
        // What has no end by the store's clock has none.
        assert_eq!(own(said, None).until, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_freeze_is_shown_by_the_clock_as_it_is_now() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let wish = Wish {
            is_frozen: true,
            time: Some(minutes(30)),
            by: None,
            reason: None,
        };
        let held = wish.decide(None);
        let until = |wall| as_shown(held.clone(), Instant::now(), wall).until.unwrap();
        let wall = held.made_at;
        assert_eq!(until(wall), held.decision.until.unwrap());
        // It was set back, and on.
        for now in [wall - minutes(480), wall + minutes(480)] {
            let end = until(now);
            assert!(apart(end, now + minutes(30)) < Duration::from_secs(1));
        }
    }
}
