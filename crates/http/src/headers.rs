//! Header fields: which go on, both ways. Hop-by-hop rules, credentials, `Via`.
//!
//! It knows field names and nothing about routes. The one invariant: what a caller sends can neither
//! remove nor repeat the `Authorization` that Bursar sets, because that is set after everything else.

mod bearer;
mod correlation;
mod hop_by_hop;
mod keep_alive;
mod repeated;
mod saved;
mod via;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, TRANSFER_ENCODING, USER_AGENT, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use smallvec::SmallVec;

pub use bearer::{OwnToken, Unusable, bearer};
pub use correlation::{Correlation, Identifier, TraceParent, Unusable as UnusableIdentifier};
pub use keep_alive::KeepAlive;
pub use repeated::{is_repeated, only};
pub use saved::SavedFields;
pub use via::{PSEUDONYM, Via};

use hop_by_hop::{connection_named, is_hop_by_hop};

use bursar_base::clock;
use bursar_base::field_names::{is_posing, is_trace};

/// Fields that must go: mostly one or two.
type Unwanted = SmallVec<[HeaderName; 4]>;

/// Names the account that a request is sent for. It is for Bursar alone.
const ACCOUNT: &str = "bursar-account";
/// What the caller's records call the request. It is for Bursar alone.
const REFERENCE: &str = "bursar-reference";
/// What Bursar calls a request, on every response.
const REQUEST_ID: HeaderName = HeaderName::from_static("bursar-request-id");

/// What a request's fields say to Bursar itself: one look at all of them, because few requests have more than
/// ten, and most have none of these.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct ControlFields<'a> {
    /// The account that it names; an empty name, which no account has, where it names several or none that can
    /// be read.
    pub account: Option<&'a str>,
    /// Whether it has an `Authorization`.
    pub has_authorization: bool,
    /// Whether it has already passed through this instance.
    pub is_loop: bool,
    /// What its caller knows it by; mostly nothing.
    pub correlation: Option<Box<Correlation>>,
}

impl<'a> ControlFields<'a> {
    /// Reads a request's fields, as they came; `via` is this instance.
    #[must_use]
    pub fn read(headers: &'a HeaderMap, via: &Via) -> Self {
        let mut said = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "authorization" => said.has_authorization = true,
                ACCOUNT => {
                    let named = only(headers, name).and_then(|value| value.to_str().ok());
                    said.account = Some(named.unwrap_or_default());
                }
                "via" => said.is_loop = headers.get_all(name).iter().any(|value| via.is_in(value)),
                REFERENCE => {
                    said.correlation().reference = Some(correlation::identifier(headers, name));
                }
                "x-request-id" => {
                    said.correlation().request_id = Some(correlation::identifier(headers, name));
                }
                "traceparent" => {
                    said.correlation().trace = correlation::trace_parent(headers, name);
                }
                _ => {}
            }
        }
        said
    }

    fn correlation(&mut self) -> &mut Correlation {
        self.correlation.get_or_insert_default()
    }
}

/// Says which request is responded to, in place of whatever else may have said so.
pub fn set_request_id(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(REQUEST_ID, id);
}

/// Sets a field to one value: in place where it is there once, which costs half.
pub fn set(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    if !is_repeated(headers, name)
        && let Some(there) = headers.get_mut(name)
    {
        *there = value;
    } else {
        headers.insert(name, value);
    }
}

/// What the head of a request leaves to be said about its trailers.
#[derive(Debug, Default)]
pub struct TrailerRules {
    /// What `Connection` named.
    named: Vec<HeaderName>,
    forwards_trace: bool,
    /// What else is taken out.
    unwanted: Option<fn(&HeaderName) -> bool>,
}

/// Takes out of a request what must not go on: what `Connection` names, hop-by-hop, `Proxy-*`, the
/// caller's credentials, the posing ones, its trace unless that is forwarded, and `Expect` and what Bursar's own fields
/// say, which were for Bursar. `Host` stays until the provider's replaces it.
pub fn clean_request(headers: &mut HeaderMap, forwards_trace: bool) -> TrailerRules {
    let named = clean(headers, |name| must_not_go_on(name, forwards_trace));
    TrailerRules {
        named,
        forwards_trace,
        unwanted: None,
    }
}

/// The same for a request that no provider gets: its credentials, its trace and the posing fields are for its server.
pub fn clean_foreign_request(headers: &mut HeaderMap) -> TrailerRules {
    TrailerRules {
        named: clean(headers, is_for_bursar),
        forwards_trace: true,
        unwanted: None,
    }
}

