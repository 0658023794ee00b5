//! Upload of a request over HTTP/2: its body, and whether it is stuck.
//!
//! hyper lets go of a body when it has sent it, when the server resets the stream, when the body ends with an error, or when
//! the request is given up before a head has come. The task that sends it does not look at it while it waits for a window,
//! and nothing else ends that task: a server that has responded and reads no more would keep it, and the stream, for
//! ever. So whoever is done with a request that was responded to looks whether its body is stuck; the connection then takes
//! no further request, and is closed when its last one is over, as one of HTTP/1.1 is.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

/// A request's body as a connection sends it.
#[derive(Debug)]
pub struct UploadBody<B> {
    body: B,
    /// Whether the server has yet to take what was read last. Dropped with the body.
    waits_for_server: Option<Arc<AtomicBool>>,
}

/// Whether hyper holds a body.
#[derive(Debug)]
pub(super) struct Hold(Weak<AtomicBool>);

impl Hold {
    /// Whether it does, and looks at it only when the server takes more.
    pub(super) fn is_stuck(&self) -> bool {
        let held = self.0.upgrade();
        held.is_some_and(|waits_for_server| waits_for_server.load(Ordering::Relaxed))
    }
}

impl<B: Body> UploadBody<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            waits_for_server: None,
        }
    }

    /// Has it known whether it is stuck. None: there is no body.
    pub(super) fn watch(&mut self) -> Option<Hold> {
        if self.body.is_end_stream() {
            return None;
        }
        // Before hyper looks at it for the first time it waits for a window, too.
        let waits = self.waits_for_server.insert(Arc::new(true.into()));
        Some(Hold(Arc::downgrade(waits)))
    }
}

impl<B: Body + Unpin> Body for UploadBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Some(waits_for_server) = &self.waits_for_server {
            waits_for_server.store(frame.is_ready(), Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
