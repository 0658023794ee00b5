//! Limits of the process: how many files it may open, and who may look into it.
//!
//! Nothing is kept here: the system is asked each time, because others may change its limits while Bursar runs.
//! It hands out the lowest number that is free to each new descriptor, so a high number means that few are left.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, setrlimit,
};

/// The number of SIGXFSZ, which a process gets that writes beyond its limit of a file's size. It ends with that unless
/// it takes the signal; then writing fails.
pub const FILE_SIZE_SIGNAL: i32 = Signal::XFSZ.as_raw();

/// Descriptors that are not for callers' connections. Where there are few, a quarter of them.
const RESERVE: u64 = 256;
/// For a caller's connection: its own, and one for the provider that it leads to.
const PER_CONNECTION: u64 = 2;

/// What a new descriptor is for: of the last ones there are some for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A caller's connection: none of the reserve.
    Caller,
    /// A connection for a request that was admitted: half of the reserve too.
    Request,
    /// The admin port, token calls, names that are looked up, the journal and the log: any.
    Own,
}

impl Purpose {
    /// Whether it may have that descriptor.
    #[must_use]
    pub fn may_have(self, descriptor: &impl AsFd) -> bool {
        let number = descriptor.as_fd().as_raw_fd();
        self == Self::Own
            || u64::try_from(number).is_ok_and(|number| number < self.first_of_others())
    }

    fn first_of_others(self) -> u64 {
        let descriptors = descriptors();
        match self {
            Self::Caller => descriptors - reserve(descriptors),
            Self::Request => descriptors - reserve(descriptors) / 2,
            Self::Own => descriptors,
        }
    }
}

/// How many descriptors the process may have.
fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

const fn reserve(descriptors: u64) -> u64 {
    let quarter = descriptors / 4;
    if quarter < RESERVE { quarter } else { RESERVE }
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

/// What is shared out among callers, so that their number is limited before a descriptor of the reserve is reached.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Descriptors that are open before there are connections.
    open: u64,
}

impl Budget {
    /// Counts what is open now; nothing where the system does not say.
    #[must_use]
    pub fn now() -> Self {
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self { open: open as u64 }
    }

    /// How many of the callers' connections that are wanted there are descriptors for; never none.
    #[must_use]
    pub fn connections(self, wanted: usize) -> usize {
        self.connections_of(descriptors(), wanted)
    }

    fn connections_of(self, descriptors: u64, wanted: usize) -> usize {
        let left = (descriptors - reserve(descriptors)).saturating_sub(self.open);
        let most = usize::try_from(left / PER_CONNECTION).unwrap_or(usize::MAX);
        wanted.min(most).max(1)
    }

    /// How many more may be open for a moment, to be told that there are too many; never none.
    #[must_use]
    pub fn turned_away(self, wanted: usize) -> usize {
        let most = usize::try_from(reserve(descriptors()) / 4).unwrap_or(usize::MAX);
        wanted.min(most).max(1)
    }
}

/// The number of the user that the process runs as.
#[must_use]
pub fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

/// What the system is called in its network.
#[must_use]
pub fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// How many connections may wait to be accepted at one port, at most. None: the system does not say.
#[must_use]
pub fn longest_backlog() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

/// What a connection is refused with whose descriptor is for others.
#[must_use]
pub fn no_descriptors() -> io::Error {
    Errno::MFILE.into()
}

/// Whether an error says that the process, or the whole system, has no descriptors left.
#[must_use]
pub fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
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
        for (descriptors, kept) in [
            (0, 0),
            (3, 0),
            (48, 12),
            (1024, 256),
            (4096, 256),
            (u64::MAX, 256),
        ] {
            assert_eq!(reserve(descriptors), kept, "{descriptors}");
        }
    }

    #[test]
    fn what_is_open_already_is_not_for_connections() {
        let budget = Budget { open: 24 };
        for (descriptors, connections) in [
            (0, 1),
            (24, 1),
            (48, 6),
            (128, 36),
            (1024, 372),
            (u64::MAX, 5000),
        ] {
            let most = budget.connections_of(descriptors, 5000);
            assert_eq!(most, connections, "{descriptors}");
        }
        assert_eq!(budget.connections(0), 1);
        // Standard error, and the directory that is read.
        assert!(Budget::now().open >= 2);
    }

    #[test]
    fn one_of_the_first_descriptors_is_for_anything() {
        for purpose in [Purpose::Caller, Purpose::Request, Purpose::Own] {
            assert!(purpose.may_have(&io::stderr()), "{purpose:?}");
        }
    }

    #[test]
    fn requests_have_some_of_what_callers_must_leave_and_leave_some_themselves() {
        let [callers, requests, own] =
            [Purpose::Caller, Purpose::Request, Purpose::Own].map(Purpose::first_of_others);
        assert!(callers < requests && requests < own);
    }

    #[test]
    fn a_lack_of_descriptors_is_told_by_its_code() {
        assert!(lacks_descriptors(&no_descriptors()));
        assert!(lacks_descriptors(&Errno::NFILE.into()));
        assert!(!lacks_descriptors(&Errno::CONNREFUSED.into()));
        assert!(!lacks_descriptors(&io::ErrorKind::Other.into()));
    }
}
