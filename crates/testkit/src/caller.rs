//! A program that uses the proxy, by hyper's client.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::soon;
use crate::upstream::{Body, full};

/// What HTTP is spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// One connection to the proxy; dropping it closes it.
pub struct Caller {
    sender: Sender,
    /// Sent with `CONNECT`.
    authorization: Option<String>,
    _driver: AbortOnDropHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The members of `application/problem+json`.
    #[track_caller]
    pub fn problem(&self) -> Value {
        assert_eq!(
            self.headers.get("content-type").unwrap(),
            "application/problem+json",
            "{self:?}"
        );
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The header's values.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }
}

impl Caller {
    /// HTTP/1.1.
    pub async fn connect(proxy: SocketAddr) -> Self {
        Self::over(TcpStream::connect(proxy).await.unwrap()).await
    }

    /// HTTP/1.1 over a stream, e.g. inside of a tunnel.
    pub async fn over(stream: impl Stream) -> Self {
        let (sender, connection) = soon(http1::handshake(TokioIo::new(stream))).await.unwrap();
        Self {
            sender: Sender::Http1(sender),
            authorization: None,
            _driver: AbortOnDropHandle::new(tokio::spawn(async {
                drop(connection.with_upgrades().await);
            })),
        }
    }

    /// HTTP/2 with prior knowledge.
    pub async fn connect_http2(proxy: SocketAddr) -> Self {
        Self::over_http2(TcpStream::connect(proxy).await.unwrap()).await
    }

    /// The same over a stream.
    pub async fn over_http2(stream: impl Stream) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = soon(handshake).await.unwrap();
        Self {
            sender: Sender::Http2(sender),
            authorization: None,
            _driver: AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) })),
        }
    }

    /// Sends to `http://api.test` plus `path`; in absolute form on HTTP/1.1.
    pub async fn send(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://api.test{path}"))
            .body(full(body))
            .unwrap();
        self.request(request).await
    }

    /// Opens tunnels with that `Proxy-Authorization`.
    pub fn authorize(&mut self, value: &str) {
        self.authorization = Some(value.to_owned());
    }

    /// Opens a tunnel; the answer where it is refused.
    pub async fn tunnel(&mut self, target: &str) -> Result<Upgraded, Reply> {
        let mut request = Request::builder().method("CONNECT").uri(target);
        if let Some(authorization) = &self.authorization {
            request = request.header("proxy-authorization", authorization);
        }
        let answer = self.begin(request.body(full("")).unwrap()).await.unwrap();
        if answer.status() != StatusCode::OK {
            return Err(read(answer).await.unwrap());
        }
        Ok(soon(hyper::upgrade::on(answer)).await.unwrap())
    }

    /// Sends a request and reads the answer to its end.
    pub async fn request(&mut self, request: Request<Body>) -> Reply {
        read(self.begin(request).await.unwrap()).await.unwrap()
    }

    /// Sends a request over HTTP/2, whose answer may come when it will.
    pub async fn begin_later(
        &mut self,
        request: Request<Body>,
    ) -> tokio::task::JoinHandle<hyper::Result<Response<Incoming>>> {
        let Sender::Http2(sender) = &mut self.sender else {
            panic!("HTTP/1.1 takes one request at a time");
        };
        soon(sender.ready()).await.unwrap();
        tokio::spawn(sender.send_request(request))
    }

    /// Sends a request; the answer's body is for the test to read.
    pub async fn begin(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                // Every client does that.
                if let Some(host) = request.uri().authority()
                    && !request.headers().contains_key("host")
                {
                    let host = host.as_str().parse().unwrap();
                    request.headers_mut().insert("host", host);
                }
                soon(sender.ready()).await?;
                soon(sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                soon(sender.ready()).await?;
                soon(sender.send_request(request)).await
            }
        }
    }
}

/// Reads an answer to its end.
pub async fn read(answer: Response<Incoming>) -> io::Result<Reply> {
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    let mut trailers = None;
    while let Some(frame) = soon(body.frame()).await {
        match frame.map_err(io::Error::other)?.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body: bytes.into(),
        trailers,
    })
}

/// The value of an `Authorization: Basic` field.
pub fn basic(name: &str, password: &str) -> String {
    let pair = format!("{name}:{password}");
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}
