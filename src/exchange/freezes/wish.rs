//! Wish of an operator to freeze or to thaw a provider, and the decision that it comes to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::end::End;
use super::merge::Held;
use bursar_base::clock;
use bursar_base::decision::Decision;

/// What an operator asks for.
#[derive(Debug)]
pub struct Wish {
    /// To freeze, or to thaw.
    pub is_frozen: bool,
    /// For how long to freeze. None: until a thaw.
    pub time: Option<Duration>,
    /// Who asks.
    pub by: Option<Box<str>>,
    /// Why.
    pub reason: Option<Box<str>>,
}

impl Wish {
    /// What is decided now. A freeze of what is frozen goes on since then, and says who and why where it has a reason to
    /// give; where it changes the end alone, it says who.
    pub(super) fn decide(self, before: Option<Held>) -> Held {
        // As precise as the store has it.
        let made_at = milliseconds(clock::wall());
        let made = Instant::now();
        let after = before
            .as_ref()
            .map_or(0, |held| held.number.unwrap_or(held.after));
        let time = self.time.filter(|_| self.is_frozen);
        let frozen = before.filter(|before| before.is_frozen() && self.is_frozen);
        let frozen = frozen.map(|held| held.decision);
        let decision = match frozen {
            Some(before) if self.reason.is_none() && time.is_none() && before.until.is_none() => {
                before
            }
            before => self.decision(before, made_at),
        };
        Held {
            decision,
            ends: time.and_then(|time| made.checked_add(time)).map(End::at),
            has_ended: false,
            ends_by_wall_clock: false,
            made,
            made_at,
            number: None,
            after,
        }
    }

    /// `before` is a freeze that goes on.
    fn decision(self, before: Option<Decision>, now: SystemTime) -> Decision {
        let time = self.time.filter(|_| self.is_frozen);
        let (since, earlier) = before.map(|before| (before.since, before.reason)).unzip();
        Decision {
            is_frozen: self.is_frozen,
            since: since.unwrap_or(now),
            until: time.and_then(|time| now.checked_add(time)),
            by: self.by,
            reason: self.reason.or(earlier.flatten()),
        }
    }
}

fn milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = u64::try_from(since.as_millis()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(is_frozen: bool, time: Option<u64>, by: &str, reason: Option<&str>) -> Wish {
        Wish {
            is_frozen,
            time: time.map(Duration::from_secs),
            by: Some(by.into()),
            reason: reason.map(Into::into),
        }
    }

    fn said(held: &Held) -> (Option<&str>, Option<&str>, Option<Duration>) {
        let decision = &held.decision;
        let time = |until: SystemTime| until.duration_since(held.made_at).unwrap();
        let (by, reason) = (decision.by.as_deref(), decision.reason.as_deref());
        (by, reason, decision.until.map(time))
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_that_goes_on_says_who_and_why_where_it_changes_something() {
        let first = wish(true, None, "ann", Some("#17")).decide(None);
        assert_eq!(said(&first), (Some("ann"), Some("#17"), None));
        let same = wish(true, None, "bob", None).decide(Some(first.clone()));
        assert_eq!(same.decision, first.decision);
        let half = Some(Duration::from_secs(1800));
        let shorter = wish(true, Some(1800), "bob", None).decide(Some(first.clone()));
        assert_eq!(said(&shorter), (Some("bob"), Some("#17"), half));
        assert_eq!(shorter.decision.since, first.decision.since);
        let left = shorter.ends.unwrap().left(Instant::now());
        let (least, most) = (Duration::from_secs(1799), Duration::from_secs(1800));
        assert!((least..=most).contains(&left), "{left:?}");
        // Whoever says no time means that it does not end.
        let on = wish(true, None, "eve", None).decide(Some(shorter.clone()));
        assert_eq!(said(&on), (Some("eve"), Some("#17"), None));
        assert_eq!(on.ends, None);
        let thawed = wish(false, None, "eve", None).decide(Some(shorter.clone()));
        assert_eq!(said(&thawed), (Some("eve"), None, None));
        // What has ended does not go on.
        let ended = Held {
            has_ended: true,
            number: Some(7),
            ..shorter
        };
        let again = wish(true, None, "bob", None).decide(Some(ended));
        assert_eq!((said(&again), again.after), ((Some("bob"), None, None), 7));
        assert_eq!(again.decision.since, again.made_at);
    }
}
