//! Upload of a request over HTTP/2: its body, and whether hyper still holds it.
//!
//! hyper lets go of a body when it has sent it, or when the server resets the stream. The task that sends it does not look at
//! it while it waits for a window, and nothing else ends that task: a server that has responded and reads no more
//! would keep it, and the stream, for ever. So whoever is done with a request looks whether its body is still held; the
//! connection then takes no further request, and is closed when its last one is over, as one of HTTP/1.1 is.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

/// A request's body as a connection sends it.
#[derive(Debug)]
pub struct UploadBody<B> {
    body: B,
    /// Dropped with it.
    held: Option<Arc<()>>,
}

/// Whether a body is still held.
#[derive(Debug)]
pub(super) struct UnderWay(Weak<()>);

impl UnderWay {
    pub(super) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl<B: Body> UploadBody<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, held: None }
    }

    /// Has it known whether it is held. None: there is no body.
    pub(super) fn watch(&mut self) -> Option<UnderWay> {
        if self.body.is_end_stream() {
            return None;
        }
        let held = self.held.insert(Arc::default());
        Some(UnderWay(Arc::downgrade(held)))
    }
}

impl<B: Body + Unpin> Body for UploadBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
