//! Steps of connecting: how far it has come, for the words of a time-out, which address was tried, and how the first failed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::{Error, Step};

/// An error, and the address that it is of. None: none was tried, or it may be another one's.
pub(super) type Failure = (Error, Option<SocketAddr>);

/// How far connecting has come.
#[derive(Debug, Default)]
pub struct Steps {
    step: AtomicU8,
    /// The one that is tried; of several nobody knows which one an error is of.
    only: OnceLock<SocketAddr>,
    /// The first one that was connected to.
    connected: OnceLock<SocketAddr>,
    /// The first one's that failed while there were others to be tried.
    failure: Mutex<Option<Failure>>,
}

impl Steps {
    pub(super) fn begin(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// These addresses are tried.
    pub(super) fn tries(&self, addresses: &[SocketAddr]) {
        if let [only] = addresses {
            // They are resolved once.
            let _is_first = self.only.set(*only);
        }
    }

    /// That one is connected to.
    pub(super) fn connected(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            let _is_first = self.connected.set(address);
        }
    }

    /// One has failed, and another one is tried.
    pub(super) fn failed(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was slow may fail in another way later.
        if first.as_ref().is_none_or(|first| first.1 == failure.1) {
            *first = Some(failure);
        }
    }

    /// How the first one failed, to be told once all have failed.
    pub(super) fn first_failure(&self) -> Option<Failure> {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.take()
    }

    /// The one that a time-out is of. None: none was tried, or it may be another one's.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.connected.get().or_else(|| self.only.get()).copied()
    }

    pub(super) fn step(&self) -> Step {
        let step = self.step.load(Ordering::Relaxed);
        let mut all = Step::ALL.into_iter();
        all.find(|known| *known as u8 == step).unwrap_or(Step::Tcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_one_that_was_begun_last_and_at_first_the_name() {
        let steps = Steps::default();
        assert_eq!(steps.step(), Step::Name);
        for step in Step::ALL {
            steps.begin(step);
            assert_eq!(steps.step(), step);
        }
    }

    #[test]
    fn the_address_is_the_one_that_an_error_is_of() {
        let [first, second] = [1, 2].map(|number| SocketAddr::from(([10, 0, 0, number], 443)));
        let steps = Steps::default();
        steps.tries(&[]);
        assert_eq!(steps.address(), None);
        steps.tries(&[first]);
        assert_eq!(steps.address(), Some(first));
        let steps = Steps::default();
        steps.tries(&[first, second]);
        assert_eq!(steps.address(), None);
        steps.connected(Some(second));
        assert_eq!(steps.address(), Some(second));
    }

    #[test]
    fn the_failure_that_is_told_is_the_first_addresss_and_its_last() {
        let address = |number| Some(SocketAddr::from(([10, 0, 0, number], 443)));
        let steps = Steps::default();
        steps.failed((Error::TimedOut(Step::Tls), address(1)));
        steps.failed((Error::NoProtocol, address(2)));
        steps.failed((Error::NoProtocol, address(1)));
        steps.failed((Error::TimedOut(Step::Tls), address(3)));
        let (error, told) = steps.first_failure().unwrap();
        assert!(matches!(error, Error::NoProtocol), "{error}");
        assert_eq!(told, address(1));
    }
}
