//! Assembly of a proxy from its configuration, and of the next one after a reload.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::active_request::Telemetry;
use super::admin_control::AdminControl;
use super::caller::Callers;
use super::passthrough::Passthrough;
use super::process_state::{Process, ProcessState};
use super::proxy::{DrainTimes, ProviderUpstreams, Proxy};
use super::reload_warnings;
use super::route::Routes;
use crate::exchange::request_body::Upstream;
use crate::token::Tokens;
use crate::upstream::egress::Egress;
use bursar_base::path::Pattern;
use bursar_config::{Config, Diagnostic, Provider};
use bursar_limits::share::Share;
use bursar_telemetry::metrics::Metrics;
use bursar_tls::authority::Authority;
use bursar_traces::Tracer;

impl Proxy {
    /// Builds every stage. Must be called inside a runtime, because tokens are obtained at once.
    #[must_use]
    pub fn new(config: &Config, metrics: &Metrics, process: Process) -> Self {
        let process_state = ProcessState::new(metrics, config.limits.tunnels, process);
        Self::build(config, Arc::new(process_state), None)
    }

    /// The same for another configuration; takes over whatever has not changed. From then on only the new one
    /// renews tokens.
    #[must_use]
    pub fn succeeded_by(&self, config: &Config) -> Self {
        self.metrics().follow(config);
        if let (Some(tokens), Some(settings)) = (&self.process_state.fleet, &config.fleet) {
            tokens.fleet().change_keys(settings);
        }
        Self::build(config, self.process_state.clone(), Some(self))
    }

    /// What the one that succeeds it changes, and whoever wrote its configuration may not have meant.
    #[must_use]
    pub fn warnings_of(&self, successor: &Self) -> Vec<Diagnostic> {
        reload_warnings::of(self, successor)
    }

    fn build(config: &Config, process_state: Arc<ProcessState>, old: Option<&Self>) -> Self {
        process_state.replay_memory.limit(config.replay_memory);
        let metrics = &process_state.metrics;
        let before = old.and_then(|old| old.telemetry.tracer.as_ref());
        let tracer = Tracer::start(config.traces.as_ref(), before, &metrics.spans_dropped);
        let same = old.filter(|old| old.egress.is_of(&config.egress));
        let egress = match old {
            Some(old) => old.egress.succeeded_by(config),
            None => Egress::new(&config.egress, metrics),
        };
        let upstreams = config.providers.iter().map(|provider| {
            let known = same.and_then(|old| old.upstreams_for(provider)).cloned();
            let new = || Upstream::new(provider, metrics, &egress).for_each(process_state.workers);
            ProviderUpstreams {
                by_worker: known.unwrap_or_else(new),
                series: Arc::new(metrics.provider(provider)),
            }
        });
        let tunnels = &process_state.opaque_tunnels;
        let passthrough = Passthrough::new(config, metrics, &egress, tunnels, &process_state.via);
        let new = config.intercept.as_ref();
        let known = old.and_then(|old| old.authority.as_ref());
        let is_same = |known: &&Arc<Authority>| new.is_some_and(|new| known.is(new));
        let old_callers = old.map(|old| &old.callers);
        let callers = Callers::new(config, &metrics.password_hashes, old_callers);
        if process_state.fleet.is_some() {
            let reserve = process_state.reserve.load(Ordering::Relaxed);
            callers.divide_as(old_callers, Share::of_millionths(reserve.into()));
        }
        Self {
            callers,
            routes: Routes::new(config),
            tokens: match old {
                Some(old) => old
                    .tokens
                    .succeeded_by(config, metrics, &egress, tracer.as_ref()),
                None => {
                    let fleet = process_state.fleet.clone();
                    Tokens::start(config, metrics, &egress, fleet, tracer.as_ref())
                }
            },
            providers: config.providers.clone(),
            upstreams: upstreams.collect(),
            passthrough,
            authority: known.filter(is_same).or(new).cloned(),
            limits: config.limits,
            telemetry: Arc::new(Telemetry {
                log: process_state.log.clone(),
                metrics: metrics.clone(),
                secret_below: secret_below(config),
                tracer,
                ending: process_state.ending.clone(),
            }),
            admin_control: AdminControl::new(config, process_state.clone()),
            egress,
            drain: DrainTimes {
                delay: config.drain_delay,
                timeout: config.drain_timeout,
            },
            process_state,
        }
    }

    /// The connections that are as good for `provider` as they were for the one with its name.
    fn upstreams_for(&self, provider: &Provider) -> Option<&Arc<[Arc<Upstream>]>> {
        let index = self.place_of(&provider.name)?;
        let known = self.providers.get(index)?;
        let ProviderUpstreams { by_worker, .. } = self.upstreams.get(index)?;
        Upstream::serves_both(known, provider).then_some(by_worker)
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
