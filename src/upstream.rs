//! Upstream: a provider's servers, pooled connections to them, one sending of a request, and what became of it.
//!
//! A failure is told apart by what the provider may have seen: [`SendError::Unsent`] may
//! go out again on another connection; after anything else it must not, because it may have been
//! acted upon. Nothing here sends a request twice.

mod circuit_breaker;
pub mod connect;
mod connect_error;
mod connection;
pub mod egress;
mod fields;
mod frames;
mod late_refusal;
mod lifetime;
mod lookups;
mod outgoing_request;
mod peer;
mod pool;
mod send_error;
mod server_health;
mod server_stream;
mod streams;
mod upload;

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use bursar_config::{Http, Origin, Provider, Timeouts};
use bursar_http::replay_body::{Progress, ReplayBody};
use bursar_telemetry::metrics::{Cause, Connections, Counted, Metrics, NO_PROVIDER};
use circuit_breaker::{Permit, ProviderBreaker};
use connect::{Connected, Connector, Stream, details};
pub use connect_error::ConnectError;
pub use connection::{Connection, RequestBody, Sent};
use egress::Egress;
pub use outgoing_request::{OutgoingRequest, SavedRequest};
pub use peer::Peer;
use pool::{Open, Pool};
pub use send_error::SendError;
pub use server_health::{ServerHealth, server_name};
pub use server_stream::ServerStream;
pub use streams::Need;
pub use upload::UploadBody;

/// How often a request goes to another connection because it was certainly not processed on the last one.
pub const MAX_UNSENT: usize = 4;

/// How often is looked whether a half-open breaker's one request waits for its caller.
const HALF_OPEN_LOOK: Duration = Duration::from_secs(1);

/// One provider's servers, and one worker's connections to them.
#[derive(Debug)]
pub struct Upstream<B> {
    pool: Arc<Pool<B>>,
    connector: Connector,
    /// Offers nothing but HTTP/1.1.
    http1_connector: Connector,
    http: Http,
    timeouts: Timeouts,
    connections: Connections,
    /// None: it is tried however often it failed.
    breaker: Option<ProviderBreaker>,
    /// Whether a connection may carry requests of several callers.
    is_shared: bool,
}

impl<B: RequestBody> Upstream<B> {
    /// Connects to a provider as its configuration says.
    #[must_use]
    pub fn new(provider: &Provider, metrics: &Metrics, egress: &Egress) -> Self {
        // The series is there from the start, and stays at 0 without a breaker.
        let open = metrics.upstream_breaker_open(&provider.name);
        let tls = &provider.tls;
        let connector = Connector::of_api(provider, egress);
        Self {
            breaker: provider
                .breaker
                .map(|limits| ProviderBreaker::new(&provider.name, limits, open)),
            pool: Pool::new(&provider.timeouts, &metrics.dropped_fields(&provider.name)),
            http1_connector: connector.with_tls(&tls.http1),
            connector,
            http: provider.http,
            timeouts: provider.timeouts,
            connections: metrics.connections.clone(),
            is_shared: true,
        }
    }

    /// One for each worker. They share all but their connections, each of which is driven by the worker
    /// that opened it.
    #[must_use]
    pub fn for_each(self, workers: usize) -> Arc<[Arc<Self>]> {
        let for_another = |_| Self {
            pool: self.pool.another(),
            connector: self.connector.clone(),
            http1_connector: self.http1_connector.clone(),
            connections: self.connections.clone(),
            breaker: self.breaker.clone(),
            ..self
        };
        let others: Vec<Self> = (1..workers).map(for_another).collect();
        let all = std::iter::once(self).chain(others);
        all.map(Arc::new).collect()
    }

    /// Whether its connections are as good for one provider as for the other, where `egress` is the same.
    #[must_use]
    pub fn serves_both(one: &Provider, other: &Provider) -> bool {
        one.timeouts == other.timeouts
            && one.tls == other.tls
            && one.upstream == other.upstream
            && one.hosts == other.hosts
            && one.breaker == other.breaker
            && one.http == other.http
    }

