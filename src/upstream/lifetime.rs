//! Lifetime of an HTTP/1.1 connection: until it is too old, or as long as its server says.
//!
//! A server that closes a connection while a request is on its way leaves that in doubt, so what it says of its
//! patience is believed, with a second to spare.

use std::time::Duration;

use tokio::time::Instant;

use bursar_http::headers::KeepAlive;

/// A connection is given up so long before its server would close it.
const SPARE: Duration = Duration::from_secs(1);

/// What is not limited.
const UNSAID: u32 = u32::MAX;

/// A connection's age and its server's latest word.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLifetime {
    opened: Instant,
    /// How many seconds it may wait for a request.
    timeout: u32,
    /// How many requests it may still carry.
    max: u32,
}

impl ConnectionLifetime {
    pub(super) fn begin(opened: Instant) -> Self {
        Self {
            opened,
            timeout: UNSAID,
            max: UNSAID,
        }
    }

    /// Heeds what an answer says. What it leaves out is as it was.
    pub(super) fn heed(&mut self, said: KeepAlive) {
        let small = |number: u64| u32::try_from(number).unwrap_or(UNSAID);
        if let Some(timeout) = said.timeout {
            self.timeout = small(timeout);
        }
        self.max = match (said.closes, said.max) {
            (true, _) => 0,
            (false, Some(max)) => small(max),
            (false, None) if self.max == UNSAID => UNSAID,
            (false, None) => self.max.saturating_sub(1),
        };
    }

    /// Until when the connection may wait for a request, from now on; None: it is not kept.
    pub(super) fn end(&self, now: Instant, lifetime: LifetimeLimits) -> Option<Instant> {
        if self.max <= 1 {
            return None;
        }
        let said = Duration::from_secs(self.timeout.into()).saturating_sub(SPARE);
        let end = (now + lifetime.idle.min(said)).min(self.opened + lifetime.age);
        (end > now).then_some(end)
    }
}

/// How long connections are kept at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct LifetimeLimits {
    /// Without a request.
    pub(super) idle: Duration,
    /// From when they are opened to their last request.
    pub(super) age: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: LifetimeLimits = LifetimeLimits {
        idle: Duration::from_secs(30),
        age: Duration::from_secs(600),
    };

    fn said(timeout: Option<u64>, max: Option<u64>) -> KeepAlive {
        KeepAlive {
            closes: false,
            timeout,
            max,
        }
    }

    /// For how long a connection is kept that is so old.
    fn kept(term: &ConnectionLifetime, age: u64) -> Option<u64> {
        let now = term.opened + Duration::from_secs(age);
        let end = term.end(now, LIFETIME)?;
        Some(end.duration_since(now).as_secs())
    }

    #[test]
    fn a_connection_is_given_up_a_second_before_its_server_does_and_not_after_its_age() {
        for (timeout, max, expected) in [
            (None, None, Some(30)),
            (Some(5), None, Some(4)),
            (Some(31), None, Some(30)),
            (Some(u64::MAX), Some(u64::MAX), Some(30)),
            (Some(2), Some(2), Some(1)),
            (Some(1), None, None),
            (Some(0), None, None),
            (None, Some(2), Some(30)),
            (None, Some(1), None),
            (None, Some(0), None),
        ] {
            let mut term = ConnectionLifetime::begin(Instant::now());
            term.heed(said(timeout, max));
            assert_eq!(kept(&term, 0), expected, "{timeout:?} {max:?}");
        }
        let term = ConnectionLifetime::begin(Instant::now());
        for (age, expected) in [(569, Some(30)), (590, Some(10)), (600, None), (900, None)] {
            assert_eq!(kept(&term, age), expected, "{age}");
        }
    }

    #[test]
    fn what_was_said_counts_until_it_is_said_anew() {
        let mut term = ConnectionLifetime::begin(Instant::now());
        term.heed(said(Some(5), Some(3)));
        for (now, expected) in [
            (said(None, None), Some(4)),
            (said(None, None), None),
            (said(Some(9), Some(7)), Some(8)),
        ] {
            term.heed(now);
            assert_eq!(kept(&term, 0), expected);
        }
        term.heed(KeepAlive {
            closes: true,
            ..said(Some(5), Some(7))
        });
        assert_eq!(kept(&term, 0), None);
    }
}
