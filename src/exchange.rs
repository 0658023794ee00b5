//! One request, from top to bottom. The only file that knows every stage.
//!
//! Absolute-form and gateway requests, HTTP/1.1 and HTTP/2, come the same way. The stages do not know
//! each other: values are handed from one to the next here.

mod admin_control;
mod attempt;
mod bearer;
pub mod caller;
mod location;
mod outgoing;
pub mod passthrough;
mod process_state;
pub mod record;
pub mod relay;
pub mod replay;
pub mod request_body;
pub mod respond;
pub mod route;
pub mod tunnel_target;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::http::connection::{CallerSide, Inside, Peer};
use crate::http::framing;
use crate::http::headers::{self, ControlFields};
use crate::http::read_body::trigger_continue;
use crate::http::replay_body::{ReplayBody, ReplayLimits};
use crate::http::target::{self, Form, Target};
use crate::token::Tokens;
use crate::upstream::egress::Egress;
pub use admin_control::AdminControl;
use attempt::Attempt;
use bearer::Bearer;
use bursar_base::path::{Path, Pattern};
use bursar_config::{Config, Origin, Provider, ProxyLimits};
use bursar_journal::Journal;
use bursar_telemetry::access_log::AccessLog;
use bursar_telemetry::metrics::{Limit, Metrics, ProviderSeries};
use bursar_tls::authority::Authority;
use caller::{Callers, Principal, Undecided};
use location::Asked;
use passthrough::Passthrough;
use process_state::ProcessState;
pub use process_state::Reloaded;
use record::{Record, Telemetry};
use relay::{RelayBody, ResponseBody};
use request_body::{Connection, Upstream};
use respond::{Refusal, route_detail};
use route::{RouteQuery, Routes};
use tunnel_target::{Opened, TunnelTarget};

/// Everything that a request needs on its way, under one configuration. A request keeps it to its end.
#[derive(Debug)]
pub struct Proxy {
    callers: Callers,
    routes: Routes,
    /// All tokens.
    pub tokens: Tokens,
    /// In the order of their names.
    providers: Vec<Arc<Provider>>,
    /// By provider index.
    servers: Vec<Servers>,
    /// None: there is nothing but providers.
    passthrough: Option<Passthrough>,
    /// None: TLS in tunnels to providers is refused.
    authority: Option<Arc<Authority>>,
    limits: ProxyLimits,
    /// What operators see and change.
    pub admin_control: AdminControl,
    egress: Egress,
    telemetry: Arc<Telemetry>,
    /// New connections are taken for the one, and then there is the other for what is in flight.
    drain: (Duration, Duration),
    process_state: Arc<ProcessState>,
}

/// A provider's servers.
#[derive(Debug)]
struct Servers {
    /// By worker.
    upstreams: Arc<[Arc<Upstream>]>,
    series: Arc<ProviderSeries>,
}

/// What became of a request that was not refused.
enum Outcome {
    Relayed(Relayed),
    Tunnel(TunnelTarget),
    /// The request asks what Bursar can do.
    Capabilities,
}

/// A provider's answer that goes to the caller.
struct Relayed {
    response: Response<Incoming>,
    connection: Connection,
    upstream: Arc<Upstream>,
    /// None: the request said `https`, or the answer is no provider's.
    asked: Option<Asked>,
}

impl Proxy {
    /// Builds every stage for so many workers. Must be called inside a runtime, because tokens are obtained at once.
    #[must_use]
    pub fn new(
        config: &Config,
        metrics: &Metrics,
        log: AccessLog,
        (journal, workers): (Option<Journal>, usize),
    ) -> Self {
        let process_state =
            ProcessState::new(metrics, log, config.limits.tunnels, (journal, workers));
        Self::build(config, Arc::new(process_state), None)
    }

    /// The same for another configuration; takes over whatever has not changed. From then on only the new one
    /// renews tokens.
    #[must_use]
    pub fn succeeded_by(&self, config: &Config) -> Self {
        self.metrics().follow(config);
        Self::build(config, self.process_state.clone(), Some(self))
    }

