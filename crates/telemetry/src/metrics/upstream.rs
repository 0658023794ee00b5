//! Metrics of connections to providers' servers: those that could not be had, by cause, and until when certificates are
//! valid.

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::labels::Cause;
use super::registered::registered;

/// All providers'.
#[derive(Debug, Clone)]
pub struct UpstreamSeries {
    connect_failures: IntCounterVec,
    certificate_expiry: IntGaugeVec,
}

impl UpstreamSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let failures = Opts::new(
            "bursar_upstream_connect_failures_total",
            "Connections to servers of a provider that could not be had.",
        );
        let expiry = Opts::new(
            "bursar_upstream_certificate_expiry_timestamp_seconds",
            "When the certificate expires that a server of a provider showed last.",
        );
        Ok(Self {
            connect_failures: registered(
                registry,
                IntCounterVec::new(failures, &["provider", "cause"])?,
            )?,
            certificate_expiry: registered(
                registry,
                IntGaugeVec::new(expiry, &["provider", "host"])?,
            )?,
        })
    }

    /// Creates a provider's series of every cause.
    pub(super) fn declare(&self, provider: &str) {
        for cause in Cause::ALL {
            self.connect_failures
                .with_label_values(&[provider, cause.as_str()]);
        }
    }

    /// Counts a connection that could not be had.
    pub fn failed(&self, provider: &str, cause: Cause) {
        self.connect_failures
            .with_label_values(&[provider, cause.as_str()])
            .inc();
    }

    /// A server, with its port, has shown a certificate that ends then, in seconds since 1970.
    pub fn certificate(&self, provider: &str, host: &str, expiry: i64) {
        self.certificate_expiry
            .with_label_values(&[provider, host])
            .set(expiry);
    }

    /// The certificates that servers showed last, by provider and host: when each expires, in seconds since 1970.
    #[must_use]
    pub fn certificates(&self) -> Vec<(String, String, i64)> {
        let families = self.certificate_expiry.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let certificates = metrics.map(|metric| {
            let labels = metric.get_label();
            let value = |name: &str| {
                let label = labels.iter().find(|label| label.name() == name);
                label.map_or_else(String::new, |label| label.value().to_owned())
            };
            // Seconds since 1970 are exact.
            #[expect(clippy::cast_possible_truncation, reason = "it was a whole number")]
            let expiry = metric.get_gauge().get_value() as i64;
            (value("provider"), value("host"), expiry)
        });
        certificates.collect()
    }

    /// A server is not a provider's any more, or not shown any more.
    pub fn forget(&self, provider: &str, host: &str) {
        // None was shown, or TLS is not spoken there.
        drop(
            self.certificate_expiry
                .remove_label_values(&[provider, host]),
        );
    }
}
