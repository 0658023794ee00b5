//! The client that attempts are made with: connections to a provider, and one sending on one of them.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderValue, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::exchange::request_body::{CallerBody, Connection, RequestBody, Upstream};
use crate::upstream::{ConnectError, Need, OutgoingRequest, Peer, SendError};
use bursar_config::Origin;

/// What one attempt sends.
pub(in crate::exchange) struct Message {
    pub(in crate::exchange) outgoing: OutgoingRequest,
    pub(in crate::exchange) authorization: HeaderValue,
    pub(in crate::exchange) upload: RequestBody,
}

/// Reaches the servers of one provider.
pub(in crate::exchange) trait Client {
    type Connection;
    /// Of responses.
    type Body: Body;

    /// A connection for a request, and when it was there.
    async fn connection(
        &self,
        origin: &Origin,
        need: Need,
        now: Instant,
    ) -> Result<(Self::Connection, Instant), ConnectError>;

    /// The server at a connection's other end.
    fn peer(connection: &Self::Connection) -> Option<&Arc<Peer>>;

    /// Sends a message once, at `began`, and waits for the head of its response. `body` is what the upload is of.
    fn send(
        &self,
        connection: &mut Self::Connection,
        message: Message,
        body: Option<&CallerBody>,
        began: Instant,
    ) -> impl Future<Output = Result<Box<Response<Self::Body>>, SendError>>;

    /// The server takes the request over HTTP/1.1 alone; whether it may have it so.
    fn use_http1(&self, origin: &Origin) -> bool;
}

impl Client for Upstream {
    type Connection = Connection;
    type Body = Incoming;

    fn connection(
        &self,
        origin: &Origin,
        need: Need,
        now: Instant,
    ) -> impl Future<Output = Result<(Connection, Instant), ConnectError>> {
        Self::connection(self, origin, need, now)
    }

    fn peer(connection: &Connection) -> Option<&Arc<Peer>> {
        connection.peer()
    }

    fn send(
        &self,
        connection: &mut Connection,
        message: Message,
        body: Option<&CallerBody>,
        began: Instant,
    ) -> impl Future<Output = Result<Box<Response<Incoming>>, SendError>> {
        let Message {
            outgoing,
            authorization,
            upload,
        } = message;
        let request = outgoing.request(connection, Some(authorization), upload);
        // Handed over at once: a future that waits for the response has no room for the request.
        let sending = connection.send(request);
        async move {
            let sending = pin!(sending);
            self.response(connection, sending, body, began).await
        }
    }

    fn use_http1(&self, origin: &Origin) -> bool {
        Self::use_http1(self, origin)
    }
}
