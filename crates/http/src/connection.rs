//! Caller connection: a stream whose first bytes can be looked at, whose writes do not wait for ever for a caller that
//! does not read, and which knows when it rests between requests; and the state that its requests share.

mod read_timer;
mod traffic;
mod transport;

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

pub use read_timer::ReadTimeouts;
use read_timer::ReadTimer;
pub use traffic::{Payments, Traffic};
pub use transport::Transport;

use crate::framing::{Awaits, Broken, Framing, FramingError};
use bursar_limits::caller_limits::{self, ConnectionPermit, Place, Verifying};
use bursar_telemetry::metrics::Limit;
use bursar_tls::server::CertificateNames;

/// How long a caller may take no byte of an answer where no provider's `timeouts.idle` says otherwise.
/// Then the connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The first bytes of a request that ends a rest: most heads fit. hyper reads more at once, so that none of them
/// are left over for a tunnel.
const FIRST_BYTES: usize = 2048;

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Never an IPv4 address in IPv6 clothes.
    pub address: IpAddr,
    /// What its client certificate says; nothing where there is none.
    pub shown: CertificateNames,
    /// None: it does not count as unknown.
    pub place: Option<Arc<Place>>,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

impl Peer {
    /// One without a certificate.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            shown: CertificateNames::default(),
            place: None,
            is_tls: false,
        }
    }

    /// What it sent is being hashed, and so it does not count as unknown until that is dropped.
    #[must_use]
    pub fn verifying(&self) -> Option<Verifying<'_>> {
        self.place.as_deref().and_then(Place::verifying)
    }

    /// A request of a caller was verified that came from there.
    pub fn is_known(&self) {
        if let Some(place) = &self.place {
            place.leave();
        }
    }
}

/// The tunnel that a connection is inside of, and who opened it.
#[derive(Debug, Clone)]
pub struct TunnelContext {
    /// The caller of every request in it.
    pub caller: Arc<str>,
    /// The host that `CONNECT` named: no request in it goes to another one.
    pub host: Box<str>,
    /// And its port, which a request in it may leave out.
    pub port: u16,
    /// Whether TLS is spoken in it.
    pub is_tls: bool,
    /// Whether that names another host.
    pub is_misnamed: bool,
}

impl TunnelContext {
    /// A tunnel to that host.
    #[must_use]
    pub fn new(caller: &Arc<str>, host: &str, port: u16) -> Self {
        Self {
            caller: caller.clone(),
            host: host.into(),
            port,
            is_tls: false,
            is_misnamed: false,
        }
    }

    /// Whether a request for that host belongs here.
    #[must_use]
    pub fn leads_to(&self, host: &str, port: u16) -> bool {
        !self.is_misnamed && self.port == port && self.host.eq_ignore_ascii_case(host)
    }
}

/// What requests tell the connection that they came on, and what it tells them.
#[derive(Debug)]
pub struct ConnectionState {
    /// Who sends them.
    pub peer: Peer,
    /// Who serves them, by number.
    pub worker: usize,
    /// None: it is not inside of a tunnel.
    inside: Option<TunnelContext>,
    /// Milliseconds.
    write_timeout: AtomicU64,
    /// Whether bytes of a request's body were left unread.
    unread: AtomicBool,
    /// What goes on there.
    pub traffic: Traffic,
    framed: Framed,
    /// Written by the stream, like what is framed.
    rests: AtomicBool,
    read_timeouts: ReadTimeouts,
    /// The limit that the connection ended with, by its place in [`Limit::ALL`], or none of them.
    ended: AtomicU8,
    /// Requests that are not over.
    busy: AtomicUsize,
    /// The callers for whom the connection counts.
    joined: Mutex<Vec<ConnectionPermit>>,
}

/// What [`Framing`] has seen of an HTTP/1 connection. The stream writes it and requests read it, in the
/// one task that serves the connection.
#[derive(Debug)]
struct Framed {
    heads: AtomicU64,
    /// The first request that must not be served.
    doubtful: AtomicU64,
    /// Why, by its place in [`FramingError::ALL`].
    doubt: AtomicU8,
    /// Requests so far.
    requests: AtomicU64,
    /// Of the latest heads.
    pathless: AtomicU64,
}

