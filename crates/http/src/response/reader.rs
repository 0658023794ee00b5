//! Stream adapter between the server and hyper, which reads responses on their way.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::Chunked;
use super::outstanding::Outstanding;
use super::rewrite::{Rewriting, State};
use bursar_base::socket::ResetOnClose;
use bursar_telemetry::metrics::DroppedFields;

/// Read at once where bytes are held here.
const READ_BYTES: usize = 8 * 1024;

/// A stream whose answers hyper takes. One that ends while a response is awaited is reset: whoever waited is told that
/// there is none, so the request must not arrive after that.
#[derive(Debug)]
pub struct Reader<S: ResetOnClose> {
    stream: S,
    outstanding: Arc<Outstanding>,
    dropped: Arc<DroppedFields>,
    state: State,
    /// None where nothing is held.
    rewriting: Option<Box<Rewriting>>,
    /// Whether the server takes no more of the request. What it has answered is read all the same.
    is_deaf: bool,
}

impl<S: ResetOnClose> Reader<S> {
    /// For a new connection, whose requests `outstanding` is told of.
    pub fn new(stream: S, outstanding: Arc<Outstanding>, dropped: Arc<DroppedFields>) -> Self {
        Self {
            stream,
            outstanding,
            dropped,
            state: State::Body,
            rewriting: None,
            is_deaf: false,
        }
    }

    /// Before anything is written: the first bytes of a request end what was read before. hyper has looked whether
    /// there is anything to be read just before, and closes a connection on which a server speaks unasked.
    fn begin(&mut self) {
        if let Some(is_to_head) = self.outstanding.take_request() {
            // Whatever is held belongs to no answer.
            self.state = match self.rewriting.take() {
                Some(_stray) => State::Over,
                None => State::Head { is_to_head },
            };
        }
    }

    /// Takes what was written, or the server's unwillingness to read it.
    fn written(
        &mut self,
        written: io::Result<usize>,
        len: impl FnOnce() -> usize,
    ) -> io::Result<usize> {
        written.or_else(|error| {
            self.refused(&error);
            Ok(len())
        })
    }

    /// Whether a request was begun whose response has not.
    fn awaits_response(&self) -> bool {
        matches!(self.state, State::Head { .. })
    }

    #[cold]
    fn refused(&mut self, error: &io::Error) {
        tracing::debug!(%error, "the server does not read the request");
        self.is_deaf = true;
    }
}

impl<S: AsyncRead + ResetOnClose + Unpin> Reader<S> {
    /// Reads into hyper's own buffer. Whether hyper may look at it.
    fn poll_pass(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let new = buffer.filled().get(before..).unwrap_or_default();
        if self.state == State::Chunked(Chunked::Trailers) && (read.is_err() || new.is_empty()) {
            let mut rewriting = Box::<Rewriting>::default();
            rewriting.end(&mut self.state, &self.dropped);
            self.rewriting = Some(rewriting);
            return Poll::Ready(Ok(false));
        }
        read?;
        let passed = self.state.pass(new);
        if passed == new.len() {
            return Poll::Ready(Ok(true));
        }
        let mut rewriting = Box::<Rewriting>::default();
        rewriting
            .input
            .extend_from_slice(new.get(passed..).unwrap_or_default());
        self.rewriting = Some(rewriting);
        buffer.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }

    /// Reads on, and hands over what was written anew. Whether there is anything, or nothing more will come. Rare, and
    /// never inlined, so that other reads do not have its room on their stack.
    #[cold]
    #[inline(never)]
    fn poll_rewritten(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let Some(rewriting) = &mut self.rewriting else {
            return Poll::Ready(Ok(false));
        };
        if let Some(fields) = rewriting.advance(&mut self.state, &self.dropped)? {
            self.outstanding.put(fields);
        }
        if !rewriting.output.is_empty() {
            let len = rewriting.output.len().min(buffer.remaining());
            buffer.put_slice(&rewriting.output.split_to(len));
            if rewriting.is_empty() {
                self.rewriting = None;
            }
            return Poll::Ready(Ok(true));
        }
        if self.state == State::Over {
            return Poll::Ready(Ok(true));
        }
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut more = ReadBuf::uninit(&mut room);
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, &mut more) else {
            let doubt = ready!(rewriting.poll_switched(context));
            return Poll::Ready(Err(doubt.into()));
        };
        if read.is_ok() && !more.filled().is_empty() {
            rewriting.input.extend_from_slice(more.filled());
            return Poll::Ready(Ok(false));
        }
        match rewriting.end(&mut self.state, &self.dropped) {
            true => Poll::Ready(Ok(false)),
            // Nothing of what is held is whole.
            false => Poll::Ready(Err(read
                .err()
                .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))),
        }
    }
}

impl<S: AsyncRead + ResetOnClose + Unpin> AsyncRead for Reader<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let is_ready = match &self.rewriting {
                Some(_) => self.poll_rewritten(context, buffer),
                None if self.state == State::Body => {
                    return Pin::new(&mut self.stream).poll_read(context, buffer);
                }
                None if self.state == State::Over => return Poll::Ready(Ok(())),
                None => self.poll_pass(context, buffer),
            };
            if ready!(is_ready)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + ResetOnClose + Unpin> AsyncWrite for Reader<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.written(written, || bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        let len = || slices.iter().map(|slice| slice.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        Poll::Ready(self.written(written, len))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(self.written(flushed.map(|()| 0), || 0).map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.awaits_response() {
            // It would wait for what was written to go.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: ResetOnClose> Drop for Reader<S> {
    fn drop(&mut self) {
        if self.awaits_response() {
            self.stream.reset_on_close();
        }
    }
}
