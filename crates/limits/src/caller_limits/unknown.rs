//! Unknown connections: how many each address has that no caller is known on yet.
//!
//! One lock is taken for each connection when it comes, when its caller is known or it ends, and where a password is
//! hashed; other requests read a flag. While what its caller sent is hashed, a connection does not count, or real
//! callers would be turned away who come all at once from the address of a load balancer. Only so many are let off like
//! that, or whoever guesses had any number.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::network::network;

/// States of a [`Place`].
const UNKNOWN: u8 = 0;
const VERIFYING: u8 = 1;
const KNOWN: u8 = 2;

/// All connections on which no request was verified yet, by address.
#[derive(Debug, Default)]
pub struct Unknown(Mutex<HashMap<IpAddr, Counts>>);

/// Those of one address: each of the two has a limit of its own.
#[derive(Debug, Default)]
struct Counts {
    unknown: usize,
    /// Their credentials are being hashed.
    verifying: usize,
}

/// A connection that counts, until its caller is known or it is dropped.
#[derive(Debug)]
pub struct Place {
    all: Arc<Unknown>,
    network: IpAddr,
    max_verifying: usize,
    /// Written under the lock. Requests of one HTTP/2 connection may end it at the same time; one of them takes the
    /// lock.
    state: AtomicU8,
}

/// A connection that does not count, because what its caller sent is being hashed; until this is dropped.
#[derive(Debug)]
pub struct Verifying<'p>(&'p Place);

impl Unknown {
    /// Counts a connection. None: the address has as many as `most`. Beside them, as many as `verifying` may be let off
    /// while what their callers sent is hashed.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        most: usize,
        verifying: usize,
    ) -> Option<Place> {
        let network = network(address);
        let mut all = self.counts();
        let counts = all.entry(network).or_default();
        if counts.unknown >= most {
            return None;
        }
        counts.unknown += 1;
        Some(Place {
            all: self.clone(),
            network,
            max_verifying: verifying,
            state: AtomicU8::new(UNKNOWN),
        })
    }

    /// A panic while it was held leaves numbers that were right.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&mut self, state: u8) -> Option<&mut usize> {
        match state {
            UNKNOWN => Some(&mut self.unknown),
            VERIFYING => Some(&mut self.verifying),
            _ => None,
        }
    }
}

impl Place {
    /// It does not count while what its caller sent is hashed. None: as many as may be are being verified already, or
    /// this one is, or its caller is known.
    #[must_use]
    pub fn verifying(&self) -> Option<Verifying<'_>> {
        let is_changed = self.change(VERIFYING, |state| state == UNKNOWN);
        is_changed.then(|| Verifying(self))
    }

    /// Its caller is known from now on.
    pub fn leave(&self) {
        if self.state.load(Ordering::Relaxed) != KNOWN {
            self.change(KNOWN, |state| state != KNOWN);
        }
    }

    /// Whether it was in a state that it may come from, and is in that one now.
    fn change(&self, to: u8, may_come_from: impl FnOnce(u8) -> bool) -> bool {
        let mut all = self.all.counts();
        let Some(counts) = all.get_mut(&self.network) else {
            return false;
        };
        let from = self.state.load(Ordering::Relaxed);
        if !may_come_from(from) || (to == VERIFYING && counts.verifying >= self.max_verifying) {
            return false;
        }
        self.state.store(to, Ordering::Relaxed);
        if let Some(left) = counts.of(from) {
            *left = left.saturating_sub(1);
        }
        if let Some(entered) = counts.of(to) {
            *entered += 1;
        }
        if counts.unknown == 0 && counts.verifying == 0 {
            all.remove(&self.network);
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Verifying<'_> {
    fn drop(&mut self) {
        self.0.change(UNKNOWN, |state| state == VERIFYING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_connection_counts_until_its_caller_is_known_or_it_ends() {
        let unknown = Arc::<Unknown>::default();
        let enter = |address| unknown.enter(at(address), 2, 2);
        let first = enter("192.0.2.1").unwrap();
        let second = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
        first.leave();
        first.leave();
        let third = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        drop((first, second, third));
        assert!(unknown.counts().is_empty());
    }

    #[test]
    fn a_connection_does_not_count_while_its_caller_is_verified_and_all_are_twice_the_limit_at_most()
     {
        let unknown = Arc::<Unknown>::default();
        let enter = || unknown.enter(at("192.0.2.1"), 2, 2);
        let [first, second] = [enter().unwrap(), enter().unwrap()];
        let waiting = [first.verifying().unwrap(), second.verifying().unwrap()];
        // Only once for each, however many of its requests are verified.
        assert!(first.verifying().is_none());
        let [third, fourth] = [enter().unwrap(), enter().unwrap()];
        assert!(third.verifying().is_none());
        assert!(enter().is_none());
        // All of them were wrong: they count again, and nobody else comes in.
        drop(waiting);
        let waiting = [third.verifying().unwrap(), fourth.verifying().unwrap()];
        assert!(enter().is_none());
        drop(waiting);
        drop((first, second, third, fourth));
        assert!(unknown.counts().is_empty());
    }

    #[test]
    fn of_an_address_that_may_have_many_no_more_are_let_off_than_may_be() {
        let unknown = Arc::<Unknown>::default();
        let enter = |most| unknown.enter(at("192.0.2.1"), most, 1);
        let [first, second, _third] = [3; 3].map(|most| enter(most).unwrap());
        let _waiting = first.verifying().unwrap();
        assert!(second.verifying().is_none());
        // It has as many as it may have of fewer.
        assert!(enter(2).is_none());
    }

    #[test]
    fn a_caller_that_is_known_while_another_of_its_requests_is_verified_does_not_count_again() {
        let unknown = Arc::<Unknown>::default();
        let place = unknown.enter(at("192.0.2.1"), 1, 1).unwrap();
        let waiting = place.verifying();
        place.leave();
        drop(waiting);
        assert!(place.verifying().is_none());
        assert!(unknown.counts().is_empty());
    }

    #[test]
    fn of_ipv6_a_whole_network_is_one_address_and_an_ipv4_address_in_it_is_itself() {
        let unknown = Arc::<Unknown>::default();
        let enter = |address| unknown.enter(at(address), 1, 1);
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::ffff:0:0:1").is_none());
        let _other = enter("2001:db8:0:1::1").unwrap();
        let _mapped = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("::ffff:192.0.2.2").is_some());
    }
}
