//! How do connections come in and go out? The accept loop, the choice of HTTP version, draining.
//!
//! It knows connections, not requests. A broken connection costs nobody else anything; running out of
//! file descriptors pauses accepting.

mod phase;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::access::Record;
use crate::config::ProxyLimits;
use crate::listen::{self, Tls};
use crate::metrics::{Counted, Limit, Metrics, Reason};
use crate::relay::CutOff;
use crate::reload::Live;
use crate::stream::{CallerSide, CallerStream, Inside, Patience, Payments, Peer, Transport};
use crate::tunnel::{self, Leads, Opened, Spoken};
pub use phase::Phase;
use phase::{closing, last, left, useless};

/// Connections beyond `limits.connections` that are answered at once; yet more are just closed.
const MAX_TURNED_AWAY: usize = 64;
/// What they are answered.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
/// For TLS to be agreed upon.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 requests of a connection that its caller has reset before anybody looked at them (CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// An HTTP/2 caller that shows no sign of life for both together is disconnected.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// An upload may be that far ahead of the provider.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// How long, and for how many bytes, a closed connection is read from, so that the caller gets to read
/// the answer before its unread bytes make the kernel reset the connection.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 1 << 20;
/// Header fields that hyper takes without being told, and faster.
const HYPER_HEADERS: usize = 100;
/// As many connections wait to be accepted at the end, at most; the system keeps fewer, but they go on coming.
const MAX_BACKLOG: usize = 16 * 1024;
/// After a failed accept, so that a lack of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the phase is [`Phase::Closing`], and then those that wait already; each is a task
/// of `tasks`.
pub async fn accept(
    (listener, tls): (TcpListener, Option<Arc<Tls>>),
    live: Arc<Live>,
    mut phase: watch::Receiver<Phase>,
    tasks: TaskTracker,
) {
    let accepting = Accepting {
        permits: Arc::new(Semaphore::new(live.current().limits().connections)),
        turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
        tls,
        live,
        phase: phase.clone(),
        tasks,
    };
    tokio::select! {
        () = accepting.run(&listener) => {}
        () = closing(&mut phase) => {}
    }
    for (stream, address) in backlog(listener) {
        accepting.take(stream, address);
    }
}

/// What makes a task of a connection.
struct Accepting {
    tls: Option<Arc<Tls>>,
    live: Arc<Live>,
    phase: watch::Receiver<Phase>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

impl Accepting {
    async fn run(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.take(stream, address),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, address: SocketAddr) {
        let tls = self.tls.as_ref().map(|tls| tls.current());
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            let serving = Serving {
                live: self.live.clone(),
                phase: self.phase.clone(),
                peer: Peer::at(address.ip()),
                payments: Arc::default(),
            };
            let serving = connection((stream, tls), serving, self.tasks.clone(), permit);
            self.tasks.spawn(serving);
            return;
        }
        let proxy = self.live.current();
        proxy.metrics().limits.reached(Limit::Connections);
        // In clear nobody who speaks TLS would understand it.
        if tls.is_none()
            && let Ok(permit) = self.turned_away.clone().try_acquire_owned()
        {
            self.tasks.spawn(turn_away(stream, permit));
        }
    }
}

/// What has been connected already: closing the listener would reset it. It is asked directly, because the
/// runtime may not have heard of a connection yet. One that its caller has given up hides none behind it.
fn backlog(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    let accepted = std::iter::from_fn(move || match listener.as_ref()?.accept() {
        Err(error) if error.kind() != io::ErrorKind::ConnectionAborted => None,
        accepted => Some(accepted),
    });
    accepted.take(MAX_BACKLOG).filter_map(|accepted| {
        let (stream, address) = accepted.ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, address))
    })
}

/// Answers that there are too many connections.
async fn turn_away(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    if stream.write_all(FULL).await.is_ok() {
        linger(stream).await;
    }
}

/// What every connection is served with.
#[derive(Clone)]
struct Serving {
    live: Arc<Live>,
    phase: watch::Receiver<Phase>,
    peer: Peer,
    payments: Arc<Payments>,
}

impl Serving {
    fn patience(&self) -> Patience {
        let proxy = self.live.current();
        let limits = proxy.limits();
        Patience {
            idle: limits.idle_timeout,
            head: limits.head_timeout,
        }
    }

    fn reached(&self, limit: Limit) {
        self.live.current().metrics().limits.reached(limit);
    }
}

/// Carries a tunnel that a stream of an HTTP/2 connection has become.
type CarryStream = dyn Fn(OnUpgrade, Opened) + Send + Sync;

