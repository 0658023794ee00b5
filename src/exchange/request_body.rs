//! Request bodies of an exchange: none, one sending of the caller's, or one whose end waits for the journal.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use bursar_http::lingering_body::LingeringBody;
use bursar_http::replay_body::{BodyTooLarge, ReplayBody, RequestBodyError, Sending};
use bursar_journal::{self as journal, BodyObserver, Hash, HashingBody};

/// A caller's body, which can be sent again.
pub type CallerBody = ReplayBody<LingeringBody>;

/// The servers that such bodies are sent to.
pub type Upstream = crate::upstream::Upstream<RequestBody>;

/// A connection to one of them.
pub type Connection = crate::upstream::Connection<RequestBody>;

/// A request body as one connection sends it. Boxed, because a request is moved often on its way, and most have none.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// Nobody has to know of its end.
    Plain(Box<Sending<LingeringBody>>),
    /// The journal has to know of its end before it goes.
    Hashing(Box<HashingBody<Box<Sending<LingeringBody>>>>),
}

impl RequestBody {
    /// The next sending of a caller's body, or none where there is no body.
    ///
    /// # Errors
    /// Where more was read than was kept.
    pub fn next(body: Option<&CallerBody>) -> Result<Self, BodyTooLarge> {
        body.map_or(Ok(Self::Empty), |body| {
            Ok(Self::Plain(Box::new(body.begin_sending()?)))
        })
    }

    /// Lets the observer know of the body's end before it goes. The body's hash where that needs no waiting,
    /// because the whole body is there.
    pub async fn hash(&mut self, observer: BodyObserver) -> Option<Hash> {
        *self = match std::mem::replace(self, Self::Empty) {
            Self::Plain(sending) => Self::Hashing(Box::new(HashingBody::new(sending, observer))),
            body => body,
        };
        match self {
            Self::Hashing(hashing) => hashing.gather().await,
            Self::Empty | Self::Plain(_) => journal::hash_of_nothing(),
        }
    }

    /// Whether its caller is known to be gone before anything was sent.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Hashing(hashing) if hashing.is_broken())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Plain(sending) => Pin::new(sending).poll_frame(context),
            Self::Hashing(hashing) => Pin::new(hashing).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Plain(sending) => sending.is_end_stream(),
            Self::Hashing(hashing) => hashing.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Plain(sending) => sending.size_hint(),
            Self::Hashing(hashing) => hashing.size_hint(),
        }
    }
}
