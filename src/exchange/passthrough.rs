//! Passthrough to hosts that are no provider's: no token, and nothing looked at.
//!
//! It knows the list and how to get there. A provider's host is never in it; the configuration sees to
//! that.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::request::Parts;
use http::uri::Scheme;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::exchange::request_body::{CallerBody, Connection, RequestBody, Upstream};
use crate::upstream::connect::{Connector, Stream};
use crate::upstream::egress::Egress;
use crate::upstream::{ConnectError, Need, OutgoingRequest, Peer, SendError};
use bursar_config::{self as config, Config, Host, Origin, Timeouts};
use bursar_http::headers::{self, Via};
use bursar_http::lingering_body::LingeringBody;
use bursar_http::replay_body::{BodyTooLarge, ReplayBody, ReplayLimits, ReplayMemory};
use bursar_http::target::{Form, Target};
use bursar_telemetry::metrics::{Cause, Counted, Metrics, NO_PROVIDER};

/// The same as a provider's, where that is not configured.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    head: Duration::from_secs(60),
    idle: Duration::from_secs(60),
    pool_idle: Duration::from_secs(30),
    pool_age: Duration::from_secs(600),
};

/// The list.
#[derive(Debug)]
pub struct Passthrough {
    rules: Vec<Rule>,
    upstream: Arc<Upstream>,
    tunnels: Arc<Semaphore>,
    via: Via,
    /// No body is sent twice.
    nothing_kept: Arc<ReplayMemory>,
}

/// One entry of the list.
#[derive(Debug)]
pub struct Rule {
    /// What logs call it, e.g. `passthrough *.sentry.io`.
    pub name: Arc<str>,
    rule: config::Passthrough,
}

/// What a tunnel holds while it is open.
#[derive(Debug)]
pub struct TunnelPermit {
    _permit: OwnedSemaphorePermit,
    _open: Counted,
}

/// A request in clear, apart from where it goes.
#[derive(Debug)]
pub struct Message {
    outgoing: OutgoingRequest,
    /// None: it has no body.
    pub body: Option<CallerBody>,
}

/// What came of a request in clear.
#[derive(Debug)]
pub struct Sent {
    /// The response, and the connection that it comes on.
    pub response: Result<(Box<Response<Incoming>>, Connection), Error>,
    /// Until then.
    pub took: Duration,
}

