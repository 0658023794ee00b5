//! Where are writes handed in? A bounded queue to the one thread that writes; nobody waits to get into it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use super::writer::Message;
use crate::config::OnFailure;
use crate::metrics::JournalSeries;

/// How long a request waits for a write.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(5);

/// A write failed, or took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct Unavailable;

/// Where writes are handed in.
#[derive(Debug)]
pub(super) struct Desk {
    queue: SyncSender<Message>,
    next_id: AtomicI64,
    pub(super) on_failure: OnFailure,
    series: JournalSeries,
}

impl Desk {
    pub(super) fn new(
        queue: SyncSender<Message>,
        next_id: i64,
        on_failure: OnFailure,
        series: JournalSeries,
    ) -> Self {
        Self {
            queue,
            next_id: AtomicI64::new(next_id),
            on_failure,
            series,
        }
    }

    /// The number of another row.
    pub(super) fn number(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn hand_in(&self, message: Message) -> Result<(), Unavailable> {
        let refused = match self.queue.try_send(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => "its queue is full",
            Err(TrySendError::Disconnected(_)) => "its thread has ended",
        };
        self.series.failed.inc();
        tracing::error!(reason = refused, "journal: not written");
        Err(Unavailable)
    }
}
