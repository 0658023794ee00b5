//! Secret in use: which of an account's two secrets works, remembered for all tokens of the account.

use std::sync::atomic::{AtomicBool, Ordering};

use bursar_config::SecretName;

/// Shared by the sources of one account. Flights write it, and each begins with what it says; two at once
/// that find out different things cost a call and nothing else.
#[derive(Debug, Default)]
pub(super) struct SecretInUse {
    is_next: AtomicBool,
}

impl SecretInUse {
    /// The one that the endpoint took last.
    pub(super) fn name(&self) -> SecretName {
        if self.is_next.load(Ordering::Relaxed) {
            SecretName::Next
        } else {
            SecretName::Current
        }
    }

    /// The endpoint takes this one; whether that is news.
    pub(super) fn remember(&self, name: SecretName) -> bool {
        let is_next = name == SecretName::Next;
        self.is_next.swap(is_next, Ordering::Relaxed) != is_next
    }
}
