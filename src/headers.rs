//! Which fields go on? Hop-by-hop rules, credentials, `Via`: both ways.
//!
//! It knows field names and nothing about routes. The one invariant: what a caller sends can neither
//! remove nor repeat the `Authorization` that Bursar sets, because that is set after everything else.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// Bursar's pseudonym in `Via` and `Proxy-Status` (RFC 9110 section 7.6.3).
pub const PSEUDONYM: &str = "bursar";

/// Names the account that a request is sent for. It is for Bursar alone.
pub const ACCOUNT: HeaderName = HeaderName::from_static("bursar-account");

/// Fields of one connection only (RFC 9110 section 7.6.1). `Trailer` is not among them.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

/// Fields by which a request poses as another one: a framework behind the provider's front would see
/// another method or path than the one that was judged.
fn is_posing(name: &str) -> bool {
    matches!(
        name,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-url"
            | "x-rewrite-url"
    )
}

/// The names in every `Connection` field. Mostly empty, and then without an allocation.
#[must_use]
pub fn connection_named(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for name in value.as_bytes().split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            let common =
                name.eq_ignore_ascii_case(b"close") || name.eq_ignore_ascii_case(b"keep-alive");
            if !common && let Ok(name) = HeaderName::from_bytes(name) {
                named.push(name);
            }
        }
    }
    named
}

/// The account that a request names; an empty name, which no account has, where it names several or none
/// that can be read.
#[must_use]
pub fn account(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(ACCOUNT).iter();
    let first = values.next()?;
    let only = first.to_str().ok().filter(|_| values.next().is_none());
    Some(only.unwrap_or_default())
}

/// Takes out of a request what must not go on: `named` by `Connection`, hop-by-hop, `Proxy-*`, the
/// caller's credentials, the posing ones, and `Expect` and [`ACCOUNT`], which were for Bursar. `Host` stays until
/// the provider's replaces it.
pub fn clean_request(headers: &mut HeaderMap, named: &[HeaderName]) {
    remove_named(headers, named);
    remove_where(headers, |name| {
        is_for_bursar(name) || is_posing(name) || name == "authorization" || is_disguised(name)
    });
}

/// The same for a request that no provider gets: its credentials and the posing fields are for its server.
pub fn clean_foreign_request(headers: &mut HeaderMap, named: &[HeaderName]) {
    remove_named(headers, named);
    remove_where(headers, is_for_bursar);
}

/// Whether a request's field is for the next hop alone, which is Bursar.
fn is_for_bursar(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(name, "expect" | "bursar-account" | "bursar_account")
        // With underscores, too, which many gateways take for hyphens.
        || name.starts_with("proxy-")
        || name.starts_with("proxy_")
}

/// Takes out of a response, or of its trailers, what was for Bursar: `named` by `Connection`, and
/// hop-by-hop.
pub fn clean_response(headers: &mut HeaderMap, named: &[HeaderName]) {
    remove_named(headers, named);
    if headers.contains_key(TRANSFER_ENCODING) {
        // It overrides the length (RFC 9112 section 6.3), which may be false.
        headers.remove(CONTENT_LENGTH);
    }
    remove_where(headers, |name| {
        is_hop_by_hop(name) || matches!(name, "proxy-authenticate" | "proxy-authentication-info")
    });
}

/// Takes out of trailers what a request must not have, and what no trailer may hold (RFC 9110 section
/// 6.5.1).
pub fn clean_trailers(trailers: &mut HeaderMap, named: &[HeaderName]) {
    clean_request(trailers, named);
    trailers.remove(CONTENT_LENGTH);
    trailers.remove(HOST);
    trailers.remove(VIA);
}

/// Lengths and framing stay whatever `Connection` says: without them a body would become another one.
fn remove_named(headers: &mut HeaderMap, named: &[HeaderName]) {
    for name in named {
        if *name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

/// The posing fields and what frames a body, with underscores, which many gateways take for hyphens.
fn is_disguised(name: &str) -> bool {
    if !name.contains('_') {
        return false;
    }
    let meant = name.replace('_', "-");
    is_posing(&meant) || meant == "transfer-encoding" || meant == "content-length"
}

/// One look at each name is cheaper than looking each unwanted one up: few requests have more than ten.
fn remove_where(headers: &mut HeaderMap, must_go: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| must_go(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Joins the `Cookie` fields into which HTTP/2 splits one for compression (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Adds Bursar to `Via`; `received` is the version of the message that was received.
pub fn append_via(headers: &mut HeaderMap, received: Version) {
    let via = match received {
        Version::HTTP_10 => "1.0 bursar",
        Version::HTTP_2 => "2 bursar",
        _ => "1.1 bursar",
    };
    headers.append(VIA, HeaderValue::from_static(via));
}

/// Whether the message has already passed through Bursar.
#[must_use]
pub fn is_loop(headers: &HeaderMap) -> bool {
    headers.get_all(VIA).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|element| {
            let mut words = element
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            let by = words.nth(1).unwrap_or_default();
            by.eq_ignore_ascii_case(PSEUDONYM.as_bytes())
        })
    })
}

#[cfg(test)]
mod tests;
