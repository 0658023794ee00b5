//! Acceptance of connections: the accept loop, the choice of HTTP version, draining.
//!
//! It knows connections, not requests. A broken connection costs nobody else anything; without any file
//! descriptors accepting pauses.

mod drive;

mod serve;
mod tls_failure;
mod turned_away;

use std::io;
use std::net::{self, IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::exchange::Opened;
use crate::exchange::tunnel_target::TunnelTarget;
use crate::exchange::{ActiveRequest, Live};
use crate::server::drain_phase::{DrainPhase, until_closing, until_cut_off, until_left};
use crate::server::worker::{WorkerPermit, Workers};
use crate::upstream::connect::socket_of;
use bursar_base::address::undotted;
use bursar_base::log_throttle::LogThrottle;
use bursar_base::process::{self, Budget, Purpose};
use bursar_base::socket::Socket;
use bursar_config::{ProxyLimits, UnknownConnections};
use bursar_http::connection::{CallerStream, ConnectionState, Peer, Transport, TunnelContext};
use bursar_http::detect::{self, Spoken};
use bursar_http::tunnel::{self, QuickAck};
use bursar_limits::caller_limits::{Place, Unknown};
use bursar_telemetry::metrics::{Counted, Limit, Reason, RefusalDetail};
use bursar_tls::server::Tls;
use serve::{
    ConnectionContext, ConnectionResult, RefusalThrottles, linger, serve_http1, serve_http2,
};
use tls_failure::probable_cause;

/// The part of all connections that one address may have while no caller is known on them, once half of all are taken.
/// Before, nobody is short of any: callers behind a balancer, whose address they have, may all come back at once.
const UNKNOWN_SHARE: usize = 8;
/// The number it may always have: a small `limits.connections` is not shared out further.
const MIN_UNKNOWN: usize = 64;
/// Connections beyond `limits.connections` that are answered at once; yet more are just closed.
const MAX_TURNED_AWAY: usize = 64;
/// For TLS to be agreed upon.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// As many connections wait to be accepted at the end, at most; the system keeps fewer, but they go on coming.
const MAX_BACKLOG: usize = 16 * 1024;
/// After a failed accept, so that a lack of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where callers come in.
#[derive(Debug)]
pub struct AcceptOptions {
    /// Where they connect.
    pub listener: TcpListener,
    /// None: in clear.
    pub tls: Option<Arc<Tls>>,
    /// How many there are file descriptors for.
    pub budget: Budget,
}

/// Accepts connections until the phase is [`DrainPhase::Closing`], and then those that wait already; each is a task
/// of `tasks` at one of the workers.
pub async fn accept(
    options: AcceptOptions,
    live: Arc<Live>,
    mut phase: watch::Receiver<DrainPhase>,
    workers: Workers,
    tasks: TaskTracker,
) {
    let AcceptOptions {
        listener,
        tls,
        budget,
    } = options;
    let connections = budget.connections(live.current().limits().connections);
    let turned_away = budget.turned_away(MAX_TURNED_AWAY);
    let accepting = Accepting {
        permits: Arc::new(Semaphore::new(connections)),
        unknown: Arc::default(),
        connections,
        turned_away: Arc::new(Semaphore::new(turned_away)),
        throttles: Arc::default(),
        tls,
        live,
        phase: phase.clone(),
        workers,
        tasks,
    };
    tokio::select! {
        () = accepting.run(&listener) => {}
        () = until_closing(&mut phase) => {}
    }
    for (stream, address) in backlog(listener) {
        accepting.take(stream, address);
    }
}

/// What makes a task of a connection.
struct Accepting {
    tls: Option<Arc<Tls>>,
    live: Arc<Live>,
    phase: watch::Receiver<DrainPhase>,
    workers: Workers,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    /// How many permits there are.
    connections: usize,
    /// Connections that no caller is known on.
    unknown: Arc<Unknown>,
    turned_away: Arc<Semaphore>,
    throttles: RefusalThrottles,
}

impl Accepting {
    async fn run(&self, listener: &TcpListener) {
        let mut throttle = LogThrottle::default();
        loop {
            let accepted = listener.accept().await;
            // It is registered with this runtime, and of use with the worker's alone.
            match accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address))) {
                Ok((stream, address)) => {
                    if self.take(stream, address) == Some(Limit::Accept) {
                        log_failure(&process::no_descriptors(), &mut throttle);
                    }
                }
                Err(error) => self.pause(&error, &mut throttle).await,
            }
        }
    }

    async fn pause(&self, error: &io::Error, throttle: &mut LogThrottle) {
        self.live.current().metrics().limits.reached(Limit::Accept);
        log_failure(error, throttle);
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Whether one more connection is served: there are not too many, nor too many of that address, and its descriptor
    /// is not for others.
    fn admit(
        &self,
        stream: &net::TcpStream,
        address: IpAddr,
    ) -> Result<(OwnedSemaphorePermit, Option<Place>), Limit> {
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_none_left| Limit::Connections)?;
        if !Purpose::Caller.may_have(stream) {
            return Err(Limit::Accept);
        }
        let ProxyLimits {
            unknown_connections,
            ..
        } = *self.live.current().limits();
        let (most, verifying) = match unknown_connections {
            UnknownConnections::Any => return Ok((permit, None)),
            UnknownConnections::AtMost(most) => (most, most),
            UnknownConnections::Share => self.share(),
        };
        let place = self.unknown.enter(address, most, verifying);
        let place = place.ok_or(Limit::UnknownConnections)?;
        Ok((permit, Some(place)))
    }

    /// How many connections without a known caller one address may have now where the configuration does not say, and how
    /// many more while their callers are verified.
    fn share(&self) -> (usize, usize) {
        let share = (self.connections / UNKNOWN_SHARE).max(MIN_UNKNOWN);
        let half = self.connections / 2;
        let is_quiet = self.permits.available_permits() >= half;
        (if is_quiet { half.max(share) } else { share }, share)
    }

    /// Has a connection served, or turned away because of that limit.
    fn take(&self, stream: net::TcpStream, address: SocketAddr) -> Option<Limit> {
        let admitted = self.admit(&stream, address.ip());
        let refused = admitted.as_ref().err().copied();
        if let Ok((permit, place)) = admitted
            && let Some(worker) = self.workers.choose()
        {
            let mut peer = Peer::at(address.ip());
            peer.place = place.map(Arc::new);
            let context = ConnectionContext {
                live: self.live.clone(),
                phase: self.phase.clone(),
                peer,
                worker: worker.number,
                payments: Arc::default(),
                throttles: self.throttles.clone(),
            };
            let held = ConnectionPermits {
                _permit: permit,
                _worker: worker.permit,
            };
            let serving = connection(stream, self.tls.clone(), context, self.tasks.clone(), held);
            self.tasks.spawn_on(serving, worker.runtime);
            return None;
        }
        let proxy = self.live.current();
        let limit = refused.unwrap_or(Limit::Connections);
        let id = format!("{:032x}", fastrand::u128(..));
        let what = (address.ip(), limit.as_str());
        if limit != Limit::Accept && self.throttles.is_due(what, Instant::now()) {
            tracing::warn!(client = %address.ip(), limit = limit.as_str(), request_id = id, "a connection is refused, because there are too many; see `limits`");
        }
        proxy.metrics().limits.reached(limit);
        proxy
            .metrics()
            .requests
            .refused(Reason::Overloaded, address.ip());
        // In clear nobody who speaks TLS would understand it.
        if self.tls.is_none()
            && let Ok(permit) = self.turned_away.clone().try_acquire_owned()
        {
            self.tasks.spawn(turn_away(stream, id, permit));
        }
        Some(limit)
    }
}

