//! A scripted server: a closure per request, everything it saw on record.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::{Latch, eventually, listen};

/// The body of a scripted answer; see [`full`] and [`stream`].
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// HTTP/2: `:authority`.
    pub authority: Option<String>,
    pub version: Version,
    pub headers: HeaderMap,
    /// None: it did not come to its end, or the script reads it ([`Upstream::streaming`]).
    pub body: Option<Bytes>,
    pub trailers: Option<HeaderMap>,
    /// Counts connections from 0.
    pub connection: usize,
}

impl Seen {
    /// The header's values; panics where one is not text.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of unknown length, frame by frame; dropping the sender ends it.
pub fn stream() -> (Sender<Bytes, io::Error>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed_unsync())
}

/// An answer with a status and a body.
pub fn answer(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).body(full(body)).unwrap()
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Script = Arc<dyn Fn(Request<Incoming>, Entry) -> Answering + Send + Sync>;

/// How TLS is spoken, and how many requests an HTTP/2 connection takes at a time.
type Tls = (Arc<ServerConfig>, u32);

/// So that tests meet the limit without many requests.
const FEW_STREAMS: u32 = 2;

/// Where a request is on record.
struct Entry {
    seen: Arc<Mutex<Vec<Seen>>>,
    index: usize,
}

#[derive(Default)]
struct Log {
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Mutex<usize>,
    panics: Mutex<Vec<String>>,
}

/// The server. Dropping it ends it, and fails the test where a script panicked.
pub struct Upstream {
    pub address: SocketAddr,
    scheme: &'static str,
    log: Arc<Log>,
    _accepting: AbortOnDropHandle<()>,
}

impl Upstream {
    /// Answers with `script`, once the request was read to its end.
    pub async fn start<F>(script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::listen(None, reading(script)).await
    }

    /// Answers `word`; `/held` only once the latch is open.
    pub async fn held(word: &'static str, latch: &Latch) -> Self {
        let latch = latch.clone();
        Self::start(move |request| {
            let latch = latch.clone();
            async move {
                if request.uri().path() == "/held" {
                    latch.wait().await;
                }
                answer(200, word)
            }
        })
        .await
    }

    /// The same as [`Self::start`] behind TLS; HTTP/2 where that is negotiated.
    pub async fn with_tls<F>(
        tls: Arc<ServerConfig>,
        script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::listen(Some(tls), reading(script)).await
    }

    /// The same for that many requests at a time on one HTTP/2 connection.
    pub async fn with_streams<F>(
        tls: Arc<ServerConfig>,
        streams: u32,
        script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (listener, _) = listen().await;
        Self::over(listener, Some((tls, streams)), reading(script))
    }

    /// Answers with `script`, which gets the body unread.
    pub async fn streaming<F>(
        script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let script: Script = Arc::new(move |request, _| Box::pin(script(request)));
        Self::listen(None, script).await
    }

    /// The same as [`Upstream::start`] on a port of the test's.
    pub fn at<F>(
        listener: TcpListener,
        script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::over(listener, None, reading(script))
    }

    async fn listen(tls: Option<Arc<ServerConfig>>, script: Script) -> Self {
        let (listener, _) = listen().await;
        Self::over(listener, tls.map(|tls| (tls, FEW_STREAMS)), script)
    }

    fn over(listener: TcpListener, tls: Option<Tls>, script: Script) -> Self {
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = tokio::spawn(accept(listener, tls, log.clone(), script));
        Self {
            address,
            scheme,
            log,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Every request so far, the unfinished ones included.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.log.seen.lock().unwrap().len()
    }

    /// Waits until that many requests have come.
    pub async fn reached_by(&self, count: usize) {
        eventually(|| async { self.count() >= count }).await;
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "requests seen: {seen:#?}");
        seen.into_iter().next().unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let panics = self.log.panics.lock().unwrap();
        if !std::thread::panicking() {
            assert!(panics.is_empty(), "a script panicked: {panics:?}");
        }
    }
}

fn reading<F>(script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let script = Arc::new(script);
    Arc::new(move |request, entry| {
        let script = script.clone();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            let mut bytes = Vec::new();
            let mut trailers = None;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    // The connection is gone, so is whoever would read the answer.
                    return answer(500, "");
                };
                match frame.into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            let bytes = Bytes::from(bytes);
            {
                let mut seen = entry.seen.lock().unwrap();
                seen[entry.index].body = Some(bytes.clone());
                seen[entry.index].trailers = trailers;
            }
            script(Request::from_parts(head, bytes)).await
        })
    })
}

async fn accept(listener: TcpListener, tls: Option<Tls>, log: Arc<Log>, script: Script) {
    // Dropping the set with the server ends its connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, log, script) = (tls.clone(), log.clone(), script.clone());
        let number = {
            let mut connections = log.connections.lock().unwrap();
            *connections += 1;
            *connections - 1
        };
        connections.spawn(async move {
            match tls {
                None => serve(stream, None, number, log, script).await,
                Some((tls, streams)) => {
                    // A handshake that fails is what some scenarios want.
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        let streams = is_http2.then_some(streams);
                        serve(stream, streams, number, log, script).await;
                    }
                }
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2_streams: Option<u32>,
    connection: usize,
    log: Arc<Log>,
    script: Script,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (log, script) = (log.clone(), script.clone());
        async move {
            let entry = record(&log, &request, connection);
            let answering = AbortOnDropHandle::new(tokio::spawn(script(request, entry)));
            Ok::<_, Infallible>(answering.await.unwrap_or_else(|error| {
                log.panics.lock().unwrap().push(error.to_string());
                answer(500, "the script panicked")
            }))
        }
    });
    let stream = TokioIo::new(stream);
    if let Some(streams) = http2_streams {
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(streams)
            .serve_connection(stream, service);
        drop(connection.await);
    } else {
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(stream, service);
        drop(connection.await);
    }
}

fn record(log: &Log, request: &Request<Incoming>, connection: usize) -> Entry {
    let mut seen = log.seen.lock().unwrap();
    seen.push(Seen {
        method: request.method().clone(),
        target: request
            .uri()
            .path_and_query()
            .map_or_else(|| request.uri().to_string(), ToString::to_string),
        authority: request.uri().authority().map(ToString::to_string),
        version: request.version(),
        headers: request.headers().clone(),
        body: None,
        trailers: None,
        connection,
    });
    Entry {
        seen: log.seen.clone(),
        index: seen.len() - 1,
    }
}
