//! Recent refusals: the last responses of Bursar's own, for people who look at what goes wrong.
//!
//! A ring of fixed size behind a lock that is held for one write. Nothing in it is a secret: of the request there is no
//! path, no field and no body.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::labels::{Cause, Reason, RefusalDetail};

/// How many are remembered.
const MAX: usize = 50;

/// A response of Bursar's own, or one of a provider that it cut off.
#[derive(Debug, Clone)]
pub struct RecentRefusal {
    /// When it was.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
    /// In which sense.
    pub detail: Option<RefusalDetail>,
    /// Why there was no connection.
    pub cause: Option<Cause>,
    /// Where it came from.
    pub client: IpAddr,
    /// The request. None: it was no whole one.
    pub request: Option<RefusedRequest>,
}

/// What is known of a request that was refused.
#[derive(Debug, Clone)]
pub struct RefusedRequest {
    /// Its id in the access log.
    pub id: u128,
    /// Who sent it. None: nobody known.
    pub caller: Option<Arc<str>>,
    /// Whose name it gave without proving it. None: nobody's.
    pub claimed_caller: Option<Arc<str>>,
    /// For which provider it was. None: for none.
    pub provider: Option<Arc<str>>,
    /// Its route's name.
    pub route: Option<Arc<str>>,
    /// For which host, where no provider has it.
    pub host: Option<Box<str>>,
}

/// The last of them.
#[derive(Debug, Default)]
pub struct RecentRefusals {
    total: AtomicU64,
    without_provider: AtomicU64,
    last: Mutex<VecDeque<RecentRefusal>>,
}

impl RecentRefusals {
    /// One more.
    pub fn add(&self, refusal: RecentRefusal) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let request = refusal.request.as_ref();
        if request.is_none_or(|request| request.provider.is_none()) {
            self.without_provider.fetch_add(1, Ordering::Relaxed);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == MAX {
            last.pop_back();
        }
        last.push_front(refusal);
    }

    /// The last ones, the latest first.
    #[must_use]
    pub fn last(&self) -> Vec<RecentRefusal> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect()
    }

    /// How many there were.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many of those were for no provider.
    pub(super) fn without_provider(&self) -> u64 {
        self.without_provider.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_all_are_counted() {
        let recent = RecentRefusals::default();
        for id in 0..2 * MAX as u128 {
            let provider = (id % 2 == 0).then(|| "acme".into());
            recent.add(RecentRefusal {
                at: SystemTime::UNIX_EPOCH,
                reason: Reason::Frozen,
                detail: None,
                cause: None,
                client: IpAddr::from([127, 0, 0, 1]),
                request: Some(RefusedRequest {
                    id,
                    caller: None,
                    claimed_caller: None,
                    provider,
                    route: None,
                    host: None,
                }),
            });
        }
        let ids = recent.last().into_iter().map(|one| one.request.unwrap().id);
        let expected = (MAX as u128..2 * MAX as u128).rev();
        assert_eq!(ids.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert_eq!(recent.total(), 2 * MAX as u64);
        assert_eq!(recent.without_provider(), MAX as u64);
    }
}
