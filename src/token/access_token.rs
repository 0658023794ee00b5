//! Access token: the cached one, its ages, and the copy that a request takes, or goes without.
//!
//! Ages are decided here, as a function of the token and `now`; nothing here reads a clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::failure::Failure;
use super::response::Oddities;
use crate::upstream::Peer;
use bursar_base::secret::{Fingerprint, Secret};
use bursar_telemetry::metrics::Cause;

/// A longer lifetime is clamped to this: no payment API means it, and timers have an end.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// An access token in its source. What every request reads comes first, in two cache lines.
#[repr(C, align(64))]
pub(super) struct CachedToken {
    /// From then on it is not sent: a little before its end.
    pub(super) expires: Instant,
    pub(super) renew_at: Instant,
    /// Whether a request took it. Readers only ever set it, and set it only once, so that they do not
    /// take the cache line from each other; the renewal loop reads it.
    used: AtomicBool,
    /// Whether its renewal was asked for by a reader.
    renewal_asked: AtomicBool,
    pub(super) fingerprint: Fingerprint,
    /// Counts the different tokens of a key, from 1.
    pub(super) generation: u64,
    /// `Bearer …`, marked sensitive.
    authorization: HeaderValue,
    /// When its token request was sent.
    pub(super) issued: Instant,
    /// As its response said.
    pub(super) ends: Instant,
    /// Whether it was obtained because a provider answered 401.
    pub(super) after_unauthorized: bool,
    /// Whether it was obtained with the secret before a reload.
    pub(super) is_of_earlier_secret: bool,
    /// Whether a refresh token brought it; of another instance's that is not known, and not thought.
    pub(super) may_be_refreshed: bool,
    /// The asked scopes that the response did not grant, space-joined; empty mostly.
    pub(super) missing_scopes: String,
    pub(super) oddities: Oddities,
}

/// What a token is good for at some instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// To be used.
    Fresh,
    /// To be used, and to be renewed.
    Stale,
    /// Never to be sent.
    Expired,
}

/// A token as one request uses it.
#[derive(Clone)]
pub struct AccessToken {
    /// The value of the `Authorization` header.
    pub authorization: HeaderValue,
    /// Which token of its key it is.
    pub generation: u64,
    /// Names the token in logs without giving it away.
    pub fingerprint: Fingerprint,
    expires: Instant,
}

impl AccessToken {
    /// Of a token that is not Bursar's, and never renewed here: its end is its owner's business.
    #[must_use]
    pub fn of_caller(authorization: HeaderValue, fingerprint: Fingerprint, now: Instant) -> Self {
        Self {
            authorization,
            fingerprint,
            generation: 0,
            expires: now + MAX_LIFETIME,
        }
    }

    /// An expired token is never sent, however long connecting took.
    #[must_use]
    pub fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires
    }
}

/// Why a request goes without a token.
#[derive(Debug, Clone, thiserror::Error)]
#[error("there is no token")]
pub struct Missing {
    /// What the token endpoint did.
    #[source]
    pub failure: Failure,
    /// Why the last token call had no connection, if that is behind it.
    pub cause: Option<Cause>,
    /// The server of the last token call. The address is there where that was made for whoever asks.
    pub peer: Arc<Peer>,
    /// When it is worth asking again.
    pub retry_after: Duration,
}

/// What follows from a provider's 401.
#[derive(Debug)]
pub enum Recovery {
    /// Replay with this.
    Replay(AccessToken),
    /// The provider handed out the same token again.
    Unchanged,
    /// 401s have renewed this key too often lately.
    RenewedTooOften,
    /// No token could be had.
    Unavailable,
}

/// How long a token lives and when it is renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifespan {
    pub(super) issued: Instant,
    pub(super) lifetime: Duration,
    pub(super) margin: Duration,
    /// As much of its end is not trusted.
    pub(super) reserve: Duration,
}

/// Servers count in whole seconds, so that a token may end up to one early.
pub(super) const LAST_SECOND: Duration = Duration::from_secs(1);

/// How much of a token's end is not trusted where so much of its life is left: the last second, and of a very
/// short life not all.
pub(super) fn reserve(left: Duration) -> Duration {
    LAST_SECOND.min(left / 2)
}

impl CachedToken {
    /// None where the token holds bytes that no header may hold.
    pub(super) fn new(text: &Secret, generation: u64, span: Lifespan) -> Option<Self> {
        let bearer = Secret::new(format!("Bearer {}", text.expose()));
        // Text and count are two allocations, so that who counts does not take the text's cache line from who reads it.
        let mut authorization = HeaderValue::from_str(bearer.expose()).ok()?;
        authorization.set_sensitive(true);
        let lifetime = span.lifetime.min(MAX_LIFETIME);
        let ends = span.issued + lifetime;
        let trusted = lifetime.saturating_sub(span.reserve);
        let margin = renewal_margin(lifetime, span.margin, fastrand::f64());
        Some(Self {
            authorization,
            fingerprint: Fingerprint::of(text.expose()),
            generation,
            issued: span.issued,
            expires: span.issued + trusted,
            ends,
            // While it is still sent, however short it lives.
            renew_at: (ends - margin).min(span.issued + trusted * 7 / 8),
            after_unauthorized: false,
            is_of_earlier_secret: false,
            may_be_refreshed: false,
            missing_scopes: String::new(),
            oddities: Oddities::default(),
            used: AtomicBool::new(false),
            renewal_asked: AtomicBool::new(false),
        })
    }

