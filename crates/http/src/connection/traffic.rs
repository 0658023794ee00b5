//! Traffic of a caller's connection: payments under way, and whether anything moves at all.
//!
//! Written by the requests and by the stream; read only when Bursar is about to end, to tell a connection that
//! is of use from one that is not. Every number stands for itself, so no order is needed between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Looks at a quiet connection before it is called that.
const LOOKS: u32 = 4;

/// Requests under way that move money, on a connection and in all tunnels inside of it.
#[derive(Debug, Default)]
pub struct Payments(AtomicUsize);

/// The traffic of one connection.
#[derive(Debug, Default)]
pub struct Traffic {
    payments: Arc<Payments>,
    /// Counts reads and writes.
    moves: AtomicU64,
    /// Whether a write waits for the caller to read.
    is_writing: AtomicBool,
}

impl Traffic {
    /// None yet.
    #[must_use]
    pub fn new(payments: Arc<Payments>) -> Self {
        Self {
            payments,
            ..Self::default()
        }
    }

    /// A request that moves money begins.
    pub fn pay(&self) {
        self.payments.0.fetch_add(1, Ordering::Relaxed);
    }

    /// It is over.
    pub fn paid(&self) {
        self.payments.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn written(&self, is_done: bool) {
        self.is_writing.store(!is_done, Ordering::Relaxed);
        self.moves.fetch_add(u64::from(is_done), Ordering::Relaxed);
    }

    /// Whether a request that moves money is under way.
    #[must_use]
    pub fn moves_money(&self) -> bool {
        self.payments.0.load(Ordering::Relaxed) > 0
    }

    pub(super) async fn quiet_for(&self, time: Duration, is_busy: impl Fn() -> bool) {
        let mut seen = self.moves.load(Ordering::Relaxed);
        let mut quiet = 0;
        while quiet < LOOKS {
            tokio::time::sleep(time / LOOKS).await;
            let now = self.moves.load(Ordering::Relaxed);
            let is_idle = !is_busy() && !self.is_writing.load(Ordering::Relaxed);
            quiet = if is_idle && now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const TIME: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn neither_a_request_nor_a_byte_nor_a_waiting_write_is_quiet() {
        let traffic = Traffic::default();
        let start = Instant::now();
        let busy = async {
            traffic.pay();
            assert!(traffic.moves_money());
            tokio::time::sleep(TIME * 3).await;
            traffic.paid();
            assert!(!traffic.moves_money());
            tokio::time::sleep(TIME / 2).await;
            traffic.read();
            tokio::time::sleep(TIME / 2).await;
            traffic.written(false);
            tokio::time::sleep(TIME * 2).await;
            traffic.written(true);
        };
        tokio::join!(busy, traffic.quiet_for(TIME, || traffic.moves_money()));
        let quiet = start.elapsed() - TIME * 6;
        assert!(
            quiet >= TIME && quiet <= TIME + TIME / LOOKS * 2,
            "{quiet:?}"
        );
    }
}
