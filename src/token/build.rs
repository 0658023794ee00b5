//! Which sources are there? One for each token key of a configuration; a key that stays keeps what it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::endpoint_limiter::EndpointLimiter;
use super::grants::FetchCounts;
use super::request::{Sockets, Transport};
use super::secret_in_use::SecretInUse;
use super::source::{Parts, ScheduledRenewal, Source};
use crate::upstream::connect::Connector;
use crate::upstream::egress::Egress;
use bursar_config::{Account, Provider, SecretName};
use bursar_telemetry::metrics::{GrantLabel, Metrics};

/// What the sources of one configuration are made with.
pub(super) struct Builder<'a> {
    metrics: &'a Metrics,
    egress: &'a Egress,
    schedule: mpsc::Sender<ScheduledRenewal>,
    ids: AtomicUsize,
    /// ProviderSources of the configuration before, by [`Source::place`].
    old: HashMap<(&'a str, &'a str, &'a str), &'a Arc<Source>>,
    /// A source of each account before, by provider and account.
    accounts: HashMap<(&'a str, &'a str), &'a Arc<Source>>,
    /// By provider.
    limiters: HashMap<&'a str, (&'a Provider, &'a Arc<EndpointLimiter>)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        metrics: &'a Metrics,
        egress: &'a Egress,
        schedule: &mpsc::Sender<ScheduledRenewal>,
    ) -> Self {
        Self {
            metrics,
            egress,
            schedule: schedule.clone(),
            ids: AtomicUsize::new(0),
            old: HashMap::new(),
            accounts: HashMap::new(),
            limiters: HashMap::new(),
        }
    }

    /// These are to be succeeded where their keys stay.
    pub(super) fn take_over(
        &mut self,
        old: impl Iterator<Item = &'a Arc<Source>>,
        limiters: &'a [Arc<EndpointLimiter>],
    ) {
        for source in old {
            let place = source.place();
            let provider = &*source.provider;
            if let Some(limiter) = limiters.get(provider.index) {
                self.limiters.insert(&provider.name, (provider, limiter));
            }
            self.accounts.insert((place.0, place.1), source);
            self.old.insert(place, source);
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
                Arc::new(EndpointLimiter::new(&provider.name, calls, series))
            }
        }
    }

    /// What the sources of an account share: its counts, and which of its secrets works while both are the same.
    fn shared(
        &self,
        provider: &Provider,
        account: &Account,
    ) -> (Arc<FetchCounts>, Arc<SecretInUse>) {
        let known = self.accounts.get(&(&*provider.name, &*account.name));
        let Some(known) = known else {
            return (Arc::default(), Arc::default());
        };
        let (fetches, secret) = known.shared();
        let secrets = |account: &Account| SecretName::ALL.map(|name| account.secret(name).cloned());
        let secret = match secrets(known.account()) == secrets(account) {
            true => secret.clone(),
            false => Arc::default(),
        };
        (fetches.clone(), secret)
    }

    /// Whatever was not succeeded has a key that is gone.
    pub(super) fn retire_the_rest(self) {
        let left = self.old.into_values().filter(|source| source.is_renewer());
        left.for_each(|source| source.retire());
    }

    /// All scope sets of a provider's first account, then of its second, ….
    pub(super) fn sources(
        &self,
        provider: &Arc<Provider>,
        limiter: &Arc<EndpointLimiter>,
    ) -> Vec<Arc<Source>> {
        let connect_timeout = provider.timeouts.connect;
        let transport: Arc<dyn Transport> = Arc::new(Sockets {
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
        let fetch_durations = GrantLabel::ALL.map(histogram);
        let mut sources = Vec::with_capacity(provider.accounts.len() * provider.scope_sets.len());
        for (account, credentials) in provider.accounts.iter().enumerate() {
            let (fetches, secret) = self.shared(provider, credentials);
            for (set, scopes) in provider.scope_sets.iter().enumerate() {
                let parts = Parts {
                    id: self.ids.fetch_add(1, Ordering::Relaxed),
                    provider: provider.clone(),
                    account,
                    scopes: scopes.clone(),
                    at_startup: provider.default_scopes == Some(set),
                    transport: transport.clone(),
                    schedule: self.schedule.clone(),
                    fetches: fetches.clone(),
                    secret: secret.clone(),
                    limiter: limiter.clone(),
                    fetch_durations: fetch_durations.clone(),
                };
                sources.push(self.source(parts));
            }
        }
        sources
    }

    fn source(&self, parts: Parts) -> Arc<Source> {
        let place = (
            &*parts.provider.name,
            &*parts.credentials().name,
            &*parts.scopes,
        );
        match self.old.get(&place) {
            Some(old) if old.has_key_of(&parts) => old.succeeded_by(parts),
            _ => Source::new(parts),
        }
    }
}
