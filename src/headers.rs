//! Which fields go on? Hop-by-hop rules, credentials, `Via`: both ways.
//!
//! It knows field names and nothing about routes. The one invariant: what a caller sends can neither
//! remove nor repeat the `Authorization` that Bursar sets, because that is set after everything else.

mod kept;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use smallvec::SmallVec;

pub use kept::Kept;

/// Bursar's pseudonym in `Via` and `Proxy-Status` (RFC 9110 section 7.6.3).
pub const PSEUDONYM: &str = "bursar";

/// Fields that must go: mostly one or two.
type Unwanted = SmallVec<[HeaderName; 4]>;

/// Names the account that a request is sent for. It is for Bursar alone.
const ACCOUNT: &str = "bursar-account";

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

/// What a request's fields say to Bursar itself: one look at all of them, because few requests have more than
/// ten, and most have none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said<'a> {
    /// The account that it names; an empty name, which no account has, where it names several or none that can
    /// be read.
    pub account: Option<&'a str>,
    /// Whether it has an `Authorization`.
    pub has_authorization: bool,
    /// Whether it has already passed through Bursar.
    pub is_loop: bool,
}

impl<'a> Said<'a> {
    /// Reads a request's fields, as they came.
    #[must_use]
    pub fn read(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "authorization" => said.has_authorization = true,
                ACCOUNT => {
                    let only = value.to_str().ok().filter(|_| said.account.is_none());
                    said.account = Some(only.unwrap_or_default());
                }
                "via" => said.is_loop |= names_bursar(value),
                _ => {}
            }
        }
        said
    }
}

/// Whether Bursar is among those that a `Via` field names.
fn names_bursar(via: &HeaderValue) -> bool {
    via.as_bytes().split(|byte| *byte == b',').any(|element| {
        let mut words = element
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let by = words.nth(1).unwrap_or_default();
        by.eq_ignore_ascii_case(PSEUDONYM.as_bytes())
    })
}

/// The names in every `Connection` field, mostly none.
fn connection_named(headers: &HeaderMap) -> Vec<HeaderName> {
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

/// Takes out of a request what must not go on: what `Connection` names, hop-by-hop, `Proxy-*`, the
/// caller's credentials, the posing ones, and `Expect` and `Bursar-Account`, which were for Bursar. `Host` stays until
/// the provider's replaces it. Returns what `Connection` named.
pub fn clean_request(headers: &mut HeaderMap) -> Vec<HeaderName> {
    clean(headers, must_not_go_on)
}

/// The same for a request that no provider gets: its credentials and the posing fields are for its server.
pub fn clean_foreign_request(headers: &mut HeaderMap) -> Vec<HeaderName> {
    clean(headers, is_for_bursar)
}

/// Whether a request's field is not for a provider, besides those of every hop.
fn must_not_go_on(name: &str) -> bool {
    is_for_bursar(name) || is_posing(name) || name == "authorization" || is_disguised(name)
}

/// Whether a request's field is for Bursar, besides those of every hop.
fn is_for_bursar(name: &str) -> bool {
    matches!(name, "expect" | ACCOUNT | "bursar_account")
        // With underscores, too, which many gateways take for hyphens.
        || name.starts_with("proxy-")
        || name.starts_with("proxy_")
}

/// Takes out of a response what was for Bursar: what `Connection` names, which is returned, and hop-by-hop.
pub fn clean_response(headers: &mut HeaderMap) -> Vec<HeaderName> {
    clean(headers, answers_bursar)
}

/// The same for a response's trailers; the `Connection` fields of its head were what `named`.
pub fn clean_response_trailers(trailers: &mut HeaderMap, named: &[HeaderName]) {
    let found = find(trailers, answers_bursar);
    remove(trailers, named, found);
}

/// Whether a response's field is for Bursar, besides those of every hop.
fn answers_bursar(name: &str) -> bool {
    matches!(name, "proxy-authenticate" | "proxy-authentication-info")
}

/// Takes out of a request's trailers what it must not have, and what no trailer may hold (RFC 9110 section
/// 6.5.1).
pub fn clean_request_trailers(trailers: &mut HeaderMap, named: &[HeaderName]) {
    let found = find(trailers, must_not_go_on);
    remove(trailers, named, found);
    trailers.remove(CONTENT_LENGTH);
    trailers.remove(HOST);
    trailers.remove(VIA);
}

/// Takes out the unwanted fields, and what `Connection` names.
fn clean(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) -> Vec<HeaderName> {
    let found = find(headers, is_unwanted);
    // It is among those of every hop. Mostly there is none, and then it is not looked up.
    let named = match found.contains(&CONNECTION) {
        true => connection_named(headers),
        false => Vec::new(),
    };
    remove(headers, &named, found);
    named
}

/// Those of every hop and the other unwanted ones. One look at each name is cheaper than looking each of them up: few
/// messages have more than ten.
fn find(headers: &HeaderMap, is_unwanted: impl Fn(&str) -> bool) -> Unwanted {
    let names = headers.keys().filter(|name| {
        let name = name.as_str();
        is_hop_by_hop(name) || is_unwanted(name)
    });
    names.cloned().collect()
}

fn remove(headers: &mut HeaderMap, named: &[HeaderName], unwanted: Unwanted) {
    for name in named {
        // Lengths stay whatever `Connection` says: without them a body would become another one.
        if *name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in unwanted {
        if name == TRANSFER_ENCODING {
            // It overrides the length (RFC 9112 section 6.3), which may be false.
            headers.remove(CONTENT_LENGTH);
        }
        headers.remove(name);
    }
}

/// The posing fields and what frames a body, with underscores, which many gateways take for hyphens.
fn is_disguised(name: &str) -> bool {
    if !name.as_bytes().contains(&b'_') {
        return false;
    }
    let meant = name.replace('_', "-");
    is_posing(&meant) || meant == "transfer-encoding" || meant == "content-length"
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
        Version::HTTP_10 => const { HeaderValue::from_static("1.0 bursar") },
        Version::HTTP_2 => const { HeaderValue::from_static("2 bursar") },
        _ => const { HeaderValue::from_static("1.1 bursar") },
    };
    headers.append(VIA, via);
}

#[cfg(test)]
mod tests;
