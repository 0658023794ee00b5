//! Settings of traces.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::Uri;
use rustls::ClientConfig;

/// Which requests have spans, and where these go.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Where they are sent.
    pub endpoint: Uri,
    /// The share of requests that are sampled without a sampled parent, from 0 to 1.
    pub ratio: f64,
    /// As many requests are sampled in a second, at most.
    pub per_second: NonZeroU32,
    /// Whether there are callers that are known. Those who are not have a small share of `per_second` then.
    pub has_callers: bool,
    /// None: the endpoint speaks no TLS.
    pub tls: Option<Arc<ClientConfig>>,
}
