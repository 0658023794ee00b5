//! Spans of a request: its own, one for each sending, and one for each wait for a token.
//!
//! They are gathered while the request is under way, by nobody else than the request, and leave together when it is
//! over. What was begun and never ended, because the caller left perhaps, ends with the request.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use crate::context::SpanContext;
use crate::sampler::Sampled;
use crate::semantic as name;
use crate::span::{Attributes, Kind, ParentSpan, Span};
use bursar_base::clock;

/// Further ones of a request are left out; a request is sent ten times at most.
const MAX_CHILDREN: usize = 32;
/// Further flights that one wait was for are left out.
const MAX_LINKS: usize = 8;

/// Flights that a wait for a token was for.
#[derive(Debug, Default)]
pub struct Links(Vec<SpanContext>);

/// A request that is sampled, as far as it has come.
#[derive(Debug)]
pub struct RequestTrace {
    sampled: Sampled,
    /// When the request came, by both clocks.
    came: (Instant, SystemTime),
    method: &'static str,
    attributes: Attributes,
    /// How often it was sent before.
    sendings: u32,
    sending: Option<Sending>,
    waiting: Option<Waiting>,
    children: Vec<Span>,
}

/// What is known of a request when it is decided whether it is sampled.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// When it came.
    pub came: Instant,
    /// Its method.
    pub method: &'a Method,
    /// Which HTTP its caller speaks.
    pub version: Version,
    /// Whether its caller speaks TLS.
    pub is_tls: bool,
}

/// A server that a request is sent to.
#[derive(Debug)]
pub struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub is_tls: bool,
}

#[derive(Debug)]
struct Sending {
    since: Instant,
    server: Server,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    links: Links,
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Its status.
    pub status: StatusCode,
    /// Over which HTTP it came.
    pub version: Version,
}

/// Why there is no response, or no token, in words of closed vocabularies.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// In one word.
    pub error: &'static str,
    /// Why there was no connection, if that is why.
    pub cause: Option<&'static str>,
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct RequestEnd<'a> {
    /// Its id in the log.
    pub request_id: u128,
    /// Who sent it.
    pub caller: &'a str,
    /// From where.
    pub client: IpAddr,
    /// Whose API it is for; None: nobody's.
    pub provider: Option<&'a str>,
    /// The provider's account.
    pub account: Option<&'a str>,
    /// As the log names it.
    pub route: Option<&'a str>,
    /// The host that it asked for, where a provider has that.
    pub host: Option<&'a str>,
    /// None: no response was begun.
    pub status: Option<StatusCode>,
    /// Whether the response is Bursar's own.
    pub is_own: bool,
    /// Why Bursar responded, or cut the response off.
    pub reason: Option<&'static str>,
    /// In which sense.
    pub detail: Option<&'static str>,
    /// Why there was no connection.
    pub cause: Option<&'static str>,
    /// Whether it was sent a second time after a 401.
    pub is_replayed: bool,
}

impl Links {
    /// The wait was for that flight, too.
    pub fn add(&mut self, flight: SpanContext) {
        if self.0.len() < MAX_LINKS && !self.0.contains(&flight) {
            self.0.push(flight);
        }
    }
}

impl RequestTrace {
    pub(crate) fn new(sampled: Sampled, head: &RequestHead<'_>) -> Box<Self> {
        let method = name::known_method(head.method);
        let mut attributes = Attributes::default();
        attributes.add(name::METHOD, method);
        attributes.add(name::SCHEME, scheme(head.is_tls));
        let version = name::protocol_version(head.version);
        attributes.add(name::PROTOCOL_VERSION, version);
        let wall = clock::wall();
        let began = wall.checked_sub(head.came.elapsed()).unwrap_or(wall);
        Box::new(Self {
            sampled,
            came: (head.came, began),
            method,
            attributes,
            sendings: 0,
            sending: None,
            waiting: None,
            children: Vec::new(),
        })
    }

