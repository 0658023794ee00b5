//! Flights under way in a fleet, so that an instance that ends leaves no lease and no unpublished token behind.
//!
//! A flight is counted from before it asks for a lease until its token is published or the lease is given back. Flights
//! enter and leave under a mutex that is held for a look; who ends them waits for the tracker, and looks once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::key::FleetKey;

/// At the end, so long for token calls to be answered and tokens to be published.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long for leases to be given back.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// The flights of an instance.
#[derive(Default)]
pub(super) struct Flights {
    tracker: TaskTracker,
    /// Of each flight; its key may hold a lease.
    keys: Mutex<Vec<Arc<FleetKey>>>,
    ending: CancellationToken,
}

/// A flight; dropping it says that nothing of it is left in the store.
pub(super) struct Flight {
    flights: Arc<Flights>,
    key: Arc<FleetKey>,
    _counted: TaskTrackerToken,
}

impl Flights {
    /// A panic elsewhere leaves nothing half-done here.
    fn keys(&self) -> MutexGuard<'_, Vec<Arc<FleetKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A flight for a key. None: the instance ends, and asks for no lease any more.
    pub(super) fn begin(self: &Arc<Self>, key: &Arc<FleetKey>) -> Option<Flight> {
        // Under the lock, so that whoever looks for leases at the end finds this one.
        let mut keys = self.keys();
        if self.ending.is_cancelled() {
            return None;
        }
        keys.push(key.clone());
        drop(keys);
        Some(Flight {
            flights: self.clone(),
            key: key.clone(),
            _counted: self.tracker.token(),
        })
    }

    /// Whether none is under way.
    #[cfg(test)]
    pub(super) fn are_none(&self) -> bool {
        self.keys().is_empty()
    }

    /// Whether the instance ends: nobody waits for a lease of others any more.
    pub(super) fn are_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Waits until the instance ends.
    pub(super) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// Waits a little for what is under way, and gives the leases up that are left then: another instance can ask at
    /// once. What their calls bring is lost.
    pub(super) async fn end(&self) {
        self.ending.cancel();
        self.tracker.close();
        if timeout(PATIENCE, self.tracker.wait()).await.is_ok() {
            return;
        }
        let left: JoinSet<()> = {
            let keys = self.keys();
            let give_up = |key: &Arc<FleetKey>| {
                let key = key.clone();
                async move { key.give_up_lease().await }
            };
            keys.iter().map(give_up).collect()
        };
        let count = left.len();
        let is_told = timeout(GIVE_UP_TIMEOUT, left.join_all()).await.is_ok();
        tracing::debug!(count, is_told, "leases are given up at the end");
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut keys = self.flights.keys();
        if let Some(place) = keys.iter().position(|key| Arc::ptr_eq(key, &self.key)) {
            keys.swap_remove(place);
        }
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Flights").finish_non_exhaustive()
    }
}
