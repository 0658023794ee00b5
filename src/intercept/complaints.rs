//! Has that been said already? A caller that does not trust the authority fails at every connection, and
//! one line a minute is enough to find it by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The same is said once in so long.
const PAUSE: Duration = Duration::from_secs(60);
/// As many callers and hosts are complained of in that time. Hosts below a wildcard have no end.
const MAX: usize = 256;

/// A caller at a host.
type Who = (Arc<str>, Box<str>);

/// Of whom something was said, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<Who, Instant>>);

impl Complaints {
    /// Whether it is time to complain of a caller at a host; then it has been done.
    #[must_use]
    pub(super) fn is_due(&self, caller: &Arc<str>, host: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.duration_since(*at) < PAUSE);
        let who = (caller.clone(), host.to_ascii_lowercase().into());
        let is_due = said.len() < MAX && !said.contains_key(&who);
        if is_due {
            said.insert(who, now);
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
        let (shop, till) = (Arc::from("shop"), Arc::from("till"));
        let now = Instant::now();
        assert!(complaints.is_due(&shop, "api.test", now));
        assert!(!complaints.is_due(&shop, "API.test", now + PAUSE / 2));
        assert!(complaints.is_due(&till, "api.test", now));
        assert!(complaints.is_due(&shop, "other.test", now));
        assert!(complaints.is_due(&shop, "api.test", now + PAUSE));
        let later = now + 3 * PAUSE;
        let said = (0..2 * MAX).filter(|n| complaints.is_due(&shop, &n.to_string(), later));
        assert_eq!(said.count(), MAX);
        assert!(complaints.is_due(&shop, "api.test", later + PAUSE));
    }
}
