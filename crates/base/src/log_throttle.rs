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
pub struct LogThrottles<K>(Mutex<HashMap<K, Instant>>);

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
        told.retain(|_, last| is_soon_after(*last, now));
        let is_due = told.len() < MAX && !told.contains_key(&what);
        if is_due {
            told.insert(what, now);
        }
        is_due
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
}
