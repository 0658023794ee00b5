//! How are limits written: those of the proxy, and those of one caller?

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, Size, Time};

/// How much all callers together may ask for, and how slowly.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct Limits {
    /// Callers' connections at once. Default 32768.
    pub(in crate::config) connections: Option<Count>,
    /// Connections of one address (IPv6: of a /64) on which no request was verified yet. Default an eighth of
    /// `connections`, 64 at least; without `callers` any number.
    pub(in crate::config) unknown_connections: Option<Count>,
    /// Requests at once whose answer has not begun. Default 16384.
    pub(in crate::config) requests: Option<Count>,
    /// Tunnels to providers at once, and as many opaque ones. Default 8192.
    pub(in crate::config) tunnels: Option<Count>,
    /// Requests at once on one HTTP/2 connection. Default 128.
    pub(in crate::config) streams: Option<Count>,
    /// Header fields of a request. Default 100.
    pub(in crate::config) headers: Option<Count>,
    /// Request line and header fields together, 8KiB to 1MiB. Default 128KiB.
    pub(in crate::config) header_size: Option<Size>,
    /// The request target, at most 64KiB. Default 64KiB.
    pub(in crate::config) target_size: Option<Size>,
    /// From the first byte of a request's head to its last. Default 60s.
    pub(in crate::config) head_timeout: Option<Time>,
    /// How long a connection may wait for a request. Default 60s.
    pub(in crate::config) idle_timeout: Option<Time>,
}

/// How much a caller may ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(in crate::config) struct CallerLimits {
    /// Requests at once, until the last byte of the answer.
    pub(in crate::config) in_flight: Option<Count>,
    /// Requests in a second.
    pub(in crate::config) per_second: Option<Count>,
    /// Connections at once, tunnels included.
    pub(in crate::config) connections: Option<Count>,
}
