//! Attended decision: whether the fleet's store may have what an operator decides just now and waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bursar_fleet::{FreezeError, Written};

/// A provider that somebody decides on just now.
pub(super) struct Attended<'a> {
    provider: &'a Arc<str>,
    /// Whether the store may have the decision, with a response or without.
    may_be_written: AtomicBool,
}

impl<'a> Attended<'a> {
    pub(super) const fn new(provider: &'a Arc<str>) -> Self {
        Self {
            provider,
            may_be_written: AtomicBool::new(false),
        }
    }

    pub(super) fn is(&self, provider: &Arc<str>) -> bool {
        self.provider == provider
    }

    pub(super) fn may_be_written(&self) -> bool {
        self.may_be_written.load(Ordering::Relaxed)
    }

    /// Notes what becomes of the decision while it is written.
    pub(super) async fn note(
        &self,
        writing: impl Future<Output = Result<Written, FreezeError>>,
    ) -> Result<Written, FreezeError> {
        // Whoever waits for the response may give up first.
        self.may_be_written.store(true, Ordering::Relaxed);
        let written = writing.await;
        let may_be_written = match &written {
            Ok(written) => *written == Written::Yes,
            Err(error) => error.may_be_written(),
        };
        self.may_be_written.store(may_be_written, Ordering::Relaxed);
        written
    }
}
