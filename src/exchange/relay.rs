//! Relay body: a provider's response body on its way to the caller, streamed as it comes, timed and counted.
//!
//! The body holds on to everything that must live as long as the response: the request that it belongs to, which is over
//! when the body is dropped, and the upstream connection, which goes back to its pool at the end. Both are a
//! [`RelayContext`] here.
//!
//! One task polls a relay body: the caller's connection on HTTP/1.1, which notices a caller that does not read. On HTTP/2
//! a body is not even polled while the caller grants no window, so there a task of its own moves the frames, and waits
//! for the caller no longer than for the provider.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Instant;

use bursar_http::deadline_timer::DeadlineTimer;
use bursar_http::headers;
use bursar_journal as journal;
use bursar_telemetry::metrics::{Limit, Reason, RefusalDetail};

/// What a relayed response is reported to, and what it holds until its end.
pub trait RelayContext {
    /// A write to the journal. It ends with whether the journal has it.
    type Commit: Future<Output = bool> + Unpin + fmt::Debug;

    /// Bytes of the body go to the caller.
    fn add_sent(&mut self, bytes: usize);

    /// The response is cut off for that reason, in that sense.
    fn fail(&mut self, reason: Reason, detail: RefusalDetail);

    /// It is cut off by that limit.
    fn count_limit(&self, limit: Limit);

    /// The whole response has come. What has to be written before the caller gets its end, if anything.
    fn complete(&mut self) -> Option<Self::Commit>;

    /// Whether the response comes over HTTP/2, on a connection that was not released yet.
    fn is_http2(&self) -> bool;

