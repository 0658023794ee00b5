//! State of a caller's connection: what its requests tell it, and what it tells them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use tokio::sync::Notify;

use super::peer::{Peer, TunnelContext};
use super::read_timer::ReadTimeouts;
use super::traffic::{Payments, Traffic};
use crate::framing::{Framing, FramingError};
use bursar_limits::caller_limits::{self, ConnectionPermit};
use bursar_telemetry::metrics::Limit;

/// How long a caller may take no byte of an answer where no provider's `timeouts.idle` says otherwise.
/// Then the connection is closed.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

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
    pub(super) rests: AtomicBool,
    pub(super) read_timeouts: ReadTimeouts,
    /// The limit that the connection ended with, by its place in [`Limit::ALL`], or none of them.
    ended: AtomicU8,
    /// Whether Bursar ends it although something is under way.
    cut_off: AtomicBool,
    /// Whether a request waits that its provider has not seen.
    waits: AtomicBool,
    /// Whether the caller has left while one did.
    left: AtomicBool,
    /// Wakes requests over HTTP/2, which are tasks of their own, when that is so.
    cutting_off: Notify,
    /// Requests that are not over.
    busy: AtomicUsize,
    /// The callers for whom the connection counts.
    joined: Mutex<Vec<ConnectionPermit>>,
}

/// Whether a connection is cut off while a request on it is under way.
pub struct CutOffWatch<'a> {
    side: &'a ConnectionState,
    /// None: the request is polled with its connection, and so again when that is cut off.
    until: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
}

impl CutOffWatch<'_> {
    /// Whether it is now; else the task is woken when it is.
    pub fn poll(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.until {
            None => self.side.is_cut_off(),
            Some(until) => until.as_mut().poll(context).is_ready(),
        }
    }
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
            cut_off: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            left: AtomicBool::new(false),
            cutting_off: Notify::new(),
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

    /// Whether a request waits, for a token or a connection perhaps, that its provider has not seen. Meanwhile it is looked
    /// for whether the caller leaves, where the connection is HTTP/1; a request over HTTP/2 is reset.
    pub fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether the caller has left while a request waited, and has not just closed its sending side behind it.
    #[must_use]
    pub fn has_caller_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Bursar is about to end the connection, whatever is under way. Whoever drives it has to poll it once more.
    pub fn cut_off(&self) {
        self.cut_off.store(true, Ordering::Relaxed);
        self.cutting_off.notify_waiters();
    }

    /// For a request on it, over HTTP/2 or HTTP/1.
    #[must_use]
    pub fn cut_off_watch(&self, is_http2: bool) -> CutOffWatch<'_> {
        let until: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = match is_http2 {
            true => Some(Box::pin(self.until_cut_off())),
            false => None,
        };
        CutOffWatch { side: self, until }
    }

    async fn until_cut_off(&self) {
        let notified = self.cutting_off.notified();
        if !self.is_cut_off() {
            notified.await;
        }
    }

    /// Whether it does.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
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

    pub(super) fn framed(&self, framing: &Framing) {
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

    pub(super) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout.load(Ordering::Relaxed))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
