//! Collectors that are registered as soon as they are made, so that none is counted in vain.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, Registry};

/// The collector, which the registry knows from now on.
pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// A family of histograms with those buckets, registered.
pub(super) fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(options, labels)?)
}
