//! Metrics of Bursar's own certificates: until when those are valid that it shows to callers and to providers.

use std::collections::BTreeSet;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::labels::NO_PROVIDER;
use super::registered::registered;
use bursar_config::Config;

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct CertificateSeries(IntGaugeVec);

impl CertificateSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let expiry = Opts::new(
            "bursar_certificate_expiry_timestamp_seconds",
            "When a certificate of Bursar's own expires.",
        );
        let expiry = IntGaugeVec::new(expiry, &["kind", "provider"])?;
        Ok(Self(registered(registry, expiry)?))
    }

    /// Those of a configuration, in place of those of the one before.
    pub(super) fn show(&self, config: &Config) {
        let listen = config.tls.as_ref().and_then(|tls| tls.expiry());
        let listen = listen.map(|expiry| (["listen", NO_PROVIDER], expiry));
        let clients = config.providers.iter();
        let clients = clients
            .filter_map(|provider| Some((["client", &*provider.name], provider.tls.expiry?)));
        let mut shown = BTreeSet::new();
        for (labels, expiry) in listen.into_iter().chain(clients) {
            self.0.with_label_values(&labels).set(expiry);
            shown.insert(labels.map(str::to_owned));
        }
        for labels in self.labels() {
            if !shown.contains(&labels) {
                drop(self.0.remove_label_values(&labels));
            }
        }
    }

    fn labels(&self) -> Vec<[String; 2]> {
        let families = self.0.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let labels = metrics.map(|metric| {
            let labels = metric.get_label();
            ["kind", "provider"].map(|name| {
                let label = labels.iter().find(|label| label.name() == name);
                label.map_or_else(String::new, |label| label.value().to_owned())
            })
        });
        labels.collect()
    }
}
