//! The life of one request, told once, from top to bottom. The only file that knows every stage.
//!
//! Absolute-form and gateway requests, HTTP/1.1 and HTTP/2, come the same way: [`Exchange::run`] is the whole story. The
//! stages do not know each other: values are handed from one to the next here.

mod active_request;
mod admin_control;
mod attempt;
mod attempt_record;
mod authorize;
mod build;
pub mod caller;
mod closing;
mod freezes;
mod live;
mod location;
mod outgoing;
pub mod passthrough;
mod process_state;
pub mod provider_response;
mod proxy;
pub mod record;
pub mod relay;
mod reload_warnings;
pub mod replay;
pub mod request_body;
pub mod respond;
pub mod route;
mod tunnel;
pub mod tunnel_target;
pub mod unknown_host;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::upstream::OutgoingRequest;
pub use active_request::ActiveRequest;
pub use admin_control::AdminControl;
// From the admin port, to which it is told what came of it.
use attempt::{Attempt, Received};
use authorize::Authorizer;
use bursar_base::path::Path;
use bursar_config::Origin;
use bursar_http::connection::ConnectionState;
use bursar_http::framing;
use bursar_http::headers::{self, ControlFields};
use bursar_http::lingering_body::LingeringBody;
use bursar_http::read_body::trigger_continue;
use bursar_http::replay_body::{ReplayBody, ReplayLimits};
use bursar_http::target::{self, Form, Target};
use bursar_telemetry::metrics::{Limit, RefusalDetail};
use caller::Principal;
pub use freezes::{Decided, Frozen, Reach, Wish};
pub use live::Live;
use location::Asked;
use passthrough::Passthrough;
pub use process_state::{Process, Reloaded, SHARES_LIMIT};
use provider_response::ProviderResponse;
use provider_response::ResponseBody;
pub use proxy::{DrainTimes, Proxy};
use request_body::Upstream;
pub use respond::advice;
use respond::{Refusal, route_detail};
use route::{Destination, RouteQuery};
pub use tunnel::Opened;
use tunnel_target::TunnelTarget;

const NO_CONTINUE: &str =
    "java.net.http.HttpClient expects a 100 Continue, which it gets over HTTP/1.1 only";

/// One request on its way through the stages.
struct Exchange<'e> {
    proxy: &'e Proxy,
    /// That it came on.
    connection: &'e ConnectionState,
    request: &'e mut ActiveRequest,
}

/// What became of a request that was not refused.
enum Outcome {
    /// Its provider has responded, or a host of `passthrough`.
    Relay(ProviderResponse),
    /// The caller gets a tunnel.
    Tunnel(TunnelTarget),
    /// Bursar responds in a provider's place.
    Own(Response<Bytes>),
}

/// Who sends a request, for where, and what it says to Bursar itself.
struct Admitted<'e, 'h> {
    caller: Principal<'e>,
    target: Target<'h>,
    control: ControlFields<'h>,
}

