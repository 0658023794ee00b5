//! Metrics of a fleet.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::labels::{LeaseResult, Lookup};
use super::registered::registered;

/// A message on one network takes a millisecond; what takes a second is a store in trouble.
const PUSH_SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// What instances have in common. Only where a fleet is configured.
#[derive(Debug, Clone)]
pub struct FleetSeries {
    /// 1 while the store can be used.
    pub store_up: IntGauge,
    /// Instances that were heard of lately, this one too.
    pub members: IntGauge,
    lookups: [IntCounter; Lookup::COUNT],
    leases: [IntCounter; LeaseResult::COUNT],
    /// Tokens that came from other instances.
    pub adoptions: IntCounter,
    push_delay: Histogram,
}

impl FleetSeries {
    /// # Errors
    /// Where one of them is declared there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let counter = |name, help| {
            let options = Opts::new(name, help);
            registered(registry, IntCounterVec::new(options, &["result"])?)
        };
        let lookups = counter(
            "bursar_fleet_lookups_total",
            "Looks at the fleet's store for a token.",
        )?;
        let leases = counter(
            "bursar_fleet_leases_total",
            "Leases of token keys that were asked for, and those that ended before they were given back.",
        )?;
        let adoptions = IntCounter::new(
            "bursar_fleet_adoptions_total",
            "Tokens that came from other instances of the fleet.",
        )?;
        let delay = HistogramOpts::new(
            "bursar_fleet_push_delay_seconds",
            "From when a token was published until this instance had it.",
        );
        let delay = Histogram::with_opts(delay.buckets(PUSH_SECONDS.to_vec()))?;
        Ok(Self {
            store_up: gauge(
                "bursar_fleet_store_up",
                "1 while the fleet's store can be used.",
            )?,
            members: gauge(
                "bursar_fleet_members",
                "Instances of the fleet that were heard of lately, this one too.",
            )?,
            lookups: Lookup::ALL.map(|result| lookups.with_label_values(&[result.as_str()])),
            leases: LeaseResult::ALL.map(|result| leases.with_label_values(&[result.as_str()])),
            adoptions: registered(registry, adoptions)?,
            push_delay: registered(registry, delay)?,
        })
    }

    /// Counts a look at the store.
    pub fn looked(&self, result: Lookup) {
        self.lookups[result as usize].inc();
    }

    /// Counts what became of a lease.
    pub fn leased(&self, result: LeaseResult) {
        self.leases[result as usize].inc();
    }

    /// A token was pushed, that long after it was published.
    pub fn pushed(&self, after: Duration) {
        self.push_delay.observe(after.as_secs_f64());
    }
}