async fn connection(
    (stream, tls): (TcpStream, Option<Arc<ServerConfig>>),
    mut serving: Serving,
    tasks: TaskTracker,
    permit: OwnedSemaphorePermit,
) {
    let _open = Counted::new(&serving.live.current().metrics().connections.caller);
    // Answers are written in one piece; waiting for more would only delay them.
    drop(stream.set_nodelay(true));
    let ended = match tls {
        None => serve(stream, serving, tasks).await,
        Some(tls) => match Box::pin(enter(stream, tls, &mut serving)).await {
            Ok(stream) => Box::pin(serve(stream, serving, tasks)).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "caller connection ended");
    }
    drop(permit);
}

/// Speaks TLS with a caller, and learns who it is from its certificate, if it shows one.
async fn enter(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    serving: &mut Serving,
) -> io::Result<Box<dyn Transport>> {
    let stream = tokio::select! {
        stream = shake_hands(tls, stream) => stream?,
        () = left(&mut serving.phase) => {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    if let Some(certificate) = certificates.and_then(<[_]>::first) {
        serving.peer.shown = listen::shown(certificate)?;
    }
    Ok(Box::new(stream))
}

/// Serves whatever HTTP is spoken. What few connections need is boxed, so that an idle one holds no room
/// for it. With TLS that is what ALPN agreed on, or the caller would not say it.
async fn serve<S: Transport + 'static>(stream: S, serving: Serving, tasks: TaskTracker) -> Ended {
    let side = CallerSide::new(serving.peer.clone(), serving.patience(), &serving.payments);
    let mut stream = CallerStream::new(stream, side.clone());
    let mut closing = serving.phase.clone();
    let spoken = tokio::select! {
        sniffed = tokio::time::timeout(serving.patience().idle, sniff(&mut stream, tunnel::look_for_http2)) => sniffed,
        // Browsers and pools open connections in advance; those must not hold up the end.
        () = left(&mut closing) => return Ok(()),
    };
    match spoken {
        Ok(Ok(Some(Spoken::Http2))) => {
            let carrying = serving.clone();
            let carry = move |upgrade: OnUpgrade, opened| {
                tasks.spawn(carry_stream(upgrade, opened, carrying.clone()));
            };
            let served = serve_http2(stream, side, serving, Some(Arc::new(carry)));
            Box::pin(served).await
        }
        Ok(Ok(_)) => match serve_http1(stream, side.clone(), serving.clone()).await {
            Ok(Some((opened, stream))) => {
                // From now on stalling is for those to notice who know what is inside.
                side.limit_writes(tunnel::TOTAL_TIMEOUT);
                Box::pin(carry(opened, Box::new(stream), serving)).await
            }
            ended => ended.map(|_no_tunnel| ()),
        },
        Ok(Err(error)) => Err(error.into()),
        Err(_silent) => {
            serving.reached(Limit::IdleTimeout);
            Ok(())
        }
    }
}

/// What is spoken, or as much as can be known where the caller says no more. HTTP/2 comes with prior
/// knowledge (RFC 9113 section 3.3).
async fn sniff<S: Transport>(
    stream: &mut CallerStream<S>,
    look: fn(&[u8]) -> Option<Spoken>,
) -> io::Result<Option<Spoken>> {
    let mut first = [0; tunnel::LOOK];
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

async fn carry_stream(upgrade: OnUpgrade, opened: Opened, serving: Serving) {
    let ended = match upgrade.await {
        Ok(upgraded) => carry(opened, Box::new(TokioIo::new(upgraded)), serving).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "tunnel ended");
    }
}

/// Carries a tunnel to its end.
async fn carry(opened: Opened, stream: Box<dyn Transport>, serving: Serving) -> Ended {
    let Opened { mut record, leads } = opened;
    match leads {
        Leads::Away(server, _held) => {
            let (mut soon, mut now) = (serving.phase.clone(), serving.phase);
            let end = (closing(&mut soon), last(&mut now));
            let copying = tunnel::copy(stream, TokioIo::new(*server), end);
            let (ended, sent, received) = copying.await;
            tracing::debug!(?ended, "opaque tunnel ended");
            record.carried(sent, received);
            Ok(())
        }
        Leads::ToProvider(inside, _permit) => {
            carry_to_provider(record, inside, stream, serving).await
        }
    }
}

/// Serves what comes through a tunnel, as if it had come without; the `CONNECT` ends with it.
async fn carry_to_provider(
    mut record: Box<Record>,
    inside: Inside,
    stream: Box<dyn Transport>,
    mut serving: Serving,
) -> Ended {
    let side = CallerSide::within(
        Some(inside.clone()),
        serving.peer.clone(),
        (serving.patience(), &serving.payments),
    );
    let mut stream = CallerStream::new(stream, side.clone());
    let spoken = tokio::select! {
        sniffed = tokio::time::timeout(tunnel::FIRST_BYTES_TIMEOUT, sniff(&mut stream, tunnel::look)) => sniffed,
        () = left(&mut serving.phase) => return Ok(()),
    };
    match spoken {
        Ok(Ok(Some(Spoken::Http1))) => {
            let ended = serve_http1(stream, side, serving).await;
            ended.map(|_no_tunnel_inside_of_a_tunnel| ())
        }
        Ok(Ok(Some(Spoken::Http2))) => serve_http2(stream, side, serving, None).await,
        Ok(Ok(Some(Spoken::Tls))) => match serving.live.current().authority() {
            Some(authority) => {
                let server = authority.server(&inside.host)?;
                side.limit_writes(tunnel::TOTAL_TIMEOUT);
                intercept(server, inside, stream, serving).await
            }
            None => {
                record.reason(Reason::ConnectNotAllowed);
                Ok(())
            }
        },
        Ok(Ok(Some(Spoken::Unknown))) => {
            record.reason(Reason::BadRequest);
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
    mut inside: Inside,
    stream: CallerStream<Box<dyn Transport>>,
    serving: Serving,
) -> Ended {
    let stream = match shake_hands(server, stream).await {
        Ok(stream) => stream,
        Err(error) => {
            let proxy = serving.live.current();
            let authority = proxy.authority();
            if authority.is_some_and(|own| own.may_complain(&inside.caller, &inside.host)) {
                tracing::info!(caller = %inside.caller, host = %inside.host, %error,
                    "TLS in a tunnel failed; does the caller trust the authority at /ca.pem?");
            }
            return Err(error.into());
        }
    };
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    inside.is_misnamed = session
        .server_name()
        .is_some_and(|name| !name.eq_ignore_ascii_case(&inside.host));
    let side = CallerSide::within(
        Some(inside),
        serving.peer.clone(),
        (serving.patience(), &serving.payments),
    );
    let stream: Box<dyn Transport> = Box::new(stream);
    let stream = CallerStream::new(stream, side.clone());
    if is_http2 {
        return serve_http2(stream, side, serving, None).await;
    }
    let ended = serve_http1(stream, side, serving).await;
    ended.map(|_no_tunnel_inside_of_a_tunnel| ())
}

async fn shake_hands<S: Transport>(
    server: Arc<ServerConfig>,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let handshake = TlsAcceptor::from(server).accept(stream);
    tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await?
}

type Error = Box<dyn std::error::Error + Send + Sync>;
type Ended = Result<(), Error>;

/// Serves until the connection ends, or becomes a tunnel.
async fn serve_http1<S: Transport>(
    mut stream: CallerStream<S>,
    side: Arc<CallerSide>,
    Serving {
        live, mut phase, ..
    }: Serving,
) -> Result<Option<(Opened, CallerStream<S>)>, Error> {
    stream.frame(true);
    let opened = Mutex::new(None);
    let service = service_fn(|request| {
        let (proxy, side, opened) = (live.current(), &side, &opened);
        // An idle connection holds no room for a request.
        Box::pin(async move {
            let (answer, tunnel) = proxy.handle(request, side).await;
            if tunnel.is_some() {
                *opened.lock().unwrap_or_else(PoisonError::into_inner) = tunnel;
            }
            Ok::<_, Infallible>(answer)
        })
    });
    let builder = http1(live.current().limits());
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = {
        let phases = phase.clone();
        // Made when it is needed, so that connections do not carry room for it.
        let mut over = None;
        let mut closing = pin!(closing(&mut phase));
        let (mut is_closing, mut is_told) = (false, false);
        poll_fn(|context| {
            // First, so that a request that has arrived is not taken for none.
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                return Poll::Ready(Some(ended));
            }
            is_closing = is_closing || closing.as_mut().poll(context).is_ready();
            if is_closing && !is_told && side.requests() > 0 {
                is_told = true;
                Pin::new(&mut connection).graceful_shutdown();
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                    return Poll::Ready(Some(ended));
                }
            }
            if is_closing {
                let over = over.get_or_insert_with(|| Box::pin(useless(phases.clone(), &side)));
                return over.as_mut().poll(context).map(|()| None);
            }
            Poll::Pending
        })
        .await
    };
    let stopped = side.ended_with();
    if let Some(limit) = stopped {
        live.current().metrics().limits.reached(limit);
    }
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    // What comes now is a tunnel's, or nobody's.
    stream.frame(false);
    let Some(ended) = ended else {
        // What was answered half must not look like a whole answer.
        stream.reset_on_close();
        return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
    };
    let Err(error) = ended else {
        let opened = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            // What the caller sent without waiting for the answer is in the tunnel already.
            stream.put_back(parts.read_buf);
            return Ok(Some((opened, stream)));
        }
        if side.is_unread() {
            Box::pin(linger(stream)).await;
        }
        return Ok(None);
    };
    fail(&error, stopped, stream, &live).await?;
    Err(error.into())
}