    /// Servers that are no provider's. Each request has a connection of its own, because credentials of
    /// its caller may stick to that.
    #[must_use]
    pub fn foreign(connector: Connector, timeouts: Timeouts, metrics: &Metrics) -> Self {
        Self {
            pool: Pool::new(&timeouts, &metrics.dropped_fields(NO_PROVIDER)),
            http1_connector: connector.clone(),
            connector,
            http: Http::Http1,
            timeouts,
            connections: metrics.connections.clone(),
            breaker: None,
            is_shared: false,
        }
    }

    /// An idle connection, or a new one, and when it was there.
    ///
    /// # Errors
    /// Where there is none to be had in time.
    pub async fn connection(
        &self,
        origin: &Origin,
        need: Need,
        now: Instant,
    ) -> Result<(Connection<B>, Instant), ConnectError> {
        let permit = match self.breaker.as_ref().map(|breaker| breaker.acquire(now)) {
            Some(acquired) => Some(acquired.map_err(|wait| self.held(origin, wait))?),
            None => None,
        };
        let need = Need {
            is_alone: need.moves_money && self.http == Http::Auto,
            ..need
        };
        if !need.is_new
            && let Some(mut connection) = self.pool.take(origin, need, now)
        {
            connection.permit = permit;
            return Ok((connection, now));
        }
        // Apart, so that a request that finds a connection does not carry room for making one.
        let mut connected = Box::pin(self.open(origin, need)).await;
        match &mut connected {
            Ok(connection) => connection.permit = permit,
            Err(error) if error.is_own() => {}
            Err(_) => self.record(permit, false),
        }
        Ok((connected?, Instant::now()))
    }

    #[cold]
    fn held(&self, origin: &Origin, wait: Duration) -> ConnectError {
        let url = origin.url();
        ConnectError::Held {
            wait,
            last: url.as_ref().and_then(|url| self.connector.last_cause(url)),
            peer: url.map(|url| Peer::new(&server_name(&url), None)),
        }
    }

