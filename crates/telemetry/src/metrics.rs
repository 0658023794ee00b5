//! Metrics: every family, its label values as enums, and the text that Prometheus scrapes.
//!
//! Label values come from the configuration or from the enums here, never from the wire. Families that
//! have a series per account are not here: they are written from the token cells at scrape time.

#![warn(clippy::wildcard_enum_match_arm)]

mod by_caller;
mod certificates;
mod configuration;
mod dropped;
mod fleet;
mod journal;
mod labels;
mod payments;
mod recent_refusals;
mod registered;
mod token_times;
mod totals;
mod upstream;

use std::net::IpAddr;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder as _, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use by_caller::ByCaller;
use by_caller::ByProvider;
use certificates::CertificateSeries;
use configuration::ConfigurationSeries;
use dropped::Dropped;
pub use dropped::{DroppedFields, Section};
pub use fleet::FleetSeries;
pub use journal::JournalSeries;
pub use labels::{
    AdminRefusal, Cause, FetchOutcome, GrantLabel, LeaseResult, Limit, Lookup, NO_PROVIDER,
    PaymentOutcome, Reason, RefusalDetail, Reload, Replay, Unauthorized,
};
pub use payments::AccountPayments;
use payments::Payments;
pub use recent_refusals::{RecentRefusal, RecentRefusals, RefusedRequest};
use registered::{histogram, registered};
pub use token_times::{EndpointSeries, TokenTimes};
pub use totals::Totals;
pub use upstream::UpstreamSeries;

use bursar_base::address::Rule;
use bursar_base::clock;
use bursar_config::{Config, Mode, Provider};

/// The caller's name where there is no authentication, or it failed.
pub const ANONYMOUS: &str = "anonymous";

/// The two kinds of connections.
#[derive(Debug, Clone)]
pub struct Connections {
    /// From callers.
    pub caller: IntGauge,
    /// To providers' APIs.
    pub upstream: IntGauge,
}

/// Requests and answers.
#[derive(Debug, Clone)]
pub struct Requests {
    /// The last responses of Bursar's own.
    pub recent_refusals: Arc<RecentRefusals>,
    by_provider: ByProvider,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    unauthorized: IntCounterVec,
    replays: IntCounterVec,
}

/// Connections that `egress` does not allow.
#[derive(Debug, Clone)]
pub struct EgressSeries(IntCounterVec);

/// Limits that callers meet.
#[derive(Debug, Clone)]
pub struct LimitSeries([IntCounter; Limit::COUNT]);

/// All families.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests and answers.
    pub requests: Requests,
    /// Token calls and waits.
    pub tokens: TokenTimes,
    /// Open connections.
    pub connections: Connections,
    /// Hashes computed for callers' passwords.
    pub password_hashes: IntCounter,
    /// Connections that `egress` does not allow.
    pub egress: EgressSeries,
    /// Limits that callers meet.
    pub limits: LimitSeries,
    /// Connections to providers' servers.
    pub upstream: UpstreamSeries,
    upstream_breaker_open: IntGaugeVec,
    configuration: ConfigurationSeries,
    payments: Payments,
    admin_refusals: [IntCounter; AdminRefusal::COUNT],
    frozen: IntGaugeVec,
    dropped: Dropped,
    /// Registered while there is an authority.
    authority_expiry: IntGauge,
    certificates: CertificateSeries,
    /// The journal.
    pub journal: JournalSeries,
    /// The fleet, where there is one.
    pub fleet: Option<FleetSeries>,
    /// Lines of the log that were lost.
    pub log_lines_dropped: IntCounter,
    /// Spans that were lost.
    pub spans_dropped: IntCounter,
}

/// The series of one provider, looked up once.
#[derive(Debug, Clone)]
pub struct ProviderSeries {
    /// Whose they are.
    pub provider: Arc<Provider>,
    /// Its requests, by caller.
    pub by_caller: ByCaller,
    /// From the request head to the response's last byte.
    pub duration: Histogram,
    /// Requests being served.
    pub in_flight: IntGauge,
    /// Time spent waiting for a token.
    pub token_wait: Histogram,
    /// Its requests that move money, by the index of their account.
    pub payments: Vec<Arc<AccountPayments>>,
    unauthorized: [IntCounter; Unauthorized::COUNT],
    replays: [IntCounter; Replay::COUNT],
}