    fn build(config: &Config, process_state: Arc<ProcessState>, old: Option<&Self>) -> Self {
        process_state.replay_memory.limit(config.replay_memory);
        let metrics = &process_state.metrics;
        let same = old.filter(|old| old.egress.is_of(&config.egress));
        let egress = same.map_or_else(
            || Egress::new(&config.egress, metrics.egress.clone()),
            |old| old.egress.clone(),
        );
        let servers = config.providers.iter().map(|provider| {
            let known = same.and_then(|old| old.upstreams_for(provider)).cloned();
            let new = || Upstream::new(provider, metrics, &egress).for_each(process_state.workers);
            Servers {
                upstreams: known.unwrap_or_else(new),
                series: Arc::new(metrics.provider(provider)),
            }
        });
        let opaque = &process_state.opaque_tunnels;
        let passthrough = Passthrough::new(config, metrics, &egress, (opaque, &process_state.via));
        let authority = old.and_then(|old| old.authority.as_ref());
        let authority = authority.filter(|old| {
            let new = config.intercept.as_ref();
            new.is_some_and(|new| old.is(new))
        });
        Self {
            callers: Callers::new(
                config,
                &metrics.password_hashes,
                old.map(|old| &old.callers),
            ),
            routes: Routes::new(config),
            tokens: match old {
                Some(old) => old.tokens.succeeded_by(config, metrics, &egress),
                None => Tokens::start(config, metrics, &egress),
            },
            providers: config.providers.clone(),
            servers: servers.collect(),
            passthrough,
            authority: authority.or(config.intercept.as_ref()).cloned(),
            limits: config.limits,
            telemetry: Arc::new(Telemetry {
                log: process_state.log.clone(),
                metrics: metrics.clone(),
                secret_below: secret_below(config),
            }),
            admin_control: AdminControl::new(config, process_state.clone()),
            egress,
            drain: (config.drain_delay, config.drain_timeout),
            process_state,
        }
    }

    /// The connections that are as good for `provider` as they were for the one with its name.
    fn upstreams_for(&self, provider: &Provider) -> Option<&Arc<[Arc<Upstream>]>> {
        let by_name = |known: &Arc<Provider>| known.name.cmp(&provider.name);
        let place = self.providers.binary_search_by(by_name).ok()?;
        let known = self.providers.get(place)?;
        let Servers { upstreams, .. } = self.servers.get(place)?;
        Upstream::serves_both(known, provider).then_some(upstreams)
    }

    /// The providers to which requests are refused, because they cannot be reached.
    pub fn held_providers(&self) -> impl Iterator<Item = &Arc<str>> {
        let servers = self.providers.iter().zip(&self.servers);
        // The workers' share one breaker.
        let held = servers.filter(|(_, servers)| {
            let upstream = servers.upstreams.first();
            upstream.is_some_and(|upstream| upstream.is_held())
        });
        held.map(|(provider, _)| &provider.name)
    }

    /// Bytes of request bodies kept for replays now.
    #[must_use]
    pub fn replay_memory_used(&self) -> usize {
        self.process_state.replay_memory.used()
    }

    /// For how long new connections are taken once draining, and how long requests may take to finish then.
    #[must_use]
    pub fn drain_times(&self) -> (Duration, Duration) {
        self.drain
    }

