//! Flag of a provider's payments, which requests read on their way.
//!
//! Until when they pass is told by the clock that goes on while the machine is suspended: what was known before that says
//! nothing of what was decided meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bursar_base::clock;

/// Whether requests that move money pass.
#[derive(Debug)]
pub(in crate::exchange) struct PaymentFlag {
    /// [`PASS`], [`FROZEN`], [`NOT_KNOWN`], or that they pass until so many milliseconds after the machine's start.
    state: AtomicU64,
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
        }
    }
}

impl PaymentFlag {
    /// What passes does so until then, by [`clock::since_start`]: after that it is not known any more. None: for good.
    pub(in crate::exchange) fn set(&self, payments: Payments, until: Option<Duration>) {
        let state = match (payments, until) {
            (Payments::Pass, None) => PASS,
            (Payments::Pass, Some(until)) => {
                let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
                until.clamp(PASS + 1, NOT_KNOWN - 1)
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
            until if clock::since_start() < Duration::from_millis(until) => Payments::Pass,
            _ => Payments::NotKnown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Here `Instant` stands still, as it does while the machine is suspended.
    #[tokio::test(start_paused = true)]
    async fn what_passes_until_then_is_not_known_from_then_on_though_instants_stand_still() {
        let flag = PaymentFlag::default();
        assert_eq!(flag.payments(), Payments::Pass);
        let until = clock::since_start() + Duration::from_millis(200);
        flag.set(Payments::Pass, Some(until));
        while flag.payments() == Payments::Pass {
            assert!(clock::since_start() < until + Duration::from_secs(30));
        }
        assert_eq!(flag.payments(), Payments::NotKnown);
        // Less what is no whole millisecond.
        assert!(clock::since_start() + Duration::from_millis(1) >= until);
        // A freeze does not end.
        flag.set(Payments::Frozen, Some(until));
        assert_eq!(flag.payments(), Payments::Frozen);
        flag.set(Payments::Pass, None);
        assert_eq!(flag.payments(), Payments::Pass);
    }
}
