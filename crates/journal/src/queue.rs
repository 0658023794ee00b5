//! The queue of writes: bounded, to the one thread that writes; nobody waits to get into it.
//!
//! New requests have a part of it only, so that what has begun finds room while the disk stands still: how a
//! request ended must not get lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::message_queue::{MessageSender, Urgency};
use super::writer::Message;
use bursar_config::OnFailure;
use bursar_telemetry::metrics::JournalSeries;

/// How long a request waits for a write.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(5);

/// What waits to be written; beyond that a write fails at once.
pub(super) const MAX_QUEUE: usize = 65_536;
/// Of that, requests that are about to be sent; beyond that they are refused.
pub(super) const MAX_SENDING: usize = MAX_QUEUE / 4;

/// A write failed, or took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct Unavailable;

/// The end of the queue where writes are handed in.
#[derive(Debug)]
pub(super) struct Queue {
    sender: MessageSender<Message>,
    next_id: AtomicI64,
    sending: Arc<Semaphore>,
    pub(super) on_failure: OnFailure,
    series: JournalSeries,
}

impl Queue {
    pub(super) fn new(
        sender: MessageSender<Message>,
        next_id: i64,
        on_failure: OnFailure,
        series: JournalSeries,
    ) -> Self {
        Self {
            sender,
            next_id: AtomicI64::new(next_id),
            sending: Arc::new(Semaphore::new(MAX_SENDING)),
            on_failure,
            series,
        }
    }

    /// The number of another row.
    pub(super) fn number(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Room for a request that is about to be sent. None: it goes without.
    ///
    /// # Errors
    /// Where there is none, and such requests are refused then.
    pub(super) fn room(&self) -> Result<Option<OwnedSemaphorePermit>, Unavailable> {
        let room = self.sending.clone().try_acquire_owned().ok();
        if room.is_none() && self.on_failure == OnFailure::Refuse {
            self.series.failed.inc();
            return Err(Unavailable);
        }
        Ok(room)
    }

    pub(super) fn hand_in(&self, message: Message, urgency: Urgency) -> Result<(), Unavailable> {
        self.sender.send(message, urgency).map_err(|reason| {
            self.series.failed.inc();
            tracing::error!(%reason, "journal: not written");
            Unavailable
        })
    }
}
