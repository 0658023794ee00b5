//! HTTP on a connection, in one version or the other, to its end or until it is a tunnel.
//!
//! It knows streams and the phases of the end, not where connections come from or who is inside of them.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::drive::drive;
use crate::exchange::Http1Required;
use crate::exchange::Live;
use crate::exchange::Opened;
use crate::exchange::relay::CutOff;
use crate::server::drain_phase::{DrainPhase, until_useless};
use bursar_base::log_throttle::LogThrottles;
use bursar_config::ProxyLimits;
use bursar_http::connection::{
    CallerStream, ConnectionState, Payments, Peer, ReadTimeouts, Transport, TunnelContext,
};
use bursar_http::lingering_body::{LINGER, MAX_LINGER_BYTES};
use bursar_telemetry::metrics::{Limit, Reason};

/// HTTP/2 requests of a connection that its caller has reset before anybody looked at them (CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// An HTTP/2 caller that shows no sign of life for both together is disconnected.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// An upload may be that far ahead of the provider.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// Header fields that hyper takes without being told, and faster.
const HYPER_HEADERS: usize = 100;

/// What the log was told lately of connections that were refused, or on which no request could be read: from where, and
/// why.
pub(super) type RefusalThrottles = Arc<LogThrottles<(IpAddr, &'static str)>>;

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    pub(super) live: Arc<Live>,
    pub(super) phase: watch::Receiver<DrainPhase>,
    pub(super) peer: Peer,
    /// By number.
    pub(super) worker: usize,
    pub(super) payments: Arc<Payments>,
    pub(super) throttles: RefusalThrottles,
}

impl ConnectionContext {
    pub(super) fn read_timeouts(&self) -> ReadTimeouts {
        let proxy = self.live.current();
        let limits = proxy.limits();
        ReadTimeouts {
            idle: limits.idle_timeout,
            head: limits.head_timeout,
        }
    }

    /// For this connection, or for one inside of a tunnel of it.
    pub(super) fn side(&self, inside: Option<TunnelContext>) -> Arc<ConnectionState> {
        let (peer, timeouts) = (self.peer.clone(), self.read_timeouts());
        ConnectionState::new(inside, peer, self.worker, timeouts, &self.payments)
    }

    /// Counts a request that hyper did not even hand over, and tells the log of one such a minute and address: it has no
    /// line of its own.
    fn unreadable(&self, reason: Reason, why: &dyn fmt::Display) {
        let client = self.peer.address;
        let proxy = self.live.current();
        proxy.metrics().requests.refused(reason, client);
        if self
            .throttles
            .is_due((client, reason.as_str()), Instant::now())
        {
            tracing::warn!(%client, reason = reason.as_str(), "a request cannot be read: {why}");
        }
    }

    pub(super) fn reached(&self, limit: Limit) {
        self.live.current().metrics().limits.reached(limit);
    }
}

/// Carries a tunnel that a stream of an HTTP/2 connection has become.
pub(super) type CarryStream = dyn Fn(OnUpgrade, Opened) + Send + Sync;

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(super) type ConnectionResult = Result<(), Error>;

/// Serves until the connection ends, or becomes a tunnel.
pub(super) async fn serve_http1<S: Transport>(
    mut stream: Box<CallerStream<S>>,
    side: Arc<ConnectionState>,
    context: &ConnectionContext,
) -> Result<Option<(Opened, Box<CallerStream<S>>)>, Error> {
    stream.frame(true);
    let (live, mut phase) = (&context.live, context.phase.clone());
    let opened = Mutex::new(None);
    let service = service_fn(|request| {
        let open = |tunnel| {
            *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
        };
        // Not in a box: hyper has a place for a request's future as long as the connection does not rest.
        live.current().handle(request, &side, open)
    });
    let builder = http1(live.current().limits());
    let (ended, parts) = drive(stream, &builder, service, &side, &mut phase).await;
    let stopped = side.ended_with();
    if let Some(limit) = stopped {
        live.current().metrics().limits.reached(limit);
    }
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
            // What the caller sent without waiting for the response is in the tunnel already.
            stream.put_back(parts.read_buf);
            return Ok(Some((opened, stream)));
        }
        if side.is_unread() {
            Box::pin(linger(stream)).await;
        }
        return Ok(None);
    };
    Box::pin(fail(&error, stopped, stream, context)).await?;
    Err(error.into())
}

/// Closes a connection on which something went wrong.
async fn fail<S: Transport>(
    error: &hyper::Error,
    stopped: Option<Limit>,
    mut stream: Box<CallerStream<S>>,
    context: &ConnectionContext,
) -> io::Result<()> {
    if is_cut_off(error) || stopped == Some(Limit::WriteTimeout) {
        // Without a length, the end of the connection would look like the end of the response. And who does not
        // read is not waited for again.
        stream.reset_on_close();
        return Ok(());
    }
    count_refusal(context, error);
    if stopped == Some(Limit::HeadTimeout) {
        context.unreadable(
            Reason::RequestTimeout,
            &"its head did not come within limits.head_timeout",
        );
        let response =
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(response).await?;
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

/// Whether the provider's response ended before its end.
fn is_cut_off(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<CutOff>())
}

/// Counts a request that hyper did not even hand over.
fn count_refusal(context: &ConnectionContext, error: &hyper::Error) {
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
    context.unreadable(reason, error);
    if let Some(limit) = limit {
        context.reached(limit);
    }
}

pub(super) async fn serve_http2<S: Transport + 'static>(
    stream: Box<CallerStream<S>>,
    side: Arc<ConnectionState>,
    ConnectionContext {
        live, mut phase, ..
    }: ConnectionContext,
    carry: Option<Arc<CarryStream>>,
) -> ConnectionResult {
    let service = service_fn(|mut request: Request<Incoming>| {
        let (proxy, side, carry) = (live.current(), side.clone(), carry.clone());
        async move {
            let upgrade = request.extensions_mut().remove::<OnUpgrade>();
            let open = |tunnel| {
                if let (Some(upgrade), Some(carry)) = (upgrade, carry) {
                    carry(upgrade, tunnel);
                }
            };
            let response = proxy.handle(request, &side, open).await;
            response.map_err(|Http1Required| h2::Error::from(h2::Reason::HTTP_1_1_REQUIRED))
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
        // Room for all uploads of a connection, so that none waits because a provider does not read others.
        .initial_connection_window_size(window(limits.streams))
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = phase.wait_for(|phase| *phase >= DrainPhase::Delay) => None,
        () = until_unused(&side, limits.idle_timeout) => {
            live.current().metrics().limits.reached(Limit::IdleTimeout);
            None
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // GOAWAY is what `Connection: close` is to HTTP/1.1.
            connection.as_mut().graceful_shutdown();
            let over = Box::pin(until_useless(phase, &side));
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

/// Of a connection that carries that many uploads at a time, up to the most that there may be (RFC 9113 section 6.9.1).
fn window(streams: u32) -> u32 {
    const MOST: u32 = (1 << 31) - 1;
    streams.saturating_mul(HTTP2_STREAM_WINDOW).min(MOST)
}

/// Waits until an HTTP/2 connection has carried nothing for that long, or up to twice as long.
async fn until_unused(side: &ConnectionState, idle: Duration) {
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

/// Ends Bursar's side, unless that is done, and reads what the caller still sends, for a while, so that it gets to read
/// the response before its unread bytes make the kernel reset the connection.
pub(super) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drained = async {
        let _ = stream.shutdown().await;
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
    let _ = tokio::time::timeout(LINGER, drained).await;
}
