//! How does an answer get back to the caller? Streamed as it comes, timed, and counted.
//!
//! The body holds on to everything that must live as long as the answer: the record, which is written
//! when the body is dropped, and the upstream connection, which goes back to its pool at the end.
//!
//! On HTTP/1.1 a caller that does not read is noticed by its connection. On HTTP/2 a body is not even
//! polled while the caller grants no window, so there a task of its own moves the frames, and its
//! patience has an end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::exchange::active_request::ActiveRequest;
use crate::exchange::request_body::{Connection, Upstream};
use bursar_http::deadline_timer::DeadlineTimer;
use bursar_http::headers;
use bursar_journal::{self as journal, Commit, Entry};
use bursar_telemetry::metrics::{Limit, Reason};

/// The body of every answer.
#[derive(Debug)]
pub enum ResponseBody {
    /// Bursar's own; None once it is sent.
    Own(Option<Bytes>),
    /// The provider's.
    Relay(Box<RelayBody>),
    /// The provider's, moved by a task; it says when it has come to the end.
    Pumped {
        /// What the task moves.
        frames: mpsc::Receiver<PumpedFrame>,
        /// Whether that was all.
        ended: bool,
    },
}

/// What the task of a [`ResponseBody::Pumped`] moves: a frame, or None at the end.
type PumpedFrame = Option<Result<Frame<Bytes>, CutOff>>;

/// Data goes in pieces of this size, so that a slow caller's patience is measured by the byte.
const PIECE_BYTES: usize = 16 * 1024;

/// A provider's body on its way to the caller.
#[derive(Debug)]
pub struct RelayBody {
    source: Incoming,
    request: Box<ActiveRequest>,
    /// What the answer's `Connection` fields named, for the trailers.
    connection_named: Vec<HeaderName>,
    /// None once it went back.
    connection: Option<(Connection, Arc<Upstream>)>,
    /// The end of an answer to a request that moves money, until the journal has it.
    withheld: Option<(Commit, Option<Frame<Bytes>>)>,
    timer: DeadlineTimer,
    /// None: bytes have been there whenever they were asked for.
    waiting_since: Option<Instant>,
    idle_timeout: Duration,
    /// What it has come to, told at the next look.
    cut_off: Option<CutOff>,
}

/// Why a provider's body was cut off. The caller sees a connection that ends early.
#[derive(Debug, thiserror::Error)]
pub enum CutOff {
    /// The provider's connection broke.
    #[error("the provider's answer broke off")]
    Broken(#[source] hyper::Error),
    /// The provider's stream was ended before the length that it had named.
    #[error("the provider's answer is too short")]
    Short,
    /// The provider sent no byte for too long.
    #[error("the provider's answer stalled")]
    Stalled,
    /// The caller took no byte for too long.
    #[error("the caller does not read the answer")]
    Untaken,
}

impl RelayBody {
    /// Relays what a connection brings; the connection goes back to its pool at the end.
    #[must_use]
    pub fn new(
        source: Incoming,
        connection_named: Vec<HeaderName>,
        request: Box<ActiveRequest>,
        connection: Connection,
        upstream: Arc<Upstream>,
    ) -> Box<Self> {
        let idle_timeout = upstream.idle_timeout();
        let mut relay = Box::new(Self {
            source,
            request,
            connection_named,
            connection: Some((connection, upstream)),
            withheld: None,
            timer: DeadlineTimer::default(),
            waiting_since: None,
            idle_timeout,
            cut_off: None,
        });
        if relay.source.is_end_stream() {
            relay.end();
            // HTTP/2 may have brought the end just now.
            relay.withheld = relay.answered().map(|commit| (commit, None));
        }
        relay
    }

    /// Moves the frames in a task of its own.
    #[must_use]
    pub fn pump(self: Box<Self>) -> ResponseBody {
        if self.is_end_stream() {
            return ResponseBody::Relay(self);
        }
        // One frame on its way; the next is read when that one is taken.
        let (frames, taken) = mpsc::channel(1);
        tokio::spawn(pump(self, frames));
        ResponseBody::Pumped {
            frames: taken,
            ended: false,
        }
    }

    fn end(&mut self) {
        if let Some((connection, upstream)) = self.connection.take() {
            upstream.give_back(connection);
        }
    }

    /// Bytes may keep away for `timeouts.idle`.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let since = *self.waiting_since.get_or_insert_with(Instant::now);
            let deadline = since + self.idle_timeout;
            let mut timer = self.timer.by(deadline);
            ready!(timer.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.reset(deadline);
        }
    }

