//! Metric families with a series for each caller.
//!
//! prometheus finds a series by the hash of its label values one after the other, with nothing between them: to it,
//! provider `pay` with caller `user` would be provider `payu` with caller `ser`. So each provider has vectors of its
//! own, which Prometheus sees as one family. A status always has three digits, and no reason is the end of another one,
//! so there is no doubt beside those.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use prometheus::{IntCounterVec, Opts, Registry};

use super::labels::{NO_PROVIDER, Reason};
use super::registered::registered;

/// The vectors of all providers.
#[derive(Debug, Clone)]
pub(super) struct ByProvider {
    registry: Registry,
    providers: Arc<Mutex<HashMap<String, ByCaller>>>,
    /// Of requests that are for no provider.
    pub(super) none: ByCaller,
}

/// The series of one provider, by caller.
#[derive(Debug, Clone)]
pub struct ByCaller {
    total: IntCounterVec,
    refusals: IntCounterVec,
    credentials_replaced: IntCounterVec,
}

impl ByProvider {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            registry: registry.clone(),
            providers: Arc::default(),
            none: ByCaller::new(registry, NO_PROVIDER)?,
        })
    }

    /// Those of a provider, from then on for ever.
    pub(super) fn of(&self, provider: &str) -> ByCaller {
        let mut providers = self
            .providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = providers.get(provider) {
            return known.clone();
        }
        // It cannot fail: any text is a label's value, each provider comes here once, and none is called `none`.
        let new = ByCaller::new(&self.registry, provider).unwrap_or_else(|_| self.none.clone());
        providers.insert(provider.to_owned(), new.clone());
        new
    }
}

impl ByCaller {
    fn new(registry: &Registry, provider: &str) -> Result<Self, prometheus::Error> {
        let counter = |name, help, labels: &[&str]| {
            let options = Opts::new(name, help).const_label("provider", provider);
            registered(registry, IntCounterVec::new(options, labels)?)
        };
        Ok(Self {
            total: counter(
                "bursar_requests_total",
                "Responses of providers.",
                &["caller", "status"],
            )?,
            refusals: counter(
                "bursar_refusals_total",
                "Responses of Bursar's own, and requests without one because their caller left.",
                &["caller", "reason"],
            )?,
            credentials_replaced: counter(
                "bursar_caller_credentials_replaced_total",
                "Requests that still carried an Authorization of their own.",
                &["caller"],
            )?,
        })
    }

    /// Makes a caller's series known before its first request.
    pub(super) fn declare(&self, caller: &str) {
        self.total.with_label_values(&[caller, "200"]);
        self.credentials_replaced.with_label_values(&[caller]);
        self.declare_refusals(caller);
    }

    /// The same for its refusals alone.
    pub(super) fn declare_refusals(&self, caller: &str) {
        for reason in Reason::ALL {
            self.refusals.with_label_values(&[caller, reason.as_str()]);
        }
    }

    /// Counts a response of Bursar's own.
    pub fn refused(&self, caller: &str, reason: Reason) {
        let series = self.refusals.with_label_values(&[caller, reason.as_str()]);
        series.inc();
    }

    /// Counts a provider's response.
    pub fn add_response(&self, caller: &str, status: StatusCode) {
        let series = self.total.with_label_values(&[caller, status.as_str()]);
        series.inc();
    }

    /// How many responses of a provider there were.
    pub(super) fn responses(&self) -> u64 {
        super::totals::sum(&self.total, |_| true)
    }

    /// Counts a request that carried an `Authorization` of its own.
    pub fn credentials_replaced(&self, caller: &str) {
        self.credentials_replaced.with_label_values(&[caller]).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn no_reason_is_the_end_of_another_one() {
        for one in Reason::ALL {
            let ends = |other: &Reason| *other != one && other.as_str().ends_with(one.as_str());
            assert!(!Reason::ALL.iter().any(ends), "{one:?}");
        }
    }

    #[test]
    fn names_that_are_the_same_one_after_the_other_are_counted_apart() {
        let registry = Registry::new();
        let all = ByProvider::new(&registry).unwrap();
        for (provider, caller) in [("pay", "user"), ("payu", "ser"), ("payu", "ser")] {
            all.of(provider).add_response(caller, StatusCode::OK);
            all.of(provider).credentials_replaced(caller);
            all.of(provider).refused(caller, Reason::Loop);
        }
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            [
                r#"bursar_caller_credentials_replaced_total{caller="ser",provider="payu"} 2"#,
                r#"bursar_caller_credentials_replaced_total{caller="user",provider="pay"} 1"#,
                r#"bursar_refusals_total{caller="ser",provider="payu",reason="loop"} 2"#,
                r#"bursar_refusals_total{caller="user",provider="pay",reason="loop"} 1"#,
                r#"bursar_requests_total{caller="ser",provider="payu",status="200"} 2"#,
                r#"bursar_requests_total{caller="user",provider="pay",status="200"} 1"#,
            ]
        );
    }
}
