//! Shares of limits: the part of each limit that one of several instances may use.
//!
//! A limit counts what it is asked for, and whoever divides it among the instances looks at that now and then, and
//! says what this instance's share is. Requests never wait for that: they find the share where they found the limit.

use std::time::Duration;

use tokio::time::Instant;

/// A part of a limit, in millionths; never nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// What a limit is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Token calls of a provider in a minute.
    Calls,
    /// A caller's requests in a second.
    PerSecond,
    /// A caller's requests in flight.
    InFlight,
}

impl LimitKind {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::PerSecond => "per_second",
            Self::InFlight => "in_flight",
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

    /// This instance's share.
    fn share(&self) -> Share;

    /// From now on this is the share of this instance.
    fn divide(&self, share: Share, now: Instant);
}

impl Share {
    /// The limit itself: nobody shares it.
    pub const WHOLE: Self = Self(1_000_000);
    /// Of an instance that does not know yet how many there are.
    pub const FIRST: Self = Self(62_500);

    /// Of so many millionths, one at least and all at most.
    #[must_use]
    pub fn of_millionths(millionths: u64) -> Self {
        let all = u64::from(Self::WHOLE.0);
        Self(u32::try_from(millionths.clamp(1, all)).unwrap_or(Self::WHOLE.0))
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
    fn a_share_is_never_nothing_and_never_more_than_all() {
        assert_eq!(Share::of_millionths(0).millionths(), 1);
        assert_eq!(Share::of_millionths(u64::MAX), Share::WHOLE);
        assert_eq!(Share::one_of(0), Share::WHOLE);
        assert_eq!(Share::one_of(4).fraction().to_bits(), 0.25_f64.to_bits());
        assert_eq!(Share::one_of(u64::MAX).millionths(), 1);
    }
}
