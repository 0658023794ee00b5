//! How is a server reached? Name, TCP and TLS to a stream, and which of them failed.
//!
//! It knows neither pools nor requests. The caller of [`Connector::connect`] sets the time limit.

use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::net::TcpStream;
use tower_service::Service as _;

/// A connection, with TLS unless the operator wrote down a loopback address.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Dead peers are noticed although nothing is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Connects with one TLS configuration.
#[derive(Debug, Clone)]
pub struct Connector(HttpsConnector<HttpConnector>);

/// Why there is no connection. In either case no byte of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name did not resolve, or no address accepted.
    #[error("cannot connect")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The handshake failed, or the certificate is not to be trusted.
    #[error("TLS failed")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Connector {
    /// Uses that TLS configuration for `https` addresses. `limit` is shared out among the addresses of a
    /// name, so that one that hangs does not keep the others from being tried.
    #[must_use]
    pub fn new(tls: Arc<ClientConfig>, limit: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(limit));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        Self(HttpsConnector::from((tcp, tls)))
    }

    /// Connects to the URL's host and port; all addresses of the name are tried, both families at once
    /// (RFC 8305).
    ///
    /// # Errors
    /// Where TCP or TLS fails.
    pub async fn connect(&self, url: Uri) -> Result<Stream, Error> {
        self.0.clone().call(url).await.map_err(|error| {
            // The TLS layer reports as `io::Error`, the TCP layer with a type of its own.
            if error.is::<std::io::Error>() {
                Error::Tls(error)
            } else {
                Error::Unreachable(error)
            }
        })
    }
}