impl ProviderSeries {
    /// Counts a 401 of the provider.
    pub fn unauthorized(&self, result: Unauthorized) {
        self.unauthorized[result as usize].inc();
    }

    /// Counts what became of a replay.
    pub fn replay(&self, result: Replay) {
        self.replays[result as usize].inc();
    }
}

/// A loopback answer takes a fraction of a millisecond, a provider's a few hundred, and a time-out is a
/// minute: four buckets to a decade from 0.5 ms up.
const REQUEST_SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];
impl Metrics {
    /// Declares every family and creates every series that the configuration lets one know.
    ///
    /// # Errors
    /// Where a name is declared twice, which a test would have shown.
    pub fn new(config: &Config) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = Requests::new(&registry)?;
        let tokens = TokenTimes::new(&registry)?;
        let connections = registered(
            &registry,
            IntGaugeVec::new(
                Opts::new("bursar_connections", "Open connections."),
                &["side"],
            )?,
        )?;
        let egress = EgressSeries::new(&registry)?;
        let limits = LimitSeries::new(&registry)?;
        let open = Opts::new(
            "bursar_upstream_breaker_open",
            "1 while requests are refused because the provider cannot be reached.",
        );
        let upstream_breaker_open = registered(&registry, IntGaugeVec::new(open, &["provider"])?)?;
        show_build(&registry)?;
        let frozen = Opts::new(
            "bursar_provider_frozen",
            "1 while calls that move money to the provider are refused.",
        );
        let frozen = registered(&registry, IntGaugeVec::new(frozen, &["provider"])?)?;
        let authority_expiry = IntGauge::new(
            "bursar_intercept_ca_expiry_timestamp_seconds",
            "When the authority for interception expires.",
        )?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let metrics = Self {
            requests,
            tokens,
            password_hashes: counter(
                &registry,
                "bursar_password_hashes_total",
                "Hashes computed for callers' passwords.",
            )?,
            upstream: UpstreamSeries::new(&registry)?,
            upstream_breaker_open,
            connections: Connections {
                caller: connections.with_label_values(&["caller"]),
                upstream: connections.with_label_values(&["upstream"]),
            },
            egress,
            limits,
            configuration: ConfigurationSeries::new(&registry)?,
            payments: Payments::new(&registry)?,
            admin_refusals: admin_refusals(&registry)?,
            frozen,
            dropped: Dropped::new(&registry)?,
            authority_expiry,
            certificates: CertificateSeries::new(&registry)?,
            journal: JournalSeries::new(&registry)?,
            fleet: match config.fleet {
                Some(_) => Some(FleetSeries::new(&registry)?),
                None => None,
            },
            log_lines_dropped: counter(
                &registry,
                "bursar_log_lines_dropped_total",
                "Lines of the log that were lost, because nobody read it or it could not be written.",
            )?,
            spans_dropped: spans_dropped(&registry)?,
            registry,
        };
        metrics.follow(config);
        Ok(metrics)
    }

    /// Creates every series that the configuration lets one know. Those of an earlier configuration stay:
    /// what was counted was counted.
    pub fn follow(&self, config: &Config) {
        // Refused where it is there already, or not there at all.
        drop(match &config.intercept {
            Some(authority) => {
                self.authority_expiry.set(authority.expiry());
                self.registry
                    .register(Box::new(self.authority_expiry.clone()))
            }
            None => self
                .registry
                .unregister(Box::new(self.authority_expiry.clone())),
        });
        self.certificates.show(config);
        self.configuration.show(config.hash);
        let none = &self.requests.by_provider.none;
        none.declare_refusals(ANONYMOUS);
        for caller in config.callers.iter().flatten() {
            none.declare_refusals(&caller.name);
        }
        for provider in &config.providers {
            drop(self.provider(provider));
            drop(self.dropped_fields(&provider.name));
            self.journal.declare(&provider.name);
            self.upstream.declare(&provider.name);
        }
        let mut pairs = Vec::new();
        match &config.callers {
            Some(callers) => {
                for caller in callers {
                    for allow in &caller.allow {
                        pairs.extend(
                            config
                                .providers
                                .get(allow.provider)
                                .map(|provider| (&provider.name, &*caller.name)),
                        );
                    }
                }
            }
            None => pairs.extend(
                config
                    .providers
                    .iter()
                    .map(|provider| (&provider.name, ANONYMOUS)),
            ),
        }
        for (provider, caller) in pairs {
            self.requests.by_provider.of(provider).declare(caller);
        }
    }

    /// Whether calls that move money to a provider are refused. None: there is no such provider, and no series of it.
    pub fn frozen(&self, provider: &str, is_frozen: Option<bool>) {
        match is_frozen {
            Some(is_frozen) => {
                let gauge = self.frozen.with_label_values(&[provider]);
                gauge.set(i64::from(is_frozen));
            }
            // Refused where there is none.
            None => drop(self.frozen.remove_label_values(&[provider])),
        }
    }

    /// Counts a request that the admin port refused.
    pub fn admin_refused(&self, reason: AdminRefusal) {
        self.admin_refusals[reason as usize].inc();
    }

    /// Counts an attempt to re-read the configuration.
    pub fn reloaded(&self, outcome: Reload) {
        self.configuration.reloaded(outcome);
    }

    /// How many attempts to re-read the configuration ended like that.
    #[must_use]
    pub fn reloads(&self, outcome: Reload) -> u64 {
        self.configuration.count(outcome)
    }

    /// The series of one provider.
    #[must_use]
    pub fn provider(&self, provider: &Arc<Provider>) -> ProviderSeries {
        let (requests, name) = (&self.requests, &*provider.name);
        ProviderSeries {
            provider: provider.clone(),
            by_caller: requests.by_provider.of(name),
            duration: requests.duration.with_label_values(&[name]),
            in_flight: requests.in_flight.with_label_values(&[name]),
            token_wait: self.tokens.wait.with_label_values(&[name]),
            payments: self.payments.of(provider),
            unauthorized: Unauthorized::ALL.map(|result| {
                requests
                    .unauthorized
                    .with_label_values(&[name, result.as_str()])
            }),
            replays: Replay::ALL
                .map(|result| requests.replays.with_label_values(&[name, result.as_str()])),
        }
    }

    /// Whether requests to a provider are refused because it cannot be reached.
    #[must_use]
    pub fn upstream_breaker_open(&self, provider: &str) -> IntGauge {
        self.upstream_breaker_open.with_label_values(&[provider])
    }

    /// Fields of a provider's responses that do not go on.
    #[must_use]
    pub fn dropped_fields(&self, provider: &str) -> Arc<DroppedFields> {
        self.dropped.of(provider)
    }

    /// Adds a family that is written at scrape time.
    ///
    /// # Errors
    /// Where a name is declared twice.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        self.registry.register(collector)
    }

    /// What was counted since the start, all providers, callers and accounts together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let (requests, absorbed) = self.requests.totals();
        Totals {
            requests,
            absorbed,
            refusals: self.requests.recent_refusals.total(),
            in_doubt: self.payments.in_doubt(),
        }
    }

    /// Everything, in the Prometheus text format.
    ///
    /// # Errors
    /// Where a collector yields what cannot be written.
    pub fn scrape(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Requests {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let in_flight = Opts::new("bursar_requests_in_flight", "Requests being served.");
        Ok(Self {
            recent_refusals: Arc::default(),
            by_provider: ByProvider::new(registry)?,
            duration: histogram(
                registry,
                "bursar_request_duration_seconds",
                "From the request's head to the response's last byte.",
                &REQUEST_SECONDS,
                &["provider"],
            )?,
            in_flight: registered(registry, IntGaugeVec::new(in_flight, &["provider"])?)?,
            unauthorized: counter(
                "bursar_unauthorized_total",
                "401s of providers, absorbed by a replay or surfaced to the caller.",
                &["provider", "result"],
            )?,
            replays: counter(
                "bursar_replays_total",
                "What became of replays after a 401.",
                &["provider", "result"],
            )?,
        })
    }

    /// Of requests that are for no provider.
    #[must_use]
    pub fn without_provider(&self) -> &ByCaller {
        &self.by_provider.none
    }

    /// Counts a response of Bursar's own to a request of which nobody knows whose and for whom it was.
    pub fn refused(&self, reason: Reason, client: IpAddr) {
        self.by_provider.none.refused(ANONYMOUS, reason);
        self.recent_refusals.add(RecentRefusal {
            at: clock::wall(),
            reason,
            detail: None,
            cause: None,
            client,
            request: None,
        });
    }

    /// How many requests there were, those under way apart; how many 401s were absorbed.
    fn totals(&self) -> (u64, u64) {
        let families = self.duration.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let for_providers: u64 = metrics
            .map(|metric| metric.get_histogram().get_sample_count())
            .sum();
        let others = self.by_provider.none.responses() + self.recent_refusals.without_provider();
        let absorbed = totals::sum(&self.unauthorized, |metric| {
            let mut labels = metric.get_label().iter();
            labels.any(|label| {
                label.name() == "result" && label.value() == Unauthorized::Absorbed.as_str()
            })
        });
        (for_providers + others, absorbed)
    }
}

