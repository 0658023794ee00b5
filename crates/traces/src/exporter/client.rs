//! Client of the exporter: one POST to the receiver, on a connection of its own.
//!
//! The operator has named the receiver, mostly one of the cluster's own: `egress`, which is for what callers may reach,
//! does not apply. A name is resolved anew each time. No redirects, no cookies.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::retry_after::retry_after;
use bursar_base::address::{bare, undotted};
use bursar_base::process::{self, Purpose};
use bursar_http::one_shot::OneShot;
use bursar_http::read_body::read_limited;
use bursar_tls::client::Noticed;

/// For one request, from looking up the name to the response's last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of a response.
const MAX_BODY: usize = 64 * 1024;
/// The media type of OTLP.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// Sends batches.
pub(crate) trait Transport: Send {
    /// Sends one, and waits for the response.
    fn send(&mut self, body: Bytes) -> impl Future<Output = Result<Reply, Error>> + Send;
}

/// The receiver's response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    /// In lower case, without parameters; empty where there is none.
    pub(crate) media_type: String,
    /// Whether its body is compressed, though nobody asked for that.
    pub(crate) is_compressed: bool,
    /// None: it broke off, or is too long.
    pub(crate) body: Option<Bytes>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// TLS failed.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke, or the response is no HTTP")]
    Broken(#[source] hyper::Error),
    /// It took too long.
    #[error("there was no response in time")]
    TimedOut,
}

/// Over sockets.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Uri,
    /// As it is now. None: the endpoint speaks no TLS.
    tls: watch::Receiver<Option<Arc<ClientConfig>>>,
}

impl Client {
    pub(crate) fn new(endpoint: Uri, tls: watch::Receiver<Option<Arc<ClientConfig>>>) -> Self {
        Self { endpoint, tls }
    }

    async fn exchange(&self, body: Bytes) -> Result<Reply, Error> {
        let mut connection = self.connect().await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let target = self.endpoint.path_and_query().cloned();
        *request.uri_mut() = target.map_or_else(|| Uri::from_static("/"), Uri::from);
        let headers = request.headers_mut();
        let authority = self
            .endpoint
            .authority()
            .map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(authority);
        headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("")));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let agent = concat!("bursar/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let response = connection.send(request).await.map_err(Error::Broken)?;
        let (head, body) = response.into_parts();
        let media_type = head.headers.get(CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next());
        let coding = head.headers.get(CONTENT_ENCODING);
        let reply = Reply {
            status: head.status,
            is_compressed: coding.is_some_and(|coding| coding != "identity"),
            retry_after: head.headers.get(RETRY_AFTER).and_then(retry_after),
            media_type: media_type.unwrap_or_default().trim().to_ascii_lowercase(),
            body: read_limited(body, MAX_BODY).await.ok(),
        };
        Ok(reply)
    }

    async fn connect(&self) -> Result<OneShot, Error> {
        let host = self.endpoint.host().unwrap_or_default();
        let tls = self.tls.borrow().clone();
        let own_port = if tls.is_some() { 443 } else { 80 };
        let port = self.endpoint.port_u16().unwrap_or(own_port);
        let tcp = TcpStream::connect((bare(host), port))
            .await
            .map_err(Error::Connect)?;
        // The last file descriptors are for others.
        if !Purpose::Request.may_have(&tcp) {
            return Err(Error::Connect(process::no_descriptors()));
        }
        let Some(tls) = tls else {
            let connected = OneShot::over(TokioIo::new(tcp)).await;
            return connected.map_err(Error::Broken);
        };
        let name = ServerName::try_from(bare(undotted(host)).to_owned());
        let name = name.map_err(|error| Error::Tls(io::Error::other(error)))?;
        let shaking_hands = TlsConnector::from(tls).connect(name, tcp);
        let stream = Noticed::default().during(shaking_hands).await;
        let stream = stream.map_err(Error::Tls)?;
        OneShot::over(TokioIo::new(stream))
            .await
            .map_err(Error::Broken)
    }
}

impl Transport for Client {
    async fn send(&mut self, body: Bytes) -> Result<Reply, Error> {
        let exchanged = tokio::time::timeout(TIMEOUT, self.exchange(body)).await;
        exchanged.unwrap_or(Err(Error::TimedOut))
    }
}

impl Error {
    /// With what is behind it.
    pub(crate) fn details(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}