    /// What this proxy counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.telemetry.metrics
    }

    /// How much callers may ask for.
    #[must_use]
    pub fn limits(&self) -> &ProxyLimits {
        &self.limits
    }

    /// Who speaks for providers in tunnels.
    #[must_use]
    pub fn authority(&self) -> Option<&Arc<Authority>> {
        self.authority.as_ref()
    }

    /// Answers one request, whatever happens; `side` is the connection that it came on. After a `CONNECT`
    /// that is answered 200 there is a tunnel to be carried, which `open` gets.
    pub fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        side: &Arc<CallerSide>,
        open: impl FnOnce(Opened),
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
        let mut record = Box::new(Record::begin(&self.telemetry, &request, side));
        let (mut head, mut body) = request.into_parts();
        // An `async fn` would have room for the request thrice: as it was given, whole, and in parts.
        async move {
            let is_http2 = head.version == Version::HTTP_2;
            let is_connect = head.method == Method::CONNECT;
            let _in_flight = InFlight::enter(&self.process_state.in_flight);
            let mut framed = if is_http2 {
                side.count_request();
                framing::refuse_disguise(&head.headers)
            } else {
                side.next_request()
            };
            if !body.is_end_stream()
                && headers::needs_continue(&head)
                && !trigger_continue(&mut body).await
            {
                framed = Err(framing::Doubt::OutOfStep);
            }
            let is_doubtful = framed.is_err();
            if head.method == Method::OPTIONS && !is_http2 && side.is_pathless() {
                target::leave_out_path(&mut head.uri);
            }
            let result = match framed {
                Ok(()) => self.forward(&mut record, &mut head, body, side).await,
                Err(doubt) => {
                    // Whatever comes after it, nobody knows where that begins.
                    side.leave_unread();
                    let malformed = target::Error::Malformed(doubt.as_str());
                    Err(Refusal::Target(malformed))
                }
            };
            // The rest of the request is not waited for after the answer.
            let is_last = |refusal: &Refusal| refusal.limit() == Some(Limit::CallerConnections);
            let is_last = is_doubtful || result.as_ref().is_err_and(is_last);
            let close =
                is_last || record.is_unread() || is_connect || self.admin_control.is_draining();
            let mut response = match result {
                Ok(Outcome::Relayed(relayed)) => {
                    side.limit_writes(relayed.upstream.idle_timeout());
                    relayed.answer(record, &self, is_http2)
                }
                Ok(Outcome::Tunnel(target)) => {
                    record.answer(StatusCode::OK);
                    open(Opened { record, target });
                    return Ok(Response::new(ResponseBody::Own(None)));
                }
                Ok(Outcome::Capabilities) => respond::capabilities(record),
                Err(refusal) => {
                    if let Some(limit) = refusal.limit() {
                        self.metrics().limits.reached(limit);
                    }
                    refusal.answer(record)
                }
            };
            if close && !is_http2 {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    }

    /// Who sends a request. Waits only where a password has to be hashed.
    async fn caller(
        &self,
        headers: &HeaderMap,
        form: Form,
        peer: &Peer,
    ) -> Result<Principal<'_>, caller::Error> {
        match self.callers.check(headers, form, peer) {
            Ok(caller) => Ok(caller),
            Err(Undecided::Unauthenticated) => Err(caller::Error::Unauthenticated),
            Err(Undecided::Password(attempt)) => {
                Box::pin(self.callers.verify_password(attempt)).await
            }
        }
    }

    /// The way of a request, stage by stage.
    async fn forward(
        &self,
        record: &mut Record,
        head: &mut Parts,
        body: Incoming,
        side: &CallerSide,
    ) -> Result<Outcome, Refusal> {
        if target::ends_here(head).map_err(Refusal::Target)? {
            return Ok(Outcome::Capabilities);
        }
        let (target, caller, control) = self.admit(record, head, side).await?;
        if target.form == Form::Authority {
            let leads = self.tunnel(record, &target, &body, caller.name);
            let leads = Box::pin(leads).await?;
            return Ok(Outcome::Tunnel(leads));
        }
        let path = Path::new(target.path);
        let unroutable =
            |error, provider: Option<&str>| Refusal::Route(error, route_detail(error, provider));
        let matched = match self.routes.match_host(&target, &path) {
            Ok(matched) => matched,
            Err(error) => {
                let listed = self.listed(error, record, (&target, head));
                let (passthrough, origin) = listed.ok_or_else(|| unroutable(error, None))?;
                return Box::pin(pass_on(passthrough, record, origin, (head, body))).await;
            }
        };
        let provider = matched.provider;
        let Servers { upstreams, series } = &self.servers[provider.index];
        let upstream = &upstreams[side.worker];
        record.provider(series);
        let (method, account) = (&head.method, control.account);
        let query = RouteQuery { method, account };
        let destination = matched.route(query, &path, caller.allow);
        let destination = destination.map_err(|error| unroutable(error, Some(&provider.name)))?;
        record.route(&destination.route, destination.account);
        if destination.payment.moves_money {
            self.admin_control.admit_payment(provider.index)?;
            record.moves_money();
        }
        let token = Bearer::of(&self.tokens, &destination, &head.headers)?;
        let is_bursars = matches!(token, Bearer::Bursar(_));
        if control.has_authorization && !caller.by_authorization && is_bursars {
            record.credentials_replaced();
        }
        drop(path);
        let asked = Asked::of(head, side.is_tls(), provider);
        let (outgoing, cleaned) =
            outgoing::outgoing(head, &destination, &token, &self.process_state.via);
        let body = ReplayBody::new(body, cleaned, self.keeping(provider));
        if let Some(body) = &body {
            record.upload(body);
        }
        let (journal, payment) = (&self.process_state.journal, destination.payment);
        if let Some(journal) = journal.as_ref().filter(|_| payment.moves_money) {
            record.keep_in(journal, payment.key(&outgoing.headers));
        }
        let mut attempt = Attempt {
            upstream,
            series,
            admin_control: &self.admin_control,
            destination,
            token,
            may_be_replayed: payment.may_be_replayed(&outgoing.headers),
            key_field: attempt::key_field(payment, &outgoing.headers),
            saved: outgoing.save(),
            outgoing: Some(outgoing),
            body,
        };
        let (response, connection) = attempt.send_with_replay(record).await?;
        Ok(Outcome::Relayed(Relayed {
            response,
            connection,
            upstream: upstream.clone(),
            asked,
        }))
    }

    fn keeping(&self, provider: &Provider) -> ReplayLimits {
        ReplayLimits {
            buffer: provider.replay_buffer,
            memory: self.process_state.replay_memory.clone(),
        }
    }

    /// Where a request goes that is for no provider, if it may.
    fn listed(
        &self,
        error: route::Error,
        record: &mut Record,
        (target, head): (&Target<'_>, &Parts),
    ) -> Option<(&Passthrough, Origin)> {
        let passthrough = self.passthrough.as_ref();
        let passthrough = passthrough.filter(|_| error == route::Error::UnknownHost)?;
        let origin = passthrough.listed(record, target, head)?;
        Some((passthrough, origin))
    }

    /// Whose request it is, what it names, and what else it says, whatever its form.
    async fn admit<'a>(
        &'a self,
        record: &mut Record,
        head: &'a Parts,
        side: &CallerSide,
    ) -> Result<(Target<'a>, Principal<'a>, ControlFields<'a>), Refusal> {
        if self.process_state.in_flight.load(Ordering::Relaxed) > self.limits.requests {
            return Err(Refusal::Limit(Limit::Requests));
        }
        if head.headers.len() > self.limits.headers {
            return Err(Refusal::Limit(Limit::Headers));
        }
        if target::size(&head.uri) > self.limits.target_size {
            return Err(Refusal::Limit(Limit::TargetSize));
        }
        let inside = side.inside();
        let target = Target::read(head, inside.map(|inside| inside.port));
        let target = target.map_err(Refusal::Target)?;
        let caller = match inside {
            Some(inside) => self.callers.verified(&inside.caller, &side.peer),
            None => self.caller(&head.headers, target.form, &side.peer).await,
        };
        let caller = caller.map_err(|error| Refusal::Caller(error, target.form))?;
        record.caller(caller.name);
        side.peer.is_known();
        if let Some(limits) = caller.limits {
            // What is inside of a tunnel came over a connection that counts already.
            if inside.is_none() && !side.join(limits) {
                return Err(Refusal::Limit(Limit::CallerConnections));
            }
            let slot = limits.enter(Instant::now());
            record.hold(slot.map_err(Refusal::CallerLimit)?);
        }
        let control = ControlFields::read(&head.headers, &self.process_state.via);
        if control.is_loop {
            return Err(Refusal::Loop);
        }
        match inside {
            Some(_) if target.form == Form::Authority => {
                Err(Refusal::Tunnel(tunnel_target::Error::Nested))
            }
            Some(inside) if !inside.leads_to(target.host, target.port) => {
                Err(Refusal::Tunnel(tunnel_target::Error::Misdirected))
            }
            _ => Ok((target, caller, control)),
        }
    }

    /// Where a `CONNECT` leads. What comes through it is judged when it comes.
    async fn tunnel(
        &self,
        record: &mut Record,
        target: &Target<'_>,
        body: &Incoming,
        caller: &Arc<str>,
    ) -> Result<TunnelTarget, Refusal> {
        if !body.is_end_stream() {
            let what = "CONNECT has no body";
            return Err(Refusal::Target(target::Error::Malformed(what)));
        }
        let Target { host, port, .. } = *target;
        let is_open = port == 80 || self.authority.is_some();
        if is_open && self.routes.is_provider(host, port) {
            // The requests in it count, not the tunnel itself.
            record.let_go();
            let permit = self.process_state.tunnels.clone().try_acquire_owned();
            let permit = permit.map_err(|_full| Refusal::Limit(Limit::Tunnels))?;
            let inside = Inside::new(caller, host, port);
            return Ok(TunnelTarget::ToProvider(inside, permit));
        }
        if self.routes.is_provider_at_any_port(host) {
            return Err(Refusal::Tunnel(match self.authority {
                Some(_) => tunnel_target::Error::NotListed,
                None => tunnel_target::Error::NotIntercepted,
            }));
        }
        let passthrough = self.passthrough.as_ref().and_then(|passthrough| {
            let rule = passthrough.rule(host, port, caller)?;
            Some((passthrough, rule))
        });
        let not_listed = Refusal::Tunnel(tunnel_target::Error::NotListed);
        let (passthrough, rule) = passthrough.ok_or(not_listed)?;
        record.passthrough(&rule.name);
        let since = Instant::now();
        let connected = passthrough.connect(host, port).await;
        record.upstream(since.elapsed());
        let (stream, held) = connected.map_err(no_passage)?;
        Ok(TunnelTarget::Away(Box::new(stream), held))
    }
}

