//! OTLP: spans as the protocol's messages.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyOf;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as Message, Status, span, status,
};
use prost::Message as _;

use crate::context::SpanContext;
use crate::span::{Kind, Span, Value};

/// The trace's `sampled` flag of W3C Trace Context, which all spans here have.
const SAMPLED: u32 = 0x01;
/// Says that the next flag means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// The parent is another program's span.
const IS_REMOTE: u32 = 0x200;

/// Whose spans they are: names and values.
pub(crate) type ResourceAttributes = Vec<(String, String)>;

/// A batch in one message.
pub(crate) fn encode(resource: &ResourceAttributes, spans: Vec<Span>) -> Bytes {
    let text = |(key, value): &(String, String)| attribute(key, AnyOf::StringValue(value.clone()));
    let scope = InstrumentationScope {
        name: "bursar".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource.iter().map(text).collect(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.into_iter().map(message).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec().into()
}

fn message(of: Span) -> Message {
    let is_remote = of.parent.is_some_and(|parent| parent.is_remote);
    let (trace_id, span_id) = ids(of.context);
    Message {
        trace_id,
        span_id,
        parent_span_id: of
            .parent
            .map_or_else(Vec::new, |parent| parent.span_id.to_be_bytes().to_vec()),
        flags: SAMPLED | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 },
        name: of.name.into_owned(),
        kind: match of.kind {
            Kind::Internal => span::SpanKind::Internal,
            Kind::Server => span::SpanKind::Server,
            Kind::Client => span::SpanKind::Client,
        }
        .into(),
        start_time_unix_nano: nanoseconds(of.start),
        end_time_unix_nano: nanoseconds(of.start + of.took),
        status: of.attributes.is_error.then(|| Status {
            message: String::new(),
            code: status::StatusCode::Error.into(),
        }),
        attributes: of.attributes.all.into_iter().map(of_span).collect(),
        links: of.links.into_iter().map(link).collect(),
        ..Message::default()
    }
}

fn ids(context: SpanContext) -> (Vec<u8>, Vec<u8>) {
    let SpanContext { trace_id, span_id } = context;
    (
        trace_id.to_be_bytes().to_vec(),
        span_id.to_be_bytes().to_vec(),
    )
}

fn link(context: SpanContext) -> span::Link {
    let (trace_id, span_id) = ids(context);
    span::Link {
        trace_id,
        span_id,
        flags: SAMPLED | HAS_IS_REMOTE,
        ..span::Link::default()
    }
}

fn of_span((key, value): (&'static str, Value)) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyOf::StringValue(text.into_owned()),
        Value::Number(number) => AnyOf::IntValue(number),
        Value::Flag(flag) => AnyOf::BoolValue(flag),
    };
    attribute(key, value)
}

fn attribute(key: &str, value: AnyOf) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Since 1970; a clock that stands before that is not worth more.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since: Duration = since.unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
