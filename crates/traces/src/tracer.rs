//! The tracer of a configuration: its sampler, and the queue to the task that exports.
//!
//! The task lives as long as somebody can put spans into its queue, or until it is told that this is the end. A reload
//! that names the same endpoint goes on with the same task, which trusts from then on what the new configuration trusts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use prometheus::IntCounter;
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::context::Parent;
use crate::exporter::{Client, Exporter};
use crate::request::{RequestHead, RequestTrace};
use crate::resource::resource;
use crate::sampler::Sampler;
use crate::span::Span;
use bursar_base::log_throttle::LogThrottle;
use bursar_config::Traces;

/// Spans that wait for their export; further ones are dropped.
const QUEUE: usize = 4096;
/// How long the end of the process waits for the last spans to be exported.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Decides which requests are sampled, and takes their spans.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sampler: Sampler,
    queue: mpsc::Sender<Span>,
    export: Arc<Export>,
}

/// The task.
#[derive(Debug)]
struct Export {
    endpoint: Uri,
    dropped: IntCounter,
    /// Of spans that the queue has no room for.
    log: Mutex<LogThrottle>,
    /// That of the configuration in force, for the next connection. None: the endpoint speaks no TLS.
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
    /// Becomes true at the end of the process.
    ending: watch::Sender<bool>,
    /// None once it was waited for.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Tracer {
    /// Starts to export, where that is configured. `before` is that of the configuration before; `dropped` counts the
    /// spans that do not arrive. Has to be called inside a runtime.
    #[must_use]
    pub fn start(
        config: Option<&Traces>,
        before: Option<&Self>,
        dropped: &IntCounter,
    ) -> Option<Self> {
        let config = config?;
        let same = before.filter(|before| before.0.export.endpoint == config.endpoint);
        let (queue, export) = match same {
            Some(before) => {
                before.0.export.tls.send_replace(config.tls.clone());
                (before.0.queue.clone(), before.0.export.clone())
            }
            None => Export::start(config, dropped),
        };
        Some(Self(Arc::new(Shared {
            sampler: Sampler::new(config),
            queue,
            export,
        })))
    }

    /// Decides for a request whose caller said that, and is known or not.
    #[must_use]
    pub fn sample(
        &self,
        parent: Option<Parent>,
        is_known: bool,
        head: &RequestHead<'_>,
    ) -> Option<Box<RequestTrace>> {
        let sampled = self.0.sampler.sample(parent, is_known, head.came)?;
        Some(RequestTrace::new(sampled, head))
    }

    /// Hands over the spans of one piece of work: all of them, or none where there is no room.
    pub fn put(&self, spans: Vec<Span>) {
        let count = spans.len();
        match self.0.queue.try_reserve_many(count) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_full) => self.0.export.lose(count),
        }
    }

    /// Exports what is left; waits for that no longer than two seconds.
    pub async fn end(&self) {
        let export = &self.0.export;
        export.ending.send_replace(true);
        let task = export
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(LAST_EXPORT, &mut task).await.is_err() {
            task.abort();
            tracing::warn!(endpoint = %shown(&export.endpoint), "the last spans were not exported in time");
        }
    }
}

impl Export {
    /// The receiver is too slow for so many spans.
    #[cold]
    fn lose(&self, count: usize) {
        self.dropped.inc_by(count as u64);
        let due = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.due(Instant::now())
        };
        if let Some(times) = due {
            let endpoint = shown(&self.endpoint);
            tracing::warn!(%endpoint, spans = count, times, why = "too many wait: the receiver is too slow, or gone", "spans were not exported");
        }
    }

    fn start(config: &Traces, dropped: &IntCounter) -> (mpsc::Sender<Span>, Arc<Self>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let (ending, ends) = watch::channel(false);
        let (tls, current_tls) = watch::channel(config.tls.clone());
        let exporter = Exporter {
            spans,
            ending: ends,
            transport: Client::new(config.endpoint.clone(), current_tls),
            resource: resource(|name| std::env::var_os(name)),
            dropped: dropped.clone(),
            endpoint: shown(&config.endpoint),
        };
        let task = tokio::spawn(exporter.run());
        let export = Self {
            endpoint: config.endpoint.clone(),
            dropped: dropped.clone(),
            log: Mutex::default(),
            tls,
            ending,
            task: Mutex::new(Some(task)),
        };
        (queue, Arc::new(export))
    }
}

/// As the log has it: a path may hold a key.
fn shown(endpoint: &Uri) -> String {
    let scheme = endpoint.scheme_str().unwrap_or_default();
    let authority = endpoint
        .authority()
        .map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::spans_of_flights;

    fn config(endpoint: &str) -> Traces {
        Traces {
            endpoint: endpoint.parse().unwrap(),
            ratio: 0.0,
            per_second: 100.try_into().unwrap(),
            has_callers: false,
            tls: None,
        }
    }

    #[tokio::test]
    async fn what_a_full_queue_has_no_room_for_is_dropped_whole_and_counted() {
        let dropped = IntCounter::new("a", "b").unwrap();
        let config = config("http://127.0.0.1:9/v1/traces");
        let tracer = Tracer::start(Some(&config), None, &dropped).unwrap();
        // The task does not run in between.
        tracer.put(spans_of_flights(QUEUE - 1));
        assert_eq!(dropped.get(), 0);
        tracer.put(spans_of_flights(2));
        assert_eq!(dropped.get(), 2);
        tracer.put(spans_of_flights(1));
        assert_eq!(dropped.get(), 2);
        tracer.put(spans_of_flights(1));
        assert_eq!(dropped.get(), 3);
    }

    #[tokio::test]
    async fn a_reload_goes_on_with_the_task_of_the_same_endpoint() {
        let dropped = IntCounter::new("a", "b").unwrap();
        let start = |endpoint: &str, before: Option<&Tracer>| {
            Tracer::start(Some(&config(endpoint)), before, &dropped).unwrap()
        };
        let first = start("http://127.0.0.1:9/v1/traces", None);
        let same = start("http://127.0.0.1:9/v1/traces", Some(&first));
        let other = start("http://127.0.0.1:9/other/v1/traces", Some(&same));
        assert!(Arc::ptr_eq(&first.0.export, &same.0.export));
        assert!(!Arc::ptr_eq(&first.0.export, &other.0.export));
        assert!(Tracer::start(None, Some(&other), &dropped).is_none());
    }
}
