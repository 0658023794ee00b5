//! Span contexts: the ids by which spans find each other.

/// Which span of which trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// Of all spans of the trace; not 0.
    pub trace_id: u128,
    /// Of the span alone; not 0.
    pub span_id: u64,
}

/// What a caller says of the trace that its request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The caller's span.
    pub context: SpanContext,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

impl SpanContext {
    /// The first span of a new trace.
    #[must_use]
    pub fn root() -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: fastrand::u64(1..),
        }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn another(self) -> Self {
        Self {
            span_id: fastrand::u64(1..),
            ..self
        }
    }
}
