//! What is a caller's connection to the HTTP layer? A TCP stream whose first bytes can be looked at, and
//! whose writes do not wait for ever for a caller that does not read.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long a caller may take no byte of an answer where no provider's `timeouts.idle` says otherwise.
/// Then the connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Debug)]
pub struct Peer {
    /// Never an IPv4 address in IPv6 clothes.
    pub address: IpAddr,
    /// The URIs and DNS names in the subjectAltName of a verified client certificate; a DNS name that
    /// holds a colon is none, and must not get in here, because it would pass for a URI.
    pub certificate_names: Vec<Box<str>>,
}

impl Peer {
    /// One without a certificate.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            certificate_names: Vec::new(),
        }
    }
}

/// What requests tell the connection that they came on, and what it tells them.
#[derive(Debug)]
pub struct CallerSide {
    /// Who sends them.
    pub peer: Peer,
    /// Milliseconds.
    write_timeout: AtomicU64,
    /// Whether bytes of a request's body were left unread.
    unread: AtomicBool,
}

impl CallerSide {
    /// For a connection that has not carried a request yet.
    #[must_use]
    pub fn new(peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            peer,
            write_timeout: AtomicU64::new(milliseconds(WRITE_TIMEOUT)),
            unread: AtomicBool::new(false),
        })
    }

    /// How long the caller may take no byte of the answer that is about to be written.
    pub fn limit_writes(&self, timeout: Duration) {
        self.write_timeout
            .store(milliseconds(timeout), Ordering::Relaxed);
    }

    /// Bytes of a request's body were left unread: the connection cannot carry another request, and
    /// must be closed with care.
    pub fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether bytes of a request's body were left unread.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.load(Ordering::Relaxed))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A caller's connection.
#[derive(Debug)]
pub(crate) struct CallerStream {
    tcp: TcpStream,
    side: Arc<CallerSide>,
    /// Read before, to be read again.
    sniffed: Bytes,
    /// Set while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl CallerStream {
    pub(crate) fn new(tcp: TcpStream, side: Arc<CallerSide>) -> Self {
        Self {
            tcp,
            side,
            sniffed: Bytes::new(),
            stalled: None,
        }
    }

    /// Makes bytes that were read be read again.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.sniffed = bytes;
    }

    /// Closing resets the connection from now on, so that the caller cannot take what it has for all.
    pub(crate) fn reset_on_close(&self) {
        // Where the system refuses, a plain close is all that is left.
        drop(self.tcp.set_zero_linger());
    }

    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.side.write_timeout();
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for CallerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sniffed.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(context, buffer);
        }
        let bytes = self.sniffed.len().min(buffer.remaining());
        let (now, _) = self.sniffed.split_at(bytes);
        buffer.put_slice(now);
        self.sniffed.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CallerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