/// Where a request goes.
enum Routed<'e> {
    ToProvider(Destination<'e>),
    /// Past all providers.
    PassedThrough(&'e Passthrough, Origin),
}

impl<'e> Exchange<'e> {
    /// The whole story.
    async fn run(&mut self, head: &mut Parts, mut body: LingeringBody) -> Result<Outcome, Refusal> {
        let mut framed = self.next_in_framing(head);
        if is_held_back(head, &body) && !trigger_continue(&mut body).await {
            framed = Err(framing::FramingError::OutOfStep);
        }
        self.keep_in_step(framed, head)?;
        if target::ends_here(head)? {
            return Ok(Outcome::Own(respond::capabilities()));
        }
        let mut control = ControlFields::read(&head.headers, &self.proxy.process_state.via);
        self.request
            .record
            .set_correlation(control.correlation.take());
        let admitted = self.admit(head, control).await;
        // Known or not, and before anything is waited for.
        self.request.sample(head.version, self.connection.is_tls());
        let admitted = admitted?;
        if admitted.target.form == Form::Authority {
            let (target, caller) = (&admitted.target, &admitted.caller);
            let opening = tunnel::open(self.proxy, self.request, target, &body, caller);
            return Box::pin(opening).await.map(Outcome::Tunnel);
        }
        let routed = self.route(&admitted, head)?;
        let destination = match routed {
            Routed::ToProvider(destination) => destination,
            Routed::PassedThrough(passthrough, origin) => {
                let passing = self.pass_through(passthrough, origin, head, body);
                return Box::pin(passing).await.map(Outcome::Relay);
            }
        };
        let authorizer = self.authorize(&destination, &admitted, head)?;
        let asked = Asked::of(head, self.connection.is_tls(), destination.provider);
        let upstream = self.upstream(&destination);
        let mut attempt = self.prepare(destination, authorizer, head, body);
        let Received {
            response,
            connection,
        } = attempt.send_with_replay().await?;
        Ok(Outcome::Relay(ProviderResponse {
            response,
            connection,
            upstream: upstream.clone(),
            asked,
        }))
    }

    /// Takes the request out of its connection's framing.
    fn next_in_framing(&self, head: &Parts) -> Result<(), framing::FramingError> {
        if head.version == Version::HTTP_2 {
            self.connection.count_request();
            framing::refuse_disguise(&head.headers)
        } else {
            self.connection.next_request()
        }
    }

    /// Refuses a request whose framing is in doubt. Of one that is not, the target is as the caller wrote it.
    fn keep_in_step(
        &self,
        framed: Result<(), framing::FramingError>,
        head: &mut Parts,
    ) -> Result<(), Refusal> {
        if let Err(doubt) = framed {
            // Whatever comes after it, nobody knows where that begins.
            self.connection.leave_unread();
            return Err(Refusal::Framing(doubt));
        }
        let is_http1 = head.version != Version::HTTP_2;
        if head.method == Method::OPTIONS && is_http1 && self.connection.is_pathless() {
            target::leave_out_path(&mut head.uri);
        }
        Ok(())
    }

    /// Whose request it is, what it names, and what else it says, whatever its form.
    async fn admit<'h>(
        &mut self,
        head: &'h Parts,
        control: ControlFields<'h>,
    ) -> Result<Admitted<'e, 'h>, Refusal> {
        let (proxy, connection) = (self.proxy, self.connection);
        if proxy.process_state.in_flight.load(Ordering::Relaxed) > proxy.limits.requests {
            return Err(Refusal::Limit(Limit::Requests));
        }
        if head.headers.len() > proxy.limits.headers {
            return Err(Refusal::Limit(Limit::Headers));
        }
        if target::size(&head.uri) > proxy.limits.target_size {
            return Err(Refusal::Limit(Limit::TargetSize));
        }
        let inside = connection.inside();
        let target = Target::read(head, inside.map(|inside| inside.port));
        let target = target?;
        let caller = match inside {
            Some(inside) => proxy.callers.verified(&inside.caller, &connection.peer),
            None => {
                let headers = &head.headers;
                caller::verify(&proxy.callers, headers, target.form, &connection.peer).await
            }
        };
        let caller = match caller {
            Ok(caller) => caller,
            Err(error) => {
                if error == caller::Error::Unauthenticated {
                    self.note_claim(&head.headers, target.form);
                }
                return Err(Refusal::Caller(error, target.form));
            }
        };
        self.request.record.set_caller(caller.name);
        connection.peer.is_known();
        if let Some(limits) = caller.limits {
            // What is inside of a tunnel came over a connection that counts already.
            if inside.is_none() && !connection.join(limits) {
                return Err(Refusal::Limit(Limit::CallerConnections));
            }
            let permit = limits.enter(Instant::now());
            self.request.hold(permit.map_err(Refusal::CallerLimit)?);
        }
        if control.is_loop {
            return Err(Refusal::Loop);
        }
        match inside {
            Some(_) if target.form == Form::Authority => {
                Err(Refusal::Tunnel(tunnel_target::Error::Nested))
            }
            Some(inside) if !inside.leads_to(target.host, target.port) => {
                if inside.is_misnamed {
                    let detail = RefusalDetail::OtherServerName;
                    self.request.record.set_detail(detail);
                }
                Err(Refusal::Tunnel(tunnel_target::Error::Misdirected))
            }
            _ => Ok(Admitted {
                caller,
                target,
                control,
            }),
        }
    }

    /// Has the log say whom a request names whose caller was not found.
    fn note_claim(&mut self, headers: &HeaderMap, form: Form) {
        let (proxy, connection) = (self.proxy, self.connection);
        let record = &mut self.request.record;
        if connection.inside().is_some() {
            record.set_detail(RefusalDetail::TunnelOutdated);
            return;
        }
        let claim = proxy.callers.claim(headers, form, &connection.peer);
        record.set_detail(claim.detail);
        record.set_claimed_caller(claim.caller);
    }

    /// Where the request goes: to a provider, by one of its routes, or past all of them.
    fn route(&mut self, admitted: &Admitted<'e, '_>, head: &Parts) -> Result<Routed<'e>, Refusal> {
        let (proxy, target) = (self.proxy, &admitted.target);
        let path = Path::new(target.path);
        let unroutable = |error, provider: Option<&str>| {
            let detail = route_detail(error, provider);
            Refusal::Route(error, detail)
        };
        let matched = match proxy.routes.match_host(target, &path) {
            Ok(matched) => matched,
            Err(error) => {
                if let Some(owner) = proxy.routes.owner_of_token_endpoint(target, &path) {
                    let series = &proxy.upstreams[owner.index].series;
                    self.request.count_for(series);
                }
                let is_listed = error == route::Error::UnknownHost;
                let listed = is_listed.then(|| self.route_past(target, head)).flatten();
                return listed.ok_or_else(|| match is_listed {
                    true => proxy.unknown_host(target.host, &admitted.caller, self.request),
                    false => unroutable(error, None),
                });
            }
        };
        let provider = matched.provider;
        let series = &proxy.upstreams[provider.index].series;
        self.request.count_for(series);
        let query = RouteQuery {
            method: &head.method,
            account: admitted.control.account,
        };
        let destination = matched.route(query, &path, admitted.caller.allow);
        let destination = destination.map_err(|error| unroutable(error, Some(&provider.name)))?;
        let record = &mut self.request.record;
        record.set_route(&destination.route, destination.account);
        if destination.payment.moves_money {
            record.set_payment();
            proxy.admin_control.admit_payment(provider.index)?;
            self.request.set_moves_money();
        }
        Ok(Routed::ToProvider(destination))
    }

    /// Where a request goes that is for no provider, if it may.
    fn route_past(&mut self, target: &Target<'_>, head: &Parts) -> Option<Routed<'e>> {
        let passthrough = self.proxy.passthrough.as_ref()?;
        let record = &mut self.request.record;
        let rule = passthrough.listed(record.caller(), target, head)?;
        record.set_passthrough(&rule.name);
        let origin = passthrough::origin_of(target)?;
        Some(Routed::PassedThrough(passthrough, origin))
    }

    /// Sends the request to a host that is no provider's.
    async fn pass_through(
        &mut self,
        passthrough: &Passthrough,
        origin: Origin,
        head: &mut Parts,
        body: LingeringBody,
    ) -> Result<ProviderResponse, Refusal> {
        let message = passthrough.prepare(head, body);
        let record = &mut self.request.record;
        if let Some(body) = &message.body {
            record.set_upload(body);
        }
        let attempts = &mut record.attempts;
        attempts.begin_sending(Instant::now(), &origin);
        attempts.set_sent();
        let sent = passthrough.send(&origin, message).await;
        match &sent.response {
            Ok((response, connection)) => {
                attempts.set_peer(connection.peer());
                let head = (response.status(), response.version());
                attempts.responded(sent.took, Ok(head));
            }
            Err(passthrough::Error::Send(error)) => attempts.responded(sent.took, Err(error)),
            Err(passthrough::Error::Connect(error)) => attempts.not_connected(sent.took, error),
            Err(passthrough::Error::TooMany) => attempts.add_upstream(sent.took),
        }
        let (response, connection) = sent.response?;
        Ok(ProviderResponse {
            response,
            connection,
            upstream: passthrough.upstream().clone(),
            asked: None,
        })
    }

    /// What authorizes the request at its provider.
    fn authorize(
        &self,
        destination: &Destination<'e>,
        admitted: &Admitted<'_, '_>,
        head: &Parts,
    ) -> Result<Authorizer<'e>, Refusal> {
        let authorizer = Authorizer::of(&self.proxy.tokens, destination, &head.headers)?;
        let is_shown = admitted.control.has_authorization && !admitted.caller.by_authorization;
        if is_shown && authorizer.is_bursars() {
            let series = &self.proxy.upstreams[destination.provider.index].series;
            let by_caller = &series.by_caller;
            by_caller.credentials_replaced(self.request.record.caller());
        }
        Ok(authorizer)
    }

    /// This worker's connections to the provider.
    fn upstream(&self, destination: &Destination<'_>) -> &'e Arc<Upstream> {
        let upstreams = &self.proxy.upstreams[destination.provider.index];
        &upstreams.by_worker[self.connection.worker]
    }

    /// The request as it goes on, written down where it moves money.
    fn prepare<'s>(
        &'s mut self,
        destination: Destination<'s>,
        authorizer: Authorizer<'s>,
        head: &mut Parts,
        body: LingeringBody,
    ) -> Attempt<'s> {
        let process_state = &self.proxy.process_state;
        let (provider, payment) = (destination.provider, destination.payment);
        let client = self.upstream(&destination);
        let via = &process_state.via;
        let cleaned = outgoing::prepare_fields(head, &destination, &authorizer, via);
        if body.is_end_stream() {
            outgoing::say_that_there_is_no_body(head);
        }
        let outgoing = OutgoingRequest::new(head);
        let keeping = ReplayLimits {
            buffer: provider.replay_buffer,
            memory: process_state.replay_memory.clone(),
        };
        let body = ReplayBody::new(body, cleaned, keeping);
        if let Some(body) = &body {
            self.request.record.set_upload(body);
        }
        let mut payments = None;
        if payment.moves_money {
            payments = self.proxy.admin_control.payment_flag(provider.index);
            if let Some(journal) = &process_state.journal {
                self.request
                    .write_to(journal, payment.key(&outgoing.headers));
            }
        }
        let (entry, record) = self.request.for_attempt();
        Attempt {
            client,
            series: &self.proxy.upstreams[provider.index].series,
            payments,
            destination,
            authorizer,
            may_be_replayed: payment.may_be_replayed(&outgoing.headers),
            key_field: attempt::key_field(payment, &outgoing.headers),
            saved: outgoing.save(),
            outgoing: Some(outgoing),
            body,
            entry,
            record,
            caller: self.connection,
        }
    }
}

