//! Traces as they are written in the file.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Count, Ratio};
#[cfg(test)]
use crate::defaults;

/// Spans of requests, exported by OTLP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Traces {
    /// Where spans are sent: the base URL of a receiver of OTLP over HTTP (protobuf), to which `/v1/traces` is added.
    /// Without this there are no spans.
    #[cfg_attr(test, schemars(extend("examples" = ["http://otel-collector:4318"])))]
    pub(crate) endpoint: Option<String>,
    /// The share of requests with spans, from 0 to 1, among those without a sampled parent. A sampled parent
    /// (`traceparent`) is followed where the caller is a known one.
    #[cfg_attr(test, schemars(extend("default" = defaults::traces::RATIO)))]
    pub(crate) ratio: Option<Ratio>,
    /// As many requests have spans in a second, at most; where there are `callers`, requests without a known one have a
    /// tenth of that, at most.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::traces::PER_SECOND))))]
    pub(crate) per_second: Option<Count>,
}
