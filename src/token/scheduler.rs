//! When is a token renewed ahead of its end? One task with one queue of appointments for all sources.
//!
//! It starts flights one at a time with a pause between, so that neither start-up nor a common expiry
//! turns ten thousand accounts into ten thousand calls at once. It waits for none of them: a token
//! endpoint that hangs holds up nobody else's renewal. Requests that need a token do not come this way.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::source::Source;

/// Between two flights that nobody waits for: at most 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// When a source wants to be looked after.
pub(super) struct Appointment {
    pub(super) source: Weak<Source>,
    pub(super) at: Instant,
}

/// Runs until every source is gone; the queue keeps none alive.
pub(super) async fn keep_appointments(mut appointments: mpsc::Receiver<Appointment>) {
    let mut queue: DelayQueue<(usize, Weak<Source>)> = DelayQueue::new();
    let mut keys: HashMap<usize, Key> = HashMap::new();
    loop {
        tokio::select! {
            appointment = appointments.recv() => {
                let Some(Appointment { source, at }) = appointment else { return };
                let Some(id) = source.upgrade().map(|source| source.id) else { continue };
                // One appointment to a source, the latest one: it knows the latest token or failure.
                if let Some(key) = keys.remove(&id) {
                    queue.remove(&key);
                }
                keys.insert(id, queue.insert_at((id, source), at));
            }
            Some(due) = poll_fn(|context| queue.poll_expired(context)), if !queue.is_empty() => {
                let (id, source) = due.into_inner();
                keys.remove(&id);
                if let Some(source) = source.upgrade() {
                    source.keep_appointment();
                    drop(source);
                    tokio::time::sleep(PACE).await;
                }
            }
        }
    }
}