/// Sends a request to a server that is no provider's.
async fn pass_on(
    passthrough: &Passthrough,
    record: &mut Record,
    origin: Origin,
    (head, body): (&mut Parts, Incoming),
) -> Result<Outcome, Refusal> {
    let sent = passthrough.send(record, &origin, head, body).await;
    let (response, connection) = sent.map_err(no_passage)?;
    Ok(Outcome::Relayed(Relayed {
        response,
        connection,
        upstream: passthrough.upstream().clone(),
        asked: None,
    }))
}

fn no_passage(error: passthrough::Error) -> Refusal {
    match error {
        passthrough::Error::TooMany => Refusal::Limit(Limit::Tunnels),
        passthrough::Error::Connect(error) => Refusal::Connect(error),
        passthrough::Error::Send(failed) => Refusal::Send(failed),
    }
}

/// Every provider's, each once.
fn secret_below(config: &Config) -> Vec<Pattern> {
    let mut patterns: Vec<Pattern> = Vec::new();
    for pattern in config
        .providers
        .iter()
        .flat_map(|provider| &provider.secret_below)
    {
        if !patterns.contains(pattern) {
            patterns.push(pattern.clone());
        }
    }
    patterns
}

impl Relayed {
    /// The provider's answer as it goes to the caller.
    fn answer(
        mut self,
        mut record: Box<Record>,
        proxy: &Proxy,
        to_http2: bool,
    ) -> Response<ResponseBody> {
        let (mut head, body) = self.response.into_parts();
        let cleaned = headers::clean_response(&mut head.headers);
        self.connection.heed(cleaned.keep_alive);
        if !cleaned.has_date {
            headers::add_date(&mut head.headers);
        }
        if cleaned.has_location
            && let Some((asked, provider)) = self.asked.as_ref().zip(record.served_by())
        {
            asked.rewrite(&mut head.headers, &proxy.routes, provider);
        }
        let via = &proxy.process_state.via;
        via.append(&mut head.headers, head.version);
        record.answer(head.status);
        head.version = Version::HTTP_11;
        let named = cleaned.named;
        let relay = RelayBody::new(body, named, record, (self.connection, self.upstream));
        let response = if to_http2 {
            relay.pump()
        } else {
            ResponseBody::Relay(relay)
        };
        Response::from_parts(head, response)
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
