//! Password hashing: which passwords have which hashes, computed with a bounded share of the CPU, and remembered.
//!
//! Each hash remembers one keyed digest: of the name and password that were last found to have it. Whoever
//! reads it needs no hash. Only a flight writes it, one for each name and password, joined by everybody
//! who sends the same; flights take turns at a few permits, and computing is done on blocking threads.
//! A flight ends in `flights` after it has written, and whoever starts one looks at what is
//! remembered under the same lock, so that a right password costs its hashes once.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::spelling::Bytes;
use arc_swap::ArcSwapOption;
use bursar_base::password::{Cost, Hash};
use bursar_limits::single_flight::{Full, Leader, SingleFlights};
use prometheus::IntCounter;
use ring::hmac;
use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

/// One core in this many, rounded up, computes hashes.
const CORES_PER_HASHER: usize = 4;
/// Names and passwords that wait for their hashes; the next one is answered 503 `overloaded`.
pub(super) const MAX_FLIGHTS: usize = 64;
/// Of these from one address, so that one address does not keep the others waiting.
pub(super) const MAX_FLIGHTS_OF_ONE: usize = 16;
/// Requests that wait for a computation; further ones are refused, so that nobody fills the proxy with
/// requests that only wait.
const MAX_WAITERS: usize = 4096;
/// How long they wait for their turn; then they are answered 503 `overloaded`.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Stands for a name and a password; nobody can make one without this process's key.
pub(super) type Tag = [u8; 32];

/// Whether the password has the hash.
type Verified = Result<bool, Busy>;

/// Too many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wait for their hashes")]
pub(super) struct Busy;

/// A hash, and what was found to have it.
pub(super) struct Hashed {
    hash: Hash,
    verified: ArcSwapOption<Tag>,
}

/// Computes hashes.
pub(super) struct Hashing {
    /// None: the system has no random numbers, and so hashed passwords cannot be used.
    key: Option<hmac::Key>,
    /// What every failure costs: a hash of each cost that there is, as often as the caller with the most
    /// of them has it.
    price: Vec<(Hash, usize)>,
    permits: Arc<Semaphore>,
    /// For requests that wait.
    waiters: Arc<Semaphore>,
    /// Each with the address that started it: see [`network`].
    flights: Mutex<SingleFlights<Id, Verified, IpAddr>>,
    computed: IntCounter,
}

/// What is being computed: for whom, and whether there are hashes that it could have. What is wrong by
/// its address or certificate must not be the result for one that is right.
type Id = (Tag, bool);

impl Hashed {
    /// What one of `known` remembers of the same hash, it remembers too.
    pub(super) fn new(hash: Hash, known: &[Self]) -> Self {
        let known = known.iter().find(|known| known.hash == hash);
        Self {
            hash,
            verified: ArcSwapOption::new(known.and_then(|known| known.verified.load_full())),
        }
    }

    pub(super) fn is_one_of(&self, hashes: &[Self]) -> bool {
        hashes.iter().any(|other| other.hash == self.hash)
    }
}

/// Whether a name and password were found to have one of the hashes before.
pub(super) fn is_remembered(hashes: &[Hashed], tag: &Tag) -> bool {
    let is_equal = |hashed: &Hashed| {
        let verified = hashed.verified.load();
        verified
            .as_ref()
            .is_some_and(|verified| verified.ct_eq(tag).into())
    };
    hashes.iter().any(is_equal)
}

