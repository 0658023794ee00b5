//! Closing of a caller's connection with a response: when, and how the caller is told.

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Response, Version};
use http_body::Body;

use super::record::Record;
use super::respond::Refusal;
use bursar_telemetry::metrics::Limit;

/// Whether the connection carries nothing after this response; `refusal` is why Bursar responds itself, if it does.
pub(super) fn is_last(refusal: Option<&Refusal>, record: &Record, is_draining: bool) -> bool {
    // Nobody knows where the next request would begin, or there is one connection too many.
    let is_cause = |refusal: &Refusal| {
        matches!(refusal, Refusal::Framing(_)) || refusal.limit() == Some(Limit::CallerConnections)
    };
    // The rest of the request is not waited for after the response.
    refusal.is_some_and(is_cause) || record.is_unread() || record.is_connect() || is_draining
}

/// Whether the end of the connection is all that tells where the body ends: HTTP/1.0 has no chunks (RFC 9112 section 6.3).
pub(super) fn ends_the_body<B: Body>(version: Version, response: &Response<B>) -> bool {
    version < Version::HTTP_11
        && !response.headers().contains_key(CONTENT_LENGTH)
        && response.body().size_hint().exact().is_none()
}

/// Tells the caller, on HTTP/1.1; HTTP/2 has GOAWAY for it.
pub(super) fn announce<B>(version: Version, response: &mut Response<B>) {
    if version < Version::HTTP_11 {
        // hyper would add `keep-alive` to one of HTTP/1.1.
        *response.version_mut() = version;
    }
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
