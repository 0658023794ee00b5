//! The wall clock, for people and for what has to outlast the process. And how long the machine has not been awake.
//!
//! Everything else that decides something (expiry, back-off, timeouts) uses tokio's monotonic `Instant` instead, so a
//! stepped clock changes time stamps in logs, metrics and `Date` fields, and after a restart the end of a freeze.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The wall time, for time stamps only.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that the ban points to"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// For how long the machine has been suspended since it was started. `Instant` stands still in that time. A virtual machine
/// that was paused from outside does not know, and on other systems than Linux it is not told.
#[must_use]
pub fn suspended() -> Duration {
    since_start().saturating_sub(read(ClockId::Monotonic))
}

/// How long ago the machine was started, by a clock that nobody sets. It goes on while the machine is suspended, as far as
/// [`suspended`] knows of that.
#[must_use]
pub fn since_start() -> Duration {
    #[cfg(target_os = "linux")]
    return read(ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}
