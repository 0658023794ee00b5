//! Failed attempts at a secret, by address: each failure is told of later than the one before.
//!
//! Whoever shows the right secret never gets here, so nobody is locked out. One lock is taken for each failure. Of the
//! failures that are told of late, so many wait and no more, of one address and in all: one beyond that is told of at
//! once, and costs its sender a connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::network::network;

/// How late the first failure is told of; each further one twice as late.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(3);
/// An address without a failure in this time begins anew.
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// Addresses that are remembered. Beyond that the one that failed longest ago is forgotten.
const MAX_ADDRESSES: usize = 1024;
/// Failures of one address that wait to be told of.
const MAX_WAITING_OF_ONE: usize = 8;
/// And of all.
const MAX_WAITING: usize = 32;

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct FailedAttempts(Mutex<Addresses>);

#[derive(Debug, Default)]
struct Addresses {
    by_network: HashMap<IpAddr, Failures>,
    waiting: usize,
}

/// Those of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    waiting: usize,
}

/// A failure.
#[derive(Debug)]
pub struct Failure {
    /// How often the address has failed.
    pub count: u32,
    /// How late its sender is told.
    pub delay: Delay,
}

/// When the sender of a failure is told.
#[derive(Debug)]
pub enum Delay {
    /// When this is over; it counts among those that wait until it is dropped.
    For(Duration, Waiting),
    /// At once, because too many wait already.
    TooMany,
}

/// A failure that waits to be told of.
#[derive(Debug)]
pub struct Waiting {
    all: Arc<FailedAttempts>,
    network: IpAddr,
}

impl FailedAttempts {
    /// Counts a failure of that address.
    #[must_use]
    pub fn fail(self: &Arc<Self>, address: IpAddr, now: Instant) -> Failure {
        let network = network(address);
        let mut all = self.addresses();
        all.make_room(network, now);
        let Addresses {
            by_network,
            waiting,
        } = &mut *all;
        let failures = by_network.entry(network).or_insert(Failures {
            count: 0,
            last: now,
            waiting: 0,
        });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        let count = failures.count;
        if failures.waiting >= MAX_WAITING_OF_ONE || *waiting >= MAX_WAITING {
            let delay = Delay::TooMany;
            return Failure { count, delay };
        }
        failures.waiting += 1;
        *waiting += 1;
        let waiting = Waiting {
            all: self.clone(),
            network,
        };
        let delay = Delay::For(delay(count), waiting);
        Failure { count, delay }
    }

    /// A panic while it was held leaves numbers that were right.
    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    /// Forgets who has not failed for long, and whoever has to go for a new one. Who waits is not forgotten; those are
    /// fewer than the bound.
    fn make_room(&mut self, network: IpAddr, now: Instant) {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < MEMORY;
        let known = self.by_network.get(&network);
        if known.is_some_and(|known| is_recent(known.last)) {
            return;
        }
        self.by_network
            .retain(|_, failures| is_recent(failures.last) || failures.waiting > 0);
        if self.by_network.len() >= MAX_ADDRESSES {
            let idle = (self.by_network.iter()).filter(|(_, failures)| failures.waiting == 0);
            let oldest = idle.min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(network, _)| *network) {
                self.by_network.remove(&oldest);
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.all.addresses();
        all.waiting = all.waiting.saturating_sub(1);
        if let Some(failures) = all.by_network.get_mut(&self.network) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

fn delay(count: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(count.saturating_sub(1));
    FIRST_DELAY.saturating_mul(doubled).min(LAST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    fn wait(failure: &Failure) -> Option<Duration> {
        match failure.delay {
            Delay::For(time, _) => Some(time),
            Delay::TooMany => None,
        }
    }

    #[test]
    fn each_failure_is_told_of_later_up_to_a_bound_and_another_address_begins_anew() {
        let all = Arc::<FailedAttempts>::default();
        let now = Instant::now();
        let delays: Vec<_> = (0..8).map(|_| wait(&all.fail(at(1), now))).collect();
        let millis = [100, 200, 400, 800, 1600, 3000, 3000, 3000];
        assert_eq!(
            delays,
            millis.map(|millis| Some(Duration::from_millis(millis)))
        );
        assert_eq!(wait(&all.fail(at(2), now)), Some(FIRST_DELAY));
        for _ in 0..100 {
            assert_eq!(wait(&all.fail(at(1), now)), Some(LAST_DELAY));
        }
        let later = all.fail(at(1), now + MEMORY);
        assert_eq!((later.count, wait(&later)), (1, Some(FIRST_DELAY)));
    }

    #[test]
    fn no_more_than_so_many_wait_of_one_address_and_in_all() {
        let all = Arc::<FailedAttempts>::default();
        let now = Instant::now();
        let mut waiting: Vec<_> = (0..MAX_WAITING_OF_ONE)
            .map(|_| all.fail(at(1), now))
            .collect();
        assert!(waiting.iter().all(|failure| wait(failure).is_some()));
        assert!(wait(&all.fail(at(1), now)).is_none());
        for number in 2.. {
            let failure = all.fail(at(number), now);
            if wait(&failure).is_none() {
                break;
            }
            waiting.push(failure);
        }
        assert_eq!(waiting.len(), MAX_WAITING);
        waiting.clear();
        assert!(wait(&all.fail(at(1), now)).is_some());
        assert_eq!(all.addresses().waiting, 0);
    }

    #[test]
    fn addresses_are_forgotten_where_there_are_too_many_but_none_that_waits() {
        let all = Arc::<FailedAttempts>::default();
        let now = Instant::now();
        let first = all.fail(at(0), now);
        let later = |number: usize| now + Duration::from_millis(number.try_into().unwrap());
        for number in 1..2 * MAX_ADDRESSES {
            drop(all.fail(at(number.try_into().unwrap()), later(number)));
        }
        assert_eq!(all.addresses().by_network.len(), MAX_ADDRESSES);
        let end = later(2 * MAX_ADDRESSES);
        assert_eq!(all.fail(at(1), end).count, 1);
        assert_eq!(all.fail(at(0), end).count, 2);
        drop(first);
    }
}
