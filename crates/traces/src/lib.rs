//! Traces: which requests are sampled, the spans of those, and their export by OTLP over HTTP.
//!
//! Sampling is decided before anything is recorded: what is not sampled allocates nothing. Spans of what is go into a
//! bounded queue, all of a request at once, or none; one task takes them from there in batches. Nothing here is waited
//! for by a request, and no failure of the export is one of a request.
//!
//! A span holds names of the configuration, words of closed vocabularies, numbers, addresses of servers and callers, and
//! Bursar's own ids. No path, query, header or body of a request gets into one.

mod context;
mod exporter;
mod flight;
mod otlp;
mod request;
mod resource;
mod sampler;
mod semantic;
mod span;
mod tracer;

pub use context::{Parent, SpanContext};
pub use flight::{FlightEnd, FlightTrace, TokenCall};
pub use request::{Failed, Links, Received, RequestEnd, RequestHead, RequestTrace, Server};
pub use span::Span;
pub use tracer::Tracer;
