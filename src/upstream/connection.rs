//! Connection to a provider that a request may be sent on, and what became of the request.
//!
//! It belongs to one request at a time, or over HTTP/2 to one of several: its pool gives it away and gets it back, or it
//! is dropped. Dropping one of HTTP/1.1 closes it, dropping one of HTTP/2 gives up the request's permit alone.

use std::error::Error;
use std::sync::Arc;

use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio_util::either::Either;

use super::circuit_breaker::Permit;
use super::connect::details;
use super::lifetime::ConnectionLifetime;
use super::peer::Peer;
use super::send_error::{SendError, classify, is_disconnected};
use super::streams::StreamPermit;
use super::upload::UploadBody;
use bursar_config::Origin;
use bursar_http::deadline_timer::DeadlineTimer;
use bursar_http::headers::KeepAlive;
use bursar_http::response::Outstanding;

/// What a connection sends as the body of a request.
pub trait RequestBody:
    Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> RequestBody for B where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static
{
}

/// Pool key: the origin, and the `Host` value that requests carry.
#[derive(Debug)]
pub(super) struct PoolKey {
    pub(super) origin: Origin,
    /// `Host`.
    host: HeaderValue,
}

/// A connection that a request may be sent on.
#[derive(Debug)]
pub struct Connection<B> {
    pub(super) key: Arc<PoolKey>,
    pub(super) sender: Sender<B>,
    /// For the head of a response; goes with the connection.
    pub(super) timer: DeadlineTimer,
    /// The circuit breaker's, for the request that it is taken for.
    pub(super) permit: Option<Permit>,
}

/// What hyper says of a request.
pub type Sent<B> = Result<Response<Incoming>, TrySendError<Request<UploadBody<B>>>>;

/// An HTTP/1.1 connection: what requests are handed to, and what is known of their responses.
#[derive(Debug)]
pub(super) struct Http1<B> {
    pub(super) requests: http1::SendRequest<UploadBody<B>>,
    /// Told of each request before it is sent, and asked for the fields of its response.
    pub(super) outstanding: Arc<Outstanding>,
    pub(super) term: Box<ConnectionLifetime>,
    pub(super) peer: Arc<Peer>,
}

#[derive(Debug)]
pub(super) enum Sender<B> {
    Http1(Http1<B>),
    /// The permit is held until the response is over.
    Http2(http2::SendRequest<UploadBody<B>>, StreamPermit),
}

impl PoolKey {
    pub(super) fn of(origin: &Origin) -> Self {
        // Every authority is a field value: it has neither controls nor spaces.
        let host = HeaderValue::from_str(origin.authority.as_str());
        Self {
            origin: origin.clone(),
            host: host.unwrap_or(HeaderValue::from_static("")),
        }
    }
}

impl<B: RequestBody> Connection<B> {
    pub(super) fn new(key: Arc<PoolKey>, sender: Sender<B>) -> Self {
        Self {
            key,
            sender,
            timer: DeadlineTimer::default(),
            permit: None,
        }
    }

    /// Whose it is.
    pub(super) fn origin(&self) -> &Origin {
        &self.key.origin
    }

    /// What `Host` says there.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.key.host
    }

    /// The server at its other end.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match &self.sender {
            Sender::Http1(sender) => Some(&sender.peer),
            Sender::Http2(_, permit) => permit.peer(),
        }
    }

    /// Whether the server refused the client after all.
    pub(super) fn is_refused(&self) -> bool {
        self.peer().is_some_and(|peer| peer.is_refused())
    }

    /// Whether it carries several requests at a time.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Heeds what a response says of how long its connection is kept.
    pub fn heed(&mut self, said: KeepAlive) {
        if let Sender::Http1(sender) = &mut self.sender {
            sender.term.heed(said);
        }
    }

    /// Hands a request over at once, so that nothing that waits for the response holds room for it; see
    /// [`Upstream::response`](super::Upstream::response).
    pub fn send(
        &mut self,
        mut request: Request<UploadBody<B>>,
    ) -> impl Future<Output = Sent<B>> + use<B> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.outstanding.begin(request.method());
                Either::Left(sender.requests.try_send_request(request))
            }
            // Several times the other's size.
            Sender::Http2(sender, permit) => {
                permit.sending();
                permit.set_body(request.body_mut().watch());
                Either::Right(Box::pin(sender.try_send_request(request)))
            }
        }
    }

    /// Whether the request that was handed over was not sent and never will be; the connection is given up then.
    pub(super) fn abandon(&self) -> bool {
        matches!(&self.sender, Sender::Http2(_, place) if place.abandon())
    }
}

impl<B: RequestBody> Sender<B> {
    /// What became of a request. A response is put into a box at once, because it is moved often on its way.
    #[inline]
    pub(super) fn classify_outcome(
        &mut self,
        sent: Sent<B>,
    ) -> Result<Box<Response<Incoming>>, SendError> {
        match sent {
            Ok(response) => {
                let mut response = Box::new(response);
                match self {
                    Self::Http1(sender) => sender.outstanding.complete(&mut response),
                    Self::Http2(_, permit) => permit.responded(),
                }
                Ok(response)
            }
            Err(error) => {
                if let Self::Http2(_, permit) = self {
                    permit.failed();
                }
                Err(self.send_error(error))
            }
        }
    }

    #[cold]
    fn send_error(&self, mut error: TrySendError<Request<UploadBody<B>>>) -> SendError {
        if error.take_message().is_some() {
            return SendError::Unsent;
        }
        let error = error.error();
        tracing::debug!(error = %details(error), "request failed");
        let is_unsent = matches!(self, Self::Http2(_, permit) if permit.is_unsent());
        match classify(error) {
            SendError::Broken | SendError::NoCloseNotify if is_unsent && is_disconnected(error) => {
                SendError::Unsent
            }
            failed => failed,
        }
    }
}