    /// A new connection for a request. A server that closes one before it has agreed to speak HTTP on it has seen no
    /// request, so another one is tried.
    async fn open(&self, origin: &Origin, need: Need) -> Result<Connection<B>, ConnectError> {
        let end = Instant::now() + self.timeouts.connect;
        let mut last = None;
        for _ in 0..=MAX_UNSENT {
            let wants_http1 = self.http == Http::Auto && self.pool.wants_http1(origin);
            let connector = match wants_http1 {
                true => &self.http1_connector,
                false => &self.connector,
            };
            let dialing = self.dial(connector, origin);
            let dialed = match last {
                // It has that limit itself, and can say what took so long.
                None => dialing.await,
                Some(_) => match tokio::time::timeout_at(end, dialing).await {
                    Ok(dialed) => dialed,
                    Err(_elapsed) => break,
                },
            };
            let (connected, counted) = dialed?;
            let is_http2 = self.is_http2(connector, &connected)?;
            let peer = connected.peer.clone();
            let open = Open {
                counted,
                peer: peer.clone(),
            };
            let stream = connected.into_server_stream();
            let opening = async {
                match is_http2 {
                    true => {
                        let stream = TokioIo::new(stream);
                        self.pool.open_http2(origin, stream, open, need).await
                    }
                    false => self.pool.open_http1(origin, stream, open).await,
                }
            };
            let error = match tokio::time::timeout_at(end, opening).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_elapsed) => {
                    let cause = Cause::TimedOut;
                    connector.complain(&peer, cause, || {
                        "it took too long to begin with HTTP".to_owned()
                    });
                    return Err(ConnectError::of(cause, &peer));
                }
            };
            if peer.is_refused() {
                return Err(ConnectError::of(Cause::TlsClientCertificate, &peer));
            }
            tracing::debug!(host = &*peer.host, error = %details(&error), "upstream handshake failed");
            last = Some((error, peer));
        }
        let (source, peer) = last.ok_or(Cause::Unreachable)?;
        self.connector
            .complain(&peer, Cause::Reset, || details(&source));
        Err(ConnectError::Closed {
            source: source.into(),
            peer,
        })
    }

    /// Whether HTTP/2 is spoken on a new connection.
    fn is_http2(&self, connector: &Connector, connected: &Connected) -> Result<bool, ConnectError> {
        // Without TLS the server has to know before (RFC 9113 section 3.3).
        if !connected.is_tls() {
            return Ok(self.http == Http::Http2);
        }
        let is_http2 = connected.is_http2();
        if self.http == Http::Http2 && !is_http2 {
            let peer = &connected.peer;
            connector.complain(peer, Cause::TlsOther, || {
                "the server does not agree to HTTP/2".to_owned()
            });
            return Err(ConnectError::NoHttp2(peer.clone()));
        }
        Ok(is_http2)
    }

    /// The provider takes that request, and others after it, over HTTP/1.1 alone; whether it may have it so.
    pub fn use_http1(&self, origin: &Origin) -> bool {
        if self.http == Http::Auto {
            self.pool.use_http1(origin);
        }
        self.http == Http::Auto
    }

    /// Whether requests are refused because the provider cannot be reached.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.breaker.as_ref().is_some_and(ProviderBreaker::is_open)
    }

    /// A new connection without HTTP on it, counted while the second value lives.
    ///
    /// # Errors
    /// Where there is none to be had in time.
    pub async fn connect(
        &self,
        origin: &Origin,
    ) -> Result<(Stream, Arc<Peer>, Counted), ConnectError> {
        let (connected, counted) = self.dial(&self.connector, origin).await?;
        let peer = connected.peer.clone();
        Ok((connected.into_stream(), peer, counted))
    }

    async fn dial(
        &self,
        connector: &Connector,
        origin: &Origin,
    ) -> Result<(Connected, Counted), ConnectError> {
        let url = origin.url();
        let url = url.ok_or(Cause::Unreachable)?;
        let connected = connector.connect(url).await.map_err(|failed| {
            let connect::Failed { error, peer } = *failed;
            match error {
                connect::Error::NoProtocol if self.http == Http::Http2 => {
                    ConnectError::NoHttp2(peer)
                }
                error if error.lacks_descriptors() => ConnectError::NoDescriptors(peer),
                error => ConnectError::Failed {
                    cause: error.cause(),
                    peer: Some(peer),
                    source: Some(error.into()),
                },
            }
        })?;
        Ok((connected, Counted::new(&self.connections.upstream)))
    }

    /// Waits for the head of the response to a request with that body, which a connection was given at
    /// `started`.
    ///
    /// # Errors
    /// Told apart by what the provider may have seen.
    pub async fn response<S>(
        &self,
        connection: &mut Connection<B>,
        sending: Pin<&mut impl Future<Output = Sent<B>>>,
        body: Option<&ReplayBody<S>>,
        started: Instant,
    ) -> Result<Box<Response<Incoming>>, SendError> {
        let mut permit = connection.permit.take();
        let waiting = self.wait_for_head(connection, sending, body, started, &mut permit);
        let mut response = waiting.await;
        if matches!(response, Err(SendError::TimedOut)) {
            self.pool.distrust(connection.origin());
            if connection.abandon() {
                response = Err(SendError::TimedOutUnsent);
            }
        }
        if matches!(
            response,
            Err(SendError::Unsent | SendError::Broken | SendError::NoCloseNotify)
        ) && connection.is_refused()
        {
            response = Err(SendError::ClientRefused);
        }
        if matches!(response, Err(SendError::NoCloseNotify)) {
            self.complain_of_end(connection);
        }
        match &response {
            Ok(_) => self.record(permit, true),
            Err(
                SendError::Broken
                | SendError::NoCloseNotify
                | SendError::ClientRefused
                | SendError::TimedOut
                | SendError::TimedOutUnsent,
            ) => self.record(permit, false),
            // The caller's doing, or not tried at all.
            Err(_) => {}
        }
        response
    }

    /// The provider answered, or could not be reached.
    fn record(&self, permit: Option<Permit>, is_reached: bool) {
        if let (Some(breaker), Some(permit)) = (&self.breaker, permit) {
            breaker.record(permit, is_reached);
        }
    }

    async fn wait_for_head<S>(
        &self,
        connection: &mut Connection<B>,
        mut sending: Pin<&mut impl Future<Output = Sent<B>>>,
        body: Option<&ReplayBody<S>>,
        started: Instant,
        permit: &mut Option<Permit>,
    ) -> Result<Box<Response<Incoming>>, SendError> {
        // What is waited for changes while nobody looks, so no look is further away than either limit:
        // whichever limit begins after a look cannot be over before the next.
        let mut shorter = self.timeouts.head.min(self.timeouts.idle);
        if permit.as_ref().is_some_and(Permit::is_half_open) {
            shorter = shorter.min(HALF_OPEN_LOOK);
        }
        let Connection { sender, timer, .. } = connection;
        let mut stalled = timer.by(started + shorter);
        loop {
            // Not `select!`: that would move the answer more often.
            let looked = poll_fn(|context| match sending.as_mut().poll(context) {
                Poll::Ready(sent) => Poll::Ready(Some(sender.classify_outcome(sent))),
                Poll::Pending => stalled.as_mut().poll(context).map(|()| None),
            });
            if let Some(outcome) = looked.await {
                return outcome.map_err(|error| match body.map(ReplayBody::progress) {
                    // HTTP/2 does not say so in its error.
                    Some(Progress::CallerFailed) => SendError::CallerGone,
                    _ => error,
                });
            }
            let now = Instant::now();
            if let Some(Progress::AwaitingCaller(_)) = body.map(ReplayBody::progress) {
                // A slow caller says nothing about the provider, and everybody else would wait for it.
                permit.take_if(|permit| permit.is_half_open());
            }
            let again = self.look_again(body, started);
            if again > now {
                stalled.as_mut().reset(again.min(now + shorter));
                continue;
            }
            return Err(match body.map(ReplayBody::progress) {
                Some(Progress::AwaitingCaller(_)) => SendError::CallerStalled,
                _ => SendError::TimedOut,
            });
        }
    }

    /// How long bytes of an answer's body may keep away.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        self.timeouts.idle
    }

    /// Tells the log, where that is so, that an answer was cut off because TLS ended without close_notify.
    pub fn broke_off(&self, connection: &Connection<B>, error: &(dyn Error + 'static)) {
        if connect::lacks_close_notify(error) {
            self.complain_of_end(connection);
        }
    }

    fn complain_of_end(&self, connection: &Connection<B>) {
        let host = connection.peer().map_or("", |peer| &*peer.host);
        self.connector.complain_of_end(host);
    }

    /// Keeps a connection for the next request, once its answer was read to the end.
    pub fn give_back(&self, connection: Connection<B>) {
        if self.is_shared {
            self.pool.give_back(connection);
        }
    }

    /// When the request has stalled if nothing happens until then: `timeouts.head` counts from the last
    /// byte of the body, `timeouts.idle` between its bytes.
    fn look_again<S>(&self, body: Option<&ReplayBody<S>>, started: Instant) -> Instant {
        match body.map(ReplayBody::progress) {
            None => started + self.timeouts.head,
            Some(Progress::Ended(at)) => at.max(started) + self.timeouts.head,
            Some(Progress::AwaitingCaller(since) | Progress::AwaitingProvider(since)) => {
                since.max(started) + self.timeouts.idle
            }
            // The sending ends with an error by itself; this only bounds it.
            Some(Progress::CallerFailed) => started + self.timeouts.head,
        }
    }
}

#[cfg(test)]
mod tests;