/// Why there is no tunnel, or no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are as many as there may be.
    #[error("there are too many tunnels")]
    TooMany,
    /// The server cannot be reached.
    #[error("the server cannot be reached")]
    Connect(#[from] ConnectError),
    /// Sent, perhaps, and not answered.
    #[error("the request was not answered")]
    Send(#[from] SendError),
}

impl Passthrough {
    /// None where nothing is listed. `tunnels` are all that may be open; `via` is this instance.
    #[must_use]
    pub fn new(
        config: &Config,
        metrics: &Metrics,
        egress: &Egress,
        tunnels: &Arc<Semaphore>,
        via: &Via,
    ) -> Option<Self> {
        if config.passthrough.is_empty() {
            return None;
        }
        // Of no use here, because what is not opaque goes on in clear.
        let tls = config.providers.first()?.tls.api.clone();
        let exact = config.passthrough.iter().filter(|rule| !rule.host.wildcard);
        let policy = egress.dial_policy(&NO_PROVIDER.into(), exact.map(|rule| &*rule.host.name));
        let connector = Connector::new(tls, TIMEOUTS.connect, policy, egress.api_proxy());
        let name = |rule: &config::Passthrough| format!("passthrough {}", rule.host).into();
        let rules = config.passthrough.iter().map(|rule| Rule {
            name: name(rule),
            rule: rule.clone(),
        });
        Some(Self {
            rules: rules.collect(),
            upstream: Arc::new(Upstream::foreign(connector, TIMEOUTS, metrics)),
            tunnels: tunnels.clone(),
            via: via.clone(),
            nothing_kept: ReplayMemory::new(0),
        })
    }

    /// The entry that lets that caller there.
    #[must_use]
    pub fn rule(&self, host: &str, port: u16, caller: &str) -> Option<&Rule> {
        let is_it =
            |rule: &config::Passthrough| rule.ports.contains(&port) && rule.host.matches(host);
        let mut rules = self.rules_of(caller);
        rules.find(|rule| is_it(&rule.rule))
    }

    fn rules_of(&self, caller: &str) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |Rule { rule, .. }| {
            let callers = rule.callers.as_ref();
            callers.is_none_or(|callers| callers.iter().any(|name| **name == *caller))
        })
    }

    /// What that caller may reach.
    pub fn hosts(&self, caller: &str) -> impl Iterator<Item = &Host> {
        self.rules_of(caller).map(|rule| &rule.rule.host)
    }

    /// The entry that lets a request there that asks for a listed host in so many words: in clear, and in proxy form.
    #[must_use]
    pub fn listed(&self, caller: &str, target: &Target<'_>, head: &Parts) -> Option<&Rule> {
        if target.form != Form::Absolute || head.uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        self.rule(target.host, target.port, caller)
    }

    /// How requests in clear get there.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// A request in clear as it goes on.
    pub fn prepare(&self, head: &mut Parts, body: LingeringBody) -> Message {
        let cleaned = headers::clean_foreign_request(&mut head.headers);
        self.via.append(&mut head.headers, head.version);
        let keeping = ReplayLimits {
            buffer: 0,
            memory: self.nothing_kept.clone(),
        };
        Message {
            outgoing: OutgoingRequest::new(head),
            body: ReplayBody::new(body, cleaned, keeping),
        }
    }

    /// Sends a request in clear: once, and without a token.
    pub async fn send(&self, origin: &Origin, message: Message) -> Sent {
        let Message { outgoing, body } = message;
        let upload = RequestBody::next(body.as_ref());
        let since = Instant::now();
        let response = match upload {
            Ok(upload) => {
                self.send_once(origin, outgoing, body.as_ref(), upload)
                    .await
            }
            Err(BodyTooLarge) => Err(Error::TooMany),
        };
        Sent {
            response,
            took: since.elapsed(),
        }
    }

    async fn send_once(
        &self,
        origin: &Origin,
        outgoing: OutgoingRequest,
        body: Option<&CallerBody>,
        upload: RequestBody,
    ) -> Result<(Box<Response<Incoming>>, Connection), Error> {
        let now = Instant::now();
        let connected = self.upstream.connection(origin, Need::default(), now).await;
        let (mut connection, now) = connected?;
        let request = outgoing.request(&connection, None, upload);
        let sending = pin!(connection.send(request));
        let response = self.upstream.response(&mut connection, sending, body, now);
        let response = response.await?;
        Ok((response, connection))
    }

    /// A connection for a tunnel.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(Stream, Arc<Peer>, TunnelPermit), Error> {
        let permit = self.tunnels.clone().try_acquire_owned();
        let permit = permit.map_err(|_none_left| Error::TooMany)?;
        let origin = origin(host, port);
        let origin = origin.ok_or(Error::Connect(Cause::Unreachable.into()))?;
        let (stream, peer, open) = self.upstream.connect(&origin).await?;
        let held = TunnelPermit {
            _permit: permit,
            _open: open,
        };
        Ok((stream, peer, held))
    }
}

/// Where a request in clear goes that asks for that target.
#[must_use]
pub fn origin_of(target: &Target<'_>) -> Option<Origin> {
    let origin = origin(target.host, target.port)?;
    Some(Origin {
        is_complete: target.is_complete,
        ..origin
    })
}

/// A server in clear.
fn origin(host: &str, port: u16) -> Option<Origin> {
    Origin::new(Scheme::HTTP, host, port).ok()
}
