//! Spans of a token flight: a trace of its own, because many requests may wait for one, and those of different traces.
//!
//! A flight is sampled where one of those who wait is, which is known only while it is under way. Its calls are kept
//! until its end, in place; who joins for a sampled request fixes the flight's context, under the lock under which the
//! flight ends, so that nobody links to a flight that is not sampled.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::context::SpanContext;
use crate::request::{Server, describe_server};
use crate::semantic as name;
use crate::span::{Attributes, Kind, ParentSpan, Span};
use bursar_base::address::bare;
use bursar_base::clock;

/// Calls of one flight: with the refresh token and with client credentials, each with two secrets. Further ones are left
/// out.
const MAX_CALLS: usize = 4;

/// A flight, as far as it has come.
#[derive(Debug)]
pub struct FlightTrace {
    began: Instant,
    /// Set: it is sampled.
    context: OnceLock<SpanContext>,
    calls: Mutex<[Option<TokenCall>; MAX_CALLS]>,
}

/// A call to a token endpoint that is over.
#[derive(Debug, Clone)]
pub struct TokenCall {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// How it asked for the token.
    pub grant: &'static str,
    /// The server: its host with its port.
    pub server: Arc<str>,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// The address that was tried.
    pub peer: Option<SocketAddr>,
    /// None: there was no response.
    pub status: Option<u16>,
    /// Why there was no connection.
    pub cause: Option<&'static str>,
    /// None: it brought a token.
    pub error: Option<&'static str>,
}

/// A flight that is over.
#[derive(Debug, Clone, Copy)]
pub struct FlightEnd<'a> {
    /// Whose token it was for.
    pub provider: &'a str,
    /// Which account's.
    pub account: &'a str,
    /// With which scopes.
    pub scopes: &'a str,
    /// What it was for.
    pub reason: &'static str,
    /// What came of it: the token's generation, or why there is none.
    pub result: Result<u64, &'static str>,
}

impl Default for FlightTrace {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            context: OnceLock::new(),
            calls: Mutex::default(),
        }
    }
}

impl FlightTrace {
    /// Somebody waits for it who is sampled, and so is the flight from now on.
    pub fn join(&self) -> SpanContext {
        *self.context.get_or_init(SpanContext::root)
    }

    /// Whether somebody did.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.context.get().is_some()
    }

    /// It has called the token endpoint.
    pub fn add(&self, call: TokenCall) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = calls.iter_mut().find(|call| call.is_none()) {
            *free = Some(call);
        }
    }

    /// All its spans; none where nobody is sampled who waited.
    #[must_use]
    pub fn finish(&self, end: &FlightEnd<'_>) -> Vec<Span> {
        let Some(context) = self.context.get().copied() else {
            return Vec::new();
        };
        let calls = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *calls)
        };
        let took = self.began.elapsed();
        let wall = clock::wall();
        let start = wall.checked_sub(took).unwrap_or(wall);
        let calls = calls.into_iter().flatten().map(|call| Span {
            context: context.another(),
            parent: Some(ParentSpan {
                span_id: context.span_id,
                is_remote: false,
            }),
            kind: Kind::Client,
            name: "POST".into(),
            start: start + call.began.saturating_duration_since(self.began),
            took: call.took,
            attributes: describe_call(call),
            links: Vec::new(),
        });
        let mut spans: Vec<Span> = calls.collect();
        spans.push(Span {
            context,
            parent: None,
            kind: Kind::Internal,
            name: "token flight".into(),
            start,
            took,
            attributes: describe(end),
            links: Vec::new(),
        });
        spans
    }
}

fn describe(end: &FlightEnd<'_>) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.add(name::PROVIDER, end.provider.to_owned());
    attributes.add(name::ACCOUNT, end.account.to_owned());
    attributes.add(name::SCOPES, end.scopes.to_owned());
    attributes.add(name::FLIGHT_FOR, end.reason);
    match end.result {
        Ok(generation) => {
            let generation = u32::try_from(generation).unwrap_or(u32::MAX);
            attributes.add(name::GENERATION, generation);
        }
        Err(error) => attributes.fail(error),
    }
    attributes
}

fn describe_call(call: TokenCall) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.add(name::METHOD, "POST");
    attributes.add(name::GRANT, call.grant);
    let (host, port) = call.server.rsplit_once(':').unwrap_or((&call.server, ""));
    let server = Server {
        host: bare(host).to_owned(),
        port: port.parse().unwrap_or_default(),
        is_tls: call.is_tls,
    };
    describe_server(&mut attributes, server, call.peer);
    attributes.add_some(name::STATUS, call.status);
    attributes.add_some(name::CAUSE, call.cause);
    let status = call.status.filter(|status| *status >= 400);
    match (status, call.error) {
        (Some(status), _) => attributes.fail(status.to_string()),
        (None, Some(error)) => attributes.fail(error),
        (None, None) => {}
    }
    attributes
}

/// For tests: a span for each of so many flights that somebody waited for.
#[cfg(test)]
pub(crate) fn spans_of_flights(count: usize) -> Vec<Span> {
    let end = FlightEnd {
        provider: "acme",
        account: "default",
        scopes: "",
        reason: "request",
        result: Ok(1),
    };
    let one = |_| {
        let flight = FlightTrace::default();
        flight.join();
        flight.finish(&end)
    };
    (0..count).flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(grant: &'static str) -> TokenCall {
        TokenCall {
            began: Instant::now(),
            took: Duration::from_millis(3),
            grant,
            server: "[::1]:8443".into(),
            is_tls: true,
            peer: None,
            status: Some(401),
            cause: None,
            error: Some("rejected"),
        }
    }

    const END: FlightEnd<'static> = FlightEnd {
        provider: "acme",
        account: "default",
        scopes: "a b",
        reason: "request",
        result: Err("rejected"),
    };

    #[test]
    fn a_flight_has_spans_where_somebody_who_waited_is_sampled() {
        let flight = FlightTrace::default();
        flight.add(call("client_credentials"));
        assert!(flight.finish(&END).is_empty());
        let joined = [flight.join(), flight.join()];
        assert_eq!(joined[0], joined[1]);
        let spans = flight.finish(&END);
        let [call, root] = &spans[..] else {
            panic!("{spans:#?}");
        };
        assert_eq!((root.context, root.parent), (joined[0], None));
        assert_eq!(call.parent.unwrap().span_id, root.context.span_id);
        assert_eq!((call.kind, root.kind), (Kind::Client, Kind::Internal));
        let host = call
            .attributes
            .all
            .iter()
            .find(|(key, _)| *key == name::SERVER_ADDRESS);
        assert_eq!(host.unwrap().1, "::1".to_owned().into());
        assert!(call.attributes.is_error && root.attributes.is_error);
    }

    #[test]
    fn a_flight_keeps_no_more_calls_than_it_may() {
        let flight = FlightTrace::default();
        (0..20).for_each(|_| flight.add(call("refresh_token")));
        flight.join();
        assert_eq!(flight.finish(&END).len(), MAX_CALLS + 1);
    }
}