impl Hashing {
    /// None where no caller has a hash. What comes after another one shares its key and its bounds; its
    /// flights were for other hashes.
    pub(super) fn new<'a>(
        callers: impl Iterator<Item = &'a [Hashed]>,
        computed: &IntCounter,
        old: Option<&Self>,
    ) -> Option<Arc<Self>> {
        let mut price: Vec<(Hash, usize)> = Vec::new();
        for hashes in callers {
            for Hashed { hash, .. } in hashes {
                let count = count(hashes, hash.cost);
                match price.iter_mut().find(|(known, _)| known.cost == hash.cost) {
                    Some((_, most)) => *most = count.max(*most),
                    None => price.push((hash.clone(), count)),
                }
            }
        }
        if price.is_empty() {
            return None;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Some(Arc::new(Self {
            key: match old {
                Some(old) => old.key.clone(),
                None => hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            },
            price,
            permits: old.map_or_else(
                || Arc::new(Semaphore::new(cores.div_ceil(CORES_PER_HASHER))),
                |old| old.permits.clone(),
            ),
            waiters: old.map_or_else(
                || Arc::new(Semaphore::new(MAX_WAITERS)),
                |old| old.waiters.clone(),
            ),
            flights: Mutex::new(SingleFlights::new(MAX_FLIGHTS)),
            computed: computed.clone(),
        }))
    }

    /// Of a caller's name, a colon and its password.
    pub(super) fn tag(&self, credentials: &[u8]) -> Tag {
        let mut tag = [0; 32];
        if let Some(key) = &self.key {
            let digest = hmac::sign(key, credentials);
            tag.iter_mut()
                .zip(digest.as_ref())
                .for_each(|(to, from)| *to = *from);
        }
        tag
    }

    /// Whether one of the readings of a password has one of the hashes; without any it is wrong, and takes as long.
    pub(super) async fn verify(
        self: &Arc<Self>,
        tag: Tag,
        hashes: Option<Arc<[Hashed]>>,
        passwords: Vec<Bytes>,
        address: IpAddr,
    ) -> Verified {
        let hashes = hashes.unwrap_or_default();
        let address = network(address);
        if self.key.is_none() {
            return Err(Busy);
        }
        let id = (tag, hashes.is_empty());
        let _waiter = self.waiters.try_acquire().map_err(|_full| Busy)?;
        let joiner = {
            let mut flights = self.flights();
            match flights.join(&id) {
                Some((joiner, _)) => joiner,
                None if is_remembered(&hashes, &tag) => return Ok(true),
                None => {
                    let of_one = flights.under_way().filter(|of| **of == address);
                    if of_one.count() >= MAX_FLIGHTS_OF_ONE {
                        return Err(Busy);
                    }
                    let (leader, joiner) = flights.lead(id, address).map_err(|Full| Busy)?;
                    tokio::spawn(self.clone().run_flight(tag, hashes, passwords, leader));
                    joiner
                }
            }
        };
        // The flight has a bounded wait and bounded work before it. Where it is gone, it had a bug or the process is
        // ending.
        joiner.wait().await.unwrap_or(Err(Busy))
    }

    async fn run_flight(
        self: Arc<Self>,
        tag: Tag,
        hashes: Arc<[Hashed]>,
        passwords: Vec<Bytes>,
        leader: Leader<Verified>,
    ) {
        let id = (tag, hashes.is_empty());
        let verified = match tokio::time::timeout(MAX_WAIT, self.permits.acquire()).await {
            Ok(Ok(_permit)) => {
                let hashing = self.clone();
                let compute = move || hashing.compute(&hashes, &tag, &passwords);
                tokio::task::spawn_blocking(compute)
                    .await
                    .map_err(|_panic| Busy)
            }
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Busy),
        };
        self.flights().end(&id);
        leader.finish(verified);
    }

    /// On a blocking thread.
    fn compute(&self, hashes: &[Hashed], tag: &Tag, passwords: &[Bytes]) -> bool {
        for password in passwords {
            for hashed in hashes {
                self.computed.inc();
                if hashed.hash.verify(password) {
                    hashed.verified.store(Some(Arc::new(*tag)));
                    return true;
                }
            }
        }
        for (hash, most) in &self.price {
            for password in passwords {
                for _ in count(hashes, hash.cost)..*most {
                    self.computed.inc();
                    // Only its time is wanted.
                    std::hint::black_box(hash.verify(password));
                }
            }
        }
        false
    }

    /// Consistent whenever the lock is free, so a panic elsewhere does not spoil it.
    fn flights(&self) -> MutexGuard<'_, SingleFlights<Id, Verified, IpAddr>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one host can call from: of IPv6 a whole subnet.
fn network(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address) = address else {
        return address;
    };
    let [a, b, c, d, ..] = address.segments();
    Ipv6Addr::from([a, b, c, d, 0, 0, 0, 0]).into()
}

fn count(hashes: &[Hashed], cost: Cost) -> usize {
    let same = hashes.iter().filter(|hashed| hashed.hash.cost == cost);
    same.count()
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Hashing")
            .field("price", &self.price)
            .finish_non_exhaustive()
    }
}
