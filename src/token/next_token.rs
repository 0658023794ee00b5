//! Next token: what the cache holds after a token was acquired, decided from the response, the token before and `now`.

use tokio::time::Instant;

use super::access_token::{CachedToken, LAST_SECOND, Lifespan, reserve};
use super::acquire::Acquired;
use super::failure::{Detail, Failure};
use super::response::ExpiresIn;
use bursar_config::TokenDialect;

/// The place that the next token takes.
pub(super) struct Next<'a> {
    /// Its generation, where it is another one.
    pub(super) generation: u64,
    /// The token before.
    pub(super) current: Option<&'a CachedToken>,
}

/// What the cache is to hold.
pub(super) enum Cached {
    /// Another token than before.
    New(CachedToken),
    /// The same once more, perhaps with another end.
    Unchanged(CachedToken),
}

impl Next<'_> {
    /// What becomes of an acquired token.
    pub(super) fn cached(
        self,
        acquired: &Acquired,
        dialect: &TokenDialect,
        now: Instant,
    ) -> Result<Cached, Failure> {
        let elapsed = now.duration_since(acquired.issued);
        let lifetime = match acquired.response.lifetime {
            // One that ended on its way here would be asked for again at once, and might for ever.
            ExpiresIn::For(lifetime) if lifetime > elapsed => lifetime,
            ExpiresIn::Unstated => dialect.default_lifetime,
            ExpiresIn::For(_) | ExpiresIn::Already => return Err(Failure::AlreadyExpired),
        };
        let left = lifetime.saturating_sub(elapsed);
        let span = Lifespan {
            issued: acquired.issued,
            lifetime,
            margin: dialect.margin,
            reserve: reserve(left),
        };
        let malformed = Failure::Malformed(Detail::Is("it holds bytes that no header may hold"));
        let text = &acquired.response.access_token;
        let mut token = CachedToken::new(text, self.generation, span).ok_or(malformed)?;
        match self.current.filter(|current| current.is_same_as(&token)) {
            // In its last second: the next one comes after that.
            Some(current) if left <= LAST_SECOND && token.ends <= current.ends + LAST_SECOND => {
                Err(Failure::AlreadyExpired)
            }
            // The same token again is no renewal: it is used to its real end, and asked for then.
            Some(current) => {
                token.generation = current.generation;
                token.after_unauthorized = current.after_unauthorized;
                token.renew_at = token.expires;
                Ok(Cached::Unchanged(token))
            }
            None => Ok(Cached::New(token)),
        }
    }
}