/// Closes a connection on which something went wrong.
async fn fail<S: Transport>(
    error: &hyper::Error,
    stopped: Option<Limit>,
    mut stream: CallerStream<S>,
    live: &Live,
) -> io::Result<()> {
    if is_cut_off(error) || stopped == Some(Limit::WriteTimeout) {
        // Without a length, the end of the connection would look like the end of the answer. And who does not
        // read is not waited for again.
        stream.reset_on_close();
        return Ok(());
    }
    count_refusal(live.current().metrics(), error);
    if stopped == Some(Limit::HeadTimeout) {
        let proxy = live.current();
        proxy.metrics().requests.refused(Reason::RequestTimeout);
        let answer =
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await?;
    }
    Box::pin(linger(stream)).await;
    Ok(())
}

fn http1(limits: &ProxyLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // The stream has its own, because this one does not know an idle connection from a slow head.
        .header_read_timeout(None)
        .max_header_size(limits.header_size as usize)
        // A frame of a body is no larger, so that time limits between frames are limits between bytes.
        .max_buf_size(limits.header_size as usize)
        // A caller may end its side after the request; and a request that is under way is seen through.
        .half_close(true)
        // Old programs look for `Content-Length` and not for `content-length`. Keeping each name as it came would
        // cost more than the rest of the header's way, and HTTP/2 has lower case only.
        .title_case_headers(true)
        .auto_date_header(false);
    if limits.headers > HYPER_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
}

