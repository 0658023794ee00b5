//! The wall clock, for people and for what has to outlast the process. And how long the machine has not been awake.
//!
//! Everything else that decides something (expiry, back-off, timeouts) uses tokio's monotonic `Instant` instead, so a
//! stepped clock changes time stamps in logs, metrics and `Date` fields, and after a restart the end of a freeze.

use std::time::{Duration, SystemTime};

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
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, Timespec, clock_gettime};
        let duration = |time: Timespec| {
            let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
            Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
        };
        let awake = duration(clock_gettime(ClockId::Monotonic));
        duration(clock_gettime(ClockId::Boottime)).saturating_sub(awake)
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}