    /// The connection broke.
    fn broke_off(&self, error: &(dyn Error + 'static));

    /// Nothing more of the response will come: its connection may carry another request. Called once.
    fn release_connection(&mut self);
}

/// The body of every response.
#[derive(Debug)]
pub enum ResponseBody<B, C: RelayContext> {
    /// Bursar's own; None once it is sent.
    Own(Option<Bytes>),
    /// The provider's.
    Relay(Box<RelayBody<B, C>>),
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

/// Data goes in pieces of this size, so that how long a slow caller takes is measured by the byte.
const PIECE_BYTES: usize = 16 * 1024;

/// A provider's body on its way to the caller.
#[derive(Debug)]
pub struct RelayBody<B, C: RelayContext> {
    /// Not polled again once it has ended or broken off.
    source: B,
    context: C,
    /// What the response's `Connection` fields named, for the trailers.
    connection_named: Vec<HeaderName>,
    /// Whether the connection was released. From then on the source has nothing more.
    is_released: bool,
    /// The end of a response to a request that moves money, until the journal has it: were it sent before, a caller
    /// might act on a response that nobody knows of after a crash.
    withheld: Option<(C::Commit, Option<Frame<Bytes>>)>,
    /// Gathered before the head goes.
    early: Option<Frame<Bytes>>,
    /// One for all waits: it may go off early, never late.
    timer: DeadlineTimer,
    /// None: bytes have been there whenever they were asked for.
    waiting_since: Option<Instant>,
    idle_timeout: Duration,
    /// What it has come to, told once the head has gone.
    cut_off: Option<CutOff>,
    /// Whether there was time for that.
    has_yielded: bool,
}

/// Why a provider's body was cut off. The caller sees a connection that ends early.
#[derive(Debug, thiserror::Error)]
pub enum CutOff {
    /// The provider's connection broke.
    #[error("the provider's response broke off")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// The provider's stream was ended before the length that it had named.
    #[error("the provider's response is too short")]
    Short,
    /// The provider sent no byte for too long.
    #[error("the provider's response stalled")]
    Stalled,
    /// The caller took no byte for too long.
    #[error("the caller does not read the response")]
    Untaken,
}

impl<B, C> RelayBody<B, C>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
    C: RelayContext,
{
    /// Relays what a connection brings; the connection is released at the end.
    #[must_use]
    pub fn new(
        source: B,
        connection_named: Vec<HeaderName>,
        context: C,
        idle_timeout: Duration,
    ) -> Box<Self> {
        let mut relay = Box::new(Self {
            source,
            context,
            connection_named,
            is_released: false,
            withheld: None,
            early: None,
            timer: DeadlineTimer::default(),
            waiting_since: None,
            idle_timeout,
            cut_off: None,
            has_yielded: false,
        });
        if relay.source.is_end_stream() {
            relay.end();
            // HTTP/2 may have brought the end just now.
            relay.withheld = relay.context.complete().map(|commit| (commit, None));
        }
        relay
    }

    /// Takes what the connection has read of the body already, and waits for the journal where that is its end. Head and
    /// body go to the caller in one piece then, and not the head while the end is held back.
    pub async fn gather(&mut self) {
        // A connection hands over what it has once it was asked for.
        let mut is_asked = false;
        poll_fn(|context| match self.poll_frame(context) {
            Poll::Ready(frame) => {
                self.early = frame.and_then(Result::ok);
                Poll::Ready(())
            }
            Poll::Pending if self.withheld.is_some() => Poll::Pending,
            Poll::Pending if is_asked || self.cut_off.is_some() => {
                // The head has not gone yet.
                self.has_yielded = false;
                Poll::Ready(())
            }
            Poll::Pending => {
                is_asked = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }

    /// Moves the frames in a task of its own.
    #[must_use]
    pub fn pump(self: Box<Self>) -> ResponseBody<B, C>
    where
        B: Send + 'static,
        C: Send + 'static,
        C::Commit: Send,
    {
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
        if !std::mem::replace(&mut self.is_released, true) {
            self.context.release_connection();
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

    /// Yields once before the error: hyper discards what it has buffered when it sees one. A
    /// caller that sees a connection end without a head may send its request again.
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if let Some(frame) = self.early.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.cut_off.is_none() {
            match ready!(self.poll_source(context)) {
                Some(Err(cut_off)) => self.cut_off = Some(cut_off),
                frame => return Poll::Ready(frame),
            }
            self.has_yielded = false;
        }
        if !std::mem::replace(&mut self.has_yielded, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.cut_off.take().map(Err))
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.withheld.is_some() {
            return self.poll_withheld(context);
        }
        if self.is_released {
            // Its connection may be closed by now, which would look like an end before the end.
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.source).poll_frame(context) else {
            ready!(self.poll_stalled(context));
            self.context
                .fail(Reason::UpstreamTimeout, RefusalDetail::Stalled);
            return Poll::Ready(Some(Err(CutOff::Stalled)));
        };
        self.waiting_since = None;
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::clean_response_trailers(trailers, &self.connection_named);
                }
                self.context
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
                self.context
                    .fail(Reason::UpstreamProtocol, RefusalDetail::CutOff);
                self.context.broke_off(&error);
                Poll::Ready(Some(Err(CutOff::Broken(error.into()))))
            }
            None if self.is_reset() && self.source.size_hint().lower() > 0 => {
                self.context
                    .fail(Reason::UpstreamProtocol, RefusalDetail::CutOff);
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

    /// Whether the end that hyper tells of is an HTTP/2 reset without an error. That comes after the
    /// response's real end, or instead of it.
    fn is_reset(&self) -> bool {
        !self.source.is_end_stream() && self.context.is_http2()
    }

    /// The last frame, or the end alone.
    fn poll_end(
        &mut self,
        last: Option<Frame<Bytes>>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.context.complete() {
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
        self.early.is_none() && self.withheld.is_none() && self.is_released
    }

    fn size_hint(&self) -> SizeHint {
        let early = self.early.as_ref().and_then(Frame::data_ref);
        let early = early.map_or(0, |data| data.len() as u64);
        let rest = self.source.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + early);
        }
        hint.set_lower(rest.lower() + early);
        hint
    }
}

/// Moves the frames. Ends with the response, when the caller has let go of it, or when it takes nothing for too long.
async fn pump<B, C>(mut relay: Box<RelayBody<B, C>>, frames: mpsc::Sender<PumpedFrame>)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
    C: RelayContext,
{
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
                    let detail = RefusalDetail::WriteTimeout;
                    relay.context.fail(Reason::RequestTimeout, detail);
                    relay.context.count_limit(Limit::WriteTimeout);
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

impl<B, C: RelayContext> ResponseBody<B, C> {
    /// Bursar's own.
    #[must_use]
    pub fn own(body: Bytes) -> Self {
        Self::Own(Some(body).filter(|body| !body.is_empty()))
    }
}

impl<B, C> Body for ResponseBody<B, C>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
    C: RelayContext + Unpin,
{
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
            Self::Relay(relay) => relay.size_hint(),
            Self::Pumped { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