/// Whether a request's field is not for a provider, besides those of every hop.
fn must_not_go_on(name: &str, forwards_trace: bool) -> bool {
    is_for_bursar(name)
        || is_posing(name)
        || name == "authorization"
        || (!forwards_trace && is_trace(name))
        || has_underscores_for_hyphens(name, forwards_trace)
}

/// Whether a request's field is for Bursar, besides those of every hop.
fn is_for_bursar(name: &str) -> bool {
    // With underscores, too, which many gateways take for hyphens.
    matches!(
        name,
        "expect"
            | ACCOUNT
            | "bursar_account"
            | REFERENCE
            | "bursar_reference"
            | "bursar-request-id"
            | "bursar_request_id"
    ) || name.starts_with("proxy-")
        || name.starts_with("proxy_")
}

/// What was learnt about a response while it was cleaned.
#[derive(Debug, Default)]
pub struct CleanedResponse {
    /// What `Connection` named, for the trailers.
    pub named: Vec<HeaderName>,
    /// What becomes of the connection.
    pub keep_alive: KeepAlive,
    /// Whether it says when it came.
    pub has_date: bool,
    /// Whether `Location` or `Content-Location` may be among what is left.
    pub has_location: bool,
}

/// Takes out of a response what was for Bursar: what `Connection` names, and hop-by-hop.
pub fn clean_response(headers: &mut HeaderMap) -> CleanedResponse {
    let mut cleaned = CleanedResponse::default();
    let mut found = Unwanted::new();
    for name in headers.keys() {
        match name.as_str() {
            "date" => cleaned.has_date = true,
            "location" | "content-location" => cleaned.has_location = true,
            "proxy-status" if poses_as_bursar(headers) => found.push(name.clone()),
            text if is_unwanted(text, ends_at_bursar) => found.push(name.clone()),
            _ => {}
        }
    }
    if found.iter().any(KeepAlive::is_said_in) {
        cleaned.keep_alive = KeepAlive::read(headers);
        cleaned.named = connection_named(headers);
    }
    remove(headers, &cleaned.named, &found);
    if !cleaned.named.is_empty() {
        cleaned.has_date = headers.contains_key(DATE);
    }
    cleaned
}

/// Whether a response says by `Proxy-Status` that it is Bursar's own, which it is not.
fn poses_as_bursar(headers: &HeaderMap) -> bool {
    let fields = headers.get_all("proxy-status").into_iter();
    let mut members = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    members.any(|member| {
        let member = member.trim_ascii_start();
        let name = member.split(|byte| b"; \t".contains(byte)).next();
        let name = name.unwrap_or_default();
        let name = name.strip_prefix(b"\"").unwrap_or(name);
        let name = name.strip_suffix(b"\"").unwrap_or(name);
        name.eq_ignore_ascii_case(PSEUDONYM.as_bytes())
    })
}

/// The same for a response's trailers; the `Connection` fields of its head were what `named`.
pub fn clean_response_trailers(trailers: &mut HeaderMap, named: &[HeaderName]) {
    let mut found = Unwanted::new();
    find(trailers, ends_at_bursar, &mut found);
    remove(trailers, named, &found);
    // It would frame what has been framed already (RFC 9110 section 6.5.1).
    trailers.remove(CONTENT_LENGTH);
}

/// Says when an answer came that does not say so (RFC 9110 section 6.6.1).
pub fn add_date(headers: &mut HeaderMap) {
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(clock::wall())) {
        headers.insert(DATE, date);
    }
}

/// Whether a response's field is for Bursar, besides those of every hop, or is Bursar's to say.
fn ends_at_bursar(name: &str) -> bool {
    matches!(
        name,
        "proxy-authenticate" | "proxy-authentication-info" | "bursar-request-id"
    )
}

impl TrailerRules {
    /// The same, and trailers of these names are taken out as well.
    #[must_use]
    pub fn without(self, unwanted: fn(&HeaderName) -> bool) -> Self {
        Self {
            unwanted: Some(unwanted),
            ..self
        }
    }

    /// Takes out of the request's trailers what it must not have, and what no trailer may hold (RFC 9110 section
    /// 6.5.1).
    pub fn clean_trailers(&self, trailers: &mut HeaderMap) {
        let is_unwanted = |name: &str| must_not_go_on(name, self.forwards_trace);
        let mut found = Unwanted::new();
        find(trailers, is_unwanted, &mut found);
        remove(trailers, &self.named, &found);
        if let Some(is_unwanted) = self.unwanted {
            remove_all(trailers, is_unwanted);
        }
        trailers.remove(CONTENT_LENGTH);
        trailers.remove(HOST);
        trailers.remove(VIA);
    }
}

