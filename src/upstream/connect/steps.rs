//! Steps of connecting: how far it has come, for the words of a time-out, and the address that was tried.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// What was being done when the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The name was being resolved.
    Name,
    /// TCP was being connected.
    Tcp,
    /// The parent proxy was connecting, or was being connected to.
    Parent,
    /// TLS was shaking hands.
    Tls,
}

impl Step {
    pub(super) const ALL: [Self; 4] = [Self::Name, Self::Tcp, Self::Parent, Self::Tls];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "to resolve the name",
            Self::Tcp => "to connect",
            Self::Parent => "to connect through the parent proxy",
            Self::Tls => "in the TLS handshake",
        }
    }
}

/// How far connecting has come.
#[derive(Debug, Default)]
pub struct Steps {
    step: AtomicU8,
    /// The one that is tried; of several nobody knows which one an error is of.
    only: OnceLock<SocketAddr>,
    /// The one that is connected to.
    connected: OnceLock<SocketAddr>,
}

impl Steps {
    pub(super) fn begin(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// These addresses are tried.
    pub(super) fn tries(&self, addresses: &[SocketAddr]) {
        if let [only] = addresses {
            // A name is resolved once.
            let _is_first = self.only.set(*only);
        }
    }

    /// That one is connected to.
    pub(super) fn connected(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            let _is_first = self.connected.set(address);
        }
    }

    /// The one that an error is of. None: none was tried, or it may be another one's.
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
}
