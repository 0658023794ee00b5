//! Failed attempts at a secret, by address: after each failure attempts from there are looked at later than after the one
//! before.
//!
//! What is counted are attempts and not connections, so closing them early does not make guessing faster. Many at once do,
//! for as long as a window is: then it is the length of the secret that protects it.
//! Nobody is locked out, not even whoever shares an address with somebody who guesses: attempts are looked at in windows
//! that are [`WINDOW`] long and at most [`LAST_PAUSE`] apart, and in a window all of them. Whoever comes in between waits
//! for the next one, if there are not too many. Between attempts and failures one lock is taken for each; nobody holds it
//! for longer than a look at the table.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::network::owner;

/// For how long all attempts are looked at, from the first failure on.
const WINDOW: Duration = Duration::from_millis(100);
/// How long none is, after the first window with a failure; after each further one twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(3);
/// An address without a failure in this time begins anew.
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// Addresses that are remembered. Beyond that the one that failed longest ago is forgotten.
const MAX_ADDRESSES: usize = 1024;
/// Attempts of one address that wait for its next window.
const MAX_WAITING_OF_ONE: usize = 8;
/// And of all.
const MAX_WAITING: usize = 32;

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct FailedAttempts(Mutex<Addresses>);

#[derive(Debug, Default)]
struct Addresses {
    by_owner: HashMap<IpAddr, Failures>,
    waiting: usize,
}

/// Those of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    windows: u32,
    last: Instant,
    /// The end of the last window that had a failure.
    closes: Instant,
    /// When the next one begins.
    opens: Instant,
    waiting: usize,
}

/// When an attempt is looked at.
#[derive(Debug)]
pub enum Turn {
    /// At once.
    Now,
    /// In the next window, which begins then. It counts among those that wait until that is dropped.
    At(Instant, Waiting),
    /// Not at all, because too many wait already.
    Never,
}

/// An attempt that waits to be looked at.
#[derive(Debug)]
pub struct Waiting {
    all: Arc<FailedAttempts>,
    owner: IpAddr,
}

impl FailedAttempts {
    /// Takes an attempt from that address.
    #[must_use]
    pub fn attempt(self: &Arc<Self>, address: IpAddr, now: Instant) -> Turn {
        let owner = owner(address);
        let all = &mut *self.addresses();
        let Some(failures) = all.by_owner.get_mut(&owner) else {
            return Turn::Now;
        };
        if now < failures.closes || now >= failures.opens {
            return Turn::Now;
        }
        let opens = failures.opens;
        if all.waiting >= MAX_WAITING || failures.waiting >= MAX_WAITING_OF_ONE {
            return Turn::Never;
        }
        failures.waiting += 1;
        all.waiting += 1;
        let waiting = Waiting {
            all: self.clone(),
            owner,
        };
        Turn::At(opens, waiting)
    }

    /// Counts a failure of that address; says how many there were.
    pub fn fail(&self, address: IpAddr, now: Instant) -> u32 {
        let owner = owner(address);
        let mut all = self.addresses();
        all.make_room(owner, now);
        let failures = all.by_owner.entry(owner).or_insert(Failures {
            count: 0,
            windows: 0,
            last: now,
            closes: now,
            opens: now,
            waiting: 0,
        });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if now >= failures.opens {
            failures.windows = failures.windows.saturating_add(1);
            failures.closes = now + WINDOW;
            failures.opens = failures.closes + pause(failures.windows);
        }
        failures.count
    }

    /// A panic while it was held leaves numbers that were right.
    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    /// Forgets who has not failed for long, and whoever has to go for a new one. Who waits is not forgotten; those are
    /// fewer than the bound.
    fn make_room(&mut self, owner: IpAddr, now: Instant) {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < MEMORY;
        let known = self.by_owner.get(&owner);
        if known.is_some_and(|known| is_recent(known.last)) {
            return;
        }
        self.by_owner
            .retain(|_, failures| is_recent(failures.last) || failures.waiting > 0);
        if self.by_owner.len() >= MAX_ADDRESSES {
            let idle = (self.by_owner.iter()).filter(|(_, failures)| failures.waiting == 0);
            let oldest = idle.min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(owner, _)| *owner) {
                self.by_owner.remove(&oldest);
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.all.addresses();
        all.waiting = all.waiting.saturating_sub(1);
        if let Some(failures) = all.by_owner.get_mut(&self.owner) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

fn pause(windows: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(windows.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LAST_PAUSE)
}

#[cfg(test)]
mod tests;
