//! Shares of limits: the part of each limit that one of several instances may use.
//!
//! A limit counts what it is asked for, and whoever divides it among the instances looks at that now and then, and
//! says what this instance's share is. Requests never wait for that: they find the share where they found the limit.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Told by requests that were refused for want of a larger share; whoever divides the limits waits for it. One for the
/// process: it says no more than that it is worth looking.
static WANTED: Notify = Notify::const_new();

/// A part of a limit, in millionths; it may be nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// What a limit is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// A caller's requests in a second.
    PerSecond,
    /// A caller's requests in flight.
    InFlight,
    /// What each instance may use of every limit without having asked for it.
    Reserve,
}

impl LimitKind {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond => "per_second",
            Self::InFlight => "in_flight",
            Self::Reserve => "reserve",
        }
    }
}

/// A limit that instances divide among themselves.
pub trait Divisible {
    /// What was asked for since this was asked last, which is that long ago, as a part of the whole limit. What was
    /// refused counts too.
    fn demand(&self, over: Duration) -> f64;

    /// The demand of something that is asked for seldom, as a part of the whole limit.
    fn least_demand(&self) -> f64;

    /// The least part of the limit that is of use, in millionths: one request of so many.
    fn grain(&self) -> u32 {
        1
    }

    /// What is being used of it and cannot be taken back, in millionths.
    fn in_use(&self) -> u32 {
        0
    }

    /// This instance's share.
    fn share(&self) -> Share;

    /// From now on this is the share of this instance.
    fn divide(&self, share: Share, now: Instant);
}

/// Somebody was refused who a larger share would have let through.
pub(crate) fn want() {
    WANTED.notify_one();
}

/// Waits until somebody is refused who a larger share would let through, or was since the last time.
pub async fn wanted() {
    WANTED.notified().await;
}

impl Share {
    /// The limit itself: nobody shares it.
    pub const WHOLE: Self = Self(1_000_000);
    /// Nothing: others may use all of it.
    pub const NONE: Self = Self(0);
    /// Of token calls without the store, for an instance that does not know how many there are.
    pub const FIRST: Self = Self(62_500);
    /// A unit that is short of so many millionths is one: a third of three is.
    const ROUNDED: u64 = 10_000;

    /// Of so many millionths, all at most.
    #[must_use]
    pub fn of_millionths(millionths: u64) -> Self {
        let all = u64::from(Self::WHOLE.0);
        Self(u32::try_from(millionths.min(all)).unwrap_or(Self::WHOLE.0))
    }

    /// What one of so many is, in millionths.
    #[must_use]
    pub fn grain(limit: u32) -> u32 {
        (Self::WHOLE.0 / limit.max(1)).max(1)
    }

    /// How many of so many it lets through, rounded down.
    #[must_use]
    pub fn units(self, limit: u32) -> u32 {
        let millionths = u64::from(self.0) * u64::from(limit) + Self::ROUNDED;
        u32::try_from(millionths / u64::from(Self::WHOLE.0)).unwrap_or(u32::MAX)
    }

    /// One of so many equal ones.
    #[must_use]
    pub fn one_of(count: u64) -> Self {
        Self::of_millionths(u64::from(Self::WHOLE.0) / count.max(1))
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Between 0 and 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_all_and_is_of_whole_units() {
        assert_eq!(Share::of_millionths(u64::MAX), Share::WHOLE);
        assert_eq!(Share::one_of(0), Share::WHOLE);
        assert_eq!(Share::one_of(4).fraction().to_bits(), 0.25_f64.to_bits());
        assert_eq!(Share::one_of(u64::MAX), Share::NONE);
        for limit in (1..200).chain([1000, 999_999, 1_000_000, u32::MAX]) {
            assert_eq!(Share::WHOLE.units(limit), limit);
            assert_eq!(Share::NONE.units(limit), 0);
            for count in 1..limit.min(100) {
                let part = count * Share::grain(limit);
                let units = Share::of_millionths(part.into()).units(limit);
                assert!(limit > 100 || units == count, "{count} of {limit}: {units}");
            }
        }
    }
}
