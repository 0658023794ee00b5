//! Replay decision: what a response means for the token and the request, as a pure table. Only a 401 leads to a replay.

use std::borrow::Cow;

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
    let mut challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    match challenges.any(|field| is_insufficient(field.as_bytes())) {
        true => ReplayDecision::InsufficientScope,
        false => ReplayDecision::Renew,
    }
}

/// Whether some challenge of the field is Bearer's with exactly that `error`, quoted or not; a description may well
/// mention it.
fn is_insufficient(mut field: &[u8]) -> bool {
    let mut scheme: &[u8] = b"";
    loop {
        // Some servers leave the commas out between parameters.
        field = without(field, |byte| matches!(byte, b' ' | b'\t' | b','));
        if field.is_empty() {
            return false;
        }
        let (name, rest) = split(field, |byte| matches!(byte, b' ' | b'\t' | b',' | b'='));
        // There may be blanks around it (RFC 9110 section 11.2).
        let Some(rest) = blank(rest).strip_prefix(b"=") else {
            (scheme, field) = (name, rest);
            continue;
        };
        let (value, rest) = value(blank(rest));
        let is_error = name.eq_ignore_ascii_case(b"error");
        if is_error && scheme.eq_ignore_ascii_case(b"bearer") && *value == *b"insufficient_scope" {
            return true;
        }
        field = rest;
    }
}

/// A parameter's value, unquoted, and what follows it.
fn value(field: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let Some(quoted) = field.strip_prefix(b"\"") else {
        let (value, rest) = split(field, |byte| matches!(byte, b' ' | b'\t' | b','));
        return (value.into(), rest);
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => value.extend(bytes.next()),
            _ => value.push(*byte),
        }
    }
    (value.into(), bytes.as_slice())
}

fn blank(field: &[u8]) -> &[u8] {
    without(field, |byte| matches!(byte, b' ' | b'\t'))
}

/// What follows the first bytes of that kind.
fn without(field: &[u8], is_of_kind: impl Fn(u8) -> bool) -> &[u8] {
    split(field, |byte| !is_of_kind(byte)).1
}

/// What stands before the first byte of that kind, and what follows.
fn split(field: &[u8], ends: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = field.iter().position(|byte| ends(*byte));
    field.split_at(end.unwrap_or(field.len()))
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

    #[test]
    fn an_error_is_found_in_every_spelling_of_a_parameter_and_in_no_text() {
        for (challenge, is_found) in [
            // Blanks may stand around `=`, and any number of them and of tabs after the scheme.
            ("Bearer  error=\"insufficient_scope\"", true),
            ("Bearer\terror=\"insufficient_scope\"", true),
            ("Bearer error = \"insufficient_scope\"", true),
            ("Bearer error =\"insufficient_scope\"", true),
            ("Bearer realm=\"b\" ,  error= insufficient_scope", true),
            ("Bearer realm=\"a\" error=\"insufficient_scope\"", true),
            (
                "Basic realm=\"x\", Bearer ERROR=\"insufficient_scope\"",
                true,
            ),
            (
                "Negotiate YWJj==, Bearer error=\"insufficient_scope\"",
                true,
            ),
            ("Bearer error=\"insufficient\\_scope\"", true),
            (
                "Bearer realm=\"caf\u{e9}\", error=\"insufficient_scope\"",
                true,
            ),
            ("Bearer error=\"insufficient_scope", true),
            // In a text, or of another scheme, it says nothing.
            (
                "Bearer error=\"invalid_token\", error_description=\"or, error=insufficient_scope\"",
                false,
            ),
            (
                "Bearer error_description=\"say \\\" error=insufficient_scope \\\"\"",
                false,
            ),
            (
                "Basic realm=\"Bearer\", error=\"insufficient_scope\"",
                false,
            ),
            ("Bearer, Basic error=\"insufficient_scope\"", false),
            ("Bearer error=", false),
            ("Bearer error=\"", false),
            ("=,=\"\\", false),
        ] {
            assert_eq!(
                is_insufficient(challenge.as_bytes()),
                is_found,
                "{challenge}"
            );
        }
    }
}
