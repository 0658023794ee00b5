//! Caller connection: a stream whose first bytes can be looked at, whose writes do not wait for ever for a caller that
//! does not read, and which knows when it rests between requests; and the state that its requests share.

mod peer;
mod read_timer;
mod state;
mod target_encoding;
mod traffic;
mod transport;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

pub use peer::{Peer, TunnelContext};
pub use read_timer::ReadTimeouts;
use read_timer::ReadTimer;
pub use state::{ConnectionState, CutOffWatch};
pub use traffic::{Payments, Traffic};
pub use transport::Transport;

use crate::framing::{Awaits, Broken, Framing};
use bursar_telemetry::metrics::Limit;

/// The first bytes of a request that ends a rest: most heads fit. hyper reads more at once, so that none of them
/// are left over for a tunnel.
const FIRST_BYTES: usize = 2048;

/// A caller that closes its sending side that soon behind its request wants the response all the same, as RFC 9112 section
/// 9.6 has it; one that does so later has given up, mostly because of a time limit of its own.
const HALF_CLOSE_TIME: Duration = Duration::from_millis(500);

/// A caller's connection.
#[derive(Debug)]
pub struct CallerStream<S> {
    stream: S,
    side: Arc<ConnectionState>,
    /// Read before, to be read again.
    sniffed: Bytes,
    /// None: what is read is not HTTP/1.
    framing: Option<Framing>,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// For a head.
    waiting: ReadTimer,
    /// Set while a request waits: when was looked first since its caller's last byte.
    seen: Option<Instant>,
    /// Whether the caller has closed its sending side alone.
    is_half_closed: bool,
}

impl<S: Transport> CallerStream<S> {
    /// In a box, because futures keep room for each place that it was moved to.
    pub fn new(stream: S, side: Arc<ConnectionState>) -> Box<Self> {
        Box::new(Self {
            stream,
            side,
            sniffed: Bytes::new(),
            framing: None,
            stalled: None,
            waiting: ReadTimer::default(),
            seen: None,
            is_half_closed: false,
        })
    }

