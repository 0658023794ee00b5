//! Certificates as `/status` shows them: Bursar's own, and those that providers' servers showed last.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::date::date;
use crate::exchange::Proxy;
use bursar_tls::server::Tls;

/// One of them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::server) struct Certificate {
    pub(in crate::server) expires_at: String,
    /// `listen`, `intercept` (its authority), `client` (shown to a provider) or `server` (a provider's).
    pub(in crate::server) kind: &'static str,
    pub(in crate::server) provider: Option<String>,
    /// With its port.
    pub(in crate::server) server: Option<String>,
}

impl Certificate {
    /// All of them, the one that expires first before the others.
    pub(super) fn all(proxy: &Proxy, tls: Option<&Tls>) -> Vec<Self> {
        let own = |kind, expiry| Self::new(kind, None, None, expiry);
        let listen = tls.and_then(Tls::expiry);
        let authority = proxy.authority().map(|authority| authority.expiry());
        let clients = proxy.client_certificates();
        let clients =
            clients.map(|(name, expiry)| Self::new("client", Some(name.to_owned()), None, expiry));
        let servers = proxy.metrics().upstream.certificates().into_iter();
        let servers = servers.map(|(provider, server, expiry)| {
            Self::new("server", Some(provider), Some(server), expiry)
        });
        let mut all: Vec<Self> = (listen.map(|expiry| own("listen", expiry)).into_iter())
            .chain(authority.map(|expiry| own("intercept", expiry)))
            .chain(clients)
            .chain(servers)
            .collect();
        all.sort_unstable();
        all
    }

    fn new(
        kind: &'static str,
        provider: Option<String>,
        server: Option<String>,
        expiry: i64,
    ) -> Self {
        let since = Duration::from_secs(u64::try_from(expiry).unwrap_or_default());
        // RFC 5280 knows no later year than 9999.
        let expires: SystemTime = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
        Self {
            expires_at: date(expires),
            kind,
            provider,
            server,
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self::new("server", None, None, 0)
    }
}
