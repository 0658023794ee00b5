//! Log throttles: what goes wrong with every request is worth one line a minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines that say the same.
pub const PAUSE: Duration = Duration::from_secs(60);
/// As many things are told of in that time. Hosts below a wildcard have no end.
const MAX: usize = 256;

/// One thing that the log is told of.
#[derive(Debug, Default)]
pub struct LogThrottle {
    /// When the last line was written.
    last: Option<Instant>,
    untold: u64,
}

/// Many things, each told of by itself.
#[derive(Debug)]
pub struct LogThrottles<K>(Mutex<Told<K>>);

/// The same by groups, of which none uses up what another one may say.
#[derive(Debug)]
pub struct GroupedLogThrottles<G, K>(Mutex<HashMap<G, Told<K>>>);

/// Whether the log is told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is.
    Now,
    /// It was a moment ago.
    NotYet,
    /// It is told that there is too much to tell.
    TooMuch,
}

/// What was told in the last minute.
#[derive(Debug)]
struct Told<K> {
    times: HashMap<K, Instant>,
    /// When it was said that there is too much.
    too_much: LogThrottle,
}

impl<K> Default for Told<K> {
    fn default() -> Self {
        Self {
            times: HashMap::new(),
            too_much: LogThrottle::default(),
        }
    }
}

impl<K: Eq + Hash> Told<K> {
    fn due(&mut self, what: K, now: Instant) -> Due {
        self.times.retain(|_, last| is_soon_after(*last, now));
        if self.times.contains_key(&what) {
            return Due::NotYet;
        }
        if self.times.len() < MAX {
            self.times.insert(what, now);
            return Due::Now;
        }
        match self.too_much.due(now) {
            Some(_) => Due::TooMuch,
            None => Due::NotYet,
        }
    }
}

impl LogThrottle {
    /// It has happened once more. How often it has since the last line, if it is time for the next one; then that is
    /// done.
    #[must_use]
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.last.is_some_and(|last| is_soon_after(last, now)) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl<K> Default for LogThrottles<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> LogThrottles<K> {
    /// Whether it is time to tell of that; then it has been done.
    #[must_use]
    pub fn is_due(&self, what: K, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.due(what, now) == Due::Now
    }
}

impl<G, K> Default for GroupedLogThrottles<G, K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<G: Eq + Hash, K: Eq + Hash> GroupedLogThrottles<G, K> {
    /// Whether it is time to tell of that of a group; then it has been done. Of groups there are few.
    #[must_use]
    pub fn due(&self, group: G, what: K, now: Instant) -> Due {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.entry(group).or_default().due(what, now)
    }
}

fn is_soon_after(last: Instant, now: Instant) -> bool {
    now.duration_since(last) < PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_stands_for_all_since_the_last() {
        let mut throttle = LogThrottle::default();
        let now = Instant::now();
        let due = [now, now, now + PAUSE / 2].map(|now| throttle.due(now));
        assert_eq!(due, [Some(1), None, None]);
        assert_eq!(throttle.due(now + PAUSE), Some(3));
        assert_eq!(throttle.due(now + PAUSE), None);
    }

    #[test]
    fn the_same_is_said_once_a_minute_and_never_too_much() {
        let throttles = LogThrottles::default();
        let now = Instant::now();
        assert!(throttles.is_due(("shop", 0), now));
        assert!(!throttles.is_due(("shop", 0), now + PAUSE / 2));
        assert!(throttles.is_due(("till", 0), now));
        assert!(throttles.is_due(("shop", 1), now));
        assert!(throttles.is_due(("shop", 0), now + PAUSE));
        let later = now + 3 * PAUSE;
        let said = (0..2 * MAX).filter(|n| throttles.is_due(("shop", *n), later));
        assert_eq!(said.count(), MAX);
        assert!(throttles.is_due(("shop", 0), later + PAUSE));
    }

    #[test]
    fn one_group_leaves_the_others_what_they_have_to_say_and_says_that_it_says_too_much() {
        let throttles = GroupedLogThrottles::default();
        let now = Instant::now();
        let due: Vec<Due> = (0..MAX + 2).map(|n| throttles.due("a", n, now)).collect();
        assert_eq!(due[MAX - 1..], [Due::Now, Due::TooMuch, Due::NotYet]);
        assert_eq!(throttles.due("b", 0, now), Due::Now);
        assert_eq!(throttles.due("b", 0, now), Due::NotYet);
        assert_eq!(throttles.due("a", MAX, now + PAUSE), Due::Now);
    }
}
