//! Known entry: what this instance knows of a token key's entry in the fleet's store.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::refresh_token::RefreshToken;
use bursar_base::secret::Fingerprint;
use bursar_fleet::{NO_NUMBER, above};

/// What this instance knows of a token key's entry; it outlives the key's sources.
#[derive(Default)]
pub(super) struct Known {
    entry: Mutex<KnownEntry>,
    /// The entry may have changed: a lease was given back, or a token was published.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct KnownEntry {
    /// The token with that fingerprint is the value with that number.
    value: Option<(u64, Fingerprint)>,
    /// No number is higher, as far as is known.
    highest: u64,
    /// The token that this instance asked the endpoint for last.
    own: Option<Fingerprint>,
    /// The same, where that was without the store, for as long as the store does not have it.
    alone: Option<Fingerprint>,
    /// Came with a token that nobody else can have seen.
    unshared_refresh: Option<RefreshToken>,
    /// The refresh tokens of values up to that number were used, or may have been.
    used_refresh: u64,
    fresh: Option<Fresh>,
}

/// A value of which this instance has heard as soon as it was published, or which it has published itself: had its refresh
/// token been used, it would have heard of that too, for as long as it listens without interruption.
#[derive(Clone, Copy)]
struct Fresh {
    number: u64,
    /// Since when it listened.
    since: Instant,
}

impl KnownEntry {
    fn saw(&mut self, number: u64) {
        if number < NO_NUMBER {
            self.highest = self.highest.max(number);
        }
    }
}

impl Known {
    /// A panic elsewhere leaves nothing half-done here.
    fn entry(&self) -> MutexGuard<'_, KnownEntry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number was seen.
    pub(super) fn saw(&self, number: u64) {
        self.entry().saw(number);
    }

    /// The store has that token under that number.
    pub(super) fn has(&self, number: u64, fingerprint: Fingerprint) {
        let mut entry = self.entry();
        entry.saw(number);
        entry.value = Some((number, fingerprint));
        entry.alone = entry.alone.filter(|alone| *alone != fingerprint);
    }

    /// The number of the store's value, where that is the token.
    pub(super) fn number_of(&self, fingerprint: Option<Fingerprint>) -> Option<u64> {
        let (number, of) = self.entry().value?;
        (Some(of) == fingerprint).then_some(number)
    }

    pub(super) fn highest(&self) -> u64 {
        self.entry().highest
    }

    /// For a value that is published without a lease, or that is not to be older than any other.
    pub(super) fn next_number(&self) -> u64 {
        above(self.highest())
    }

    /// The endpoint gave this instance that token.
    pub(super) fn obtained(&self, fingerprint: Fingerprint) {
        let mut entry = self.entry();
        entry.own = Some(fingerprint);
    }

    /// The same, without the store.
    pub(super) fn obtained_alone(&self, fingerprint: Fingerprint) {
        self.obtained(fingerprint);
        self.entry().alone = Some(fingerprint);
    }

    /// Whether this instance asked for that token without the store, and nobody else has seen it there since.
    pub(super) fn is_alone_with(&self, fingerprint: Option<Fingerprint>) -> bool {
        fingerprint.is_some() && self.entry().alone == fingerprint
    }

    /// Whether this instance asked for that token itself.
    pub(super) fn is_own(&self, fingerprint: Option<Fingerprint>) -> bool {
        fingerprint.is_some() && self.entry().own == fingerprint
    }

    /// The refresh token of the value with that number is used, whatever the store says of it later.
    pub(super) fn refresh_is_used(&self, number: u64) {
        let mut entry = self.entry();
        entry.used_refresh = entry.used_refresh.max(number);
    }

    /// The value with that number was published just now, to who listens since then.
    pub(super) fn is_fresh(&self, number: u64, since: Instant) {
        self.entry().fresh = Some(Fresh { number, since });
    }

    /// Something may have been said that this instance has not heard.
    pub(super) fn missed(&self) {
        self.entry().fresh = None;
    }

    /// Whether the refresh token of the value with that number may be used by who listens since then. A store that has
    /// started again from an old copy of its data knows nothing of the marks since, and neither does an instance that was
    /// not there.
    pub(super) fn may_use_refresh(&self, number: u64, since: Instant) -> bool {
        let entry = self.entry();
        let is_fresh = |fresh: Fresh| fresh.number == number && fresh.since == since;
        number > entry.used_refresh && entry.fresh.is_some_and(is_fresh)
    }

    pub(super) fn keep_unshared(&self, token: Option<RefreshToken>) {
        self.entry().unshared_refresh = token;
    }

    pub(super) fn take_unshared(&self) -> Option<RefreshToken> {
        self.entry().unshared_refresh.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_is_used_once_and_by_nobody_who_may_have_missed_that_it_was() {
        let known = Known::default();
        let since = Instant::now();
        // The store has it, perhaps from an old copy of its data.
        known.saw(5);
        assert!(!known.may_use_refresh(5, since));
        known.is_fresh(5, since);
        assert!(known.may_use_refresh(5, since));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(
            !known.may_use_refresh(5, Instant::now()),
            "on another connection"
        );
        known.missed();
        assert!(!known.may_use_refresh(5, since));
        known.is_fresh(6, since);
        known.refresh_is_used(6);
        known.is_fresh(6, since);
        assert!(!known.may_use_refresh(6, since));
        assert!(!known.may_use_refresh(5, since));
    }

    #[test]
    fn a_number_that_no_script_would_take_is_not_counted_from() {
        let known = Known::default();
        known.saw(NO_NUMBER);
        known.saw(u64::MAX);
        assert!(known.next_number() < 2 << 16);
    }
}
