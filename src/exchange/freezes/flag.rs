//! Flag of a provider's payments, which requests read on their way.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether requests that move money pass.
#[derive(Debug, Default)]
pub(in crate::exchange) struct PaymentFlag(AtomicU8);

/// What the flag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::exchange) enum Payments {
    /// They pass.
    Pass = 0,
    /// An operator has frozen the provider.
    Frozen = 1,
    /// This instance has not read yet what the fleet has frozen.
    NotKnown = 2,
}

impl PaymentFlag {
    pub(in crate::exchange) fn set(&self, payments: Payments) {
        self.0.store(payments as u8, Ordering::Relaxed);
    }

    pub(in crate::exchange) fn payments(&self) -> Payments {
        match self.0.load(Ordering::Relaxed) {
            0 => Payments::Pass,
            2 => Payments::NotKnown,
            _ => Payments::Frozen,
        }
    }
}