impl ConnectionState {
    /// For a connection that has not carried a request yet.
    #[must_use]
    pub fn new(
        inside: Option<TunnelContext>,
        peer: Peer,
        worker: usize,
        read_timeouts: ReadTimeouts,
        payments: &Arc<Payments>,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            worker,
            inside,
            write_timeout: AtomicU64::new(milliseconds(WRITE_TIMEOUT)),
            unread: AtomicBool::new(false),
            traffic: Traffic::new(payments.clone()),
            framed: Framed {
                heads: AtomicU64::new(0),
                doubtful: AtomicU64::new(u64::MAX),
                doubt: AtomicU8::new(0),
                requests: AtomicU64::new(0),
                pathless: AtomicU64::new(0),
            },
            rests: AtomicBool::new(false),
            read_timeouts,
            ended: AtomicU8::new(u8::MAX),
            busy: AtomicUsize::new(0),
            joined: Mutex::default(),
        })
    }

    /// Whether requests come over TLS, in a tunnel that of the tunnel.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        let inside = self.inside.as_ref();
        inside.map_or(self.peer.is_tls, |inside| inside.is_tls)
    }

    /// Counts the connection for a caller whom it carries a request of. False: it has too many.
    #[must_use]
    pub fn join(&self, limits: &Arc<caller_limits::Limits>) -> bool {
        if !limits.counts_connections() {
            return true;
        }
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if joined.iter().any(|joined| joined.is_of(limits)) {
            return true;
        }
        let new = limits.join();
        let is_free = new.is_some();
        joined.extend(new);
        is_free
    }

    /// A request begins: the connection is not idle until [`Self::end_request`].
    pub fn begin_request(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that has begun is over.
    pub fn end_request(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request is not over yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Waits until nothing was under way, nothing waited to be written and nothing came for so long.
    pub async fn quiet_for(&self, time: Duration) {
        self.traffic.quiet_for(time, || self.is_busy()).await;
    }

    /// How many requests were taken.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.framed.requests.load(Ordering::Relaxed)
    }

    /// Counts a request of an HTTP/2 connection, whose framing is not in doubt.
    pub fn count_request(&self) {
        self.framed.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The limit that the connection ends with.
    pub fn end_with(&self, limit: Limit) {
        self.ended.store(limit as u8, Ordering::Relaxed);
    }

    /// The limit that the connection ended with, if any.
    #[must_use]
    pub fn ended_with(&self) -> Option<Limit> {
        let place = usize::from(self.ended.load(Ordering::Relaxed));
        Limit::ALL.get(place).copied()
    }

    /// Takes the next request of an HTTP/1 connection.
    ///
    /// # Errors
    /// Where it is not clear what it is; then the connection has to end with it.
    pub fn next_request(&self) -> Result<(), FramingError> {
        let Framed {
            heads,
            doubtful,
            doubt,
            requests,
            pathless: _,
        } = &self.framed;
        let number = requests.load(Ordering::Relaxed);
        requests.store(number + 1, Ordering::Relaxed);
        if number >= doubtful.load(Ordering::Relaxed) {
            let place = usize::from(doubt.load(Ordering::Relaxed));
            return Err(*FramingError::ALL
                .get(place)
                .unwrap_or(&FramingError::OutOfStep));
        }
        if number >= heads.load(Ordering::Relaxed) {
            return Err(FramingError::OutOfStep);
        }
        Ok(())
    }

    /// Whether the request that was just taken is an `OPTIONS` in absolute form without a path. More than 64 of them
    /// may be read ahead, and that is forgotten of those that are further back.
    #[must_use]
    pub fn is_pathless(&self) -> bool {
        let Framed {
            heads,
            requests,
            pathless,
            ..
        } = &self.framed;
        let [heads, requests, pathless] =
            [heads, requests, pathless].map(|known| known.load(Ordering::Relaxed));
        let ahead = u32::try_from(heads.saturating_sub(requests)).ok();
        let own = ahead.and_then(|ahead| pathless.checked_shr(ahead));
        own.is_some_and(|own| own & 1 == 1)
    }

    fn framed(&self, framing: &Framing) {
        self.framed.heads.store(framing.heads(), Ordering::Relaxed);
        let pathless = framing.pathless();
        self.framed.pathless.store(pathless, Ordering::Relaxed);
        if let Some((number, doubt)) = framing.doubt() {
            self.framed.doubtful.store(number, Ordering::Relaxed);
            self.framed.doubt.store(doubt as u8, Ordering::Relaxed);
        }
    }

    /// Whether an HTTP/1 connection waits for a request and is not busy, with no byte of one read and every byte of
    /// the answers written: who serves it need hold nothing but the stream then.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// The tunnel that the connection is inside of.
    #[must_use]
    pub fn inside(&self) -> Option<&TunnelContext> {
        self.inside.as_ref()
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

fn broken() -> io::Error {
    let what = "the framing of a chunked body is broken";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

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
        })
    }

    /// Makes bytes that were read be read again.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.sniffed = bytes;
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
            }
            return read;
        }
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
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, closed)
    }
}

#[cfg(test)]
mod tests;
