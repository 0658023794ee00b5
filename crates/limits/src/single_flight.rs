//! Single flight: of all who want the same result at the same time one computes it, the leader, and all get it.
//!
//! Values without a lock of their own: whoever asks decides under the owner's lock whether it joins, leads, or finds the
//! result there already, and the leader ends the flight under that lock when it has put the result where others
//! find it. So nobody joins a flight whose result is there, and nobody starts a second one before it is. Joiners wait
//! for the leader's channel, not for the lock; one that gives up cancels nothing. A leader that is dropped without a
//! result, by a panic perhaps, strands nobody: its joiners hear so, and the next one who asks leads.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The flight of one key, where there is one; `S` is what those who join share with its leader.
#[derive(Debug)]
pub struct SingleFlight<T, S = ()> {
    flight: Option<Flight<T, S>>,
}

#[derive(Debug)]
struct Flight<T, S> {
    result: watch::Receiver<Option<T>>,
    shared: S,
}

/// The one that computes the result.
#[derive(Debug)]
pub struct Leader<T>(watch::Sender<Option<T>>);

/// Somebody who waits for it.
#[derive(Debug, Clone)]
pub struct Joiner<T>(watch::Receiver<Option<T>>);

/// The wait was over before there was a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoResult {
    /// The leader is gone.
    #[error("whoever computed the result is gone")]
    Abandoned,
    /// The joiner's time is up.
    #[error("the result did not come in time")]
    TimedOut,
}

impl<T, S> Default for SingleFlight<T, S> {
    fn default() -> Self {
        Self { flight: None }
    }
}

impl<T: Clone, S> SingleFlight<T, S> {
    /// Joins the flight that is under way, if there is one.
    #[must_use]
    pub fn join(&self) -> Option<(Joiner<T>, &S)> {
        let flight = self.under_way()?;
        Some((Joiner(flight.result.clone()), &flight.shared))
    }

    /// Starts one. Whoever is waiting for another one goes on to.
    pub fn lead(&mut self, shared: S) -> (Leader<T>, Joiner<T>) {
        let (sender, result) = watch::channel(None);
        self.flight = Some(Flight {
            result: result.clone(),
            shared,
        });
        (Leader(sender), Joiner(result))
    }

    /// From now on nobody joins; those that have joined get what the leader has for them.
    pub fn end(&mut self) {
        self.flight = None;
    }

    fn under_way(&self) -> Option<&Flight<T, S>> {
        // An error means that the leader is gone.
        let flight = self.flight.as_ref();
        flight.filter(|flight| flight.result.has_changed().is_ok())
    }
}

impl<T> Leader<T> {
    /// What all who joined get.
    pub fn finish(self, result: T) {
        self.0.send_replace(Some(result));
    }
}

impl<T: Clone> Joiner<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// Where there will be none.
    pub async fn wait(mut self) -> Result<T, NoResult> {
        let result = self.0.wait_for(Option::is_some).await;
        let result = result.map_err(|_dropped| NoResult::Abandoned)?;
        result.clone().ok_or(NoResult::Abandoned)
    }

    /// The same until then.
    ///
    /// # Errors
    /// Where there is none by then.
    pub async fn wait_until(self, deadline: Instant) -> Result<T, NoResult> {
        let waited = timeout_at(deadline, self.wait()).await;
        waited.unwrap_or(Err(NoResult::TimedOut))
    }
}

/// One flight for each key, and a bound on how many there are at a time.
#[derive(Debug)]
pub struct SingleFlights<K, T, S = ()> {
    flights: HashMap<K, SingleFlight<T, S>>,
    most: usize,
}

/// As many are under way as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many computations are under way as there may be")]
pub struct Full;

impl<K: Eq + Hash, T: Clone, S> SingleFlights<K, T, S> {
    /// None yet.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            flights: HashMap::new(),
            most,
        }
    }

    /// Joins the key's flight, if there is one.
    #[must_use]
    pub fn join(&self, key: &K) -> Option<(Joiner<T>, &S)> {
        self.flights.get(key)?.join()
    }

    /// Starts one.
    ///
    /// # Errors
    /// Where too many are under way.
    pub fn lead(&mut self, key: K, shared: S) -> Result<(Leader<T>, Joiner<T>), Full> {
        if self.flights.len() >= self.most {
            // Abandoned ones need no room.
            self.flights
                .retain(|_, flight| flight.under_way().is_some());
        }
        if self.flights.len() >= self.most {
            return Err(Full);
        }
        Ok(self.flights.entry(key).or_default().lead(shared))
    }

    /// As [`SingleFlight::end`], for that key.
    pub fn end(&mut self, key: &K) {
        self.flights.remove(key);
    }

    /// What is shared in each flight.
    pub fn under_way(&self) -> impl Iterator<Item = &S> {
        let flights = self.flights.values().filter_map(SingleFlight::under_way);
        flights.map(|flight| &flight.shared)
    }
}

#[cfg(test)]
mod tests;
