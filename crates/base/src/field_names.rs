//! Names of header fields that no provider is sent, in lower case: the one list for whoever takes them out and for whoever
//! checks a configuration that relies on one.

/// Fields by which a request poses as another one: a framework behind the provider's front would see
/// another method or path than the one that was checked.
#[inline]
#[must_use]
pub fn is_posing(name: &str) -> bool {
    matches!(
        name,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-url"
            | "x-rewrite-url"
    )
}

/// What tells servers which trace a request belongs to, and what callers want to be known along it.
#[inline]
#[must_use]
pub fn is_trace(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => {
            name.starts_with("x-b3-")
                || name.starts_with("x-datadog-")
                || matches!(
                    name,
                    "x-cloud-trace-context" | "x-amzn-trace-id" | "x-ot-span-context"
                )
        }
        Some(b't') => matches!(name, "traceparent" | "tracestate"),
        Some(b'b') => matches!(name, "baggage" | "b3"),
        Some(b'u') => name == "uber-trace-id" || name.starts_with("uberctx-"),
        Some(b'o') => name.starts_with("ot-baggage-") || name.starts_with("ot-tracer-"),
        // What `baggage` was called before, and those of agents.
        Some(_) => matches!(
            name,
            "correlation-context"
                | "sentry-trace"
                | "newrelic"
                | "elastic-apm-traceparent"
                | "grpc-trace-bin"
        ),
        None => false,
    }
}
