//! How do connections come in and go out? The accept loop, the choice of HTTP version, draining.
//!
//! It knows connections, not requests. A broken connection costs nobody else anything; running out of
//! file descriptors pauses accepting.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::exchange::Proxy;
use crate::metrics::{Counted, Reason};
use crate::relay::CutOff;
use crate::stream::{CallerSide, CallerStream, Peer};

/// Connections of callers at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32_768;
/// From the connection, or the last answer, to a complete request head. Then the connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Request line and header fields together; more is 431. Above the 64 KiB to which hyper limits the target
/// alone, or its 414 would never be seen.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// The same for HTTP/2, where the caller is told beforehand.
const MAX_HTTP2_HEAD_BYTES: u32 = 64 * 1024;
/// Requests at once on an HTTP/2 connection; the caller is told and waits.
const MAX_STREAMS: u32 = 128;
/// An HTTP/2 caller that shows no sign of life for both together is disconnected.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// An upload may be that far ahead of the provider.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
/// How long, and for how many bytes, a closed connection is read from, so that the caller gets to read
/// the answer before its unread bytes make the kernel reset the connection.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 1 << 20;
/// After a failed accept, so that a lack of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How far the end has come. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Serving,
    /// Answers ask for their connection to be closed; new connections are still taken.
    Delay,
    /// New connections are refused, idle ones closed.
    Closing,
}

/// Accepts connections until the phase is [`Phase::Closing`]; each is a task of `tasks`.
pub async fn accept(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    mut phase: watch::Receiver<Phase>,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let serving = phase.clone();
    let mut closing = pin!(phase.wait_for(|phase| *phase == Phase::Closing));
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = &mut closing => return,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, address))) => {
                let peer = Peer::at(address.ip());
                tasks.spawn(connection(
                    stream,
                    peer,
                    proxy.clone(),
                    serving.clone(),
                    permit,
                ));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), _) => return,
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    proxy: Arc<Proxy>,
    phase: watch::Receiver<Phase>,
    permit: OwnedSemaphorePermit,
) {
    let _open = Counted::new(&proxy.metrics().connections.caller);
    // Answers are written in one piece; waiting for more would only delay them.
    drop(stream.set_nodelay(true));
    let side = CallerSide::new(peer);
    let mut stream = CallerStream::new(stream, side.clone());
    let mut closing = phase.clone();
    let is_http2 = tokio::select! {
        sniffed = tokio::time::timeout(HEAD_TIMEOUT, sniff(&mut stream)) => sniffed,
        // Browsers and pools open connections in advance; those must not hold up the end.
        _ = closing.wait_for(|phase| *phase == Phase::Closing) => return,
    };
    let ended = match is_http2 {
        Ok(Ok(true)) => serve_http2(stream, side, proxy, phase).await,
        Ok(Ok(false)) => serve_http1(stream, side, proxy, phase).await,
        Ok(Err(error)) => Err(error.into()),
        Err(_silent) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "caller connection ended");
    }
    drop(permit);
}

/// Whether the caller speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3).
async fn sniff(stream: &mut CallerStream) -> io::Result<bool> {
    let mut first = [0; HTTP2_PREFACE.len()];
    let mut read = 0;
    while let Some(rest) = first.get_mut(read..).filter(|rest| !rest.is_empty()) {
        let more = stream.read(rest).await?;
        read += more;
        let so_far = first.get(..read).unwrap_or_default();
        if more == 0 || !HTTP2_PREFACE.starts_with(so_far) {
            stream.put_back(Bytes::copy_from_slice(so_far));
            return Ok(false);
        }
    }
    stream.put_back(Bytes::from_static(HTTP2_PREFACE));
    Ok(true)
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve_http1(
    stream: CallerStream,
    side: Arc<CallerSide>,
    proxy: Arc<Proxy>,
    mut phase: watch::Receiver<Phase>,
) -> Ended {
    let service = service_fn(|request| {
        let exchange = proxy.handle(request, &side);
        async { Ok::<_, std::convert::Infallible>(exchange.await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        // A frame of a body is no larger, so that time limits between frames are limits between bytes.
        .max_buf_size(MAX_HEAD_BYTES)
        // A caller may end its side after the request; and a request that is under way is seen through.
        .half_close(true)
        // Old programs compare field names with their letter case.
        .preserve_header_case(true)
        .title_case_headers(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let ended = {
        let mut closing = pin!(phase.wait_for(|phase| *phase == Phase::Closing));
        let mut is_closing = false;
        poll_fn(|context| {
            if !is_closing && closing.as_mut().poll(context).is_ready() {
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Pin::new(&mut connection).poll(context)
        })
        .await
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let Err(error) = ended else {
        if side.is_unread() {
            linger(stream).await;
        }
        return Ok(());
    };
    if is_cut_off(&error) {
        // Without a length, the end of the connection would look like the end of the answer.
        stream.reset_on_close();
        return Err(error.into());
    }
    let has_begun = !parts.read_buf.is_empty();
    if let Some(reason) = refusal(&error, has_begun) {
        proxy.metrics().requests.refused(reason);
    }
    if error.is_timeout() && has_begun {
        let answer =
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await?;
    }
    stream.shutdown().await?;
    linger(stream).await;
    Err(error.into())
}

/// Whether the provider's answer ended before its end.
fn is_cut_off(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<CutOff>())
}

/// What a request is counted as that hyper did not even hand over.
fn refusal(error: &hyper::Error, has_begun: bool) -> Option<Reason> {
    if error.is_timeout() {
        return has_begun.then_some(Reason::RequestTimeout);
    }
    if !error.is_parse() {
        return None;
    }
    // A target that is too long is "too large" as well, so it is looked for first.
    Some(if error.to_string().contains("URI too long") {
        Reason::TargetTooLong
    } else if error.is_parse_too_large() {
        Reason::HeadersTooLarge
    } else {
        Reason::BadRequest
    })
}

async fn serve_http2(
    stream: CallerStream,
    side: Arc<CallerSide>,
    proxy: Arc<Proxy>,
    mut phase: watch::Receiver<Phase>,
) -> Ended {
    let service = service_fn(|request| {
        let (proxy, side) = (proxy.clone(), side.clone());
        async move { Ok::<_, std::convert::Infallible>(proxy.handle(request, &side).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HTTP2_HEAD_BYTES)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(4 * HTTP2_STREAM_WINDOW)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended.map_err(Into::into),
        // GOAWAY is what `Connection: close` is to HTTP/1.1.
        _ = phase.wait_for(|phase| *phase >= Phase::Delay) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(Into::into)
}

/// Reads what the caller still sends, for a while.
async fn linger(mut stream: CallerStream) {
    let drained = async {
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
