//! Tokens of a fleet: one flight for a token key in all instances, and its token for all of them.
//!
//! The store is reached from inside a flight ([`FleetAcquire`]), and from here when something was published or the
//! store was away; never from a request's way, which reads the arc-swap as ever.

mod acquire;
mod key;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

pub(super) use acquire::FleetAcquire;
pub(super) use key::FleetKey;

use bursar_fleet::{Fleet, News, read_message};

/// Keys that are compared with the store at a time.
const COMPARED_AT_ONCE: usize = 32;

/// The token keys of this instance, by their names in the fleet's store.
#[derive(Debug)]
pub struct FleetTokens {
    fleet: Fleet,
    /// Replaced as a whole by a reload. Each is its source's.
    keys: ArcSwap<HashMap<Box<str>, Weak<FleetKey>>>,
}

impl FleetTokens {
    /// Of that fleet; it has no keys yet.
    #[must_use]
    pub fn new(fleet: Fleet) -> Arc<Self> {
        Arc::new(Self {
            fleet,
            keys: ArcSwap::default(),
        })
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
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
                key.known().is_fresh(pushed.number);
                let found = self.fleet.open(key.entry(), message.name, pushed);
                if key.adopt(found) {
                    self.fleet.series().pushed(self.fleet.since(pushed.at));
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
