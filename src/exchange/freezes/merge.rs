//! Merge of this instance's decision on a provider with the fleet's: which of the two holds.
//!
//! The one with the higher number does, and numbers are instants of the store's clock. So every instance that reads the
//! store comes to the same, in whatever order it hears of them.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::end::End;
use bursar_base::decision::Decision;
use bursar_fleet::NumberedDecision;

/// Two ends that are no further apart are one: each was counted from another reading of a clock.
pub(super) const SAME_END: Duration = Duration::from_secs(1);

/// A decision, as this instance has it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) decision: Decision,
    /// When a freeze ends by itself.
    pub(super) ends: Option<End>,
    /// Whether it has.
    pub(super) has_ended: bool,
    /// Whether that was counted by the wall clock, as after a restart: the store's clock knows better.
    pub(super) ends_by_wall_clock: bool,
    /// When it was made, or this instance was told.
    pub(super) made: Instant,
    /// The same for people, and for after a restart.
    pub(super) made_at: SystemTime,
    /// Its number in the fleet's store. None: it is not known to be there.
    pub(super) number: Option<u64>,
    /// The number of the one before, as far as it was known here.
    pub(super) after: u64,
}

impl Held {
    /// Whether it freezes now.
    pub(super) fn is_frozen(&self) -> bool {
        self.decision.is_frozen && !self.has_ended
    }
}

/// What is known of a provider here and in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Both<'a> {
    pub(super) own: &'a Held,
    /// When that was made, by the store's clock.
    pub(super) made: u64,
    /// Whether somebody makes it just now: then it is later than whatever the store has.
    pub(super) is_attended: bool,
    pub(super) found: Option<&'a NumberedDecision>,
    /// When that ends.
    pub(super) found_ends: Option<End>,
    /// Whether the store has this instance's where it is looked for first.
    pub(super) is_written: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Both say the same.
    Nothing,
    /// The fleet's holds.
    Adopt,
    /// This instance's holds, and is to be written with that number.
    Write(u64),
}

impl Both<'_> {
    pub(super) fn step(self) -> Step {
        let own = self.own;
        let number = own.number.unwrap_or_else(|| {
            let before = self.found.filter(|_| self.is_attended);
            let before = before.map_or(0, |found| found.number);
            self.made.max(own.after.max(before).saturating_add(1))
        });
        // Of two with one number the freeze holds.
        let rank = (number, own.decision.is_frozen);
        match self.found {
            Some(found) if (found.number, found.decision.is_frozen) > rank => Step::Adopt,
            Some(found) if own.number == Some(found.number) && self.has_other_end() => Step::Adopt,
            Some(_) if self.is_written && own.number.is_some() => Step::Nothing,
            Some(_) | None => Step::Write(number),
        }
    }

    /// Whether the store says that this freeze ends at another time than its journal does.
    fn has_other_end(self) -> bool {
        let (own, now) = (self.own, Instant::now());
        let is_other = match (own.ends, self.found_ends) {
            (Some(own), Some(found)) => own.left(now).abs_diff(found.left(now)) > SAME_END,
            (own, found) => own.is_some() != found.is_some(),
        };
        own.decision.is_frozen && own.ends_by_wall_clock && is_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(is_frozen: bool) -> Decision {
        Decision {
            is_frozen,
            since: SystemTime::UNIX_EPOCH,
            until: None,
            by: None,
            reason: None,
        }
    }

    fn held(is_frozen: bool, number: Option<u64>) -> Held {
        Held {
            decision: decision(is_frozen),
            ends: None,
            has_ended: false,
            ends_by_wall_clock: false,
            made: Instant::now(),
            made_at: SystemTime::UNIX_EPOCH,
            number,
            after: 40,
        }
    }

    fn numbered((number, is_frozen): (u64, bool)) -> NumberedDecision {
        NumberedDecision {
            number,
            decision: decision(is_frozen),
            ends: None,
        }
    }

    fn step(own: &Held, made: u64, found: Option<(u64, bool)>) -> Step {
        let found = found.map(numbered);
        let both = Both {
            own,
            made,
            is_attended: false,
            found: found.as_ref(),
            found_ends: None,
            is_written: true,
        };
        both.step()
    }

    #[test]
    fn the_later_decision_holds_and_of_two_at_once_the_freeze() {
        for (own, found, expected) in [
            ((true, 50), (51, false), Step::Adopt),
            ((true, 50), (49, false), Step::Nothing),
            ((true, 50), (50, false), Step::Nothing),
            ((false, 50), (50, true), Step::Adopt),
            ((false, 50), (50, false), Step::Nothing),
        ] {
            let own = held(own.0, Some(own.1));
            assert_eq!(step(&own, 0, Some(found)), expected, "{own:?} {found:?}");
        }
    }

    #[test]
    fn a_store_that_has_nothing_gets_what_is_known_with_its_number() {
        for is_frozen in [true, false] {
            assert_eq!(step(&held(is_frozen, Some(50)), 90, None), Step::Write(50));
            assert_eq!(step(&held(is_frozen, None), 90, None), Step::Write(90));
        }
    }

    #[test]
    fn what_was_decided_in_an_outage_is_older_than_what_the_fleet_decided_after_it() {
        let own = held(true, None);
        assert_eq!(step(&own, 90, Some((91, false))), Step::Adopt);
        assert_eq!(step(&own, 90, Some((89, false))), Step::Write(90));
        // The clock of another server is behind: it still follows what was known when it was made.
        assert_eq!(step(&own, 30, Some((40, false))), Step::Write(41));
    }

    #[test]
    fn what_is_decided_now_is_later_than_all_that_the_store_has() {
        let own = held(false, None);
        let found = numbered((1000, true));
        let both = Both {
            own: &own,
            made: 90,
            is_attended: true,
            found: Some(&found),
            found_ends: None,
            is_written: false,
        };
        assert_eq!(both.step(), Step::Write(1001));
    }

    #[test]
    fn the_store_knows_better_than_a_journal_when_a_freeze_ends_and_nobody_else() {
        let now = Instant::now();
        let at = |seconds| Some(End::at(now + Duration::from_secs(seconds)));
        for (by_wall_clock, own, found, expected) in [
            (true, at(10), at(3600), Step::Adopt),
            (true, at(3600), at(10), Step::Adopt),
            (true, at(10), None, Step::Adopt),
            (true, at(10), at(10), Step::Nothing),
            (true, None, None, Step::Nothing),
            (false, at(10), at(3600), Step::Nothing),
        ] {
            let own = Held {
                ends: own,
                ends_by_wall_clock: by_wall_clock,
                ..held(true, Some(50))
            };
            let both = |number| {
                let same = numbered((number, true));
                let both = Both {
                    own: &own,
                    made: 0,
                    is_attended: false,
                    found: Some(&same),
                    found_ends: found,
                    is_written: true,
                };
                both.step()
            };
            assert_eq!(both(50), expected, "{own:?}");
            assert_eq!(both(49), Step::Nothing, "{own:?}");
        }
    }
}