/// Tells the log, once a minute: this goes on for as long as descriptors are lacking.
fn log_failure(error: &io::Error, throttle: &mut LogThrottle) {
    if throttle.due(Instant::now()).is_some() {
        tracing::warn!(%error, "cannot accept connections; they wait, or are answered 503");
    }
}

/// What has been connected already: closing the listener would reset it. It is asked directly, because the
/// runtime may not have heard of a connection yet. One that its caller has given up hides none behind it.
fn backlog(listener: TcpListener) -> impl Iterator<Item = (net::TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    let accepted = std::iter::from_fn(move || match listener.as_ref()?.accept() {
        Err(error) if error.kind() != io::ErrorKind::ConnectionAborted => None,
        accepted => Some(accepted),
    });
    accepted.take(MAX_BACKLOG).filter_map(|accepted| {
        let (stream, address) = accepted.ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((stream, address))
    })
}

/// Answers that there are too many connections.
async fn turn_away(stream: net::TcpStream, id: String, _permit: OwnedSemaphorePermit) {
    let Ok(mut stream) = TcpStream::from_std(stream) else {
        return;
    };
    if stream
        .write_all(turned_away::response(&id).as_bytes())
        .await
        .is_ok()
    {
        linger(stream).await;
    }
}

/// What a connection takes up until its end.
struct ConnectionPermits {
    _permit: OwnedSemaphorePermit,
    _worker: WorkerPermit,
}

