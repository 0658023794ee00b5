//! Metrics of the tokens: series per account, written from the sources at scrape time, so
//! that ten thousand accounts cost nothing between two scrapes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use tokio::time::Instant;

use super::snapshot::{Snapshot, TokenSnapshot};
use super::source::Source;
use bursar_base::clock;
use bursar_config::{Refresh, SecretName};
use bursar_telemetry::metrics::{FetchOutcome, GrantLabel};

/// The sources of the configuration that is in force.
pub(super) type InForce = Arc<ArcSwap<Vec<Arc<Source>>>>;

/// The families that this module writes.
pub(super) struct TokenSeries {
    sources: InForce,
    descriptions: Vec<Desc>,
}

/// A metric family.
#[derive(Clone, Copy)]
struct Family {
    name: &'static str,
    help: &'static str,
}

const EXPIRY: Family = Family {
    name: "bursar_token_expiry_timestamp_seconds",
    help: "When the token ends; 0 while there is none.",
};
const ISSUED: Family = Family {
    name: "bursar_token_issued_timestamp_seconds",
    help: "When the token was asked for; 0 while there is none.",
};
const GENERATION: Family = Family {
    name: "bursar_token_generation",
    help: "Counts the different tokens of a key.",
};
const FAILING: Family = Family {
    name: "bursar_token_renewal_failing",
    help: "1 while a token that is wanted cannot be had or renewed.",
};
const FETCHES: Family = Family {
    name: "bursar_token_fetches_total",
    help: "Calls to token endpoints.",
};

const SECRET: Family = Family {
    name: "bursar_secret_in_use",
    help: "1 for the secret of an account that the token endpoint took last.",
};

const CONTENTION: Family = Family {
    name: "bursar_token_contention_total",
    help: "Young tokens refused by the provider, one after the other: instances are revoking each other.",
};

const TOKEN_LABELS: [&str; 3] = ["provider", "account", "scopes"];
const FETCH_LABELS: [&str; 4] = ["provider", "account", "grant", "outcome"];
const CONTENTION_LABELS: [&str; 2] = ["provider", "account"];
const SECRET_LABELS: [&str; 3] = ["provider", "account", "secret"];

impl TokenSeries {
    pub(super) fn new(sources: InForce) -> Result<Self, prometheus::Error> {
        let describe = |Family { name, help }: Family, labels: &[&str]| {
            let labels = labels.iter().map(ToString::to_string).collect();
            Desc::new(
                name.to_owned(),
                help.to_owned(),
                labels,
                std::collections::HashMap::new(),
            )
        };
        Ok(Self {
            sources,
            descriptions: vec![
                describe(EXPIRY, &TOKEN_LABELS)?,
                describe(ISSUED, &TOKEN_LABELS)?,
                describe(GENERATION, &TOKEN_LABELS)?,
                describe(FAILING, &TOKEN_LABELS)?,
                describe(FETCHES, &FETCH_LABELS)?,
                describe(SECRET, &SECRET_LABELS)?,
                describe(CONTENTION, &CONTENTION_LABELS)?,
            ],
        })
    }

    fn of_tokens(&self, declared: Family, value: impl Fn(&TokenSnapshot) -> f64) -> MetricFamily {
        self.gauges(declared, |snapshot| {
            snapshot.token.as_ref().map_or(0.0, &value)
        })
    }

    fn gauges(&self, declared: Family, value: impl Fn(&Snapshot) -> f64) -> MetricFamily {
        let now = Instant::now();
        let sources = self.sources.load();
        let metrics = sources.iter().map(|source| {
            let snapshot = source.snapshot(now);
            let mut gauge = Gauge::default();
            gauge.set_value(value(&snapshot));
            let mut metric = Metric::from_label(labels(
                &TOKEN_LABELS,
                &[
                    &source.key.provider.name,
                    &source.key.account().name,
                    &source.key.scopes,
                ],
            ));
            metric.set_gauge(gauge);
            metric
        });
        family(declared, MetricType::GAUGE, metrics.collect())
    }

    fn fetches(&self) -> MetricFamily {
        let sources = self.sources.load();
        let mut sums: BTreeMap<[&str; 4], u64> = BTreeMap::new();
        for source in sources.iter() {
            for grant in GrantLabel::ALL {
                if grant == GrantLabel::RefreshToken
                    && source.key.provider.token.refresh == Refresh::None
                {
                    continue;
                }
                for outcome in FetchOutcome::ALL {
                    let key = [
                        &*source.key.provider.name,
                        &source.key.account().name,
                        grant.as_str(),
                        outcome.as_str(),
                    ];
                    sums.entry(key)
                        .or_insert_with(|| source.fetches(grant, outcome));
                }
            }
        }
        counters(FETCHES, &FETCH_LABELS, sums)
    }

    fn contentions(&self) -> MetricFamily {
        let now = Instant::now();
        let sources = self.sources.load();
        let mut sums: BTreeMap<[&str; 2], u64> = BTreeMap::new();
        for source in sources.iter() {
            let key = [&*source.key.provider.name, &*source.key.account().name];
            *sums.entry(key).or_default() += source.snapshot(now).contentions;
        }
        counters(CONTENTION, &CONTENTION_LABELS, sums)
    }
}

impl TokenSeries {
    /// One series for each secret of each account; the sources of an account agree.
    fn secrets(&self) -> MetricFamily {
        let sources = self.sources.load();
        let mut values: BTreeMap<[&str; 3], bool> = BTreeMap::new();
        for source in sources.iter() {
            let account = source.key.account();
            for name in SecretName::ALL {
                if account.secret(name).is_some() {
                    let key = [&*source.key.provider.name, &*account.name, name.as_str()];
                    values.insert(key, source.secret_in_use() == name);
                }
            }
        }
        let metrics = values.into_iter().map(|(values, is_in_use)| {
            let mut gauge = Gauge::default();
            gauge.set_value(f64::from(u8::from(is_in_use)));
            let mut metric = Metric::from_label(labels(&SECRET_LABELS, &values));
            metric.set_gauge(gauge);
            metric
        });
        family(SECRET, MetricType::GAUGE, metrics.collect())
    }
}

impl Collector for TokenSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let wall = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        vec![
            self.of_tokens(EXPIRY, |token| {
                at(wall.saturating_sub(token.age) + token.lifetime)
            }),
            self.of_tokens(ISSUED, |token| at(wall.saturating_sub(token.age))),
            self.of_tokens(GENERATION, |token| token.generation as f64),
            self.gauges(FAILING, |snapshot| {
                f64::from(u8::from(snapshot.is_renewal_failing))
            }),
            self.fetches(),
            self.secrets(),
            self.contentions(),
        ]
    }
}

fn counters<const N: usize>(
    declared: Family,
    names: &[&str; N],
    sums: BTreeMap<[&str; N], u64>,
) -> MetricFamily {
    let metrics = sums.into_iter().map(|(values, sum)| {
        let mut counter = Counter::default();
        // Exact up to 2^53.
        counter.set_value(sum as f64);
        let mut metric = Metric::from_label(labels(names, &values));
        metric.set_counter(counter);
        metric
    });
    family(declared, MetricType::COUNTER, metrics.collect())
}

fn family(declared: Family, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(declared.name.to_owned());
    family.set_help(declared.help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labels(names: &[&str], values: &[&str]) -> Vec<LabelPair> {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    names.iter().zip(values).map(pair).collect()
}
