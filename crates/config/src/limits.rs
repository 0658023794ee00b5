//! Limits: how much one caller, and all of them together, may ask for.

use std::num::NonZeroU32;
use std::time::Duration;

/// How much a caller may ask for; None: as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once.
    pub in_flight: Option<NonZeroU32>,
    /// Requests in a second.
    pub per_second: Option<NonZeroU32>,
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
}

/// How much all callers together may ask for, and how slowly.
#[derive(Debug, Clone, Copy)]
pub struct ProxyLimits {
    /// Connections at once.
    pub connections: usize,
    /// Of those, of one address, until a request was verified on them.
    pub unknown_connections: UnknownConnections,
    /// Requests at once whose answer has not begun.
    pub requests: usize,
    /// Tunnels to providers at once, and as many opaque ones.
    pub tunnels: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of request line and header fields together.
    pub header_size: u32,
    /// Bytes of a request target.
    pub target_size: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a connection may wait for a request.
    pub idle_timeout: Duration,
}

/// How many connections one address may have that no caller is known on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownConnections {
    /// A share of all that are served.
    Share,
    /// That number.
    AtMost(usize),
    /// Any number: everybody is a caller.
    Any,
}
