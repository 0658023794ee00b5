//! Builder of the sources of a configuration: one for each token key; a key that stays keeps what it has.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::acquire::Acquire;
use super::call_log::{CallCounts, CallLog};
use super::endpoint_limiter::EndpointLimiter;
use super::fleet::{FleetKey, FleetTokens};
use super::grants::Grants;
use super::request::{HttpTransport, Transport};
use super::secret_in_use::SecretInUse;
use super::source::{KeyState, ScheduledRenewal, Source};
use super::token_key::TokenKey;
use crate::upstream::connect::Connector;
use crate::upstream::egress::Egress;
use bursar_config::{Account, Provider, SecretName};
use bursar_telemetry::metrics::{GrantLabel, Metrics};
use bursar_traces::Tracer;

/// What the sources of one configuration are made with.
pub(super) struct Builder<'a> {
    metrics: &'a Metrics,
    egress: &'a Egress,
    schedule: mpsc::Sender<ScheduledRenewal>,
    ids: AtomicUsize,
    /// Sources of the configuration before, by [`TokenKey::names`].
    old: HashMap<(&'a str, &'a str, &'a str), &'a Arc<Source>>,
    /// A source of each account before, by provider and account.
    accounts: HashMap<(&'a str, &'a str), &'a Arc<Source>>,
    /// By provider.
    limiters: HashMap<&'a str, (&'a Provider, &'a Arc<EndpointLimiter>)>,
    fleet: Option<Arc<FleetTokens>>,
    tracer: Option<&'a Tracer>,
    /// What was made for the fleet.
    shared: RefCell<Vec<Arc<FleetKey>>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        metrics: &'a Metrics,
        egress: &'a Egress,
        schedule: &mpsc::Sender<ScheduledRenewal>,
        fleet: Option<Arc<FleetTokens>>,
        tracer: Option<&'a Tracer>,
    ) -> Self {
        Self {
            metrics,
            egress,
            schedule: schedule.clone(),
            ids: AtomicUsize::new(0),
            old: HashMap::new(),
            accounts: HashMap::new(),
            limiters: HashMap::new(),
            fleet,
            tracer,
            shared: RefCell::default(),
        }
    }

    /// These are to be succeeded where their keys stay.
    pub(super) fn take_over(
        &mut self,
        old: impl Iterator<Item = &'a Arc<Source>>,
        limiters: &'a [Arc<EndpointLimiter>],
    ) {
        for source in old {
            let names = source.key.names();
            let provider = &*source.key.provider;
            if let Some(limiter) = limiters.get(provider.index) {
                self.limiters.insert(&provider.name, (provider, limiter));
            }
            self.accounts.insert((names.0, names.1), source);
            self.old.insert(names, source);
        }
    }

    /// A provider's limiter; the one before where it is for the same endpoint.
    pub(super) fn limiter(&self, provider: &Provider) -> Arc<EndpointLimiter> {
        let (url, calls) = (&provider.token.url, provider.token.calls_per_minute);
        match self.limiters.get(&*provider.name) {
            Some((old, limiter)) if old.token.url == *url => {
                limiter.change_quota(calls);
                Arc::clone(limiter)
            }
            _ => {
                let series = self.metrics.tokens.endpoint(&provider.name);
                let fleet = self.fleet.as_ref().map(|fleet| fleet.fleet().clone());
                Arc::new(EndpointLimiter::new(&provider.name, calls, series, fleet))
            }
        }
    }

    /// What the sources of an account share: its counts, and which of its secrets works while both are the same.
    fn shared(
        &self,
        provider: &Provider,
        account: &Account,
    ) -> (Arc<CallCounts>, Arc<SecretInUse>) {
        let known = self.accounts.get(&(&*provider.name, &*account.name));
        let Some(known) = known else {
            return (Arc::default(), Arc::default());
        };
        let secrets = |account: &Account| SecretName::ALL.map(|name| account.secret(name).cloned());
        let secret = match secrets(known.key.account()) == secrets(account) {
            true => known.secret.clone(),
            false => Arc::default(),
        };
        (known.calls.counts().clone(), secret)
    }

    /// Whatever was not succeeded has a key that is gone. Those that are shared with the fleet.
    pub(super) fn retire_the_rest(self) -> Vec<Arc<FleetKey>> {
        let left = self.old.into_values().filter(|source| source.is_renewer());
        left.for_each(|source| source.retire());
        self.shared.into_inner()
    }

    /// Where the tokens of a key come from.
    fn acquirer(&self, key: &TokenKey, state: &Arc<KeyState>, grants: Grants) -> Box<dyn Acquire> {
        let Some(fleet) = &self.fleet else {
            return Box::new(grants);
        };
        let key = Arc::new(FleetKey::new(fleet.fleet(), key, state));
        self.shared.borrow_mut().push(key.clone());
        Box::new(fleet.acquire(key, grants))
    }

    /// All scope sets of a provider's first account, then of its second, ….
    pub(super) fn sources(
        &self,
        provider: &Arc<Provider>,
        limiter: &Arc<EndpointLimiter>,
    ) -> Vec<Arc<Source>> {
        let connect_timeout = provider.timeouts.connect;
        let transport: Arc<dyn Transport> = Arc::new(HttpTransport {
            connector: Connector::new(
                provider.tls.http1.clone(),
                connect_timeout,
                self.egress.token(provider),
                self.egress.token_proxy(),
            )
            .with_reserve(),
            dropped: self.metrics.dropped_fields(&provider.name),
        });
        let histogram = |grant| self.metrics.tokens.fetch_duration(&provider.name, grant);
        let durations = GrantLabel::ALL.map(histogram);
        let mut sources = Vec::with_capacity(provider.accounts.len() * provider.scope_sets.len());
        for (account, credentials) in provider.accounts.iter().enumerate() {
            let (counts, secret) = self.shared(provider, credentials);
            for (set, scopes) in provider.scope_sets.iter().enumerate() {
                let key = TokenKey::new(provider, account, scopes);
                let old = self.old.get(&key.names()).copied();
                let same = old.filter(|old| key.is_same_as(&old.key));
                let state = same.map(|old| old.state.clone()).unwrap_or_default();
                let calls = CallLog::new(counts.clone(), state.latest_call.clone());
                let grants = Grants {
                    key: key.clone(),
                    secret: secret.clone(),
                    limiter: limiter.clone(),
                    transport: transport.clone(),
                    refresh_token: state.refresh_token.clone(),
                    calls: calls.clone(),
                    durations: durations.clone(),
                };
                let acquirer = self.acquirer(&key, &state, grants);
                let source = Source {
                    id: self.ids.fetch_add(1, Ordering::Relaxed),
                    key,
                    at_startup: provider.default_scopes == Some(set),
                    state,
                    acquirer,
                    is_shared: self.fleet.is_some(),
                    calls,
                    secret: secret.clone(),
                    limiter: limiter.clone(),
                    schedule: self.schedule.clone(),
                    tracer: self.tracer.cloned(),
                };
                let is_replaced = |old: &&Arc<Source>| source.key.is_same_but_for_secret(&old.key);
                sources.push(match (same, old.filter(is_replaced)) {
                    (Some(same), _) => source.succeed(same),
                    (None, Some(old)) => source.replace(old),
                    (None, None) => source.start(),
                });
            }
        }
        sources
    }
}