async fn connection(
    stream: net::TcpStream,
    tls: Option<Arc<Tls>>,
    mut context: ConnectionContext,
    tasks: TaskTracker,
    held: ConnectionPermits,
) {
    let _open = Counted::new(&context.live.current().metrics().connections.caller);
    let stream = match TcpStream::from_std(stream) {
        // Answers are written in one piece; waiting for more would only delay them.
        Ok(stream) => {
            let _ = stream.set_nodelay(true);
            Socket::new(stream)
        }
        Err(error) => {
            context.reached(Limit::Accept);
            tracing::debug!(%error, "cannot serve a connection; it is closed");
            return;
        }
    };
    let ended = match tls {
        None => serve(stream, &context, tasks).await,
        Some(tls) => match Box::pin(accept_tls(stream, tls, &mut context)).await {
            Ok(stream) => Box::pin(serve(stream, &context, tasks)).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "caller connection ended");
    }
    drop(held);
}

/// Speaks TLS with a caller, and learns who it is from its certificate, if it shows one.
async fn accept_tls(
    stream: Socket,
    tls: Arc<Tls>,
    context: &mut ConnectionContext,
) -> io::Result<Box<dyn Transport>> {
    let current = tls.current();
    let stream = tokio::select! {
        stream = shake_hands(current.config.clone(), stream) => stream?,
        () = until_left(&mut context.phase) => {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    context.peer.shown = current.shown(certificates, &tls)?;
    context.peer.is_tls = true;
    Ok(Box::new(stream))
}

/// Serves whatever HTTP is spoken. What few connections need is boxed, so that an idle one holds no room
/// for it. With TLS that is what ALPN agreed on, or the caller would not say it.
async fn serve<S: Transport + 'static>(
    stream: S,
    context: &ConnectionContext,
    tasks: TaskTracker,
) -> ConnectionResult {
    let side = context.side(None);
    let mut stream = CallerStream::new(stream, side.clone());
    let mut closing = context.phase.clone();
    let spoken = tokio::select! {
        sniffed = tokio::time::timeout(context.read_timeouts().idle, detect_protocol(&mut stream, detect::look_for_http2)) => sniffed,
        // Browsers and pools open connections in advance; those must not hold up the end.
        () = until_left(&mut closing) => return Ok(()),
    };
    match spoken {
        Ok(Ok(Some(Spoken::Http2))) => {
            let carrying = context.clone();
            let carry = move |upgrade: OnUpgrade, opened| {
                tasks.spawn(serve_tunnel_stream(upgrade, opened, carrying.clone()));
            };
            let served = serve_http2(stream, side, context.clone(), Some(Arc::new(carry)));
            Box::pin(served).await
        }
        Ok(Ok(_)) => match serve_http1(stream, side.clone(), context).await {
            Ok(Some((opened, stream))) => {
                // From now on stalling is for those to notice who know what is inside.
                side.limit_writes(tunnel::TOTAL_TIMEOUT);
                Box::pin(carry(opened, stream, context.clone())).await
            }
            ended => ended.map(|_no_tunnel| ()),
        },
        Ok(Err(error)) => Err(error.into()),
        Err(_silent) => {
            context.reached(Limit::IdleTimeout);
            Ok(())
        }
    }
}

/// What is spoken, or as much as can be known where the caller says no more. HTTP/2 comes with prior
/// knowledge (RFC 9113 section 3.3).
async fn detect_protocol<S: Transport>(
    stream: &mut CallerStream<S>,
    look: fn(&[u8]) -> Option<Spoken>,
) -> io::Result<Option<Spoken>> {
    let mut first = [0; detect::LOOK];
    let mut read = 0;
    loop {
        let (so_far, rest) = first.split_at_mut(read);
        let spoken = look(so_far);
        let more = match spoken {
            Some(_) => 0,
            None => stream.read(rest).await?,
        };
        if more == 0 {
            stream.put_back(Bytes::copy_from_slice(so_far));
            return Ok(spoken);
        }
        read += more;
    }
}

async fn serve_tunnel_stream(upgrade: OnUpgrade, opened: Opened, context: ConnectionContext) {
    let ended = match upgrade.await {
        Ok(upgraded) => carry(opened, Box::new(TokioIo::new(upgraded)), context).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "tunnel ended");
    }
}