/// Whether the provider's answer ended before its end.
fn is_cut_off(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<CutOff>())
}

/// Counts a request that hyper did not even hand over.
fn count_refusal(metrics: &Metrics, error: &hyper::Error) {
    if !error.is_parse() {
        return;
    }
    // A target that is too long is "too large" as well, so it is looked for first.
    let (reason, limit) = if error.to_string().contains("URI too long") {
        (Reason::TargetTooLong, Some(Limit::TargetSize))
    } else if error.is_parse_too_large() {
        (Reason::HeadersTooLarge, Some(Limit::Headers))
    } else {
        (Reason::BadRequest, None)
    };
    metrics.requests.refused(reason);
    if let Some(limit) = limit {
        metrics.limits.reached(limit);
    }
}

async fn serve_http2<S: Transport + 'static>(
    stream: CallerStream<S>,
    side: Arc<CallerSide>,
    Serving {
        live, mut phase, ..
    }: Serving,
    carry: Option<Arc<CarryStream>>,
) -> Ended {
    let service = service_fn(|mut request: Request<Incoming>| {
        let (proxy, side, carry) = (live.current(), side.clone(), carry.clone());
        async move {
            let upgrade = request.extensions_mut().remove::<OnUpgrade>();
            let (answer, tunnel) = proxy.handle(request, &side).await;
            if let (Some(tunnel), Some(upgrade), Some(carry)) = (tunnel, upgrade, carry) {
                carry(upgrade, tunnel);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let limits = *live.current().limits();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_header_list_size(limits.header_size)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(4 * HTTP2_STREAM_WINDOW)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = phase.wait_for(|phase| *phase >= Phase::Delay) => None,
        () = unused(&side, limits.idle_timeout) => {
            live.current().metrics().limits.reached(Limit::IdleTimeout);
            None
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // GOAWAY is what `Connection: close` is to HTTP/1.1.
            connection.as_mut().graceful_shutdown();
            let over = Box::pin(useless(phase, &side));
            tokio::select! {
                ended = connection => ended,
                () = over => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
            }
        }
    };
    if ended.as_ref().is_err_and(is_worn_out) {
        side.end_with(Limit::Resets);
    }
    if let Some(limit) = side.ended_with() {
        live.current().metrics().limits.reached(limit);
    }
    ended.map_err(Into::into)
}

/// Waits until an HTTP/2 connection has carried nothing for that long, or up to twice as long.
async fn unused(side: &CallerSide, idle: Duration) {
    let mut seen = None;
    loop {
        let now = (!side.is_busy()).then(|| side.requests());
        if now.is_some() && now == seen {
            return;
        }
        seen = now;
        tokio::time::sleep(idle).await;
    }
}

/// Whether h2 has ended the connection because its caller kept it busy with nothing.
fn is_worn_out(error: &hyper::Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
    })
}

/// Ends Bursar's side, unless that is done, and reads what the caller still sends, for a while.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drained = async {
        drop(stream.shutdown().await);
        let mut scratch = [0; 8 * 1024];
        let mut total = 0;
        while total < MAX_LINGER_BYTES {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(read) => total += read,
            }
        }
    };
    // Whether the caller has closed its side or the time is over, the connection is closed now.
    drop(tokio::time::timeout(LINGER, drained).await);
}
