//! Limits as they are written in the file: those of the proxy, and those of one caller.

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Count, Size, Time};
#[cfg(test)]
use crate::defaults::limits as defaults;

/// How much all callers together may ask for, and how slowly.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct Limits {
    /// Callers' connections at once, fewer where few files may be open. The next one is answered 503 (with TLS: not
    /// at all) and closed.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::CONNECTIONS))))]
    pub(crate) connections: Option<Count>,
    /// Connections from one address (IPv6: a /64) on which no request was verified yet. As many again may
    /// wait for their password to be hashed. The next one is refused as above. Without this: an eighth of
    /// `connections`, 64 at least, and any number while less than half of `connections` are open; without `callers`
    /// always any number.
    #[cfg_attr(test, schemars(extend("examples" = [4096])))]
    pub(crate) unknown_connections: Option<Count>,
    /// Requests at once whose response has not begun. The next one is answered 503 `overloaded`.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::REQUESTS))))]
    pub(crate) requests: Option<Count>,
    /// Tunnels to providers at once, and as many opaque ones. The next one is answered 503 `overloaded`.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::TUNNELS))))]
    pub(crate) tunnels: Option<Count>,
    /// Requests at once on one HTTP/2 connection. With more, the caller waits.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::STREAMS))))]
    pub(crate) streams: Option<Count>,
    /// Header fields of a request. With more, it is answered 431.
    #[cfg_attr(test, schemars(extend("default" = Count(defaults::HEADERS))))]
    pub(crate) headers: Option<Count>,
    /// Request line and header fields together, `8KiB` to `1MiB`. A larger head is answered 431.
    #[cfg_attr(test, schemars(extend("default" = Size(defaults::HEADER_SIZE))))]
    pub(crate) header_size: Option<Size>,
    /// The request target, `64KiB` at most. A longer one is answered 414.
    #[cfg_attr(test, schemars(extend("default" = Size(defaults::TARGET_SIZE))))]
    pub(crate) target_size: Option<Size>,
    /// HTTP/1: from the first byte of a request's head to its last. A slower one is answered 408.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::HEAD_TIMEOUT))))]
    pub(crate) head_timeout: Option<Time>,
    /// How long a connection may wait for a request before it is closed; over HTTP/2, once to twice as long.
    #[cfg_attr(test, schemars(extend("default" = Time(defaults::IDLE_TIMEOUT))))]
    pub(crate) idle_timeout: Option<Time>,
}

/// How much a caller may ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(crate) struct CallerLimits {
    /// Requests at once, until the last byte of the response. Without this, any number.
    #[cfg_attr(test, schemars(extend("examples" = [50])))]
    pub(crate) in_flight: Option<Count>,
    /// Requests in a second. Without this, any number.
    #[cfg_attr(test, schemars(extend("examples" = [20])))]
    pub(crate) per_second: Option<Count>,
    /// Connections at once, tunnels included, from the first verified request on each. The next one is answered 429
    /// and closed (HTTP/2: answered 429). Without this, any number.
    #[cfg_attr(test, schemars(extend("examples" = [100])))]
    pub(crate) connections: Option<Count>,
}
