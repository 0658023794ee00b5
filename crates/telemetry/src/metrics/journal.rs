//! Metrics of the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::registered::registered;

/// The journal of requests that move money.
#[derive(Debug, Clone)]
pub struct JournalSeries {
    /// Steps that were written.
    pub written: IntCounter,
    /// Steps that could not be.
    pub failed: IntCounter,
    /// How often its log was synchronised with the disk.
    pub syncs: IntCounter,
    unresolved: IntGaugeVec,
    oldest: IntGaugeVec,
    /// The size of its files.
    pub bytes: IntGauge,
    /// As large as they may become.
    pub max_bytes: IntGauge,
    /// What is left of their disk.
    pub disk_free: IntGauge,
    /// For the admin port alone: a metric has the writes that failed.
    is_failing: Arc<AtomicBool>,
}

impl JournalSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let writes = Opts::new(
            "bursar_journal_writes_total",
            "Phases of requests that move money, as they were written down.",
        );
        let writes = registered(registry, IntCounterVec::new(writes, &["result"])?)?;
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let by_provider = |name: &str, help: &str| {
            let options = Opts::new(name, help);
            registered(registry, IntGaugeVec::new(options, &["provider"])?)
        };
        Ok(Self {
            written: writes.with_label_values(&["ok"]),
            failed: writes.with_label_values(&["failed"]),
            syncs: registered(
                registry,
                IntCounter::new(
                    "bursar_journal_syncs_total",
                    "How often the journal's log was synchronised with its disk, for one request or many.",
                )?,
            )?,
            unresolved: by_provider("bursar_journal_unresolved", "Requests in doubt.")?,
            oldest: by_provider(
                "bursar_journal_oldest_unresolved_timestamp_seconds",
                "When the oldest request in doubt came; absent while there is none.",
            )?,
            bytes: gauge(
                "bursar_journal_bytes",
                "The size of the journal's files: its database and SQLite's log beside it.",
            )?,
            max_bytes: gauge(
                "bursar_journal_max_bytes",
                "As large as the journal's files may become; beyond that requests that move money are refused.",
            )?,
            disk_free: gauge(
                "bursar_journal_disk_free_bytes",
                "What is left of the disk that the journal is on.",
            )?,
            is_failing: Arc::default(),
        })
    }

    /// Makes a provider's series known while nothing is in doubt there.
    pub(super) fn declare(&self, provider: &str) {
        self.unresolved.with_label_values(&[provider]);
    }

    /// Whether it cannot be written as it is now. One thread says so, the admin port reads.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Shows that.
    pub fn show_failing(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Relaxed);
    }

    /// So many requests of a provider are in doubt, apart from those under way; the oldest came then.
    pub fn show_unresolved(&self, provider: &str, count: i64, oldest: Option<SystemTime>) {
        self.unresolved.with_label_values(&[provider]).set(count);
        match oldest {
            Some(oldest) => {
                let since = oldest.duration_since(UNIX_EPOCH).unwrap_or_default();
                let gauge = self.oldest.with_label_values(&[provider]);
                gauge.set(since.as_secs().cast_signed());
            }
            // It may not have been there.
            None => drop(self.oldest.remove_label_values(&[provider])),
        }
    }
}
