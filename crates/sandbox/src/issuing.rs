//! Tokens that an emulated provider has handed out, and which of them are good.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use bursar_base::clock;

/// The tokens of one provider.
#[derive(Debug)]
pub(crate) struct Issuing {
    /// Begins every token, so that one can be told from another provider's.
    prefix: &'static str,
    /// How long access tokens live.
    pub(crate) lifetime: Duration,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Access {
    expires: Instant,
    scopes: String,
    /// A person's, whose code it was handed out for.
    is_users: bool,
}

impl Issuing {
    pub(crate) fn new(prefix: &'static str, lifetime: Duration) -> Self {
        Self {
            prefix,
            lifetime,
            access: HashMap::new(),
            refresh: HashMap::new(),
        }
    }

    /// A new access token for these scopes, space-joined.
    pub(crate) fn issue(&mut self, scopes: &str) -> String {
        self.add(scopes, self.lifetime, false)
    }

    /// A token of a person, which the end of the client's own does not end.
    pub(crate) fn issue_to_user(&mut self, scopes: &str, lifetime: Duration) -> String {
        self.add(scopes, lifetime, true)
    }

    fn add(&mut self, scopes: &str, lifetime: Duration, is_users: bool) -> String {
        let now = Instant::now();
        self.access.retain(|_, access| now < access.expires);
        let token = format!("{}-{:032x}", self.prefix, fastrand::u128(..));
        let access = Access {
            expires: now + lifetime,
            scopes: scopes.to_owned(),
            is_users,
        };
        self.access.insert(token.clone(), access);
        token
    }

    /// A new refresh token.
    pub(crate) fn issue_refresh(&mut self, lifetime: Duration) -> String {
        let now = Instant::now();
        self.refresh.retain(|_, expires| now < *expires);
        let token = format!("{}-refresh-{:032x}", self.prefix, fastrand::u128(..));
        self.refresh.insert(token.clone(), now + lifetime);
        token
    }

    /// The scopes of a good access token, and whether it is a person's.
    pub(crate) fn scopes(&self, token: Option<&str>) -> Option<(&str, bool)> {
        let access = self.access.get(token?)?;
        (Instant::now() < access.expires).then_some((access.scopes.as_str(), access.is_users))
    }

    /// Whether a refresh token is good.
    pub(crate) fn knows_refresh(&self, token: &str) -> bool {
        let expires = self.refresh.get(token);
        expires.is_some_and(|expires| Instant::now() < *expires)
    }

    /// The same, and it is used up.
    pub(crate) fn take_refresh(&mut self, token: &str) -> bool {
        let expires = self.refresh.remove(token);
        expires.is_some_and(|expires| Instant::now() < expires)
    }

    pub(crate) fn revoke(&mut self, token: &str) {
        self.access.remove(token);
    }

    /// Ends every access token of the client; says how many there were.
    pub(crate) fn revoke_all(&mut self) -> usize {
        let before = self.access.len();
        self.access.retain(|_, access| access.is_users);
        before - self.access.len()
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    let since = clock::wall().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Now, as RFC 3339 has it.
pub(crate) fn rfc3339() -> String {
    humantime::format_rfc3339_seconds(clock::wall()).to_string()
}
