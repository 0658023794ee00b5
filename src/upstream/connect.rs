//! Connector: name, TCP, a parent proxy perhaps, and TLS to a stream, and which of them failed.
//!
//! It knows neither pools nor requests. Which addresses may be connected to is decided in
//! [`crate::upstream::egress`]. The log is told of what fails here, whoever wanted to connect.

mod cause;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::upstream::egress::{Denied, DialPolicy};
use bursar_base::address::{Rule, Spelling, bare, undotted};
use bursar_base::process::{self, Purpose};
use bursar_base::socket::Socket;
use bursar_config::ParentProxy;
use bursar_telemetry::metrics::Cause;
use bursar_tls::client::noticing;

/// A connection, with TLS unless the operator wrote down a loopback address.
pub type Stream = MaybeHttpsStream<Tcp>;
/// A connection without TLS, through a parent proxy perhaps.
pub type Tcp = TokioIo<Socket>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Dead peers are noticed although nothing is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// As many characters of an error get into the log.
const MAX_DETAILS: usize = 500;

/// Connects with one TLS configuration.
#[derive(Debug, Clone)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    /// For all of it.
    limit: Duration,
    policy: DialPolicy,
    direct: HttpConnector<Resolver>,
    parent: Option<Tunnel<HttpConnector<Resolver>>>,
    /// What its file descriptors are for.
    purpose: Purpose,
}

/// Why there is no connection. In any case no byte of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address of the name may be connected to.
    #[error("no address is allowed (egress rule {})", .0.as_str())]
    NotAllowed(Rule),
    /// The name did not resolve, or no address accepted.
    #[error("cannot connect")]
    Unreachable(#[source] BoxError),
    /// The parent proxy cannot be reached, or does not connect.
    #[error("the parent proxy does not connect")]
    Parent(#[source] BoxError),
    /// The handshake failed, or the certificate is not to be trusted.
    #[error("TLS failed")]
    Tls {
        /// Why.
        #[source]
        source: BoxError,
        /// The server asked for a client certificate, and there is none.
        lacks_certificate: bool,
    },
    /// The server speaks nothing that was offered (RFC 7301 section 3.2).
    #[error("the server speaks no protocol that was offered")]
    NoProtocol,
    /// It took longer than it may.
    #[error("it took too long")]
    TimedOut,
}

impl Error {
    /// The same in one word.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::NotAllowed(_) => Cause::AddressNotAllowed,
            Self::Unreachable(error) => cause::before_tls(&**error),
            Self::Parent(_) => Cause::ParentProxy,
            Self::Tls {
                source,
                lacks_certificate,
            } => cause::in_tls(&**source, *lacks_certificate),
            Self::NoProtocol => Cause::TlsOther,
            Self::TimedOut => Cause::TimedOut,
        }
    }

    /// Whether it is for a lack of file descriptors, which says nothing about the server.
    #[must_use]
    pub fn lacks_descriptors(&self) -> bool {
        cause::lacks_descriptors(self)
    }

    /// With all that is behind it, for the log: names and addresses, no secrets. A certificate may hold any text.
    fn details(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        let shown = text.chars().filter(|character| !character.is_control());
        shown.take(MAX_DETAILS).collect()
    }
}

