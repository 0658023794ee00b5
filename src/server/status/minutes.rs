//! The last hour as `/status` shows it, minute by minute.

use serde::Serialize;

use super::date::date;
use crate::server::last_hour;

/// A minute.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Minute {
    pub(in crate::server) absorbed_401s: u64,
    /// When it began.
    pub(in crate::server) at: String,
    pub(in crate::server) payments_in_doubt: u64,
    pub(in crate::server) refusals: u64,
    pub(in crate::server) requests: u64,
}

impl Minute {
    pub(super) fn of(minute: &last_hour::Minute) -> Self {
        let counts = minute.counts;
        Self {
            absorbed_401s: counts.absorbed,
            at: date(minute.at),
            payments_in_doubt: counts.in_doubt,
            refusals: counts.refusals,
            requests: counts.requests,
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            absorbed_401s: 0,
            at: String::new(),
            payments_in_doubt: 0,
            refusals: 0,
            requests: 0,
        }
    }
}
