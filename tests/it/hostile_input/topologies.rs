//! Topologies that a vector passes: how the caller comes in, and what the provider speaks.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::Fate::{self, Closed, Refused};
use super::strict_parser::{self, Arrived, PASSWORD};
use crate::support::caller::Stream;
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::{self, Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, soon, without_request_id};

/// How the caller comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Direct,
    /// Through `CONNECT` to port 80, and in clear.
    Tunnel,
    /// Through `CONNECT` to port 443, and intercepted.
    Tls,
}

/// What the provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

pub(super) type Topology = (Entry, Speaks);

/// Each entry, and each version of HTTP at the other end.
pub(super) const TOPOLOGIES: [Topology; 5] = [
    (Entry::Direct, Speaks::Http1),
    (Entry::Tunnel, Speaks::Http1),
    (Entry::Tls, Speaks::Http1),
    (Entry::Direct, Speaks::Http2),
    (Entry::Tls, Speaks::Http2),
];

/// What becomes of a vector of HTTP/1 at that entry, where that is another thing than at the usual one.
pub(super) fn fate(entry: Entry, text: &str, fate: Fate) -> Fate {
    let begins_with_method = text
        .split(' ')
        .next()
        .is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase()));
    match entry {
        // There nothing is HTTP that does not begin with a method.
        Entry::Tunnel if !begins_with_method => Closed,
        // Another port than the tunnel's.
        Entry::Tls if text.to_lowercase().contains("api.test:80") => Refused,
        _ => fate,
    }
}

/// What all rigs of a test share.
pub(super) struct Fixture {
    idp: Idp,
    /// With the provider's authority, and the one for interception.
    directory: TempDir,
    provider: Arc<ServerConfig>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write(&directory.path().join("provider.pem"));
        crate::support::write_intercepting(directory.path(), &["api.test"]);
        Self {
            idp: Idp::start(|_| async { idp::token("token") }).await,
            directory,
            provider: authority.server(&["h2"], ClientCertificate::Ignored),
        }
    }

    /// A provider, and the proxy before it with the caller `shop`.
    pub(super) async fn rig(&self, (entry, speaks): Topology) -> Rig {
        let provider = match speaks {
            Speaks::Http1 => {
                Provider::Http1(RawUpstream::start(|_, raw| strict_parser::serve(raw)).await)
            }
            Speaks::Http2 => {
                let script = |_| async { answer(200, "ok") };
                Provider::Http2(Upstream::with_tls(self.provider.clone(), script).await)
            }
        };
        let yaml = match &provider {
            Provider::Http1(api) => acme(&api.url(), &self.idp.url(), ""),
            Provider::Http2(api) => acme(&api.url(), &self.idp.url(), "tls: {ca: provider.pem}"),
        };
        let intercept = match entry {
            Entry::Tls => "intercept: {ca: {certificate: ca.pem, key: ca.key}}\n",
            Entry::Direct | Entry::Tunnel => "",
        };
        let callers = "callers: {shop: {password: pw, allow: [acme]}}";
        let yaml = format!("{callers}\n{intercept}{yaml}");
        let proxy = Proxy::start_in(self.directory.path(), &yaml).await;
        Rig { provider, proxy }
    }

    /// A connection by which requests come in; `alpn` is what a caller with TLS offers.
    pub(super) async fn enter(&self, rig: &Rig, entry: Entry, alpn: &str) -> Raw<Box<dyn Stream>> {
        let mut raw = Raw::connect(rig.proxy.listen).await;
        let port = match entry {
            Entry::Direct => return Raw::over(Box::new(raw.into_stream())),
            Entry::Tunnel => 80,
            Entry::Tls => 443,
        };
        let connect = format!("CONNECT api.test:{port} HTTP/1.1\r\nHost: api.test:{port}\r\n");
        raw.write(format!(
            "{connect}Proxy-Authorization: Basic {PASSWORD}\r\n\r\n"
        ))
        .await;
        assert_eq!(
            without_request_id(&raw.read_head().await),
            "HTTP/1.1 200 OK"
        );
        if entry == Entry::Tunnel {
            return Raw::over(Box::new(raw.into_stream()));
        }
        let config = tls::client(&self.directory.path().join("ca.pem"), None, &[alpn]);
        let name = ServerName::try_from("api.test").unwrap();
        let connecting = TlsConnector::from(config).connect(name, raw.into_stream());
        Raw::over(Box::new(soon(connecting).await.unwrap()))
    }
}

enum Provider {
    Http1(RawUpstream),
    Http2(Upstream),
}

/// One provider, and one proxy.
pub(super) struct Rig {
    provider: Provider,
    proxy: Proxy,
}

impl Rig {
    /// Everything that arrived, where all of it has one meaning only.
    pub(super) fn arrived(&self) -> Result<Arrived, String> {
        let arrived = match &self.provider {
            Provider::Http1(api) => Arrived::over_http1(&api.captured())?,
            Provider::Http2(api) => Arrived::over_http2(&api.seen())?,
        };
        match arrived
            .complete
            .iter()
            .find(|seen| seen.target == "/smuggled")
        {
            Some(seen) => Err(format!("smuggled {seen:?}")),
            None => Ok(arrived),
        }
    }
}
