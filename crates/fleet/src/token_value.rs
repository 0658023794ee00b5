//! Token value: what the fleet shares of an acquired token, and how it is written down before it is sealed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use bursar_base::secret::Secret;

/// A token, as its response described it. Ages count from when its request was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenValue {
    /// The access token.
    pub access_token: Secret,
    /// Its lifetime, where the response stated one.
    pub lifetime: Option<Duration>,
    /// The scopes granted, where the response named them.
    pub scope: Option<String>,
    /// Whether it was obtained because a provider answered 401.
    pub after_unauthorized: bool,
    /// What the next one may be had for.
    pub refresh_token: Option<RefreshValue>,
    /// The secret that it was obtained with, as `Fleet::secret_names` names it, where readers may have another one.
    pub secret: Option<String>,
}

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshValue {
    /// The token itself.
    pub text: Secret,
    /// For how long it may be offered. None: until it is refused.
    pub lifetime: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(rename = "t", borrow)]
    access_token: std::borrow::Cow<'a, str>,
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    lifetime: Option<u64>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    after_unauthorized: bool,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none", borrow)]
    refresh_token: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    refresh_lifetime: Option<u64>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl TokenValue {
    /// Its bytes, which are wiped on drop.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).ok();
        let refresh = self.refresh_token.as_ref();
        let written = Written {
            access_token: self.access_token.expose().into(),
            lifetime: self.lifetime.and_then(milliseconds),
            scope: self.scope.clone(),
            after_unauthorized: self.after_unauthorized,
            refresh_token: refresh.map(|refresh| refresh.text.expose().into()),
            refresh_lifetime: refresh
                .and_then(|refresh| refresh.lifetime)
                .and_then(milliseconds),
            secret: self.secret.clone(),
        };
        // Texts and numbers can always be written.
        Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default())
    }

    /// None: they are not what [`Self::to_bytes`] makes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let written: Written<'_> = serde_json::from_slice(bytes).ok()?;
        let refresh_lifetime = written.refresh_lifetime.map(Duration::from_millis);
        Some(Self {
            access_token: Secret::new(written.access_token.into_owned()),
            lifetime: written.lifetime.map(Duration::from_millis),
            scope: written.scope,
            after_unauthorized: written.after_unauthorized,
            refresh_token: written.refresh_token.map(|text| RefreshValue {
                text: Secret::new(text.into_owned()),
                lifetime: refresh_lifetime,
            }),
            secret: written.secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_after_it_was_written_and_read() {
        let refresh = |lifetime| {
            Some(RefreshValue {
                text: Secret::new("r\"1".to_owned()),
                lifetime,
            })
        };
        for (lifetime, scope, refresh_token) in [
            (None, None, None),
            (Some(Duration::from_secs(300)), Some("a b"), refresh(None)),
            (
                Some(Duration::ZERO),
                Some(""),
                refresh(Some(Duration::from_millis(1))),
            ),
        ] {
            let value = TokenValue {
                access_token: Secret::new("t\\1\u{1f600}".to_owned()),
                lifetime,
                scope: scope.map(str::to_owned),
                after_unauthorized: scope.is_some(),
                refresh_token,
                secret: lifetime.map(|_| "0af3".to_owned()),
            };
            assert_eq!(TokenValue::from_bytes(&value.to_bytes()), Some(value));
        }
        for garbage in [&b""[..], b"{}", b"{\"t\":1}", b"\xff"] {
            assert_eq!(TokenValue::from_bytes(garbage), None);
        }
    }
}
