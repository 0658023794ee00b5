//! Connector: name, TCP, a parent proxy perhaps, and TLS to a stream, and which of them failed.
//!
//! It knows neither pools nor requests. Which addresses may be connected to is decided in
//! [`crate::upstream::egress`]. The log is told of what fails here, whoever wanted to connect.

mod cause;
mod error;
mod parent;
mod steps;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use self::error::BoxError;
pub use self::error::{Error, Failed, details};
pub use self::steps::{Step, Steps};
use super::egress::{Denied, DialPolicy, Egress};
use super::late_refusal::{self, Watch};
use super::peer::Peer;
use super::server_health::server_name;
use super::server_stream::ServerStream;
pub use super::server_stream::{Stream, Tcp, socket_of};
use bursar_base::address::{Rule, Spelling, bare, undotted};
use bursar_base::process::{self, Purpose};
use bursar_base::socket::Socket;
use bursar_config::{Http, ParentProxy, Provider, port_of};
use bursar_telemetry::metrics::Cause;
use bursar_tls::client::{self, Asked, Noticed};

/// Dead peers are noticed although nothing is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Connects with one TLS configuration.
#[derive(Debug, Clone)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    /// For all of it.
    limit: Duration,
    policy: DialPolicy,
    parent: Option<Arc<ParentProxy>>,
    /// What its file descriptors are for.
    purpose: Purpose,
}

/// A connection, and whose.
#[derive(Debug)]
pub struct Connected {
    stream: Stream,
    /// The server.
    pub peer: Arc<Peer>,
    /// None: the server cannot refuse the client any more.
    watch: Option<Box<Watch>>,
}

