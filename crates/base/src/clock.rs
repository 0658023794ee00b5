//! The wall clock, for people; nothing else reads it.
//!
//! Everything that decides something (expiry, back-off, timeouts) uses tokio's monotonic `Instant`
//! instead, so a stepped clock changes nothing but the time stamps in logs, metrics and `Date` fields.

use std::time::SystemTime;

/// The wall time, for time stamps only.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that the ban points to"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
