//! A receiver of OTLP in process: everything that was sent to it, decoded.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyOf;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::upstream::{Body, Upstream, answer};

pub(super) struct Receiver(Upstream);

/// A span as it came.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    /// Trace and span.
    pub(super) links: Vec<(String, String)>,
    pub(super) is_error: bool,
    /// Nanoseconds since 1970.
    pub(super) times: (u64, u64),
    pub(super) flags: u32,
    pub(super) attributes: BTreeMap<String, Value>,
    pub(super) resource: BTreeMap<String, Value>,
}

impl Span {
    /// What an attribute says; null where it is not there.
    pub(super) fn says(&self, name: &str) -> Value {
        self.attributes.get(name).cloned().unwrap_or(Value::Null)
    }

    /// Several of them.
    pub(super) fn say(&self, names: &[&str]) -> Value {
        names.iter().map(|name| self.says(name)).collect()
    }

    /// Trace and span.
    pub(super) fn context(&self) -> (String, String) {
        (self.trace.clone(), self.id.clone())
    }
}

impl Receiver {
    /// One that takes everything.
    pub(super) async fn start() -> Self {
        Self::answering(|_| async { answer(200, "") }).await
    }

    /// The same behind TLS.
    pub(super) async fn with_tls(tls: Arc<ServerConfig>) -> Self {
        Self(Upstream::with_tls(tls, |_| async { answer(200, "") }).await)
    }

    pub(super) async fn answering<F>(
        script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Upstream::start(script).await)
    }

    /// What has Bursar send spans to it.
    pub(super) fn yaml(&self, keys: &str) -> String {
        format!("traces: {{endpoint: '{}', {keys}}}\n", self.0.url())
    }

    /// How often spans were sent to it.
    pub(super) fn count(&self) -> usize {
        self.0.count()
    }

    /// Every byte that was.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let seen = self.0.seen();
        let all = seen.iter().map(|seen| {
            let mut bytes = format!("{} {:?}\n", seen.target, seen.headers).into_bytes();
            bytes.extend_from_slice(seen.body.as_deref().unwrap_or_default());
            bytes
        });
        all.collect::<Vec<_>>().concat()
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for seen in self.0.seen() {
            assert_eq!(
                (seen.method.as_str(), seen.target.as_str()),
                ("POST", "/v1/traces")
            );
            assert_eq!(seen.all("content-type"), ["application/x-protobuf"]);
            let Some(body) = seen.body else { continue };
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for of_resource in request.resource_spans {
                let resource = attributes(of_resource.resource.unwrap().attributes);
                for of_scope in of_resource.scope_spans {
                    assert_eq!(of_scope.scope.unwrap().name, "bursar");
                    let decoded = of_scope.spans.into_iter().map(|span| Span {
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        kind: span.kind(),
                        name: span.name,
                        links: span
                            .links
                            .iter()
                            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                            .collect(),
                        is_error: span
                            .status
                            .is_some_and(|status| status.code() == StatusCode::Error),
                        times: (span.start_time_unix_nano, span.end_time_unix_nano),
                        flags: span.flags,
                        attributes: attributes(span.attributes),
                        resource: resource.clone(),
                    });
                    spans.extend(decoded);
                }
            }
        }
        spans
    }

    /// Waits until that many spans have come, and returns them.
    pub(super) async fn received(&self, count: usize) -> Vec<Span> {
        eventually(|| async { self.spans().len() >= count }).await;
        let spans = self.spans();
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let value = |pair: KeyValue| {
        let value = match pair.value.and_then(|value| value.value).unwrap() {
            AnyOf::StringValue(text) => json!(text),
            AnyOf::IntValue(number) => json!(number),
            AnyOf::BoolValue(flag) => json!(flag),
            other => panic!("{other:?}"),
        };
        (pair.key, value)
    };
    pairs.into_iter().map(value).collect()
}