    /// The same, for the key that it has after a reload with another secret: to be renewed at once.
    pub(super) fn of_earlier_secret(&self, now: Instant) -> Self {
        Self {
            authorization: self.authorization.clone(),
            missing_scopes: self.missing_scopes.clone(),
            renew_at: now,
            is_of_earlier_secret: true,
            used: AtomicBool::new(false),
            renewal_asked: AtomicBool::new(false),
            ..*self
        }
    }

    /// For how long it can be used, counted from when it was issued.
    pub(super) fn lifetime(&self) -> Duration {
        self.ends.saturating_duration_since(self.issued)
    }

    /// Whether both are the same token, byte for byte.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.authorization == other.authorization
    }

    /// The token itself, without its scheme.
    pub(super) fn text(&self) -> Option<Secret> {
        let text = self.authorization.to_str().ok()?;
        text.strip_prefix("Bearer ")
            .map(|token| Secret::new(token.to_owned()))
    }

    pub(super) fn freshness(&self, now: Instant) -> Freshness {
        if now >= self.expires {
            Freshness::Expired
        } else if now >= self.renew_at {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }

    pub(super) fn access_token(&self) -> AccessToken {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        AccessToken {
            authorization: self.authorization.clone(),
            generation: self.generation,
            fingerprint: self.fingerprint,
            expires: self.expires,
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// True once: for the reader that is to ask for the renewal.
    pub(super) fn ask_for_renewal(&self) -> bool {
        !self.renewal_asked.load(Ordering::Relaxed)
            && !self.renewal_asked.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for CachedToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CachedToken")
            .field("fingerprint", &self.fingerprint)
            .field("generation", &self.generation)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessToken")
            .field("fingerprint", &self.fingerprint)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// How long before its end a token is renewed: the margin, but at most a fifth of the lifetime, and up to
/// a tenth of that on top (`jitter` is from 0 to 1), so that tokens obtained together are not renewed
/// together.
fn renewal_margin(lifetime: Duration, margin: Duration, jitter: f64) -> Duration {
    let margin = margin.min(lifetime / 5);
    margin + margin.mul_f64(jitter.clamp(0.0, 1.0) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_at_most_a_fifth_of_the_lifetime_and_a_little_jitter() {
        let seconds = Duration::from_secs;
        assert_eq!(renewal_margin(seconds(3600), seconds(60), 0.0), seconds(60));
        assert_eq!(renewal_margin(seconds(3600), seconds(60), 1.0), seconds(66));
        assert_eq!(renewal_margin(seconds(20), seconds(60), 0.0), seconds(4));
        assert_eq!(renewal_margin(seconds(0), seconds(60), 1.0), seconds(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_ages_at_its_margin_and_is_not_sent_in_its_last_second() {
        let issued = Instant::now();
        let span = Lifespan {
            issued,
            lifetime: Duration::from_secs(300),
            margin: Duration::from_secs(60),
            reserve: LAST_SECOND,
        };
        let token = CachedToken::new(&Secret::new("t".into()), 1, span).unwrap();
        let at = |seconds| token.freshness(issued + Duration::from_secs(seconds));
        assert_eq!(at(233), Freshness::Fresh);
        assert_eq!(at(240), Freshness::Stale);
        assert_eq!(at(298), Freshness::Stale);
        assert_eq!(at(299), Freshness::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_lives_for_a_second_is_sent_and_renewed_within_it() {
        let issued = Instant::now();
        for milliseconds in [1, 500, 1000, 1500, 2000, 5000] {
            let lifetime = Duration::from_millis(milliseconds);
            let span = Lifespan {
                issued,
                lifetime,
                margin: Duration::from_secs(60),
                reserve: reserve(lifetime),
            };
            let token = CachedToken::new(&Secret::new("t".into()), 1, span).unwrap();
            assert!(token.renew_at > issued && token.renew_at < token.expires);
            assert!(
                token.expires + lifetime / 2 <= token.ends
                    || token.expires + LAST_SECOND == token.ends
            );
        }
    }

    #[test]
    fn a_token_of_any_length_is_sent_as_it_is_and_marked_sensitive() {
        let span = Lifespan {
            issued: Instant::now(),
            lifetime: Duration::MAX,
            margin: Duration::ZERO,
            reserve: Duration::ZERO,
        };
        let token = |text: String| CachedToken::new(&Secret::new(text), 1, span);
        for length in [1, 120, 121, 122, 5000] {
            let text = "t".repeat(length);
            let value = token(text.clone()).unwrap().access_token().authorization;
            assert_eq!(value, format!("Bearer {text}"));
            assert!(value.is_sensitive());
            assert!(token(text + "\r\n").is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn neither_debug_form_shows_the_token() {
        let span = Lifespan {
            issued: Instant::now(),
            lifetime: Duration::MAX,
            margin: Duration::ZERO,
            reserve: Duration::ZERO,
        };
        let token = CachedToken::new(&Secret::new("s3cr3t".into()), 1, span).unwrap();
        let shown = format!(
            "{token:?} {:?} {:?}",
            token.access_token(),
            token.access_token().authorization
        );
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}
