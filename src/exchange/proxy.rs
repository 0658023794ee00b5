//! The proxy under one configuration: what requests need on their way, and what the server and the admin port see of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::active_request::{ActiveRequest, Telemetry};
use super::admin_control::AdminControl;
use super::caller::{Callers, Principal};
use super::passthrough::Passthrough;
use super::process_state::ProcessState;
use super::respond::{Refusal, route_detail};
use super::route::{self, Routes};
use super::unknown_host::Visible;
use crate::exchange::request_body::Upstream;
use crate::token::{FleetTokens, Tokens};
use crate::upstream::ServerHealth;
use crate::upstream::egress::Egress;
use bursar_config::{Provider, ProxyLimits};
use bursar_limits::share::{Divisible, LimitKind, Share};
use bursar_telemetry::metrics::{Metrics, ProviderSeries, RefusalDetail};
use bursar_tls::authority::Authority;

/// Everything that a request needs on its way, under one configuration. A request keeps it to its end.
#[derive(Debug)]
pub struct Proxy {
    pub(super) callers: Callers,
    pub(super) routes: Routes,
    /// All tokens.
    pub tokens: Tokens,
    /// In the order of their names.
    pub(super) providers: Vec<Arc<Provider>>,
    /// By provider index.
    pub(super) upstreams: Vec<ProviderUpstreams>,
    /// None: there is nothing but providers.
    pub(super) passthrough: Option<Passthrough>,
    /// None: TLS in tunnels to providers is refused.
    pub(super) authority: Option<Arc<Authority>>,
    pub(super) limits: ProxyLimits,
    /// What operators see and change.
    pub admin_control: AdminControl,
    pub(super) egress: Egress,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) drain: DrainTimes,
    pub(super) process_state: Arc<ProcessState>,
}

/// The connections to a provider's servers, and its metrics.
#[derive(Debug)]
pub(super) struct ProviderUpstreams {
    pub(super) by_worker: Arc<[Arc<Upstream>]>,
    pub(super) series: Arc<ProviderSeries>,
}

/// How Bursar ends.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimes {
    /// How long connections are still accepted.
    pub delay: Duration,
    /// How long requests in flight may take to finish after that.
    pub timeout: Duration,
}

impl Proxy {
    /// Where the provider of that name is among all, which are in the order of their names.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        let by_name = |known: &Arc<Provider>| (*known.name).cmp(name);
        self.providers.binary_search_by(by_name).ok()
    }

    /// Whether a provider of this configuration is frozen once it is in force.
    pub(super) fn is_frozen(&self, provider: &Provider) -> bool {
        provider.is_frozen || self.admin_control.is_frozen_by_command(&provider.name)
    }

    /// The providers to which requests are refused, because they cannot be reached.
    pub fn held_providers(&self) -> impl Iterator<Item = &Arc<str>> {
        let all = self.providers.iter().zip(&self.upstreams);
        // The workers' share one breaker.
        let held = all.filter(|(_, provider)| {
            let upstream = provider.by_worker.first();
            upstream.is_some_and(|upstream| upstream.is_held())
        });
        held.map(|(provider, _)| &provider.name)
    }

    /// How the last connections to the servers of all providers went.
    #[must_use]
    pub fn upstream_servers(&self) -> Vec<ServerHealth> {
        self.egress.servers()
    }

    /// The providers that are shown a client certificate, and when it ends, in seconds since 1970.
    pub fn client_certificates(&self) -> impl Iterator<Item = (&str, i64)> {
        let providers = self.providers.iter();
        providers.filter_map(|provider| Some((&*provider.name, provider.tls.expiry?)))
    }

    /// The refusal of a host that no provider has, by what its caller may know; the log may know all.
    pub(super) fn unknown_host(
        &self,
        host: &str,
        caller: &Principal<'_>,
        request: &mut ActiveRequest,
    ) -> Refusal {
        let listed = self.passthrough.iter();
        let listed = listed.flat_map(|passthrough| passthrough.hosts(caller.name));
        let guess = Visible::new(&self.providers, caller.allow, listed).guess(host);
        if let Some(detail) = guess.as_ref().and_then(|guess| guess.detail) {
            request.record.set_detail(detail);
        }
        if self.routes.provider_at_any_port(host).is_some() {
            request.record.set_detail(RefusalDetail::OtherPort);
        } else if self.routes.owner_of_token_host(host).is_some() {
            request.record.set_detail(RefusalDetail::TokenHost);
        }
        let error = route::Error::UnknownHost;
        let text = guess.map(|guess| guess.text.into());
        Refusal::Route(error, text.unwrap_or_else(|| route_detail(error, None)))
    }

    /// The providers that requests are under way to, and how many.
    pub fn requests_under_way(&self) -> impl Iterator<Item = (&Arc<str>, i64)> {
        let all = self.providers.iter().zip(&self.upstreams);
        let counts = all.map(|(provider, upstreams)| {
            let count = upstreams.series.in_flight.get();
            (&provider.name, count)
        });
        counts.filter(|(_, count)| *count > 0)
    }

    /// Bytes of request bodies kept for replays now.
    #[must_use]
    pub fn replay_memory_used(&self) -> usize {
        self.process_state.replay_memory.used()
    }

    /// How Bursar ends.
    #[must_use]
    pub fn drain_times(&self) -> DrainTimes {
        self.drain
    }

    /// What this proxy counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.telemetry.metrics
    }

    /// What is shared with other instances. None: there are none.
    #[must_use]
    pub fn fleet(&self) -> Option<&Arc<FleetTokens>> {
        self.process_state.fleet.as_ref()
    }

    /// The limits that instances divide among themselves, with the names of callers.
    pub fn divisible(&self) -> impl Iterator<Item = (LimitKind, &str, &dyn Divisible)> {
        self.callers.divisible()
    }

    /// The quotas of token calls are those of all instances, but while the store is away this one has that share of them.
    pub fn divide_calls(&self, share: Share, is_away: bool) {
        self.tokens.divide(share, is_away);
    }

    /// Of each limit this instance has so much without asking, and callers find their shares from now on or do not yet.
    pub fn set_shares(&self, reserve: Share, are_ready: bool) {
        let state = &self.process_state;
        let reserve = reserve.millionths();
        state.reserve.store(reserve, Ordering::Relaxed);
        state.has_shares.fetch_or(are_ready, Ordering::Relaxed);
    }

    /// Whether callers find this instance's shares of their limits, or it has waited for long enough.
    #[must_use]
    pub fn has_shares(&self) -> bool {
        let state = &self.process_state;
        state.has_shares.load(Ordering::Relaxed) || Instant::now() >= state.shares_limit
    }

    /// Exports the spans that are left, or waits for that as long as may be.
    pub async fn end_traces(&self) {
        if let Some(tracer) = &self.telemetry.tracer {
            tracer.end().await;
        }
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
}
