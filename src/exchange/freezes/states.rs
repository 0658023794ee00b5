//! States of all providers: the last decision on each, and the flag that requests read.
//!
//! Whoever decides or reads the store writes decisions, one at a time (`deciding` in [`super::Freezes`]); a reload writes
//! what the file freezes, and one task ends what ends by itself. The lock here orders them, and those who look a provider
//! up. Flag and series are written under it, so that they always follow from the state.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::flag::{PaymentFlag, Payments};
use super::merge::Held;
use bursar_telemetry::metrics::Metrics;

/// Timers stand still while the machine is suspended: for longer than that nobody waits before looking at the clock again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct States {
    metrics: Metrics,
    all: Mutex<All>,
    /// Told when the next freeze may end sooner than it was said; one task waits for it.
    ends_changed: Notify,
}

#[derive(Debug)]
struct All {
    known: Known,
    /// One that a reload removes keeps its state until it comes back.
    by_name: HashMap<Arc<str>, State>,
}

/// What this instance knows of what the fleet has frozen.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// False: nothing yet.
    is_known: bool,
    /// Until when it is believed, by [`bursar_base::clock::since_start`]. None: for good, because nobody else decides.
    until: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    flag: Arc<PaymentFlag>,
    /// Freezes that are about to be decided: they hold already.
    begun: usize,
    held: Option<Held>,
    /// Since when the file freezes it. None: it does not.
    in_file: Option<SystemTime>,
    /// Whether it is in this instance's configuration. The fleet may decide on others, too, and the journal may know of
    /// one that is gone.
    is_configured: bool,
}

/// A freeze that holds although it is not decided yet.
pub(super) struct Begun<'a> {
    states: &'a States,
    provider: Arc<str>,
}

impl States {
    pub(super) fn new(metrics: &Metrics, is_known: bool) -> Self {
        let by_name = HashMap::new();
        Self {
            metrics: metrics.clone(),
            all: Mutex::new(All {
                known: Known {
                    is_known,
                    until: None,
                },
                by_name,
            }),
            ends_changed: Notify::new(),
        }
    }

    /// The flag of a provider, for as long as Bursar runs.
    pub(super) fn flag(&self, provider: &Arc<str>) -> Arc<PaymentFlag> {
        self.change(provider, |state| {
            state.is_configured = true;
            state.flag.clone()
        })
    }

    /// From now on, and until what this returns is dropped, at least.
    pub(super) fn begin_freeze(&self, provider: &Arc<str>) -> Begun<'_> {
        self.change(provider, |state| state.begun += 1);
        Begun {
            states: self,
            provider: provider.clone(),
        }
    }

    /// The last decision on a provider.
    pub(super) fn held(&self, provider: &str) -> Option<Held> {
        self.lock().by_name.get(provider)?.held.clone()
    }

    /// A decision takes the place of the one before.
    pub(super) fn hold(&self, provider: &Arc<str>, mut held: Held) {
        let now = Instant::now();
        held.has_ended |= held.ends.is_some_and(|end| end.is_over(now));
        self.change(provider, |state| state.held = Some(held));
        self.ends_changed.notify_one();
    }

    /// Since when the file freezes a provider.
    pub(super) fn in_file(&self, provider: &str) -> Option<SystemTime> {
        self.lock().by_name.get(provider)?.in_file
    }

    /// Whether a provider of that name is in this instance's configuration.
    pub(super) fn is_configured(&self, provider: &str) -> bool {
        let all = self.lock();
        let state = all.by_name.get(provider);
        state.is_some_and(|state| state.is_configured)
    }

    /// From now on the file freezes these and no others, and has those that are configured and no others. Those of them
    /// that it has not frozen before, and those that it does not freeze any more.
    pub(super) fn follow_file(
        &self,
        frozen: &[Arc<str>],
        configured: &HashSet<Arc<str>>,
        now: SystemTime,
    ) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let all = &mut *self.lock();
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for (name, state) in &mut all.by_name {
            state.is_configured = configured.contains(name);
            match (frozen.contains(name), state.in_file) {
                (true, None) => {
                    state.in_file = Some(now);
                    new.push(name.clone());
                }
                (false, Some(_)) => {
                    state.in_file = None;
                    gone.push(name.clone());
                }
                (true, Some(_)) | (false, None) => {}
            }
            self.show(name, state, all.known);
        }
        (new, gone)
    }

    /// Waits until freezes have ended by themselves, and ends them.
    pub(super) async fn next_ended(&self) -> Vec<Arc<str>> {
        loop {
            let changed = self.ends_changed.notified();
            match self.next_end(Instant::now()) {
                Some(left) => drop(timeout(left.min(LOOK_AGAIN), changed).await),
                None => changed.await,
            }
            let ended = self.end(Instant::now());
            if !ended.is_empty() {
                return ended;
            }
        }
    }

    fn next_end(&self, now: Instant) -> Option<Duration> {
        let all = self.lock();
        let held = all.by_name.values().filter_map(|state| state.held.as_ref());
        let frozen = held.filter(|held| held.is_frozen());
        let left = frozen.filter_map(|held| Some(held.ends?.left(now)));
        left.min()
    }

    fn end(&self, now: Instant) -> Vec<Arc<str>> {
        let all = &mut *self.lock();
        let mut ended = Vec::new();
        for (name, state) in &mut all.by_name {
            let Some(held) = &mut state.held else {
                continue;
            };
            if held.is_frozen() && held.ends.is_some_and(|end| end.is_over(now)) {
                held.has_ended = true;
                ended.push(name.clone());
                self.show(name, state, all.known);
            }
        }
        ended
    }

    /// The last decisions on all providers.
    pub(super) fn all_held(&self) -> Vec<(Arc<str>, Held)> {
        let all = self.lock();
        let held = all.by_name.iter();
        let held = held.filter_map(|(name, state)| Some((name.clone(), state.held.clone()?)));
        held.collect()
    }

    pub(super) fn is_known(&self) -> bool {
        self.lock().known.is_known
    }

    /// What is not frozen now passes, until then by [`bursar_base::clock::since_start`].
    pub(super) fn known_until(&self, until: Duration) {
        let all = &mut *self.lock();
        all.known = Known {
            is_known: true,
            until: Some(until),
        };
        for state in all.by_name.values() {
            state.set_flag(all.known);
        }
    }

    fn change<T>(&self, provider: &Arc<str>, change: impl FnOnce(&mut State) -> T) -> T {
        let all = &mut *self.lock();
        let state = all.by_name.entry(provider.clone()).or_default();
        let changed = change(state);
        self.show(provider, state, all.known);
        changed
    }

    fn show(&self, provider: &str, state: &State, all: Known) {
        state.set_flag(all);
        let is_frozen = state.is_configured.then(|| state.is_frozen());
        self.metrics.frozen(provider, is_frozen);
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_frozen(&self) -> bool {
        let by_command = self.held.as_ref().is_some_and(Held::is_frozen);
        self.begun > 0 || self.in_file.is_some() || by_command
    }

    fn set_flag(&self, known: Known) {
        let payments = match (self.is_frozen(), known.is_known) {
            (true, _) => Payments::Frozen,
            (false, true) => Payments::Pass,
            (false, false) => Payments::NotKnown,
        };
        self.flag.set(payments, known.until);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.states.change(&self.provider, |state| {
            state.begun = state.begun.saturating_sub(1);
        });
    }
}
