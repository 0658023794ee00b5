//! A program that uses the proxy, by hyper's client.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::soon;
use super::upstream::{Body, full};

/// One connection to the proxy; dropping it closes it.
pub(crate) struct Caller {
    sender: Sender,
    _driver: AbortOnDropHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The members of `application/problem+json`.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(
            self.headers.get("content-type").unwrap(),
            "application/problem+json",
            "{self:?}"
        );
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The header's values.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }
}

impl Caller {
    /// HTTP/1.1.
    pub(crate) async fn connect(proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        Self {
            sender: Sender::Http1(sender),
            _driver: AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) })),
        }
    }

    /// HTTP/2 with prior knowledge.
    pub(crate) async fn connect_http2(proxy: SocketAddr) -> Self {
        let stream = TcpStream::connect(proxy).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        Self {
            sender: Sender::Http2(sender),
            _driver: AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) })),
        }
    }

    /// Sends to `http://api.test` plus `path`; in absolute form on HTTP/1.1.
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://api.test{path}"))
            .body(full(body))
            .unwrap();
        self.request(request).await
    }

    /// Sends a request and reads the answer to its end.
    pub(crate) async fn request(&mut self, request: Request<Body>) -> Reply {
        read(self.begin(request).await.unwrap()).await.unwrap()
    }

    /// Sends a request; the answer's body is for the test to read.
    pub(crate) async fn begin(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
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
pub(crate) async fn read(answer: Response<Incoming>) -> io::Result<Reply> {
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
pub(crate) fn basic(name: &str, password: &str) -> String {
    let pair = format!("{name}:{password}");
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}
