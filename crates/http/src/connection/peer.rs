//! Peers of callers' connections: who is at the other end, and inside of which tunnel.

use std::net::IpAddr;
use std::sync::Arc;

use bursar_limits::caller_limits::{Place, Verifying};
use bursar_tls::server::CertificateNames;

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Never an IPv4 address in IPv6 clothes.
    pub address: IpAddr,
    /// What its client certificate says; nothing where there is none.
    pub shown: CertificateNames,
    /// None: it does not count as unknown.
    pub place: Option<Arc<Place>>,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

impl Peer {
    /// One without a certificate.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            shown: CertificateNames::default(),
            place: None,
            is_tls: false,
        }
    }

    /// What it sent is being hashed, and so it does not count as unknown until that is dropped.
    #[must_use]
    pub fn verifying(&self) -> Option<Verifying<'_>> {
        self.place.as_deref().and_then(Place::verifying)
    }

    /// A request of a caller was verified that came from there.
    pub fn is_known(&self) {
        if let Some(place) = &self.place {
            place.leave();
        }
    }
}

/// The tunnel that a connection is inside of, and who opened it.
#[derive(Debug, Clone)]
pub struct TunnelContext {
    /// The caller of every request in it.
    pub caller: Arc<str>,
    /// The host that `CONNECT` named: no request in it goes to another one.
    pub host: Box<str>,
    /// And its port, which a request in it may leave out.
    pub port: u16,
    /// Whether TLS is spoken in it.
    pub is_tls: bool,
    /// Whether that names another host.
    pub is_misnamed: bool,
}

impl TunnelContext {
    /// A tunnel to that host.
    #[must_use]
    pub fn new(caller: &Arc<str>, host: &str, port: u16) -> Self {
        Self {
            caller: caller.clone(),
            host: host.into(),
            port,
            is_tls: false,
            is_misnamed: false,
        }
    }

    /// Whether a request for that host belongs here.
    #[must_use]
    pub fn leads_to(&self, host: &str, port: u16) -> bool {
        !self.is_misnamed && self.port == port && self.host.eq_ignore_ascii_case(host)
    }
}
