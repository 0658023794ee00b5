//! Collectors that are registered as soon as they are made, so that none is counted in vain.

use prometheus::Registry;
use prometheus::core::Collector;

/// The collector, which the registry knows from now on.
pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
