//! The time limit of a call to the token endpoint: `token.timeout`, or less after an outage.
//!
//! While the endpoint fails and requests wait, one call that hangs for all of `token.timeout` would hide for as long
//! that the endpoint is back. So it is cut short then; but not always, because the endpoint may have become slow, and
//! never where it was slow before.
//!
//! A value; nothing here reads a clock.

use std::time::Duration;

/// With the pause after it, less than 5 s.
pub(super) const SHORT: Duration = Duration::from_millis(3500);
/// An endpoint that answers so fast does not need more than [`SHORT`].
const FAST: Duration = Duration::from_secs(1);
/// How many calls in a row are cut short where the endpoint was fast.
const MAX_SHORT: u32 = 15;
/// The same where it never answered yet.
const MAX_SHORT_UNKNOWN: u32 = 3;

/// What is known about an endpoint's response times.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// How long its last response took that was no outage.
    last_response: Option<Duration>,
    /// Calls in a row that were given less than `token.timeout`.
    shortened: u32,
}

impl Timing {
    /// Whether the next call, after an outage and with a request that waits, is cut short.
    pub(super) fn shortens(&mut self) -> bool {
        let most = match self.last_response {
            Some(took) if took <= FAST => MAX_SHORT,
            Some(_) => 0,
            None => MAX_SHORT_UNKNOWN,
        };
        let is_short = self.shortened < most;
        self.shortened = if is_short { self.shortened + 1 } else { 0 };
        is_short
    }

    /// The endpoint responded, and it was no outage.
    pub(super) fn responded(&mut self, after: Duration) {
        self.last_response = Some(after);
        self.shortened = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_gets_its_full_time_regularly_and_a_slow_one_always() {
        let next = |timing: &mut Timing, calls| -> String {
            let short = |_| if timing.shortens() { 's' } else { 'f' };
            (0..calls).map(short).collect()
        };
        let mut timing = Timing::default();
        assert_eq!(next(&mut timing, 9), "sssfsssfs");
        timing.responded(FAST);
        assert_eq!(next(&mut timing, 17), "sssssssssssssssfs");
        timing.responded(SHORT);
        assert_eq!(next(&mut timing, 9), "fffffffff");
    }
}