    /// The trace's id.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.sampled.context.trace_id
    }

    /// The request is sent to that server, which takes a connection first.
    pub fn begin_sending(&mut self, now: Instant, server: Server) {
        self.sending = Some(Sending { since: now, server });
    }

    /// That came of it; `peer` is the address that was connected to.
    pub fn end_sending(&mut self, result: Result<Received, Failed>, peer: Option<SocketAddr>) {
        let Some(Sending { since, server }) = self.sending.take() else {
            return;
        };
        let mut attributes = Attributes::default();
        attributes.add(name::METHOD, self.method);
        if self.sendings > 0 {
            attributes.add(name::RESEND_COUNT, self.sendings);
        }
        self.sendings += 1;
        describe_server(&mut attributes, server, peer);
        match result {
            Ok(Received { status, version }) => {
                let version = name::protocol_version(version);
                attributes.add(name::PROTOCOL_VERSION, version);
                attributes.add(name::STATUS, status.as_u16());
                if status.is_client_error() || status.is_server_error() {
                    attributes.fail(status.as_str().to_owned());
                }
            }
            Err(Failed { error, cause }) => {
                attributes.fail(error);
                attributes.add_some(name::CAUSE, cause);
            }
        }
        let title = name::in_name(self.method);
        self.add_child((Kind::Client, title), since, attributes, Links::default());
    }

    /// The request waits for a token. The flights that it waits for are to be added.
    pub fn begin_waiting(&mut self, now: Instant) -> &mut Links {
        let waiting = Waiting {
            since: now,
            links: Links::default(),
        };
        &mut self.waiting.insert(waiting).links
    }

    /// It has the token, or will not get one.
    pub fn end_waiting(&mut self, result: Result<(), Failed>) {
        let Some(Waiting { since, links }) = self.waiting.take() else {
            return;
        };
        let mut attributes = Attributes::default();
        if let Err(Failed { error, cause }) = result {
            attributes.fail(error);
            attributes.add_some(name::CAUSE, cause);
        }
        self.add_child((Kind::Internal, "wait for token"), since, attributes, links);
    }

    fn add_child(
        &mut self,
        (kind, title): (Kind, &'static str),
        since: Instant,
        attributes: Attributes,
        links: Links,
    ) {
        if self.children.len() >= MAX_CHILDREN {
            return;
        }
        let (came, wall) = self.came;
        self.children.push(Span {
            context: self.sampled.context.another(),
            parent: Some(ParentSpan {
                span_id: self.sampled.context.span_id,
                is_remote: false,
            }),
            kind,
            name: title.into(),
            start: wall + since.saturating_duration_since(came),
            took: since.elapsed(),
            attributes,
            links: links.0,
        });
    }

    /// All its spans.
    #[must_use]
    pub fn finish(mut self: Box<Self>, end: &RequestEnd<'_>, took: Duration) -> Vec<Span> {
        let error = end.reason.unwrap_or("caller_left");
        let left = Failed { error, cause: None };
        self.end_waiting(Err(left));
        self.end_sending(Err(left), None);
        let target = end.route.map(|route| match route.split_once(' ') {
            // The route's methods stand before its path.
            Some((_, path)) if path.starts_with('/') => path,
            _ => route,
        });
        let mut attributes = std::mem::take(&mut self.attributes);
        describe_end(&mut attributes, end, target);
        let title = name::in_name(self.method);
        let own = Span {
            context: self.sampled.context,
            parent: self.sampled.parent.map(|span_id| ParentSpan {
                span_id,
                is_remote: true,
            }),
            kind: Kind::Server,
            name: match target {
                Some(target) => format!("{title} {target}").into(),
                None => title.into(),
            },
            start: self.came.1,
            took,
            attributes,
            links: Vec::new(),
        };
        let mut spans = self.children;
        spans.push(own);
        spans
    }
}

fn describe_end(attributes: &mut Attributes, end: &RequestEnd<'_>, target: Option<&str>) {
    let text = |text: Option<&str>| text.map(str::to_owned);
    attributes.add_some(name::STATUS, end.status.map(|status| status.as_u16()));
    let template = target.filter(|target| target.starts_with('/'));
    attributes.add_some(name::ROUTE, text(template));
    attributes.add_some(name::SERVER_ADDRESS, text(end.host));
    attributes.add(name::CLIENT_ADDRESS, end.client.to_string());
    attributes.add(name::REQUEST_ID, format!("{:032x}", end.request_id));
    attributes.add(name::CALLER, end.caller.to_owned());
    attributes.add_some(name::PROVIDER, text(end.provider));
    attributes.add_some(name::ACCOUNT, text(end.account));
    attributes.add_some(name::OWN_ROUTE, text(end.route));
    attributes.add_some(name::REASON, end.reason);
    attributes.add_some(name::DETAIL, end.detail);
    attributes.add_some(name::CAUSE, end.cause);
    if end.is_replayed {
        attributes.add(name::REPLAYED, true);
    }
    let status = end.status.filter(StatusCode::is_server_error);
    match (end.reason, status) {
        // A response that is Bursar's own and blames its caller is no error of the server.
        (Some(reason), _) if status.is_some() || !end.is_own => attributes.fail(reason),
        (None, Some(status)) => attributes.fail(status.as_str().to_owned()),
        _ => {}
    }
}

/// Says which server a request goes to.
pub(crate) fn describe_server(
    attributes: &mut Attributes,
    server: Server,
    peer: Option<SocketAddr>,
) {
    attributes.add(name::SERVER_ADDRESS, server.host);
    attributes.add(name::SERVER_PORT, server.port);
    attributes.add(name::SCHEME, scheme(server.is_tls));
    if let Some(peer) = peer {
        attributes.add(name::PEER_ADDRESS, peer.ip().to_string());
        attributes.add(name::PEER_PORT, peer.port());
    }
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

#[cfg(test)]
mod tests;
