//! Outage of the store where each new token ends the one before: who still asks the token endpoint, decided from how long
//! the store has been away and what has become of the token.
//!
//! Nobody knows in an outage whether others still reach the store and ask under its lease. So whoever asks without it
//! does that as late and as seldom as its requests allow.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A lost connection is tried again after a second at most: so long somebody without a token that can be used waits for
/// that.
pub(super) const RECONNECT: Duration = Duration::from_secs(2);

/// Whoever asks without the store, and has a token refused that nobody else in the fleet knows of, asks no sooner than
/// this after that one: if somebody else in the fleet revokes it, each call ends that one's token, too; if somebody outside
/// does, there is no token until then.
pub(super) const ALONE_AGAIN: Duration = Duration::from_secs(60);

/// What there is to decide from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    /// How long the store has been away.
    pub(super) away_for: Duration,
    /// How long others may have a lease that was taken before.
    pub(super) lease_time: Duration,
    /// Whose the current token is.
    pub(super) asker: Asker,
    /// What has become of it.
    pub(super) current: Current,
    /// How long ago it was issued.
    pub(super) age: Duration,
}

/// Since when the store is of no use to one flight without a break, although it is connected.
#[derive(Debug, Default)]
pub(super) struct NoUse(Mutex<Option<Instant>>);

impl NoUse {
    /// It is of no use now.
    pub(super) fn since(&self, now: Instant) -> Instant {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since.get_or_insert(now)
    }

    /// It was of use: what it said of leases holds from now on.
    pub(super) fn is_over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Who asked for the current token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// Another instance, or nobody.
    Other,
    /// This one, and the fleet had it.
    Own,
    /// This one, without the store, which has not had it since: nobody else has it.
    Alone,
}

/// What has become of the current token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Current {
    /// Requests are sent with it.
    Usable,
    /// The provider refuses it before its end.
    Refused,
    /// It has ended, or there was none.
    Ended,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the endpoint.
    Ask,
    /// Leave it to others.
    Hold,
    /// Wait for the store, until [`RECONNECT`] is over.
    Wait,
}

impl Outage {
    /// What follows.
    pub(super) fn action(self) -> Action {
        let may_be_leased = self.away_for < self.lease_time;
        match (self.current, self.asker) {
            // Nothing is missing yet.
            (Current::Usable, _) if may_be_leased => Action::Hold,
            // Whoever needs one is told at once.
            (Current::Ended, Asker::Other) => Action::Hold,
            (Current::Refused | Current::Ended, _) if self.away_for < RECONNECT => Action::Wait,
            (_, Asker::Other) => Action::Hold,
            // Somebody who reaches the store has obtained another one, perhaps, which the next one would end.
            (Current::Refused, Asker::Own) if may_be_leased => Action::Hold,
            // Certainly, or somebody outside of the fleet.
            (Current::Refused, Asker::Alone) if self.age < ALONE_AGAIN => Action::Hold,
            (_, Asker::Own | Asker::Alone) => Action::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_of_use_in_between_is_away_for_no_longer_than_since_then() {
        let no_use = NoUse::default();
        let begun = Instant::now();
        let later = begun + RECONNECT;
        assert_eq!(no_use.since(begun), begun);
        assert_eq!(no_use.since(later), begun);
        no_use.is_over();
        assert_eq!(no_use.since(later), later);
    }

    #[test]
    fn who_asked_last_goes_on_alone_when_nobody_can_have_a_lease_any_more_or_there_is_no_token() {
        let lease_time = Duration::from_secs(12);
        let after = |seconds, asker, current| {
            let away_for = Duration::from_secs_f64(seconds);
            let outage = Outage {
                away_for,
                lease_time,
                asker,
                current,
                age: Duration::from_secs_f64(seconds),
            };
            outage.action()
        };
        use {Action::*, Asker::*, Current::*};
        for asker in [Other, Own, Alone] {
            assert_eq!(after(11.9, asker, Usable), Hold);
            assert_eq!(after(1.9, asker, Refused), Wait);
        }
        assert_eq!(after(1.9, Other, Ended), Hold);
        for current in [Usable, Refused, Ended] {
            assert_eq!(after(100.0, Other, current), Hold);
        }
        for asker in [Own, Alone] {
            assert_eq!(after(1.9, asker, Ended), Wait);
            assert_eq!(after(2.1, asker, Ended), Ask);
            assert_eq!(after(12.1, asker, Usable), Ask);
        }
        assert_eq!(after(11.9, Own, Refused), Hold);
        assert_eq!(after(12.1, Own, Refused), Ask);
        assert_eq!(after(59.9, Alone, Refused), Hold, "a fight");
        assert_eq!(after(60.1, Alone, Refused), Ask);
    }
}
