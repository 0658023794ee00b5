//! Flag of a provider's payments, which requests read on their way.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// Whether requests that move money pass.
#[derive(Debug)]
pub(in crate::exchange) struct PaymentFlag {
    /// [`PASS`], [`FROZEN`], [`NOT_KNOWN`], or that they pass until so many milliseconds after `made`.
    state: AtomicU64,
    made: Instant,
}

/// They pass for good.
const PASS: u64 = 0;
const FROZEN: u64 = u64::MAX;
const NOT_KNOWN: u64 = u64::MAX - 1;

/// What the flag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) enum Payments {
    /// They pass.
    Pass,
    /// An operator has frozen the provider.
    Frozen,
    /// This instance does not know what the fleet has frozen.
    NotKnown,
}

impl Default for PaymentFlag {
    fn default() -> Self {
        Self {
            state: AtomicU64::new(PASS),
            made: Instant::now(),
        }
    }
}

impl PaymentFlag {
    /// What passes does so until then: after that it is not known any more. None: for good.
    pub(in crate::exchange) fn set(&self, payments: Payments, until: Option<Instant>) {
        let state = match (payments, until) {
            (Payments::Pass, None) => PASS,
            (Payments::Pass, Some(until)) => {
                let left = until.saturating_duration_since(self.made).as_millis();
                u64::try_from(left).map_or(PASS, |left| left.clamp(1, NOT_KNOWN - 1))
            }
            (Payments::Frozen, _) => FROZEN,
            (Payments::NotKnown, _) => NOT_KNOWN,
        };
        self.state.store(state, Ordering::Relaxed);
    }

    pub(in crate::exchange) fn payments(&self) -> Payments {
        match self.state.load(Ordering::Relaxed) {
            PASS => Payments::Pass,
            FROZEN => Payments::Frozen,
            NOT_KNOWN => Payments::NotKnown,
            until if self.made.elapsed().as_millis() < u128::from(until) => Payments::Pass,
            _ => Payments::NotKnown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_until_an_instant_is_not_known_from_then_on() {
        let flag = PaymentFlag::default();
        assert_eq!(flag.payments(), Payments::Pass);
        let until = Instant::now() + Duration::from_secs(2);
        flag.set(Payments::Pass, Some(until));
        tokio::time::advance(Duration::from_millis(1999)).await;
        assert_eq!(flag.payments(), Payments::Pass);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(flag.payments(), Payments::NotKnown);
        // A freeze does not end.
        flag.set(Payments::Frozen, Some(until));
        assert_eq!(flag.payments(), Payments::Frozen);
        flag.set(Payments::Pass, None);
        assert_eq!(flag.payments(), Payments::Pass);
    }
}
