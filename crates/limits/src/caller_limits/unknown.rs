//! Who connects and does not say who it is? How many connections each address has that no caller is known on yet.
//!
//! One lock is taken for each connection when it comes, and when its caller is known or it ends; requests read a flag.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The part of an IPv6 address that its holder cannot choose.
const IPV6_NETWORK: u128 = !0 << 64;

/// All connections on which no request was verified yet, by address.
#[derive(Debug, Default)]
pub struct Unknown(Mutex<HashMap<IpAddr, usize>>);

/// A connection that counts, until its caller is known or it is dropped.
#[derive(Debug)]
pub struct Place {
    all: Arc<Unknown>,
    network: IpAddr,
    /// Requests of one HTTP/2 connection may say so at the same time; one of them takes the lock.
    is_counted: AtomicBool,
}

impl Unknown {
    /// Counts a connection. None: that address has so many already.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Place> {
        let network = network(address);
        let mut counts = self.counts();
        let count = counts.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place {
            all: self.clone(),
            network,
            is_counted: AtomicBool::new(true),
        })
    }

    /// A panic while it was held leaves numbers that were right.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its caller is known from now on.
    pub fn leave(&self) {
        if !self.is_counted.load(Ordering::Relaxed)
            || !self.is_counted.swap(false, Ordering::Relaxed)
        {
            return;
        }
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whose connections count as one's: of IPv6 a /64, because its holder has all addresses in it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
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
        let enter = |address| unknown.enter(at(address), 2);
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
    fn of_ipv6_a_whole_network_is_one_address_and_an_ipv4_address_in_it_is_itself() {
        let unknown = Arc::<Unknown>::default();
        let enter = |address| unknown.enter(at(address), 1);
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::ffff:0:0:1").is_none());
        let _other = enter("2001:db8:0:1::1").unwrap();
        let _mapped = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("::ffff:192.0.2.2").is_some());
    }
}
