//! Scheduler of renewals ahead of expiry: one task with one queue for all sources.
//!
//! It starts flights one at a time with a pause between, so that neither start-up nor a common expiry
//! turns ten thousand accounts into ten thousand calls at once. It waits for none of them: a token
//! endpoint that hangs holds up nobody else's renewal. Requests that need a token do not come this way.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::source::{ScheduledRenewal, Source};

/// Between two flights that nobody waits for: at most 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// Runs until every source is gone; the queue keeps none alive.
pub(super) async fn run_schedule(mut schedule: mpsc::Receiver<ScheduledRenewal>) {
    let mut queue: DelayQueue<(usize, Weak<Source>)> = DelayQueue::new();
    let mut keys: HashMap<usize, Key> = HashMap::new();
    loop {
        tokio::select! {
            renewal = schedule.recv() => {
                let Some(ScheduledRenewal { source, at }) = renewal else { return };
                let Some(id) = source.upgrade().map(|source| source.id) else { continue };
                // One renewal to a source, the latest one: it knows the latest token or failure.
                if let Some(key) = keys.remove(&id) {
                    queue.remove(&key);
                }
                keys.insert(id, queue.insert_at((id, source), at));
            }
            Some(due) = poll_fn(|context| queue.poll_expired(context)), if !queue.is_empty() => {
                let (id, source) = due.into_inner();
                keys.remove(&id);
                if let Some(source) = source.upgrade() {
                    source.renew_if_due();
                    drop(source);
                    tokio::time::sleep(PACE).await;
                }
            }
        }
    }
}