impl Connected {
    /// Whether the server has agreed to HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        match &self.stream {
            MaybeHttpsStream::Http(_) => false,
            MaybeHttpsStream::Https(stream) => {
                let (_, session) = stream.inner().get_ref();
                session.alpn_protocol() == Some(b"h2")
            }
        }
    }

    /// Whether TLS is spoken on it.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, MaybeHttpsStream::Https(_))
    }

    /// The version of TLS that is spoken, the certificate's end in seconds since 1970; None: none is.
    #[must_use]
    pub fn tls(&self) -> Option<(Option<ProtocolVersion>, Option<i64>)> {
        let MaybeHttpsStream::Https(stream) = &self.stream else {
            return None;
        };
        let (_, session) = stream.inner().get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        Some((session.protocol_version(), shown.and_then(client::expiry)))
    }

    /// Waits, where the server may still refuse the client, whether it does.
    ///
    /// # Errors
    /// Where it does, or ends the connection without a word.
    pub async fn confirmed(mut self) -> Result<Self, Box<Failed>> {
        let confirmed = match &mut self.stream {
            MaybeHttpsStream::Https(stream) if self.watch.is_some() => {
                let wait = late_refusal::LONGEST_WAIT;
                late_refusal::confirmed(stream.inner_mut(), wait).await
            }
            _ => Ok(true),
        };
        match confirmed {
            Ok(_) => Ok(self),
            Err(error) => Err(Box::new(Failed {
                error: Error::Tls {
                    source: error.into(),
                    asked: Asked::Lacking,
                },
                peer: self.peer,
            })),
        }
    }

    /// For requests.
    #[must_use]
    pub fn into_server_stream(self) -> ServerStream {
        ServerStream::new(self.stream, self.watch)
    }

    /// For a tunnel.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
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
        Self {
            tls,
            limit,
            policy,
            parent: parent.cloned(),
            purpose: Purpose::Request,
        }
    }

    /// To a provider's API, in what the provider's `http` offers.
    #[must_use]
    pub fn of_api(provider: &Provider, egress: &Egress) -> Self {
        let tls = match provider.http {
            Http::Http1 => &provider.tls.http1,
            Http::Http2 => &provider.tls.http2,
            Http::Auto => &provider.tls.api,
        };
        let limit = provider.timeouts.connect;
        Self::new(tls.clone(), limit, egress.api(provider), egress.api_proxy())
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
    pub async fn connect(&self, url: Uri) -> Result<Connected, Box<Failed>> {
        self.connect_by(&url, &Arc::default()).await
    }

    /// The same; `steps` say how far it has come.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_by(
        &self,
        url: &Uri,
        steps: &Arc<Steps>,
    ) -> Result<Connected, Box<Failed>> {
        let host = server_name(url);
        match tokio::time::timeout(self.limit, self.open(url, &host, steps)).await {
            Ok(opened) => opened.map_err(|error| self.failed(&host, steps, error)),
            Err(_elapsed) => Err(self.timed_out(url, steps)),
        }
    }

    /// Counts and tells that connecting took too long, and was given up at that step.
    pub fn timed_out(&self, url: &Uri, steps: &Steps) -> Box<Failed> {
        self.failed(&server_name(url), steps, Error::TimedOut(steps.step()))
    }

    fn failed(&self, host: &str, steps: &Steps, error: Error) -> Box<Failed> {
        if !error.lacks_descriptors() {
            self.policy.set_health(host, Some(error.cause()));
        }
        self.policy.failed(host, error.cause(), || error.details());
        let peer = Peer::new(host, steps.address());
        Box::new(Failed { error, peer })
    }

    /// A connection that was there is of no use after all: that is counted, and told to the log.
    pub fn complain(&self, peer: &Peer, cause: Cause, details: impl FnOnce() -> String) {
        self.policy.set_health(&peer.host, Some(cause));
        self.policy.failed(&peer.host, cause, details);
    }

    /// Why the last connection to a server could not be had, if it could not.
    #[must_use]
    pub fn last_cause(&self, url: &Uri) -> Option<Cause> {
        self.policy.cause(&server_name(url))
    }

    /// Tells the log that a connection to a host ended without TLS close_notify, before an answer was complete.
    pub fn complain_of_end(&self, host: &str) {
        self.policy.complain_of_end(host);
    }

    async fn open(&self, url: &Uri, host: &str, steps: &Arc<Steps>) -> Result<Connected, Error> {
        let tcp = self.reach_by(url, steps).await?;
        let peer = Peer::new(host, tcp.inner().tcp.peer_addr().ok());
        steps.connected(peer.address);
        if url.scheme() == Some(&Scheme::HTTP) {
            self.policy.set_health(host, None);
            return Ok(Connected {
                stream: MaybeHttpsStream::Http(tcp),
                peer,
                watch: None,
            });
        }
        steps.begin(Step::Tls);
        let (stream, is_taken) = self.shake_hands(url, tcp).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        // Of a session that is resumed it was looked at before.
        if session.handshake_kind() != Some(HandshakeKind::Resumed)
            && let Some(expiry) = shown.and_then(client::expiry)
        {
            self.policy.set_certificate(host, expiry);
        }
        let watch = match is_taken {
            true => {
                self.policy.set_health(host, None);
                None
            }
            false => Some(Box::new(Watch::new(&peer, &self.policy))),
        };
        Ok(Connected {
            stream: MaybeHttpsStream::Https(TokioIo::new(stream)),
            peer,
            watch,
        })
    }

    /// TLS, and whether the server has taken the client for good.
    async fn shake_hands(
        &self,
        url: &Uri,
        tcp: Tcp,
    ) -> Result<(TlsStream<TokioIo<Tcp>>, bool), Error> {
        let noticed = Noticed::default();
        let failed = |source: BoxError| Error::Tls {
            source,
            asked: noticed.asked(),
        };
        let host = undotted(url.host().unwrap_or_default());
        let name =
            ServerName::try_from(bare(host).to_owned()).map_err(|error| failed(error.into()))?;
        let began = Instant::now();
        let connecting = TlsConnector::from(self.tls.clone()).connect(name, TokioIo::new(tcp));
        let connected = noticed.during(connecting).await;
        let mut stream = connected.map_err(|error| match speaks_nothing_offered(&error) {
            true => Error::NoProtocol,
            false => failed(error.into()),
        })?;
        let (_, session) = stream.get_ref();
        let is_late = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let is_taken = match noticed.asked() {
            Asked::Lacking if is_late => {
                late_refusal::confirmed(&mut stream, began.elapsed()).await
            }
            asked => Ok(asked == Asked::Nothing || !is_late),
        };
        Ok((stream, is_taken.map_err(|error| failed(error.into()))?))
    }

    /// The same without TLS.
    ///
    /// # Errors
    /// Where no address is allowed, a parent proxy or TCP fails, or few file descriptors are left.
    pub async fn reach(&self, url: &Uri) -> Result<Tcp, Error> {
        self.reach_by(url, &Arc::default()).await
    }

    async fn reach_by(&self, url: &Uri, steps: &Arc<Steps>) -> Result<Tcp, Error> {
        let tcp = self.reach_with_any(url, steps).await?;
        if !self.purpose.may_have(&tcp.inner().tcp) {
            return Err(Error::Unreachable(process::no_descriptors().into()));
        }
        Ok(tcp)
    }

    async fn reach_with_any(&self, url: &Uri, steps: &Arc<Steps>) -> Result<Tcp, Error> {
        let host = undotted(url.host().unwrap_or_default());
        let port = port_of(url);
        if let Some(parent) = &self.parent
            && !self.policy.bypasses_parent(host, port)
        {
            self.policy.may_ask_parent(host).await.map_err(denied)?;
            steps.begin(Step::Parent);
            let target = format!("{host}:{port}");
            let tunnel = self.tunnel(parent, &target, steps).await;
            return tunnel.map(socket).map_err(|error| match denial(&error) {
                Some(rule) => Error::NotAllowed(rule),
                None => Error::Parent(error.into()),
            });
        }
        let mut url = url.clone();
        if Spelling::of(host) != Spelling::Name {
            // The connector does not have an address resolved, so its resolver would not check it.
            let addresses = self.policy.addresses(host).await.map_err(denied)?;
            steps.begin(Step::Tcp);
            if let Some(address) = addresses.first() {
                let address = SocketAddr::new(*address, port);
                steps.tries(&[address]);
                url = at(&address.to_string())?;
            }
        }
        let resolver = Resolver {
            policy: self.policy.clone(),
            port,
            next: Step::Tcp,
            steps: steps.clone(),
        };
        let connecting = tcp(self.limit, resolver).call(url);
        let connected = connecting.await.map(TokioIo::into_inner).map(socket);
        connected.map_err(|error| match denial(&error) {
            Some(rule) => Error::NotAllowed(rule),
            None => Error::Unreachable(error.into()),
        })
    }

    /// Through the parent proxy.
    async fn tunnel(
        &self,
        parent: &ParentProxy,
        target: &str,
        steps: &Arc<Steps>,
    ) -> Result<TcpStream, parent::Error> {
        let (host, port) = (parent.url.host(), parent.url.port_u16().unwrap_or(80));
        // What is a literal is not resolved.
        let literal = host.and_then(|host| bare(host).parse().ok());
        let literal = literal.map(|address| SocketAddr::new(address, port));
        steps.tries(literal.as_slice());
        let resolver = Resolver {
            policy: self.policy.to_parent(parent),
            port,
            next: Step::Parent,
            steps: steps.clone(),
        };
        let reached = tcp(self.limit, resolver).call(parent.url.clone()).await;
        let stream = reached.map_err(|error| parent::Error::Unreachable(error.into()))?;
        parent::connect(stream.into_inner(), target, parent.authorization.as_ref()).await
    }
}

fn tcp(limit: Duration, resolver: Resolver) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(limit));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp
}

fn socket(connected: TcpStream) -> Tcp {
    TokioIo::new(Socket::new(connected))
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
struct Resolver {
    policy: DialPolicy,
    port: u16,
    /// What follows when the addresses are there.
    next: Step,
    steps: Arc<Steps>,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Denied;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Denied>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Denied>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self {
            policy,
            port,
            next,
            steps,
        } = self.clone();
        Box::pin(async move {
            let addresses = policy.addresses(name.as_str()).await?;
            steps.begin(next);
            let addresses = addresses.into_iter();
            let addresses = addresses.map(|address| SocketAddr::new(address, port));
            let addresses: Vec<SocketAddr> = addresses.collect();
            steps.tries(&addresses);
            // The connector sets the port once more.
            Ok(addresses.into_iter())
        })
    }
}
