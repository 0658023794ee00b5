//! Metrics of the configuration: which is in force, and how the last attempt to read it again ended.

use std::time::UNIX_EPOCH;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::labels::Reload;
use super::registered::registered;
use bursar_base::clock;
use bursar_base::secret::Fingerprint;

/// The configuration that is in force.
#[derive(Debug, Clone)]
pub(super) struct ConfigurationSeries {
    reloads: IntCounterVec,
    is_successful: IntGauge,
    last: IntGauge,
    info: IntGaugeVec,
}

impl ConfigurationSeries {
    /// As at the start, which is no reload.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = Opts::new(
            "bursar_config_reloads_total",
            "Attempts to re-read the configuration.",
        );
        let reloads = registered(registry, IntCounterVec::new(reloads, &["outcome"])?)?;
        for outcome in Reload::ALL {
            reloads.with_label_values(&[outcome.as_str()]);
        }
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let info = Opts::new(
            "bursar_config_info",
            "Always 1; the label is the first 12 hexadecimal digits of the SHA-256 of the text of the file that is in force.",
        );
        let series = Self {
            reloads,
            is_successful: gauge(
                "bursar_config_last_reload_successful",
                "0 where the configuration was last rejected when it was re-read.",
            )?,
            last: gauge(
                "bursar_config_last_reload_timestamp_seconds",
                "When the configuration was last re-read, whatever came of it; before, when Bursar started.",
            )?,
            info: registered(registry, IntGaugeVec::new(info, &["hash"])?)?,
        };
        series.ended(Reload::Ok);
        Ok(series)
    }

    /// An attempt to read it again has ended.
    pub(super) fn reloaded(&self, outcome: Reload) {
        self.reloads.with_label_values(&[outcome.as_str()]).inc();
        self.ended(outcome);
    }

    /// How many attempts ended like that.
    pub(super) fn count(&self, outcome: Reload) -> u64 {
        self.reloads.with_label_values(&[outcome.as_str()]).get()
    }

    fn ended(&self, outcome: Reload) {
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.set(now.as_secs().cast_signed());
        self.is_successful.set(i64::from(outcome == Reload::Ok));
    }

    /// A file with that hash is in force.
    pub(super) fn show(&self, hash: Fingerprint) {
        self.info.reset();
        self.info.with_label_values(&[hash.as_str()]).set(1);
    }
}
