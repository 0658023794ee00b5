//! Lingering close of a caller's request over HTTP/2: a body that nobody reads any more is read on for a while, and then
//! given up.
//!
//! Giving it up resets the stream. There are programs that forget a response then which they have not read, although
//! RFC 9113 section 8.1 forbids that. Until then it is one of the streams of its connection, so that nobody can have more
//! of them than of requests.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;

/// How long, and for how many bytes, what a caller still sends is read after a response that did not wait for it.
pub const LINGER: Duration = Duration::from_secs(2);
/// Beyond it the connection is closed, or the stream reset.
pub const MAX_LINGER_BYTES: usize = 1 << 20;

/// A caller's body. Over HTTP/1.1 it is the connection that lingers.
#[derive(Debug)]
pub struct LingeringBody {
    /// None: it is being dropped.
    body: Option<Incoming>,
    is_http2: bool,
}

impl LingeringBody {
    /// That of a request over that HTTP.
    #[must_use]
    pub fn new(body: Incoming, is_http2: bool) -> Self {
        Self {
            body: Some(body),
            is_http2,
        }
    }
}

impl Drop for LingeringBody {
    fn drop(&mut self) {
        // Outside of a runtime everything ends.
        if self.is_http2
            && let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(LINGER, discard(body)));
        }
    }
}

/// Reads to the end, or as much as may be.
async fn discard(mut body: Incoming) {
    let mut total = 0;
    while total < MAX_LINGER_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        total += frame.data_ref().map_or(0, Bytes::len);
    }
}

impl Body for LingeringBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}