impl EgressSeries {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let denied = Opts::new(
            "bursar_egress_denied_total",
            "Connections to addresses that a rule refuses; in mode report they were made all the same.",
        );
        let denied = registered(registry, IntCounterVec::new(denied, &["rule", "mode"])?)?;
        for (rule, mode) in Rule::ALL
            .iter()
            .flat_map(|rule| Mode::ALL.map(|mode| (rule, mode)))
        {
            denied.with_label_values(&[rule.as_str(), mode.as_str()]);
        }
        Ok(Self(denied))
    }

    /// Counts a connection to an address that the rule refuses.
    pub fn denied(&self, rule: Rule, mode: Mode) {
        self.0
            .with_label_values(&[rule.as_str(), mode.as_str()])
            .inc();
    }
}

impl LimitSeries {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reached = Opts::new(
            "bursar_limit_reached_total",
            "How often a limit of requests and connections was reached.",
        );
        let reached = registered(registry, IntCounterVec::new(reached, &["limit"])?)?;
        Ok(Self(
            Limit::ALL.map(|limit| reached.with_label_values(&[limit.as_str()])),
        ))
    }

    /// Counts a limit that somebody has reached.
    pub fn reached(&self, limit: Limit) {
        self.0[limit as usize].inc();
    }
}

fn admin_refusals(
    registry: &Registry,
) -> Result<[IntCounter; AdminRefusal::COUNT], prometheus::Error> {
    let refusals = Opts::new(
        "bursar_admin_refusals_total",
        "Requests that the admin port refused.",
    );
    let refusals = registered(registry, IntCounterVec::new(refusals, &["reason"])?)?;
    Ok(AdminRefusal::ALL.map(|reason| refusals.with_label_values(&[reason.as_str()])))
}

fn show_build(registry: &Registry) -> Result<(), prometheus::Error> {
    let build = Opts::new(
        "bursar_build_info",
        "Always 1; the label says what is running.",
    );
    let build = registered(registry, IntGaugeVec::new(build, &["version"])?)?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    Ok(())
}

fn spans_dropped(registry: &Registry) -> Result<IntCounter, prometheus::Error> {
    counter(
        registry,
        "bursar_spans_dropped_total",
        "Spans that were lost, because the queue was full or the receiver did not take them.",
    )
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(registry, IntCounter::new(name, help)?)
}

/// Counts one up while it lives.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Counted {
    /// Goes down when it is dropped.
    #[must_use]
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
