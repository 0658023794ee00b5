//! States of all providers: the last decision on each, and the flag that requests read.
//!
//! Whoever decides or reads the store writes them, one at a time (`deciding` in [`super::Freezes`]); the lock here is for
//! those who look a provider up. Flag and series are written under it, so that they always follow from the state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flag::{PaymentFlag, Payments};
use super::merge::Held;
use bursar_telemetry::metrics::Metrics;

#[derive(Debug)]
pub(super) struct States {
    metrics: Metrics,
    all: Mutex<All>,
}

#[derive(Debug)]
struct All {
    /// False: what the fleet has frozen is not known yet.
    is_known: bool,
    /// One that a reload removes keeps its state until it comes back.
    by_name: HashMap<Arc<str>, State>,
}

#[derive(Debug, Default)]
struct State {
    flag: Arc<PaymentFlag>,
    /// Freezes that are about to be decided: they hold already.
    begun: usize,
    held: Option<Held>,
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
            all: Mutex::new(All { is_known, by_name }),
        }
    }

    /// The flag of a provider, for as long as Bursar runs.
    pub(super) fn flag(&self, provider: &Arc<str>) -> Arc<PaymentFlag> {
        self.change(provider, |state| state.flag.clone())
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
    pub(super) fn hold(&self, provider: &Arc<str>, held: Held) {
        self.change(provider, |state| state.held = Some(held));
    }

    /// The last decisions on all providers.
    pub(super) fn all_held(&self) -> Vec<(Arc<str>, Held)> {
        let all = self.lock();
        let held = all.by_name.iter();
        let held = held.filter_map(|(name, state)| Some((name.clone(), state.held.clone()?)));
        held.collect()
    }

    pub(super) fn is_known(&self) -> bool {
        self.lock().is_known
    }

    /// What is not frozen now passes.
    pub(super) fn now_known(&self) {
        let all = &mut *self.lock();
        all.is_known = true;
        for (name, state) in &all.by_name {
            self.show(name, state, true);
        }
    }

    fn change<T>(&self, provider: &Arc<str>, change: impl FnOnce(&mut State) -> T) -> T {
        let all = &mut *self.lock();
        let state = all.by_name.entry(provider.clone()).or_default();
        let changed = change(state);
        self.show(provider, state, all.is_known);
        changed
    }

    fn show(&self, provider: &str, state: &State, is_known: bool) {
        let held = state.held.as_ref();
        let is_frozen = state.begun > 0 || held.is_some_and(|held| held.decision.is_frozen);
        state.flag.set(match (is_frozen, is_known) {
            (true, _) => Payments::Frozen,
            (false, true) => Payments::Pass,
            (false, false) => Payments::NotKnown,
        });
        self.metrics.frozen(provider, is_frozen);
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.states.change(&self.provider, |state| {
            state.begun = state.begun.saturating_sub(1);
        });
    }
}