/// Whether a caller over HTTP/1.1 holds its body back until it is asked for it.
fn is_held_back(head: &Parts, body: &LingeringBody) -> bool {
    !body.is_end_stream() && headers::needs_continue(head)
}

/// A request over HTTP/2 gets no response, because its caller would not read one: it has to use HTTP/1.1.
#[derive(Debug, thiserror::Error)]
#[error("the request has to come over HTTP/1.1")]
pub struct Http1Required;

impl Proxy {
    /// Over HTTP/2 there is no such response as its caller waits for.
    #[cold]
    fn require_http1(&self, mut active: Box<ActiveRequest>, head: &Parts) -> Http1Required {
        active.connection.count_request();
        let via = &self.process_state.via;
        active.record.correlate(&head.headers, via);
        let detail = RefusalDetail::Http1Required;
        let malformed = target::Error::Malformed(detail, NO_CONTINUE);
        active.refuse(Refusal::Target(malformed));
        Http1Required
    }

    /// Responds to one request, whatever happens; `connection` is what it came on. After a `CONNECT`
    /// that is answered 200 there is a tunnel to be carried, which `open` gets.
    ///
    /// # Errors
    /// Where no response can be read, so that the request is to be reset. Nothing was sent to a provider.
    pub fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: &Arc<ConnectionState>,
        open: impl FnOnce(Opened),
    ) -> impl Future<Output = Result<Response<ResponseBody>, Http1Required>> {
        let mut active = Box::new(ActiveRequest::begin(&self.telemetry, &request, connection));
        let (mut head, body) = request.into_parts();
        // An `async fn` would have room for the request thrice: as it was given, whole, and in parts.
        async move {
            let is_http2 = head.version == Version::HTTP_2;
            if !body.is_end_stream() && headers::needs_http1(&head) {
                return Err(self.require_http1(active, &head));
            }
            let _in_flight = InFlight::enter(&self.process_state.in_flight);
            let mut exchange = Exchange {
                proxy: &self,
                connection,
                request: &mut active,
            };
            let body = LingeringBody::new(body, is_http2);
            let mut cut_off = connection.cut_off_watch(is_http2);
            let mut outcome = {
                let mut running = pin!(exchange.run(&mut head, body));
                // Here and not in a function, so that what comes of it is not moved once more.
                poll_fn(|context| match running.as_mut().poll(context) {
                    Poll::Pending if cut_off.poll(context) => {
                        Poll::Ready(Err(Refusal::CutOff { was_sent: true }))
                    }
                    polled => polled,
                })
                .await
            };
            connection.set_waits(false);
            if let Err(Refusal::CutOff { was_sent }) = &mut outcome {
                *was_sent = active.record.attempts.may_be_processed();
            }
            let request_id = active.record.id_field();
            let is_draining = self.admin_control.is_draining();
            let is_last = closing::is_last(outcome.as_ref().err(), &active.record, is_draining);
            let mut response = match outcome {
                Ok(Outcome::Relay(response)) => {
                    connection.limit_writes(response.upstream.idle_timeout());
                    let via = &self.process_state.via;
                    response.relay(active, &self.routes, via, is_http2).await
                }
                Ok(Outcome::Tunnel(target)) => {
                    active.record.set_own_status(StatusCode::OK);
                    let request = active;
                    open(Opened { request, target });
                    let mut response = Response::new(ResponseBody::Own(None));
                    headers::set_request_id(response.headers_mut(), request_id);
                    return Ok(response);
                }
                Ok(Outcome::Own(response)) => {
                    active
                        .record
                        .correlate(&head.headers, &self.process_state.via);
                    active.respond(response).map(ResponseBody::own)
                }
                Err(refusal) => {
                    active
                        .record
                        .correlate(&head.headers, &self.process_state.via);
                    active.refuse(refusal).map(ResponseBody::own)
                }
            };
            headers::set_request_id(response.headers_mut(), request_id);
            if is_last && !is_http2 || closing::ends_the_body(head.version, &response) {
                closing::announce(head.version, &mut response);
            }
            Ok(response)
        }
    }
}

/// Counts a request while it is being served.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
