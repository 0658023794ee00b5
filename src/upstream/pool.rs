//! Connection pool: idle HTTP/1.1 connections, and HTTP/2 connections with room for a request.
//!
//! A request never queues inside an HTTP/2 connection: it would be sent whenever there is room, perhaps
//! just when its caller has been told that it failed. Where there is no room, another one is opened.
//!
//! The mutex is held to look something up, never across an await. An idle connection that the server has
//! closed is seen by its driver and skipped here; one that is idle for too long or too old is closed by a task
//! that lives as long as there are any. Requests that are under way on an old one come to their end first.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::details;
use super::connection::{Connection, Http1, PoolKey, RequestBody, Sender};
use super::fields::MAX_LIST_BYTES;
use super::frames::Frames;
use super::lifetime::{ConnectionLifetime, LifetimeLimits};
use super::peer::Peer;
use super::streams::{MAX_STREAMS, Need, StreamPermit, Streams};
use super::upload::UploadBody;
use bursar_base::socket::ResetOnClose;
use bursar_config::{Origin, Timeouts};
use bursar_http::deadline_timer::DeadlineTimer;
use bursar_http::response::{Outstanding, Reader};
use bursar_telemetry::metrics::{Counted, DroppedFields};

/// Read at once; a frame of a body is no larger, so that time limits between frames are limits between
/// bytes.
const MAX_READ_BYTES: usize = 128 * 1024;
/// A worker's idle HTTP/1.1 connections to one server; more are closed.
const MAX_IDLE: usize = 1024;
/// Servers of one provider that a worker remembers; more only exist below a wildcard.
const MAX_SERVERS: usize = 4096;
/// HTTP/2 connections are asked for a sign of life, so that a dead one costs seconds, not `timeouts.head`.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often idle connections are looked at, at most.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// So much of an answer is in flight, or waits for a caller that does not read it.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// Room for all answers of a connection, so that none waits because others are not read.
const HTTP2_WINDOW: u32 = HTTP2_STREAM_WINDOW * MAX_STREAMS as u32;

/// A worker's connections to a provider.
#[derive(Debug)]
pub(super) struct Pool<B> {
    servers: Mutex<Servers<B>>,
    lifetime: LifetimeLimits,
    dropped: Arc<DroppedFields>,
}

