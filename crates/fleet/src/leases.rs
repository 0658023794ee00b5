//! Count of the leases that this instance holds, for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are held now.
#[derive(Debug, Default)]
pub(crate) struct LeaseCount(Arc<AtomicUsize>);

/// One that is held; dropping it takes it off the count.
#[derive(Debug)]
pub struct HeldLease(Arc<AtomicUsize>);

impl LeaseCount {
    pub(crate) fn hold(&self) -> HeldLease {
        self.0.fetch_add(1, Ordering::Relaxed);
        HeldLease(self.0.clone())
    }

    pub(crate) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
