//! Signal from whoever follows the store to the one task that waits for it.

use tokio::sync::Notify;

/// Something may have happened.
#[derive(Debug, Default)]
pub struct Signal {
    /// A permit is kept for whoever does not wait just now.
    sent: Notify,
}

impl Signal {
    /// It has.
    pub fn send(&self) {
        self.sent.notify_one();
    }

    /// Waits until it has.
    pub async fn received(&self) {
        self.sent.notified().await;
    }
}
