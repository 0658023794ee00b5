//! The request as it goes on to the provider: its fields without what was for Bursar, and, beside Bursar's token, with
//! which merchant is meant.

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::authorize::Authorizer;
use crate::exchange::route::Destination;
use bursar_config::{Merchant, MerchantHeader};
use bursar_http::headers::{self, TrailerRules, Via};

/// Makes the fields those of the request as it goes on; returns what they say of its trailers.
pub(super) fn prepare_fields(
    head: &mut Parts,
    destination: &Destination<'_>,
    authorizer: &Authorizer<'_>,
    via: &Via,
) -> TrailerRules {
    let headers = &mut head.headers;
    let cleaned = headers::clean_request(headers, destination.provider.forwards_trace);
    if head.version == Version::HTTP_2 {
        headers::join_cookies(headers);
    }
    via.append(headers, head.version);
    let account = &destination.provider.accounts[destination.account];
    // A token of the caller's own says itself whose it is, and nothing comes with it that is not the caller's.
    if authorizer.is_bursars()
        && let Some(merchant) = &account.merchant
    {
        name_merchant(headers, merchant, destination.merchant);
        if merchant.is_binding {
            return cleaned.without(is_merchant);
        }
    }
    cleaned
}

/// Over HTTP/2 the end of a request's stream says that it has no body; over HTTP/1.1 servers want that said where the method
/// is for one, and answer 411 otherwise (RFC 9110 section 8.6).
pub(super) fn say_that_there_is_no_body(head: &mut Parts) {
    let is_for_a_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    if head.version == Version::HTTP_2 && is_for_a_body {
        let length = head.headers.entry(CONTENT_LENGTH);
        length.or_insert(HeaderValue::from_static("0"));
    }
}

/// Whether a field of that name says which merchant is meant, however it is spelt.
fn is_merchant(name: &HeaderName) -> bool {
    MerchantHeader::ALL.iter().any(|kind| kind.is(name))
}

/// Tells the provider which merchant is meant, where the operation wants to know.
fn name_merchant(headers: &mut HeaderMap, merchant: &Merchant, wanted: Option<MerchantHeader>) {
    if merchant.is_binding {
        headers::remove_all(headers, is_merchant);
    }
    let Some(wanted) = wanted else {
        return;
    };
    let is_there = |name| headers.contains_key(name);
    if let (Some(id), Some(name)) = (merchant.id(wanted), wanted.names().first())
        && !wanted.names().iter().any(is_there)
    {
        headers.insert(name, id.clone());
    }
}
