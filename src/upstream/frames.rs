//! Frame observer of an HTTP/2 connection: what its frames say that hyper does not tell, read along on their way in, and
//! counted on their way out.
//!
//! - GOAWAY, settings, windows, and that the server does not read are told to the pool at once ([`Streams`]).
//! - A response that is cut off is told to hyper as that, whatever the error code: it takes NO_ERROR for the end.
//! - The fields of responses are checked one by one ([`BlockReader`](super::fields::BlockReader)), and go on in blocks
//!   that h2 takes.
//! - After a write has failed, what the server sent before is still read: it may say which requests it has not
//!   processed. What would be written then goes nowhere, nor does what still waits when the server has closed.
//!
//! At most one block and what one read brought is kept. Whatever is no HTTP/2 goes on as it is: h2 refuses it.

mod head;
mod read;
mod written;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::sync::oneshot;

use read::ReadFrames;
use written::WrittenFrames;

use super::streams::Streams;
use bursar_base::socket::ResetOnClose;
use bursar_telemetry::metrics::DroppedFields;

/// A stream that reads along. One that ends while responses are awaited, or is abandoned, is reset: whoever waited is
/// told that there is none, so no request must arrive after that.
#[derive(Debug)]
pub(super) struct Frames<S: ResetOnClose> {
    stream: S,
    incoming: ReadFrames,
    outgoing: WrittenFrames,
    /// Why nothing can be written any more.
    broken: Option<io::ErrorKind>,
    /// Whether the server has closed its side.
    has_ended: bool,
}

impl<S: ResetOnClose> Frames<S> {
    pub(super) fn new(stream: S, streams: &Arc<Streams>, dropped: Arc<DroppedFields>) -> Self {
        Self {
            stream,
            incoming: ReadFrames::new(streams, dropped),
            outgoing: WrittenFrames::new(streams),
            broken: None,
            has_ended: false,
        }
    }

    /// Resolves as soon as the server's settings have come and let it have a request; with an error where the connection
    /// ends before.
    pub(super) fn usable(&mut self) -> oneshot::Receiver<()> {
        let (usable, receiver) = oneshot::channel();
        self.incoming.usable = Some(usable);
        receiver
    }

    /// Whether nothing more is written. A head that waits when the server closes belongs to a request that is told that it
    /// was not sent.
    fn is_broken(&mut self) -> bool {
        if self.broken.is_none() && self.incoming.streams.is_abandoned() {
            self.broken = Some(io::ErrorKind::NotConnected);
        }
        self.broken.is_some() || self.has_ended
    }

    /// What became of a write. One that failed is taken for done from then on.
    fn wrote<T>(
        &mut self,
        context: &Context<'_>,
        written: Poll<io::Result<T>>,
        all: T,
    ) -> Poll<io::Result<T>> {
        for stream in self.outgoing.reset.drain(..) {
            self.incoming.forget(stream);
        }
        match written {
            Poll::Ready(Err(error)) => {
                self.broken = Some(error.kind());
                // h2 has read before it wrote.
                context.waker().wake_by_ref();
                Poll::Ready(Ok(all))
            }
            written => written,
        }
    }
}

impl<S: Read + ResetOnClose + Unpin> Read for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream,
            incoming,
            broken,
            has_ended,
            ..
        } = &mut *self;
        while !incoming.give(&mut buffer)? {
            let mut read = ReadBuf::new(&mut incoming.read);
            match Pin::new(&mut *stream).poll_read(context, read.unfilled()) {
                Poll::Ready(done) => done?,
                // What had come before is read, and nothing can come after it.
                Poll::Pending => {
                    if incoming.streams.poll_abandoned(context) {
                        *broken = Some(io::ErrorKind::NotConnected);
                    }
                    let error = broken.map(|kind| Err(kind.into()));
                    return error.map_or(Poll::Pending, Poll::Ready);
                }
            }
            incoming.rest = 0..read.filled().len();
            if incoming.rest.is_empty() {
                *has_ended = true;
                if !incoming.cut_at_end() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + ResetOnClose + Unpin> Write for Frames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.is_broken() {
            return Poll::Ready(Ok(all));
        }
        if self.outgoing.hold_back(slices) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if written.is_pending() {
            // Until a flush says that all of it has gone.
            self.incoming.streams.block(true);
        }
        let mut left = WrittenFrames::sent(&written, all);
        for slice in slices {
            let sent = slice.get(..left.min(slice.len())).unwrap_or_default();
            self.outgoing.wrote(sent);
            left -= sent.len();
        }
        self.wrote(context, written, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.incoming.streams.block(flushed.is_pending());
        self.wrote(context, flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: ResetOnClose> Drop for Frames<S> {
    fn drop(&mut self) {
        let streams = &self.incoming.streams;
        if streams.is_open() || streams.is_abandoned() {
            self.stream.reset_on_close();
        }
    }
}

#[cfg(test)]
mod tests;
