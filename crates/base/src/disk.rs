//! Room on a disk: what the system says of the file system that a path is on, or will be.

use std::path::Path;

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All bytes that it has.
    pub total: u64,
    /// Those that are left for users without rights.
    pub free: u64,
}

impl Disk {
    /// The one that the path is on, or its nearest directory that is there. None: the system does not say.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let mut place = std::path::absolute(path).ok()?;
        while !place.exists() {
            place = place.parent()?.to_owned();
        }
        let found = rustix::fs::statvfs(&place).ok()?;
        Some(Self {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}
