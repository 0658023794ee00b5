//! Signal that decisions on providers are to be read again: whoever follows the store sends it, one task waits for it.

use tokio::sync::Notify;

/// When to read again.
#[derive(Debug, Default)]
pub struct FreezeSignal {
    /// A permit is kept for whoever is reading meanwhile.
    sent: Notify,
}

impl FreezeSignal {
    /// They may have changed.
    pub fn send(&self) {
        self.sent.notify_one();
    }

    /// Waits until they may have changed.
    pub async fn received(&self) {
        self.sent.notified().await;
    }
}
