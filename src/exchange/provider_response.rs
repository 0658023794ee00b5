//! A provider's response as it goes to the caller: its fields cleaned, its body relayed.

use std::sync::Arc;

use http::{Response, Version};
use hyper::body::Incoming;

use super::active_request::ActiveRequest;
use super::location::Asked;
use super::relay::{RelayBody, ResponseBody};
use super::route::Routes;
use crate::exchange::request_body::{Connection, Upstream};
use bursar_http::headers::{self, Via};

/// A provider's response, and what its way to the caller takes.
pub(super) struct ProviderResponse {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
    pub(super) upstream: Arc<Upstream>,
    /// None: the request said `https`, or the response is no provider's.
    pub(super) asked: Option<Asked>,
}

impl ProviderResponse {
    /// The response to a request, which goes on until the body's end.
    pub(super) fn relay(
        mut self,
        mut request: Box<ActiveRequest>,
        routes: &Routes,
        via: &Via,
        to_http2: bool,
    ) -> Response<ResponseBody> {
        let (mut head, body) = self.response.into_parts();
        let cleaned = headers::clean_response(&mut head.headers);
        self.connection.heed(cleaned.keep_alive);
        if !cleaned.has_date {
            headers::add_date(&mut head.headers);
        }
        if cleaned.has_location
            && let Some((asked, provider)) = self.asked.as_ref().zip(request.record.provider())
        {
            asked.rewrite(&mut head.headers, routes, provider);
        }
        via.append(&mut head.headers, head.version);
        request.record.set_status(head.status);
        head.version = Version::HTTP_11;
        let relay = RelayBody::new(body, cleaned.named, request, self.connection, self.upstream);
        let body = if to_http2 {
            relay.pump()
        } else {
            ResponseBody::Relay(relay)
        };
        Response::from_parts(head, body)
    }
}
