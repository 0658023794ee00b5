//! Tokens of a fleet: one flight for a token key in all instances, and its token for all of them.
//!
//! The store is reached from inside a flight ([`FleetAcquire`]), and from here when something was published or the
//! store was away; never from a request's way, which reads the arc-swap as ever.

mod acquire;
mod flights;
mod key;
mod outage;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::grants::Grants;
use acquire::FleetAcquire;
use bursar_fleet::{Fleet, News, read_message};
use flights::Flights;
pub(super) use key::FleetKey;

/// A token that was published longer ago is not taken from the message: the store says what age it has, and by then may
/// have another one.
const LATE: Duration = Duration::from_secs(2);
/// Keys that are compared with the store at a time.
const COMPARED_AT_ONCE: usize = 32;

/// The token keys of this instance, by their names in the fleet's store.
#[derive(Debug)]
pub struct FleetTokens {
    fleet: Fleet,
    /// Replaced as a whole by a reload. Each is its source's.
    keys: ArcSwap<HashMap<Box<str>, Weak<FleetKey>>>,
    /// The same, one after the other.
    in_turn: Mutex<VecDeque<Weak<FleetKey>>>,
    /// Since when messages are heard without interruption.
    heard_since: Mutex<Instant>,
    flights: Arc<Flights>,
}

impl FleetTokens {
    /// Of that fleet; it has no keys yet.
    #[must_use]
    pub fn new(fleet: Fleet) -> Arc<Self> {
        Arc::new(Self {
            heard_since: Mutex::new(fleet.state().since),
            fleet,
            keys: ArcSwap::default(),
            in_turn: Mutex::default(),
            flights: Arc::default(),
        })
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// How one of the keys is asked for.
    pub(super) fn acquire(&self, key: Arc<FleetKey>, grants: Grants) -> FleetAcquire {
        FleetAcquire {
            key,
            grants,
            flights: self.flights.clone(),
        }
    }

    /// This instance ends: tokens that are about to come are still published, for 2 seconds, and then leases are given
    /// up.
    pub async fn end(&self) {
        self.flights.end().await;
    }

    /// From now on these are the keys.
    pub(super) fn follow(&self, keys: &[Arc<FleetKey>]) {
        let mut by_name = HashMap::with_capacity(keys.len());
        for key in keys {
            for name in key.names().all() {
                by_name.insert(name.into(), Arc::downgrade(key));
            }
        }
        self.keys.store(Arc::new(by_name));
        *lock(&self.in_turn) = keys.iter().map(Arc::downgrade).collect();
    }

    /// Something was said on the tokens' channel: a token is taken over, and flights that wait look again.
    pub fn message(&self, payload: &[u8]) {
        let Some(message) = read_message(payload) else {
            return;
        };
        let keys = self.keys.load();
        let Some(key) = keys.get(message.name).and_then(Weak::upgrade) else {
            return;
        };
        match message.news {
            News::Value(pushed) => {
                let since = *lock(&self.heard_since);
                key.known().is_fresh(pushed.number, since);
                let delay = self.fleet.since(pushed.at);
                if delay > LATE {
                    let key = key.clone();
                    // Where that fails, it is done again when the store is back.
                    tokio::spawn(async move { drop(key.compare().await) });
                } else if key.adopt(self.fleet.open(key.entry(), message.name, pushed)) {
                    self.fleet.series().pushed(delay);
                }
            }
            News::Free => {}
            News::RefreshTokenUsed { number, by } => {
                // Who uses it hears of that, too, before the lease.
                if by != self.fleet.instance() {
                    key.known().refresh_is_used(number);
                }
                return;
            }
        }
        key.known().changed.notify_waiters();
    }

    /// Compares the tokens of the next few keys with those in the store, which may have lost one of them alone.
    pub async fn compare_next(&self, most: usize) {
        let keys: Vec<Arc<FleetKey>> = {
            let mut in_turn = lock(&self.in_turn);
            let count = in_turn.len();
            let turn = (0..count).filter_map(|_| {
                let key = in_turn.pop_front()?;
                in_turn.push_back(key.clone());
                key.upgrade().filter(|key| key.has_token())
            });
            turn.take(most).collect()
        };
        for key in keys {
            if key.compare().await.is_err() {
                return;
            }
        }
    }

    /// Messages may have been missed, and are heard again from now on.
    pub fn interrupted(&self) {
        *lock(&self.heard_since) = self.fleet.state().since;
        let keys = self.keys.load();
        for key in keys.values().filter_map(Weak::upgrade) {
            key.known().missed();
        }
    }

    /// Compares all tokens with those in the store, after it was away or lost something.
    pub async fn compare(&self) {
        let keys: Vec<Arc<FleetKey>> = {
            let keys = self.keys.load();
            keys.values().filter_map(Weak::upgrade).collect()
        };
        let mut comparing = JoinSet::new();
        for key in keys {
            if comparing.len() >= COMPARED_AT_ONCE
                && let Some(Ok(Err(_))) = comparing.join_next().await
            {
                // The store is away again: this starts anew when it is back.
                return;
            }
            comparing.spawn(async move {
                key.known().changed.notify_waiters();
                key.compare().await
            });
        }
        comparing.join_all().await;
    }
}

/// A panic elsewhere leaves nothing half-done there.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