    /// Makes bytes that were read be read again, before what is to be read again already.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.sniffed = match self.sniffed.is_empty() {
            true => bytes,
            false => [&*bytes, &*self.sniffed].concat().into(),
        };
    }

    /// Whether what is read from now on is HTTP/1, from the first byte of a request on.
    pub fn frame(&mut self, is_http1: bool) {
        self.framing = is_http1.then(Framing::new);
    }

    /// Bytes of the transport, or those that are to be read again.
    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sniffed.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(context, buffer);
            if read.is_ready() {
                self.side.traffic.read();
                self.seen = None;
            }
            return read;
        }
        self.seen = None;
        let bytes = self.sniffed.len().min(buffer.remaining());
        let (now, _) = self.sniffed.split_at(bytes);
        buffer.put_slice(now);
        self.sniffed.advance(bytes);
        Poll::Ready(Ok(()))
    }

    /// Fails what has waited for the caller for too long. With TLS flushing and closing wait, too.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let limit = self.side.write_timeout();
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(stalled.as_mut().poll(context));
        self.side.end_with(Limit::WriteTimeout);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready when the caller has kept a head waiting for too long; bodies have other limits.
    fn poll_impatient(&mut self, context: &mut Context<'_>) -> Poll<Limit> {
        let Some(framing) = &self.framing else {
            return Poll::Pending;
        };
        let Self { waiting, side, .. } = self;
        waiting.poll_over(context, framing, side.read_timeouts, side.requests())
    }

    /// Where a request has come in part. A caller that leaves Nagle's algorithm on, as python-requests does towards
    /// proxies, writes a head and then a body, which its system holds back until the head is acknowledged; it does
    /// the same with the end of a long body. Each wait for more costs one call, which bulk hardly notices.
    fn ask_for_the_rest(&mut self) {
        let awaits = self.framing.as_ref().map(Framing::awaits);
        if matches!(awaits, Some(Awaits::Head | Awaits::Body)) {
            self.stream.acknowledge();
        }
    }

    /// Where a request's start line came, has hyper read one that it takes.
    fn encode_target(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let Some(begun) = self.framing.as_ref().and_then(Framing::start_line) else {
            return;
        };
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        let Some(mut encoded) = target_encoding::encoded(bytes, begun) else {
            return;
        };
        buffer.set_filled(before);
        let now = encoded.split_to(encoded.len().min(buffer.remaining()));
        buffer.put_slice(&now);
        // What is longer now is read next.
        self.put_back(encoded);
    }

    /// Waits for a connection that rests to be of interest again: bytes have come, or its end, or a limit is reached.
    /// What it is, the next read tells.
    pub fn poll_rested(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut first = [MaybeUninit::uninit(); FIRST_BYTES];
        let mut buffer = ReadBuf::uninit(&mut first);
        let Poll::Ready(_) = self.poll_bytes(context, &mut buffer) else {
            return self.poll_impatient(context).map(drop);
        };
        self.put_back(Bytes::copy_from_slice(buffer.filled()));
        Poll::Ready(())
    }

    /// While a request waits that its provider has not seen, finds out whether its caller leaves. What is read is read
    /// again.
    fn look_for_end(&mut self, context: &mut Context<'_>) {
        let is_over = self.is_half_closed || self.side.has_caller_left();
        if !self.side.waits() || is_over || self.framing.is_none() {
            self.seen = None;
            return;
        }
        let seen = *self.seen.get_or_insert_with(Instant::now);
        // What comes first is for hyper to read.
        if !self.sniffed.is_empty() {
            return;
        }
        let mut first = [MaybeUninit::uninit(); FIRST_BYTES];
        let mut buffer = ReadBuf::uninit(&mut first);
        let read = self.poll_bytes(context, &mut buffer);
        if read.is_ready() {
            // Whoever waits for it has not seen it.
            context.waker().wake_by_ref();
        }
        match read {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.is_half_closed = seen.elapsed() < HALF_CLOSE_TIME;
                if !self.is_half_closed {
                    self.side.leave();
                }
            }
            Poll::Ready(Ok(())) => {
                self.put_back(Bytes::copy_from_slice(buffer.filled()));
            }
            Poll::Ready(Err(_)) => self.side.leave(),
        }
    }

    /// It rests no longer.
    pub fn wake(&mut self) {
        if self.waiting.end() {
            self.side.rests.store(false, Ordering::Relaxed);
        }
    }
}

impl<S: Transport> Transport for CallerStream<S> {
    fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }

    fn acknowledge(&mut self) {
        self.stream.acknowledge();
    }
}

impl<S: Transport> AsyncRead for CallerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What came before the break was taken already; what comes after it is nobody's.
        if self.framing.as_ref().is_some_and(Framing::is_broken) {
            return Poll::Ready(Err(broken()));
        }
        let before = buffer.filled().len();
        let Poll::Ready(read) = self.poll_bytes(context, buffer) else {
            self.ask_for_the_rest();
            let limit = ready!(self.poll_impatient(context));
            self.wake();
            self.side.end_with(limit);
            return Poll::Ready(match limit {
                // As if the caller had closed its side.
                Limit::IdleTimeout => Ok(()),
                _ => Err(io::ErrorKind::TimedOut.into()),
            });
        };
        self.wake();
        read?;
        self.encode_target(buffer, before);
        let Self { framing, side, .. } = &mut *self;
        let Some(framing) = framing else {
            return Poll::Ready(Ok(()));
        };
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        let read = framing.read(bytes);
        side.framed(framing);
        match read {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Broken { intact: 0 }) => Poll::Ready(Err(broken())),
            // The next read fails, without waiting for more.
            Err(Broken { intact }) => {
                buffer.set_filled(before + intact);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: Transport> AsyncWrite for CallerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.side.traffic.written(written.is_ready());
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.side.traffic.written(written.is_ready());
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // hyper flushes the stream once it has no byte left to write, and nothing has come since it began to wait.
        if self.waiting.may_rest() && flushed.is_ready() {
            self.side.rests.store(true, Ordering::Relaxed);
        }
        if flushed.is_ready() {
            self.look_for_end(context);
        }
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, closed)
    }
}

fn broken() -> io::Error {
    let what = "the framing of a chunked body is broken";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
