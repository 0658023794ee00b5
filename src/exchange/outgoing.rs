//! The request as it goes on to the provider: its fields without what was for Bursar, and, beside Bursar's token, with
//! which merchant is meant.

use http::request::Parts;
use http::{HeaderMap, HeaderName, Version};

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
    }
    cleaned
}

/// Tells the provider which merchant is meant, where the operation wants to know.
fn name_merchant(headers: &mut HeaderMap, merchant: &Merchant, wanted: Option<MerchantHeader>) {
    if merchant.is_binding {
        let is_one = |name: &&HeaderName| MerchantHeader::ALL.iter().any(|kind| kind.is(name));
        let named: Vec<_> = headers.keys().filter(is_one).cloned().collect();
        for name in named {
            headers.remove(name);
        }
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
