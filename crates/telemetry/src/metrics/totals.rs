//! Totals since the start, all providers, callers and accounts together.

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that are over.
    pub requests: u64,
    /// 401s of providers that no caller saw.
    pub absorbed: u64,
    /// Responses of Bursar's own, and responses that it cut off.
    pub refusals: u64,
    /// Requests that moved money and were in doubt when they were over.
    pub in_doubt: u64,
}

impl Totals {
    /// What was counted since then.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(then.requests),
            absorbed: self.absorbed.saturating_sub(then.absorbed),
            refusals: self.refusals.saturating_sub(then.refusals),
            in_doubt: self.in_doubt.saturating_sub(then.in_doubt),
        }
    }
}
