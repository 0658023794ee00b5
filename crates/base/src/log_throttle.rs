//! A throttle for log lines: what goes wrong with every request is worth one line a minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The same is said once in so long.
const PAUSE: Duration = Duration::from_secs(60);
/// As many things are complained of in that time. Hosts below a wildcard have no end.
const MAX: usize = 256;

/// Of what something was said, and when.
#[derive(Debug)]
pub struct Complaints<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Complaints<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Complaints<K> {
    /// Whether it is time to complain of that; then it has been done.
    #[must_use]
    pub fn is_due(&self, what: K, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.duration_since(*at) < PAUSE);
        let is_due = said.len() < MAX && !said.contains_key(&what);
        if is_due {
            said.insert(what, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_never_too_much() {
        let complaints = Complaints::default();
        let now = Instant::now();
        assert!(complaints.is_due(("shop", 0), now));
        assert!(!complaints.is_due(("shop", 0), now + PAUSE / 2));
        assert!(complaints.is_due(("till", 0), now));
        assert!(complaints.is_due(("shop", 1), now));
        assert!(complaints.is_due(("shop", 0), now + PAUSE));
        let later = now + 3 * PAUSE;
        let said = (0..2 * MAX).filter(|n| complaints.is_due(("shop", *n), later));
        assert_eq!(said.count(), MAX);
        assert!(complaints.is_due(("shop", 0), later + PAUSE));
    }
}
