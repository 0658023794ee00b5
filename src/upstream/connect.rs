//! Connector: name, TCP, a parent proxy perhaps, and TLS to a stream, and which of them failed.
//!
//! It knows neither pools nor requests. Which addresses may be connected to is decided in
//! [`crate::upstream::egress`]. The log is told of what fails here, whoever wanted to connect.

mod addresses;
mod cause;
mod error;
mod parent;
mod steps;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::addresses::{at_port, others, resolved_host};
use self::error::BoxError;
pub use self::error::{Error, Failed, Step, details};
use self::steps::Failure;
pub use self::steps::Steps;
use super::egress::{Denied, DialPolicy, Egress};
use super::late_refusal::{self, Watch};
use super::peer::Peer;
use super::server_health::server_name;
use super::server_stream::ServerStream;
pub use super::server_stream::{Stream, Tcp, socket_of};
use bursar_base::address::{bare, undotted};
use bursar_base::process::{self, Purpose};
use bursar_base::socket::Socket;
use bursar_config::{Http, ParentProxy, Provider, port_of};
use bursar_telemetry::metrics::Cause;
use bursar_tls::client::{self, Asked, Noticed};

/// A TLS handshake that takes longer has the next address tried beside it.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Uses that TLS configuration for `https` addresses. `limit` is for a whole connection, whatever number of
    /// addresses is tried; one that hangs does not keep the others from being tried.
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

    /// Connects to the URL's host and port; all allowed addresses of the name are tried until TLS is done with one of
    /// them, in TCP both families at once (RFC 8305). A dot at the end of the name is for resolving alone.
    ///
    /// # Errors
    /// Where no address is allowed, or a parent proxy, TCP or TLS fails.
    pub async fn connect(&self, url: Uri) -> Result<Connected, Box<Failed>> {
        self.connect_by(&url, &Steps::default()).await
    }

    /// The same; `steps` say how far it has come.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_by(&self, url: &Uri, steps: &Steps) -> Result<Connected, Box<Failed>> {
        let host = server_name(url);
        match tokio::time::timeout(self.limit, self.open(url, &host, steps)).await {
            Ok(opened) => opened.map_err(|last| match steps.first_failure() {
                Some(first) if first.1 != last.1 => {
                    self.complain_of_address(&host, &last);
                    self.failed(&host, first)
                }
                _ => self.failed(&host, last),
            }),
            Err(_elapsed) => Err(self.timed_out(url, steps)),
        }
    }

    /// Counts and tells that connecting took too long, and was given up at that step. Where an address had failed
    /// before, it is told as that.
    pub fn timed_out(&self, url: &Uri, steps: &Steps) -> Box<Failed> {
        let host = server_name(url);
        let error = Error::TimedOut(steps.step());
        match steps.first_failure() {
            Some(first) => {
                self.complain_of_address(&host, &(error, None));
                self.failed(&host, first)
            }
            None => self.failed(&host, (error, steps.address())),
        }
    }

    fn failed(&self, host: &str, (error, address): Failure) -> Box<Failed> {
        if !error.lacks_descriptors() {
            self.policy.set_health(host, Some(error.cause()));
        }
        self.policy.failed(host, error.cause(), || error.details());
        let peer = Peer::new(host, address);
        Box::new(Failed { error, peer })
    }

    /// One of several addresses failed.
    fn complain_of_address(&self, host: &str, (error, address): &Failure) {
        self.policy
            .address_failed(host, *address, error.cause(), || error.details());
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

    async fn open(&self, url: &Uri, host: &str, steps: &Steps) -> Result<Connected, Failure> {
        let end = Instant::now() + self.limit;
        if let Some(parent) = self.parent_of(url) {
            let tcp = self.through_parent(parent, url, steps).await;
            let tcp = tcp.map_err(|error| (error, steps.address()))?;
            return self.begin(url, host, tcp, steps).await;
        }
        let addresses = self.policy.addresses(resolved_host(url)).await;
        let addresses = addresses.map_err(|error| (denied(error), None))?;
        let addresses = at_port(addresses, port_of(url));
        steps.tries(&addresses);
        let dialing = Dialing {
            url,
            host,
            end,
            steps,
        };
        self.open_any(dialing, addresses).await
    }

    /// To one of these addresses. Nothing of a request is sent before TLS is done, so where that fails the others are
    /// tried, and where it is slow they are tried beside it.
    fn open_any<'a>(
        &'a self,
        dialing: Dialing<'a>,
        addresses: Vec<SocketAddr>,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let Dialing {
                url,
                host,
                end,
                steps,
            } = dialing;
            steps.begin(Step::Tcp);
            let tcp = self.reach(&addresses, end).await?;
            let address = tcp.inner().tcp.peer_addr().ok();
            let others = others(addresses, address);
            let mut opening = pin!(self.begin(url, host, tcp, steps));
            if others.is_empty() {
                return opening.await;
            }
            match tokio::time::timeout(PATIENCE.min(self.limit / 2), &mut opening).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(failure)) => {
                    self.note_failure(host, steps, failure);
                    return self.open_any(dialing, others).await;
                }
                Err(_elapsed) => {
                    self.note_failure(host, steps, (Error::TimedOut(Step::Tls), address));
                }
            }
            let mut others = self.open_any(dialing, others);
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(connected) => Ok(connected),
                    Err(failure) => {
                        self.note_failure(host, steps, failure);
                        others.await
                    }
                },
                opened = &mut others => match opened {
                    Ok(connected) => Ok(connected),
                    Err(failure) => {
                        self.note_failure(host, steps, failure);
                        opening.await
                    }
                },
            }
        })
    }

    /// An address failed, or is slow, and another one is tried.
    fn note_failure(&self, host: &str, steps: &Steps, failure: Failure) {
        self.complain_of_address(host, &failure);
        steps.failed(failure);
    }

    /// What a connection begins with that TCP has made.
    async fn begin(
        &self,
        url: &Uri,
        host: &str,
        tcp: Tcp,
        steps: &Steps,
    ) -> Result<Connected, Failure> {
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
        let shaken = self.shake_hands(url, tcp).await;
        let (stream, is_taken) = shaken.map_err(|error| (error, peer.address))?;
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

    /// TCP to one of these addresses.
    async fn reach(&self, addresses: &[SocketAddr], end: Instant) -> Result<Tcp, Failure> {
        let limit = end.saturating_duration_since(Instant::now());
        let error = match addresses::connect(addresses, limit).await {
            Ok(stream) if self.purpose.may_have(&stream) => return Ok(socket(stream)),
            Ok(_) => process::no_descriptors().into(),
            Err(error) => error,
        };
        // Of several nobody knows which one the error is of.
        let address = match addresses {
            [only] => Some(*only),
            _ => None,
        };
        Err((Error::Unreachable(error), address))
    }

    /// None: it is not reached through one.
    fn parent_of(&self, url: &Uri) -> Option<&ParentProxy> {
        let host = undotted(url.host().unwrap_or_default());
        let parent = self.parent.as_deref();
        parent.filter(|_| !self.policy.bypasses_parent(host, port_of(url)))
    }

    async fn through_parent(
        &self,
        parent: &ParentProxy,
        url: &Uri,
        steps: &Steps,
    ) -> Result<Tcp, Error> {
        let host = undotted(url.host().unwrap_or_default());
        self.policy.may_ask_parent(host).await.map_err(denied)?;
        steps.begin(Step::Parent);
        let addresses = match parent.url.host().and_then(|host| bare(host).parse().ok()) {
            // What is a literal is not judged.
            Some(literal) => Ok(vec![literal]),
            None => {
                let host = parent.url.host().unwrap_or_default();
                self.policy.to_parent(parent).addresses(host).await
            }
        };
        let failed = |error: BoxError| Error::Parent(parent::Error::Unreachable(error).into());
        let addresses = addresses.map_err(|error| match error {
            Denied::Rule(rule) => Error::NotAllowed(rule),
            error => failed(error.into()),
        })?;
        let addresses = at_port(addresses, parent.url.port_u16().unwrap_or(80));
        steps.tries(&addresses);
        let reached = addresses::connect(&addresses, self.limit).await;
        let stream = reached.map_err(failed)?;
        if !self.purpose.may_have(&stream) {
            return Err(Error::Unreachable(process::no_descriptors().into()));
        }
        let target = format!("{host}:{}", port_of(url));
        let tunnel = parent::connect(stream, &target, parent.authorization.as_ref()).await;
        tunnel
            .map(socket)
            .map_err(|error| Error::Parent(error.into()))
    }
}

/// What a connection to one of several addresses has in common with one to another.
#[derive(Clone, Copy)]
struct Dialing<'a> {
    url: &'a Uri,
    host: &'a str,
    end: Instant,
    steps: &'a Steps,
}

fn socket(connected: TcpStream) -> Tcp {
    TokioIo::new(Socket::new(connected))
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
        error => Error::Unreachable(error.into()),
    }
}