    /// Before it hears that a body broke off, hyper gets to write once what it has: it drops that otherwise. A
    /// caller that sees a connection end without a head may send its request again.
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if let Some(cut_off) = self.cut_off.take() {
            return Poll::Ready(Some(Err(cut_off)));
        }
        match ready!(self.poll_source(context)) {
            Some(Err(cut_off)) => {
                self.cut_off = Some(cut_off);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.withheld.is_some() {
            return self.poll_withheld(context);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.source).poll_frame(context) else {
            ready!(self.poll_stalled(context));
            self.request.fail(Reason::UpstreamTimeout);
            return Poll::Ready(Some(Err(CutOff::Stalled)));
        };
        self.waiting_since = None;
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_response_trailers(trailers, &self.connection_named);
                }
                self.request
                    .record
                    .add_sent(frame.data_ref().map_or(0, Bytes::len));
                let is_last = self.source.is_end_stream();
                if is_last {
                    self.end();
                }
                if is_last || frame.is_trailers() || journal::is_whole(&self.source) {
                    return self.poll_end(Some(frame), context);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.request.fail(Reason::UpstreamProtocol);
                if let Some((connection, upstream)) = &self.connection {
                    upstream.broke_off(connection, &error);
                }
                Poll::Ready(Some(Err(CutOff::Broken(error))))
            }
            None if self.is_reset() && self.source.size_hint().lower() > 0 => {
                self.request.fail(Reason::UpstreamProtocol);
                Poll::Ready(Some(Err(CutOff::Short)))
            }
            None if self.is_reset() => {
                self.end();
                Poll::Ready(None)
            }
            None => {
                self.end();
                self.poll_end(None, context)
            }
        }
    }

    /// Whether the end that hyper tells of is an HTTP/2 reset without an error. That comes after the answer's
    /// real end, or instead of it.
    fn is_reset(&self) -> bool {
        let connection = self.connection.as_ref();
        !self.source.is_end_stream() && connection.is_some_and(|(on, _)| on.is_http2())
    }

    fn answered(&self) -> Option<Commit> {
        self.request.entry().and_then(Entry::answered)
    }

    /// The last frame, or the end alone.
    fn poll_end(
        &mut self,
        last: Option<Frame<Bytes>>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.answered() {
            Some(commit) => {
                self.withheld = Some((commit, last));
                self.poll_withheld(context)
            }
            None => Poll::Ready(last.map(Ok)),
        }
    }

    fn poll_withheld(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if let Some((commit, _)) = &mut self.withheld {
            // Where it failed, the writer has said so: what has come is not kept from the caller.
            ready!(Pin::new(commit).poll(context));
        }
        let last = self.withheld.take().and_then(|(_, last)| last);
        Poll::Ready(last.map(Ok))
    }

    /// Not before the end was seen here: HTTP/2 may bring it between two looks.
    fn is_end_stream(&self) -> bool {
        self.withheld.is_none() && self.connection.is_none()
    }
}

/// Ends with the answer, with the caller's interest in it, or with its patience.
async fn pump(mut relay: Box<RelayBody>, frames: mpsc::Sender<PumpedFrame>) {
    loop {
        let frame = tokio::select! {
            frame = poll_fn(|context| relay.poll_frame(context)) => frame,
            () = frames.closed() => return,
        };
        let is_last = !matches!(frame, Some(Ok(_)));
        for piece in pieces(frame) {
            match tokio::time::timeout(relay.idle_timeout, frames.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_left)) => return,
                Err(_untaken) => {
                    // Without an end the caller is told that this was not all.
                    relay.request.fail(Reason::RequestTimeout);
                    relay.request.count_limit(Limit::WriteTimeout);
                    return;
                }
            }
        }
        if is_last {
            return;
        }
    }
}

/// A frame, its data cut into [`PIECE_BYTES`].
fn pieces(frame: PumpedFrame) -> impl Iterator<Item = PumpedFrame> {
    let (mut data, mut whole) = match frame {
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => (data, None),
            Err(frame) => (Bytes::new(), Some(Some(Ok(frame)))),
        },
        last => (Bytes::new(), Some(last)),
    };
    std::iter::from_fn(move || {
        if data.is_empty() {
            return whole.take();
        }
        let piece = data.split_to(data.len().min(PIECE_BYTES));
        Some(Some(Ok(Frame::data(piece))))
    })
}

impl ResponseBody {
    /// Bursar's own.
    #[must_use]
    pub fn own(body: Bytes) -> Self {
        Self::Own(Some(body).filter(|body| !body.is_empty()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Own(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Relay(relay) => relay.poll_frame(context),
            Self::Pumped { ended: true, .. } => Poll::Ready(None),
            Self::Pumped { frames, ended } => match ready!(frames.poll_recv(context)) {
                Some(Some(frame)) => Poll::Ready(Some(frame)),
                Some(None) => {
                    *ended = true;
                    Poll::Ready(None)
                }
                None => Poll::Ready(Some(Err(CutOff::Untaken))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_none(),
            Self::Relay(relay) => relay.is_end_stream(),
            Self::Pumped { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Relay(relay) => relay.source.size_hint(),
            Self::Pumped { .. } => SizeHint::default(),
        }
    }
}
