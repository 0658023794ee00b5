//! When is a token renewed ahead of its end? One task with one queue of appointments for all cells.
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

use super::source::Cell;

/// Between two flights that nobody waits for: at most 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// When a cell wants to be looked after.
pub(super) struct Appointment {
    pub(super) cell: Weak<Cell>,
    pub(super) at: Instant,
}

/// Runs until every cell is gone; the queue keeps none alive.
pub(super) async fn keep_appointments(mut appointments: mpsc::Receiver<Appointment>) {
    let mut queue: DelayQueue<(usize, Weak<Cell>)> = DelayQueue::new();
    let mut keys: HashMap<usize, Key> = HashMap::new();
    loop {
        tokio::select! {
            appointment = appointments.recv() => {
                let Some(Appointment { cell, at }) = appointment else { return };
                let Some(id) = cell.upgrade().map(|cell| cell.id) else { continue };
                // One appointment to a cell, the latest one: it knows the latest token or failure.
                if let Some(key) = keys.remove(&id) {
                    queue.remove(&key);
                }
                keys.insert(id, queue.insert_at((id, cell), at));
            }
            Some(due) = poll_fn(|context| queue.poll_expired(context)), if !queue.is_empty() => {
                let (id, cell) = due.into_inner();
                keys.remove(&id);
                if let Some(cell) = cell.upgrade() {
                    cell.keep_appointment();
                    drop(cell);
                    tokio::time::sleep(PACE).await;
                }
            }
        }
    }
}
