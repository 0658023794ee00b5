//! Closing of a caller's connection with a response: when, and how the caller is told.

use http::header::CONNECTION;
use http::{HeaderValue, Response};

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

/// Tells the caller, on HTTP/1.1; HTTP/2 has GOAWAY for it.
pub(super) fn announce<B>(response: &mut Response<B>) {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
