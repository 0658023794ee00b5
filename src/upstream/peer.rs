//! Peer of a connection: the server at its other end, as the log names it, and whether it has refused this side
//! afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server, and the address of it that one connection goes to.
#[derive(Debug)]
pub struct Peer {
    /// Its host, with its port.
    pub host: Arc<str>,
    /// The parent proxy's, where the connection goes through one. None: none was tried.
    pub address: Option<SocketAddr>,
    /// Set by what reads from the connection, before whoever waits for the response is told of the error.
    is_refused: AtomicBool,
}

impl Peer {
    /// One that is named so.
    #[must_use]
    pub fn new(host: &str, address: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            host: host.into(),
            address,
            is_refused: AtomicBool::new(false),
        })
    }

    /// The server refused the client's certificate, or wants one, and processed nothing of what was sent.
    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Release);
    }

    /// Whether it did.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }
}
