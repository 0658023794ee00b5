//! What is the process to the system? How many files it may open, and who may look into it.
//!
//! Nothing is kept here: the system is asked each time, because others may change its limits while Bursar runs.
//! It hands out the lowest number that is free to each new descriptor, so a high number means that few are left.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Descriptors that are not for callers' connections, nor for those to providers' APIs: for the admin port, token
/// calls, names that are looked up, the journal and the log. Where there are few, a quarter of them.
const RESERVE: u64 = 256;
/// For a caller's connection: its own, and one for the provider that it leads to.
const PER_CONNECTION: u64 = 2;

/// How many descriptors the process may have.
fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Those that are left without the reserve.
const fn without_reserve(descriptors: u64) -> u64 {
    let quarter = descriptors / 4;
    descriptors - if quarter < RESERVE { quarter } else { RESERVE }
}

/// Has the system allow as many descriptors as the process may ask for. How many that are.
pub fn raise_descriptor_limit() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        ..limits
    };
    if limits.current != limits.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "cannot raise the limit of open files to what the process may have");
    }
    descriptors()
}

/// How many of the callers' connections that are wanted there are descriptors for; never none.
#[must_use]
pub fn connections(wanted: usize) -> usize {
    let most = without_reserve(descriptors()) / PER_CONNECTION;
    wanted
        .min(usize::try_from(most).unwrap_or(usize::MAX))
        .max(1)
}

/// Whether a new descriptor is one of the reserve.
#[must_use]
pub fn is_of_reserve(descriptor: &impl AsFd) -> bool {
    let number = descriptor.as_fd().as_raw_fd();
    u64::try_from(number).is_ok_and(|number| number >= without_reserve(descriptors()))
}

/// How many connections may wait to be accepted at one port, at most. None: the system does not say.
#[must_use]
pub fn longest_backlog() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

/// What a connection is refused with whose descriptor would be one of the reserve.
#[must_use]
pub fn no_descriptors() -> io::Error {
    rustix::io::Errno::MFILE.into()
}

/// No other process of the same user can trace this one, read its memory or have it dumped.
#[derive(Debug)]
pub struct Closed {
    /// As it was before.
    core: Rlimit,
}

impl Closed {
    /// Closes the process to the user that it runs as. What it starts is open.
    ///
    /// # Errors
    /// Where the system refuses that.
    pub fn to_its_user() -> io::Result<Self> {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let core = getrlimit(Resource::Core);
        let none = Rlimit {
            current: Some(0),
            ..core
        };
        setrlimit(Resource::Core, none)?;
        Ok(Self { core })
    }

    /// As other processes are: it can be dumped where its limits allow that.
    ///
    /// # Errors
    /// Where the system refuses that.
    pub fn open(&self) -> io::Result<()> {
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        Ok(setrlimit(Resource::Core, self.core)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_shared_out_and_the_reserve_is_never_all_of_them() {
        for (descriptors, left) in [
            (0, 0),
            (3, 3),
            (48, 36),
            (1024, 768),
            (4096, 3840),
            (u64::MAX, u64::MAX - 256),
        ] {
            assert_eq!(without_reserve(descriptors), left, "{descriptors}");
        }
        assert_eq!(connections(1), 1);
        assert_eq!(connections(0), 1);
        assert!(connections(usize::MAX) as u64 <= descriptors() / 2);
    }

    #[test]
    fn one_of_the_first_descriptors_is_not_of_the_reserve() {
        assert!(!is_of_reserve(&io::stderr()));
    }
}
