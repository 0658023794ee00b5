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
pub(super) struct Steps {
    step: AtomicU8,
    /// The first that was tried.
    pub(super) address: OnceLock<SocketAddr>,
}

impl Steps {
    pub(super) fn begin(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    pub(super) fn tries(&self, address: Option<SocketAddr>) {
        if let Some(first) = address {
            // A name is resolved once.
            let _is_first = self.address.set(first);
        }
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
    fn of_several_addresses_the_first_that_was_tried_is_told() {
        let steps = Steps::default();
        let [first, second] = [1, 2].map(|number| SocketAddr::from(([10, 0, 0, number], 443)));
        steps.tries(None);
        steps.tries(Some(first));
        steps.tries(Some(second));
        assert_eq!(steps.address.get(), Some(&first));
    }
}
