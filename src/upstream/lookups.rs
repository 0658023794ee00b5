//! Lookups of names: of all who look for one name at the same time one asks the system, and all get what it says.
//!
//! The system is asked on a thread that nobody can take back before the name servers' own time is up, however soon whoever
//! asked gives up. A name whose servers hang would otherwise take another thread with each connection that is tried, until
//! none is left for other providers' names, and for passwords.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use bursar_limits::single_flight::{Joiner, Leader, SingleFlights};

/// Threads that may look for names at the same time, for the same purpose of one provider.
const MAX_AT_A_TIME: usize = 8;
/// After that time a name is looked for once more: the question or its answer may have been lost, and the system asks
/// again only after seconds.
const AGAIN: Duration = Duration::from_secs(1);
/// Names that may be looked for, with those that wait for such a thread: a wildcard stands for any number.
const MAX_NAMES: usize = 1024;

type Found = Result<Arc<[IpAddr]>, Arc<io::Error>>;

/// For one purpose of one provider.
#[derive(Debug)]
pub(super) struct Lookups {
    /// With when each began.
    flights: Mutex<SingleFlights<Box<str>, Found, Instant>>,
    threads: Semaphore,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            flights: Mutex::new(SingleFlights::new(MAX_NAMES)),
            threads: Semaphore::new(MAX_AT_A_TIME),
        }
    }
}

impl Lookups {
    /// The addresses of a name. Whoever asks limits the time.
    ///
    /// # Errors
    /// What the system says, or that too many names are looked for.
    pub(super) async fn addresses(self: &Arc<Self>, host: &str) -> io::Result<Vec<IpAddr>> {
        let first = self.join_or_lead(host)?;
        let found = match timeout(AGAIN, first.clone().wait()).await {
            Ok(found) => found,
            Err(_elapsed) => {
                let second = self.join_or_lead(host)?;
                tokio::select! {
                    found = first.wait() => found,
                    found = second.wait() => found,
                }
            }
        };
        match found {
            Ok(Ok(found)) => Ok(found.to_vec()),
            Ok(Err(error)) => Err(again(error)),
            // It had a bug, or the process is ending.
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn join_or_lead(self: &Arc<Self>, host: &str) -> io::Result<Joiner<Found>> {
        let mut flights = self.flights();
        let host: Box<str> = host.into();
        if let Some((joiner, began)) = flights.join(&host)
            && (began.elapsed() < AGAIN || self.threads.available_permits() == 0)
        {
            return Ok(joiner);
        }
        let (leader, joiner) = flights
            .lead(host.clone(), Instant::now())
            .map_err(io::Error::other)?;
        tokio::spawn(self.clone().look(host, leader));
        Ok(joiner)
    }

    async fn look(self: Arc<Self>, host: Box<str>, leader: Leader<Found>) {
        // The semaphore is never closed.
        let permit = self.threads.acquire().await;
        // The port is only there because the function wants one.
        let found = tokio::net::lookup_host((&*host, 0)).await;
        drop(permit);
        self.flights().end(&host);
        leader.finish(match found {
            Ok(found) => Ok(found.map(|address| address.ip()).collect()),
            Err(error) => Err(Arc::new(error)),
        });
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn flights(&self) -> MutexGuard<'_, SingleFlights<Box<str>, Found, Instant>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same error once more, for another who waits.
fn again(error: Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_takes_one_thread_however_many_look_for_it_and_give_up() {
        let lookups = Arc::new(Lookups::default());
        let all = u32::try_from(MAX_AT_A_TIME).unwrap();
        let taken = lookups.threads.acquire_many(all).await.unwrap();
        let moment = Duration::from_millis(5);
        for _ in 0..3 {
            let given_up = timeout(moment, lookups.addresses("localhost")).await;
            assert!(given_up.is_err());
        }
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let lookups = lookups.clone();
                tokio::spawn(async move { lookups.addresses("localhost").await })
            })
            .collect();
        let other = timeout(moment, lookups.addresses("localhost."));
        assert!(other.await.is_err());
        assert_eq!(lookups.flights().under_way().count(), 2);
        drop(taken);
        for one in waiting {
            let found = one.await.unwrap().unwrap();
            assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        }
    }

    #[tokio::test]
    async fn what_the_system_says_is_said_to_all() {
        let lookups = Arc::new(Lookups::default());
        // No name server is asked for one that is too long.
        let name = "x".repeat(300);
        let both = tokio::join!(lookups.addresses(&name), lookups.addresses(&name));
        for error in [both.0.unwrap_err(), both.1.unwrap_err()] {
            let said = "failed to lookup address information";
            assert!(error.to_string().starts_with(said), "{error}");
        }
    }
}