/// Whether a connection broke because TLS ended without close_notify (RFC 8446 section 6.1).
#[must_use]
pub fn lacks_close_notify(error: &(dyn std::error::Error + 'static)) -> bool {
    cause::lacks_close_notify(error)
}

impl Connector {
    /// Uses that TLS configuration for `https` addresses. `limit` is for a whole connection, and shared out among
    /// the addresses of a name, so that one that hangs does not keep the others from being tried.
    #[must_use]
    pub fn new(
        tls: Arc<ClientConfig>,
        limit: Duration,
        policy: DialPolicy,
        parent: Option<&Arc<ParentProxy>>,
    ) -> Self {
        // hyper-util's tunnel bounds the answer's head at 8 KiB, and `limit` its time. It takes 200 alone
        // for a yes, which is what every proxy says.
        let parent = parent.map(|parent| {
            let tunnel = Tunnel::new(parent.url.clone(), tcp(limit, policy.to_parent(parent)));
            match &parent.authorization {
                Some(authorization) => tunnel.with_auth(authorization.clone()),
                None => tunnel,
            }
        });
        Self {
            tls,
            limit,
            direct: tcp(limit, policy.clone()),
            policy,
            parent,
            purpose: Purpose::Request,
        }
    }

    /// The same, which may take the last file descriptors.
    #[must_use]
    pub fn with_reserve(self) -> Self {
        Self {
            purpose: Purpose::Own,
            ..self
        }
    }

    /// The same with another TLS configuration.
    #[must_use]
    pub fn with_tls(&self, tls: &Arc<ClientConfig>) -> Self {
        Self {
            tls: tls.clone(),
            ..self.clone()
        }
    }

    /// Connects to the URL's host and port; all allowed addresses of the name are tried, both families at
    /// once (RFC 8305). A dot at the end of the name is for resolving alone.
    ///
    /// # Errors
    /// Where no address is allowed, or a parent proxy, TCP or TLS fails.
    pub async fn connect(&self, url: Uri) -> Result<Stream, Error> {
        let connected = tokio::time::timeout(self.limit, self.open(&url)).await;
        let connected = connected.unwrap_or(Err(Error::TimedOut));
        if let Err(error) = &connected {
            let host = url.authority().map_or("", |authority| authority.as_str());
            self.policy
                .complain(host, error.cause(), || error.details());
        }
        connected
    }

    /// Tells the log that a connection to a host ended without TLS close_notify, before an answer was complete.
    pub fn complain_of_end(&self, host: &str) {
        self.policy.complain_of_end(host);
    }

    async fn open(&self, url: &Uri) -> Result<Stream, Error> {
        let tcp = self.reach(url).await?;
        if url.scheme() == Some(&Scheme::HTTP) {
            return Ok(MaybeHttpsStream::Http(tcp));
        }
        let host = undotted(url.host().unwrap_or_default());
        let lacks_certificate = Arc::<AtomicBool>::default();
        let failed = |source: BoxError| Error::Tls {
            source,
            lacks_certificate: lacks_certificate.load(Ordering::Relaxed),
        };
        let name =
            ServerName::try_from(bare(host).to_owned()).map_err(|error| failed(error.into()))?;
        let connecting = TlsConnector::from(self.tls.clone()).connect(name, TokioIo::new(tcp));
        let connected = noticing(&lacks_certificate, connecting).await;
        let stream = connected.map_err(|error| match speaks_nothing_offered(&error) {
            true => Error::NoProtocol,
            false => failed(error.into()),
        })?;
        Ok(MaybeHttpsStream::Https(TokioIo::new(stream)))
    }

    /// The same without TLS.
    ///
    /// # Errors
    /// Where no address is allowed, a parent proxy or TCP fails, or few file descriptors are left.
    pub async fn reach(&self, url: &Uri) -> Result<Tcp, Error> {
        let tcp = self.reach_with_any(url).await?;
        if !self.purpose.may_have(&tcp.inner().tcp) {
            return Err(Error::Unreachable(process::no_descriptors().into()));
        }
        Ok(tcp)
    }

    async fn reach_with_any(&self, url: &Uri) -> Result<Tcp, Error> {
        let host = undotted(url.host().unwrap_or_default());
        let own_port = if url.scheme() == Some(&Scheme::HTTP) {
            80
        } else {
            443
        };
        let port = url.port_u16().unwrap_or(own_port);
        if let Some(parent) = &self.parent
            && !self.policy.bypasses_parent(host, port)
        {
            self.policy.may_ask_parent(host).await.map_err(denied)?;
            // The tunnel takes a missing port for 443, whatever the scheme.
            let connecting = parent.clone().call(at(&format!("{host}:{port}"))?);
            let connected = connecting.await.map(socket);
            return connected.map_err(|error| match denial(&error) {
                Some(rule) => Error::NotAllowed(rule),
                None => Error::Parent(error.into()),
            });
        }
        let mut url = url.clone();
        if Spelling::of(host) != Spelling::Name {
            // The connector does not have an address resolved, so its resolver would not check it.
            let addresses = self.policy.addresses(host).await.map_err(denied)?;
            if let Some(address) = addresses.first() {
                url = at(&SocketAddr::new(*address, port).to_string())?;
            }
        }
        let connecting = self.direct.clone().call(url);
        let connected = connecting.await.map(socket);
        connected.map_err(|error| match denial(&error) {
            Some(rule) => Error::NotAllowed(rule),
            None => Error::Unreachable(error.into()),
        })
    }
}

fn tcp(limit: Duration, policy: DialPolicy) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(policy));
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(limit));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp
}

fn socket(connected: TokioIo<TcpStream>) -> Tcp {
    TokioIo::new(Socket::new(connected.into_inner()))
}

/// Connectors look at nothing but host and port.
fn at(authority: &str) -> Result<Uri, Error> {
    let url = format!("http://{authority}/").parse();
    url.map_err(|error: http::uri::InvalidUri| Error::Unreachable(error.into()))
}

fn speaks_nothing_offered(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(
            rustls::Error::NoApplicationProtocol
                | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        )
    )
}

fn denied(error: Denied) -> Error {
    match error {
        Denied::Rule(rule) => Error::NotAllowed(rule),
        Denied::Unresolved(error) => Error::Unreachable(error.into()),
    }
}

/// The rule that a [`Resolver`] refused all addresses for.
fn denial(error: &(dyn std::error::Error + 'static)) -> Option<Rule> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(Denied::Rule(rule)) = error.downcast_ref() {
            return Some(*rule);
        }
        cause = error.source();
    }
    None
}

/// Yields the addresses that may be connected to.
#[derive(Debug, Clone)]
struct Resolver(DialPolicy);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Denied;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Denied>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Denied>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = self.0.clone();
        Box::pin(async move {
            let addresses = policy.addresses(name.as_str()).await?;
            // The connector sets the port.
            let with_port = |address| SocketAddr::new(address, 0);
            Ok(addresses
                .into_iter()
                .map(with_port)
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}