/// Takes out all fields of such names.
pub fn remove_all(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let names = headers.keys().filter(|name| is_unwanted(name));
    let names: Vec<HeaderName> = names.cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Takes out the unwanted fields, and what `Connection` names.
fn clean(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) -> Vec<HeaderName> {
    let mut found = Unwanted::new();
    find(headers, is_unwanted, &mut found);
    // It is among those of every hop. Mostly there is none, and then it is not looked up.
    let named = match found.contains(&CONNECTION) {
        true => connection_named(headers),
        false => Vec::new(),
    };
    remove(headers, &named, &found);
    named
}

/// Finds those of every hop and the other unwanted ones. One look at each name is cheaper than looking each of them up:
/// few messages have more than ten.
fn find(headers: &HeaderMap, is_other: impl Fn(&str) -> bool, found: &mut Unwanted) {
    for name in headers.keys() {
        if is_unwanted(name.as_str(), &is_other) {
            found.push(name.clone());
        }
    }
}

/// Whether a field is one of every hop, or an unwanted one of the other kind.
#[inline]
fn is_unwanted(name: &str, is_other: impl Fn(&str) -> bool) -> bool {
    !is_ordinary(name) && (is_hop_by_hop(name) || is_other(name))
}

/// How the names begin that are ever taken out, in whatever spelling.
const BEGINNINGS: [&[u8; 2]; 19] = [
    b"au", b"b3", b"ba", b"bu", b"co", b"el", b"ex", b"gr", b"ke", b"ne", b"ot", b"pr", b"se",
    b"te", b"tr", b"ub", b"up", b"x-", b"x_",
];
/// By the first byte, a bit for each second one, of which the lowest five bits count.
const SECOND: [u32; 256] = {
    let mut bits = [0; 256];
    let mut at = 0;
    while at < BEGINNINGS.len() {
        let [first, second] = *BEGINNINGS[at];
        bits[first as usize] |= 1 << (second & 31);
        at += 1;
    }
    bits
};

/// Whether a name begins like none that is ever taken out. Most do, and need no second look.
#[inline]
fn is_ordinary(name: &str) -> bool {
    match name.as_bytes() {
        [first, second, ..] => SECOND[usize::from(*first)] >> (second & 31) & 1 == 0,
        _ => true,
    }
}

fn remove(headers: &mut HeaderMap, named: &[HeaderName], unwanted: &[HeaderName]) {
    for name in named {
        // Lengths stay whatever `Connection` says: without them a body would become another one.
        if *name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in unwanted {
        if *name == TRANSFER_ENCODING {
            // It overrides the length (RFC 9112 section 6.3), which may be false.
            headers.remove(CONTENT_LENGTH);
        }
        headers.remove(name);
    }
}

/// The posing fields, the trace and what frames a body, with underscores, which many gateways take for hyphens.
fn has_underscores_for_hyphens(name: &str, forwards_trace: bool) -> bool {
    // Of those that begin with another letter none has a hyphen.
    let is_candidate = matches!(
        name.as_bytes(),
        [b'c' | b'e' | b'g' | b'o' | b's' | b't' | b'u' | b'x', ..]
    );
    if !is_candidate || memchr::memchr(b'_', name.as_bytes()).is_none() {
        return false;
    }
    let meant = name.replace('_', "-");
    let is_framing = || matches!(&*meant, "transfer-encoding" | "content-length");
    is_posing(&meant) || (!forwards_trace && is_trace(&meant)) || is_framing()
}

/// Whether a request over HTTP/1.1 comes from a client that reads no answer before it was told to send its body:
/// java.net.http.HttpClient waits for ever where a final answer with content comes instead (JDK-8286171). Guzzle
/// spells it like that, too, for bodies of 1 MiB or more, and is served as well by it.
#[must_use]
pub fn needs_continue(head: &Parts) -> bool {
    head.version == Version::HTTP_11 && expects_as_java(&head.headers)
}

/// Whether a request has to come over HTTP/1.1 instead: the same client over HTTP/2, where hyper sends no
/// `100 Continue`. Guzzle does not wait for one there, so that the client has to say who it is.
#[must_use]
pub fn needs_http1(head: &Parts) -> bool {
    let is_java = |value: &HeaderValue| value.as_bytes().starts_with(b"Java-http-client/");
    head.version == Version::HTTP_2
        && expects_as_java(&head.headers)
        && only(&head.headers, &USER_AGENT).is_some_and(is_java)
}

fn expects_as_java(headers: &HeaderMap) -> bool {
    only(headers, &EXPECT).is_some_and(|value| value.as_bytes() == b"100-Continue")
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

#[cfg(test)]
mod tests;