#[derive(Debug)]
struct Servers<B> {
    /// Most are configured; those below a wildcard are at most [`MAX_SERVERS`], so that nobody gains by names
    /// that collide.
    idle: HashMap<Origin, Server<B>, foldhash::fast::RandomState>,
    sweeping: bool,
    /// Those that have asked for HTTP/1.1; at most [`MAX_SERVERS`], too.
    http1_only: HashSet<Origin, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Server<B> {
    key: Arc<PoolKey>,
    /// The latest last: it is taken first, so that a surplus grows old and is closed.
    http1: Vec<IdleHttp1<B>>,
    http2: Vec<Http2Connection<B>>,
}

/// An HTTP/1.1 connection without a request.
#[derive(Debug)]
struct IdleHttp1<B> {
    sender: Http1<B>,
    timer: DeadlineTimer,
    /// When it is closed.
    end: Instant,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Http2Connection<B> {
    sender: http2::SendRequest<UploadBody<B>>,
    streams: Arc<Streams>,
    used: Instant,
    /// When it is too old for another request.
    old: Instant,
}

/// What is known of a new stream.
#[derive(Debug)]
pub(super) struct Open {
    /// Counts it while it is open.
    pub(super) counted: Counted,
    /// Where it goes.
    pub(super) peer: Arc<Peer>,
}

/// Why HTTP could not be spoken on a new stream. No request was sent on it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// HTTP's own handshake failed.
    #[error("the HTTP handshake failed")]
    Http(#[from] hyper::Error),
    /// It was closed before the server's settings came and let it have a request.
    #[error("the server closed the connection before it took a request")]
    Settings(#[from] oneshot::error::RecvError),
    /// The server's settings came, and GOAWAY right behind.
    #[error("the server takes no request on the connection")]
    GoAway,
}

impl<B: RequestBody> Pool<B> {
    pub(super) fn new(timeouts: &Timeouts, dropped: &Arc<DroppedFields>) -> Arc<Self> {
        Arc::new(Self {
            servers: Mutex::default(),
            lifetime: LifetimeLimits {
                idle: timeouts.pool_idle,
                age: timeouts.pool_age,
            },
            dropped: dropped.clone(),
        })
    }

    /// One for the same servers, without a connection.
    pub(super) fn another(&self) -> Arc<Self> {
        Arc::new(Self {
            servers: Mutex::default(),
            lifetime: self.lifetime,
            dropped: self.dropped.clone(),
        })
    }

    /// A panic while it was held leaves a consistent list of connections.
    fn servers(&self) -> MutexGuard<'_, Servers<B>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open connection, if there is one.
    pub(super) fn take(&self, origin: &Origin, need: Need, now: Instant) -> Option<Connection<B>> {
        let mut servers = self.servers();
        let server = servers.idle.get_mut(origin)?;
        for multiplex in &mut server.http2 {
            if multiplex.is_usable()
                && now < multiplex.old
                && let Some(permit) = StreamPermit::on(&multiplex.streams, need)
            {
                multiplex.used = now;
                let sender = Sender::Http2(multiplex.sender.clone(), permit);
                return Some(Connection::new(server.key.clone(), sender));
            }
        }
        while let Some(idle) = server.http1.pop() {
            if idle.sender.requests.is_ready() && now < idle.end {
                let mut connection =
                    Connection::new(server.key.clone(), Sender::Http1(idle.sender));
                connection.timer = idle.timer;
                return Some(connection);
            }
        }
        None
    }

    /// Forgets the idle connections to a server that has not responded in time: where the network has lost one, it has
    /// lost all, and each would leave another request in doubt.
    pub(super) fn distrust(&self, origin: &Origin) {
        if let Some(server) = self.servers().idle.get_mut(origin) {
            server.http1.clear();
            // What is under way on them has senders of its own.
            server.http2.clear();
        }
    }

    /// Whether a server wants nothing but HTTP/1.1.
    pub(super) fn wants_http1(&self, origin: &Origin) -> bool {
        let servers = self.servers();
        !servers.http1_only.is_empty() && servers.http1_only.contains(origin)
    }

    /// From now on it gets that.
    pub(super) fn use_http1(&self, origin: &Origin) {
        let mut servers = self.servers();
        if servers.http1_only.len() < MAX_SERVERS {
            servers.http1_only.insert(origin.clone());
        }
        if let Some(server) = servers.idle.get_mut(origin) {
            // What is under way on them has senders of its own.
            server.http2.clear();
        }
    }

    /// Speaks HTTP/1.1 on a new stream, and drives it until it is closed.
    ///
    /// # Errors
    /// Where the stream was closed before a request could be sent.
    pub(super) async fn open_http1<S>(
        &self,
        origin: &Origin,
        stream: S,
        open: Open,
    ) -> Result<Connection<B>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + ResetOnClose + Send + Unpin + 'static,
    {
        let outstanding = Outstanding::new();
        let stream = Reader::new(stream, outstanding.clone(), self.dropped.clone());
        let (requests, connection) = http1::Builder::new()
            .max_buf_size(MAX_READ_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        drive(connection, open.counted);
        let sender = Sender::Http1(Http1 {
            requests,
            outstanding,
            term: Box::new(ConnectionLifetime::begin(Instant::now())),
            peer: open.peer,
        });
        Ok(Connection::new(Arc::new(PoolKey::of(origin)), sender))
    }

    /// Speaks HTTP/2 on a new stream, drives it until it is closed, and lets other requests use it, too.
    ///
    /// # Errors
    /// Where the stream was closed before a request could be sent.
    pub(super) async fn open_http2<S>(
        self: &Arc<Self>,
        origin: &Origin,
        stream: S,
        open: Open,
        need: Need,
    ) -> Result<Connection<B>, HandshakeError>
    where
        S: Read + Write + ResetOnClose + Send + Unpin + 'static,
    {
        let key = Arc::new(PoolKey::of(origin));
        let streams = Streams::to(open.peer);
        let permit = StreamPermit::of(&streams, need);
        let mut frames = Frames::new(stream, &streams, self.dropped.clone());
        let usable = need.moves_money.then(|| frames.usable());
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_max_send_streams(1)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_WINDOW)
            .max_header_list_size(MAX_LIST_BYTES)
            .handshake(frames)
            .await?;
        drive(connection, open.counted);
        if let Some(usable) = usable {
            usable.await?;
            // GOAWAY may have come right behind.
            if streams.is_leaving() {
                return Err(HandshakeError::GoAway);
            }
        }
        self.share(&key, &sender, streams);
        Ok(Connection::new(key, Sender::Http2(sender, permit)))
    }

    /// Lets other requests use an HTTP/2 connection, too.
    fn share(
        self: &Arc<Self>,
        key: &Arc<PoolKey>,
        sender: &http2::SendRequest<UploadBody<B>>,
        streams: Arc<Streams>,
    ) {
        let now = Instant::now();
        let multiplex = Http2Connection {
            sender: sender.clone(),
            streams,
            used: now,
            old: now + self.lifetime.age,
        };
        let mut servers = self.servers();
        servers.add(key, |server| {
            server.http2.retain(Http2Connection::is_usable);
            server.http2.push(multiplex);
        });
        self.sweep(&mut servers, now + self.lifetime.idle);
    }

    /// Keeps an HTTP/1.1 connection for the next request, as soon as it is ready for one.
    pub(super) fn give_back(self: &Arc<Self>, connection: Connection<B>) {
        let Connection {
            key, sender, timer, ..
        } = connection;
        let Sender::Http1(mut sender) = sender else {
            return;
        };
        if sender.requests.is_ready() {
            self.keep(&key, sender, timer);
        } else if !sender.requests.is_closed() {
            // The answer is read; what is left is for the driver to notice it. If it does not, the
            // connection is of no use.
            let pool = Arc::downgrade(self);
            let limit = self.lifetime.idle;
            tokio::spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(limit, sender.requests.ready()).await
                    && let Some(pool) = pool.upgrade()
                {
                    pool.keep(&key, sender, timer);
                }
            });
        }
    }

