//! Replay decision: what a response means for the token and the request, as a pure table. Only a 401 leads to a replay.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

/// What a provider's response means for the token and the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayDecision {
    /// Not a 401: relay it.
    Relay,
    /// A 401 that another token may turn: renew, then replay.
    Renew,
    /// A 401 that says that another token would not help (RFC 6750 section 3.1).
    InsufficientScope,
}

/// Reads a response's head.
#[must_use]
pub fn decide(status: StatusCode, headers: &HeaderMap) -> ReplayDecision {
    if status != StatusCode::UNAUTHORIZED {
        return ReplayDecision::Relay;
    }
    let insufficient = headers.get_all(WWW_AUTHENTICATE).iter().any(|challenge| {
        challenge.to_str().is_ok_and(|challenge| {
            let challenge = challenge.to_ascii_lowercase();
            challenge.contains("bearer") && has_error(&challenge)
        })
    });
    if insufficient {
        ReplayDecision::InsufficientScope
    } else {
        ReplayDecision::Renew
    }
}

/// Whether `error` is exactly `insufficient_scope`, quoted or not; a description may well mention it.
fn has_error(challenge: &str) -> bool {
    challenge.split([',', ' ']).any(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.trim() == "error" && value.trim().trim_matches('"') == "insufficient_scope"
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_401_renews_unless_it_asks_for_another_scope() {
        for (status, challenge, expected) in [
            (200, None, ReplayDecision::Relay),
            (
                403,
                Some("Bearer error=\"insufficient_scope\""),
                ReplayDecision::Relay,
            ),
            (407, None, ReplayDecision::Relay),
            (429, None, ReplayDecision::Relay),
            (503, None, ReplayDecision::Relay),
            (401, None, ReplayDecision::Renew),
            (
                401,
                Some("Bearer error=\"invalid_token\""),
                ReplayDecision::Renew,
            ),
            (401, Some("Basic realm=\"x\""), ReplayDecision::Renew),
            (
                401,
                Some("Bearer realm=\"a\", error=\"insufficient_scope\", scope=\"b\""),
                ReplayDecision::InsufficientScope,
            ),
            (
                401,
                Some("bearer error=insufficient_scope"),
                ReplayDecision::InsufficientScope,
            ),
            (
                401,
                Some(
                    "Bearer error=\"invalid_token\", error_description=\"not insufficient_scope\"",
                ),
                ReplayDecision::Renew,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(challenge) = challenge {
                headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(decide(status, &headers), expected, "{status} {challenge:?}");
        }
    }
}
