//! Targets of tunnels: where an opened `CONNECT` leads, and why there is none.

use tokio::sync::OwnedSemaphorePermit;

use crate::exchange::passthrough::TunnelPermit;
use crate::upstream::connect::Stream;
use bursar_http::connection::TunnelContext;

/// Where a tunnel leads.
#[derive(Debug)]
pub enum TunnelTarget {
    /// Into the pipeline.
    ToProvider(TunnelContext, OwnedSemaphorePermit),
    /// To some other server, unseen.
    Away(Box<Stream>, TunnelPermit),
}

/// Why there is no tunnel, or a request inside one is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A provider's host, where TLS would have to be intercepted.
    #[error("TLS to the provider is not intercepted")]
    NotIntercepted,
    /// A host that nothing but tokens comes from; TLS is not intercepted.
    #[error("nothing but tokens comes from the host")]
    TokenHost,
    /// `CONNECT` inside a tunnel.
    #[error("a tunnel inside of a tunnel")]
    Nested,
    /// Inside a tunnel: the request's host, or the SNI, is not the tunnel's target.
    #[error("the request is for another host than the tunnel")]
    Misdirected,
}
