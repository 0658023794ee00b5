//! Metrics of the journal.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::registered::registered;

/// The journal of requests that move money.
#[derive(Debug, Clone)]
pub struct JournalSeries {
    /// Steps that were written.
    pub written: IntCounter,
    /// Steps that could not be.
    pub failed: IntCounter,
    /// Requests in doubt, apart from those under way.
    pub unresolved: IntGauge,
    /// The size of its files.
    pub bytes: IntGauge,
    /// As large as they may become.
    pub max_bytes: IntGauge,
    /// What is left of their disk.
    pub disk_free: IntGauge,
}

impl JournalSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let writes = Opts::new(
            "bursar_journal_writes_total",
            "Phases of requests that move money, as they were written down.",
        );
        let writes = registered(registry, IntCounterVec::new(writes, &["result"])?)?;
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        Ok(Self {
            written: writes.with_label_values(&["ok"]),
            failed: writes.with_label_values(&["failed"]),
            unresolved: gauge("bursar_journal_unresolved", "Requests in doubt.")?,
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
        })
    }
}
