//! A provider's response as it goes to the caller: its fields cleaned, its body relayed.

use std::error::Error;
use std::sync::Arc;

use http::{Response, Version};
use hyper::body::Incoming;

use super::active_request::ActiveRequest;
use super::location::Asked;
use super::relay::{self, RelayBody, RelayContext};
use super::route::Routes;
use crate::exchange::request_body::{Connection, Upstream};
use bursar_http::headers::{self, Via};
use bursar_journal::{Commit, Entry};
use bursar_telemetry::metrics::{Limit, Reason, RefusalDetail};

/// The body of every response to a caller.
pub type ResponseBody = relay::ResponseBody<Incoming, Relayed>;

/// A provider's response, and what its way to the caller takes.
pub(super) struct ProviderResponse {
    pub(super) response: Box<Response<Incoming>>,
    pub(super) connection: Connection,
    pub(super) upstream: Arc<Upstream>,
    /// None: the request said `https`, or the response is no provider's.
    pub(super) asked: Option<Asked>,
}

impl ProviderResponse {
    /// The response to a request, which goes on until the body's end.
    pub(super) async fn relay(
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
        let idle_timeout = self.upstream.idle_timeout();
        let relayed = Relayed {
            request,
            is_whole: false,
            connection: Some((self.connection, self.upstream)),
        };
        let is_in_journal = relayed.request.entry().is_some();
        let mut relay = RelayBody::new(body, cleaned.named, relayed, idle_timeout);
        if is_in_journal {
            relay.gather().await;
        }
        let body = if to_http2 {
            relay.pump()
        } else {
            ResponseBody::Relay(relay)
        };
        Response::from_parts(head, body)
    }
}

/// What a response's body keeps alive: its request, and the connection that it comes on.
#[derive(Debug)]
pub struct Relayed {
    request: Box<ActiveRequest>,
    /// Whether all of it has come, if not the end of its stream.
    is_whole: bool,
    /// None once it went back to its pool.
    connection: Option<(Connection, Arc<Upstream>)>,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if self.connection.is_some() && !self.is_whole {
            self.request.set_unfinished();
        }
    }
}

impl RelayContext for Relayed {
    type Commit = Commit;

    fn add_sent(&mut self, bytes: usize) {
        self.request.record.add_sent(bytes);
    }

    fn fail(&mut self, reason: Reason, detail: RefusalDetail) {
        self.request.fail(reason, Some(detail));
    }

    fn count_limit(&self, limit: Limit) {
        self.request.count_limit(limit);
    }

    fn complete(&mut self) -> Option<Commit> {
        self.is_whole = true;
        self.request.record.attempts.set_answered();
        self.request.entry().and_then(Entry::answered)
    }

    fn is_http2(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|(connection, _)| connection.is_http2())
    }

    fn broke_off(&self, error: &(dyn Error + 'static)) {
        if let Some((connection, upstream)) = &self.connection {
            upstream.broke_off(connection, error);
        }
    }

    fn release_connection(&mut self) {
        if let Some((connection, upstream)) = self.connection.take() {
            upstream.give_back(connection);
        }
    }
}