/// Carries a tunnel to its end.
async fn carry(
    opened: Opened,
    stream: Box<dyn Transport>,
    context: ConnectionContext,
) -> ConnectionResult {
    let Opened {
        mut request,
        target,
    } = opened;
    match target {
        TunnelTarget::Away(server, _held) => {
            let (mut soon, mut now) = (context.phase.clone(), context.phase);
            let (leaving, last) = (until_closing(&mut soon), until_cut_off(&mut now));
            let (mut caller, mut server) = (QuickAck::new(stream), TokioIo::new(*server));
            let copying = tunnel::copy(&mut caller, &mut server, leaving, last);
            let (ended, sent, received) = copying.await;
            if ended.is_cut_off() {
                caller.cut_off();
                socket_of(server.inner()).reset_on_close();
            }
            tracing::debug!(?ended, "opaque tunnel ended");
            request.record.add_tunnelled(sent, received);
            Ok(())
        }
        TunnelTarget::ToProvider(inside, _permit) => {
            serve_tunnel_to_provider(request, inside, stream, context).await
        }
    }
}

/// Serves what comes through a tunnel, as if it had come without; the `CONNECT` ends with it.
async fn serve_tunnel_to_provider(
    mut request: Box<ActiveRequest>,
    inside: TunnelContext,
    stream: Box<dyn Transport>,
    mut context: ConnectionContext,
) -> ConnectionResult {
    let side = context.side(Some(inside.clone()));
    let mut stream = CallerStream::new(stream, side.clone());
    let spoken = tokio::select! {
        sniffed = tokio::time::timeout(tunnel::FIRST_BYTES_TIMEOUT, detect_protocol(&mut stream, detect::look)) => sniffed,
        () = until_left(&mut context.phase) => return Ok(()),
    };
    match spoken {
        Ok(Ok(Some(Spoken::Http1))) => serve_within(stream, side, context, false).await,
        Ok(Ok(Some(Spoken::Http2))) => serve_within(stream, side, context, true).await,
        Ok(Ok(Some(Spoken::Tls))) => match context.live.current().authority() {
            Some(authority) => {
                let server = authority.server(&inside.host)?;
                side.limit_writes(tunnel::TOTAL_TIMEOUT);
                intercept(server, inside, stream, context).await
            }
            None => {
                let detail = RefusalDetail::TlsInTunnel;
                request.fail(Reason::ConnectNotAllowed, Some(detail));
                Ok(())
            }
        },
        Ok(Ok(Some(Spoken::Unknown))) => {
            request.fail(Reason::BadRequest, Some(RefusalDetail::NoHttpInTunnel));
            Ok(())
        }
        // A connection that was opened in advance and never used.
        Ok(Ok(None)) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// Speaks TLS for the provider, and serves what comes out of it.
async fn intercept(
    server: Arc<ServerConfig>,
    mut inside: TunnelContext,
    stream: Box<CallerStream<Box<dyn Transport>>>,
    context: ConnectionContext,
) -> ConnectionResult {
    let stream = match Box::pin(shake_hands(server, stream)).await {
        Ok(stream) => stream,
        Err(error) => {
            let proxy = context.live.current();
            let authority = proxy.authority();
            let why = probable_cause(&error);
            if authority.is_some_and(|own| own.may_complain(&inside.caller, &inside.host, why)) {
                tracing::warn!(caller = %inside.caller, host = %inside.host, %error, "TLS in a tunnel failed: {why}");
            }
            return Err(error.into());
        }
    };
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    inside.is_tls = true;
    inside.is_misnamed = session
        .server_name()
        .is_some_and(|name| !undotted(name).eq_ignore_ascii_case(&inside.host));
    let side = context.side(Some(inside));
    let stream: Box<dyn Transport> = Box::new(stream);
    let stream = CallerStream::new(stream, side.clone());
    serve_within(stream, side, context, is_http2).await
}

/// Serves HTTP inside of a tunnel, where there is no further one.
async fn serve_within<S: Transport + 'static>(
    stream: Box<CallerStream<S>>,
    side: Arc<ConnectionState>,
    context: ConnectionContext,
    is_http2: bool,
) -> ConnectionResult {
    if is_http2 {
        return Box::pin(serve_http2(stream, side, context, None)).await;
    }
    let ended = serve_http1(stream, side, &context).await;
    ended.map(|_no_tunnel| ())
}

async fn shake_hands<S: Transport>(
    server: Arc<ServerConfig>,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let handshake = TlsAcceptor::from(server).accept(stream);
    let mut stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await??;
    // A caller with Nagle's algorithm holds its first request back until the end of the handshake is acknowledged.
    stream.acknowledge();
    Ok(stream)
}
