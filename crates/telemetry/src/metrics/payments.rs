//! Metrics of payments: what became of requests that move money, by account. Counted apart and written at scrape time, so
//! that ten thousand accounts are three numbers each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

use super::labels::PaymentOutcome;
use bursar_config::Provider;

const NAME: &str = "bursar_payments_total";
const HELP: &str =
    "Requests that move money, from when their account was chosen, by what became of them.";

/// Provider and account.
type Key = (Arc<str>, Box<str>);

/// The counts of all accounts. Those of an account that a reload removes stay.
#[derive(Debug, Clone)]
pub(super) struct Payments {
    accounts: Arc<Mutex<BTreeMap<Key, Arc<AccountPayments>>>>,
    description: Desc,
}

/// The counts of one account.
#[derive(Debug, Default)]
pub struct AccountPayments([AtomicU64; PaymentOutcome::COUNT]);

impl AccountPayments {
    /// Counts a request that is over.
    pub fn add(&self, outcome: PaymentOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Payments {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["provider", "account", "outcome"].map(str::to_owned);
        let payments = Self {
            accounts: Arc::default(),
            description: Desc::new(
                NAME.to_owned(),
                HELP.to_owned(),
                labels.to_vec(),
                std::collections::HashMap::new(),
            )?,
        };
        registry.register(Box::new(payments.clone()))?;
        Ok(payments)
    }

    /// Those in doubt, of all accounts.
    pub(super) fn in_doubt(&self) -> u64 {
        let known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let in_doubt = PaymentOutcome::InDoubt as usize;
        let counts = known.values().map(|counts| &counts.0[in_doubt]);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The counts of a provider's accounts, in their order.
    pub(super) fn of(&self, provider: &Provider) -> Vec<Arc<AccountPayments>> {
        let mut known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = provider.accounts.iter();
        let counts = accounts.map(|account| {
            let key = (provider.name.clone(), account.name.as_str().into());
            known.entry(key).or_default().clone()
        });
        counts.collect()
    }
}

impl Collector for Payments {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = known.iter().flat_map(|((provider, account), counts)| {
            PaymentOutcome::ALL.map(|outcome| {
                let mut counter = Counter::default();
                // Exact up to 2^53.
                counter.set_value(counts.0[outcome as usize].load(Ordering::Relaxed) as f64);
                let mut metric = Metric::from_label(vec![
                    label("account", account),
                    label("outcome", outcome.as_str()),
                    label("provider", provider),
                ]);
                metric.set_counter(counter);
                metric
            })
        });
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