    fn keep(self: &Arc<Self>, key: &Arc<PoolKey>, sender: Http1<B>, timer: DeadlineTimer) {
        let Some(end) = sender.term.end(Instant::now(), self.lifetime) else {
            return;
        };
        let idle = IdleHttp1 { sender, timer, end };
        let mut servers = self.servers();
        servers.add(key, |server| {
            if server.http1.len() < MAX_IDLE {
                server.http1.push(idle);
            }
        });
        self.sweep(&mut servers, end);
    }

    /// Starts the task that closes what is idle for too long, unless it is running; what was added ends at `first`.
    fn sweep(self: &Arc<Self>, servers: &mut Servers<B>, first: Instant) {
        if !std::mem::replace(&mut servers.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.lifetime, first));
        }
    }
}

/// Drives a connection until it is closed, and counts it until then.
fn drive<F>(connection: F, open: Counted)
where
    F: Future<Output = Result<(), hyper::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // The request that it happened to is told as well; an idle connection has nobody else.
            tracing::debug!(error = %details(&error), "upstream connection ended");
        }
        drop(open);
    });
}

/// Ends when there is nothing left to close.
async fn sweep<B: RequestBody>(pool: Weak<Pool<B>>, lifetime: LifetimeLimits, first: Instant) {
    let interval = lifetime.idle.min(lifetime.age) / 2;
    let mut next = first.min(Instant::now() + interval);
    loop {
        tokio::time::sleep_until(next).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        let now = Instant::now();
        next = now + interval;
        let mut servers = pool.servers();
        servers.idle.retain(|_, server| {
            server.http1.retain(|idle| {
                let is_kept = now < idle.end && !idle.sender.requests.is_closed();
                if is_kept {
                    next = next.min(idle.end);
                }
                is_kept
            });
            // Requests under way have senders of their own; the connection ends with the last of them.
            server.http2.retain_mut(|multiplex| {
                if multiplex.streams.is_open() {
                    multiplex.used = now;
                }
                let end = (multiplex.used + lifetime.idle).min(multiplex.old);
                let is_kept = now < end && multiplex.is_usable();
                if is_kept {
                    next = next.min(end);
                }
                is_kept
            });
            !server.http1.is_empty() || !server.http2.is_empty()
        });
        if servers.idle.is_empty() {
            servers.sweeping = false;
            return;
        }
        next = next.max(now + SWEEP_INTERVAL.min(interval));
    }
}

impl<B> Default for Servers<B> {
    fn default() -> Self {
        Self {
            idle: HashMap::default(),
            sweeping: false,
            http1_only: HashSet::default(),
        }
    }
}

impl<B> Servers<B> {
    /// Adds something to a server's connections, unless there are too many servers.
    fn add(&mut self, key: &Arc<PoolKey>, add: impl FnOnce(&mut Server<B>)) {
        if let Some(server) = self.idle.get_mut(&key.origin) {
            add(server);
        } else if self.idle.len() < MAX_SERVERS {
            let mut server = Server {
                key: key.clone(),
                http1: Vec::new(),
                http2: Vec::new(),
            };
            add(&mut server);
            self.idle.insert(key.origin.clone(), server);
        }
    }
}

impl<B> Http2Connection<B> {
    /// Whether it takes requests.
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.streams.is_leaving()
    }
}

#[cfg(test)]
mod tests;
