//! Fields of providers' responses that do not go on because they break HTTP's grammar: counted one by one, and said
//! once a minute, without a value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::time::Instant;

use super::registered::registered;
use bursar_base::log_throttle::LogThrottle;

/// Of a field's name, in a line.
const MAX_NAME_BYTES: usize = 64;

/// Where in a response a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// In the head of an interim answer (1xx).
    Interim,
    /// In the head.
    Head,
    /// Behind the body.
    Trailers,
}

/// One provider's, in answers of its API and of its token endpoint, over any HTTP.
#[derive(Debug)]
pub struct DroppedFields {
    provider: Arc<str>,
    total: IntCounter,
    throttle: Mutex<LogThrottle>,
}

/// All providers'.
#[derive(Debug, Clone)]
pub(super) struct Dropped {
    total: IntCounterVec,
    providers: Arc<Mutex<HashMap<Arc<str>, Arc<DroppedFields>>>>,
}

impl Dropped {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let total = Opts::new(
            "bursar_upstream_fields_dropped_total",
            "Fields of providers' responses that break HTTP's grammar and do not go on.",
        );
        Ok(Self {
            total: registered(registry, IntCounterVec::new(total, &["provider"])?)?,
            providers: Arc::default(),
        })
    }

    /// A provider's, always the same.
    pub(super) fn of(&self, provider: &str) -> Arc<DroppedFields> {
        let mut providers = self
            .providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = providers.get(provider) {
            return known.clone();
        }
        let provider: Arc<str> = provider.into();
        let new = Arc::new(DroppedFields {
            total: self.total.with_label_values(&[&*provider]),
            provider: provider.clone(),
            throttle: Mutex::default(),
        });
        providers.insert(provider, new.clone());
        new
    }
}

impl Section {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Interim => "interim response",
            Self::Head => "head",
            Self::Trailers => "trailers",
        }
    }
}

impl DroppedFields {
    /// Counts a field. `name` is what stands before its colon; where that is no name, the line says that it was the
    /// `number`th line of its section, counted from 1; 0 stands for none in particular.
    pub fn count(&self, name: &[u8], section: Section, number: usize) {
        self.total.inc();
        if let Some(fields) = self.due() {
            let (provider, section) = (&self.provider, section.as_str());
            tracing::warn!(
                %provider,
                section,
                number,
                field = readable(name),
                fields,
                "a field of a response was dropped, because it breaks HTTP's grammar"
            );
        }
    }

    /// How many fields a line that may be written now stands for.
    fn due(&self) -> Option<u64> {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.due(Instant::now())
    }
}

/// A field's name, where it is one: anything else may be a piece of a value.
fn readable(name: &[u8]) -> Option<&str> {
    let name = http::HeaderName::from_bytes(name).is_ok().then_some(name)?;
    let name = name.get(..MAX_NAME_BYTES).unwrap_or(name);
    std::str::from_utf8(name).ok()
}

impl DroppedFields {
    /// Those of a provider that no scrape shows, for tests.
    ///
    /// # Errors
    /// None that a caller could cause: the registry is new.
    pub fn unregistered() -> Result<Arc<Self>, prometheus::Error> {
        Ok(Dropped::new(&Registry::new())?.of("acme"))
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_field_is_counted_and_all_who_ask_count_together() {
        let all = Dropped::new(&Registry::new()).unwrap();
        assert_eq!(all.of("acme").total.get(), 0);
        for _ in 0..3 {
            all.of("acme").count(b"set-cookie", Section::Head, 1);
        }
        assert_eq!(all.of("acme").total.get(), 3);
        assert_eq!(all.of("other").total.get(), 0);
    }

    #[test]
    fn only_a_name_is_said() {
        assert_eq!(readable(b"Set-Cookie"), Some("Set-Cookie"));
        assert_eq!(readable(b"secret word"), None);
        assert_eq!(readable(b"\x01"), None);
        assert_eq!(readable(b""), None);
        assert_eq!(readable(&[b'a'; 999]).map(str::len), Some(MAX_NAME_BYTES));
    }
}
