//! What the scenarios share. A test is mostly: script the peers, send, compare.
//!
//! [`Rig`] is an API, a token endpoint and the proxy between them, for the usual case; [`proxy::Proxy`] the proxy in
//! process, from YAML text. All else is in the test kit, whose page tells of it: `crates/testkit/src/lib.rs`.

pub(crate) mod proxy;

use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response};

pub(crate) use bursar_testkit::*;

use caller::{Caller, Reply};
use idp::Idp;
use proxy::Proxy;
use upstream::{Body, Upstream};

/// The provider `acme` at host `api.test`: an API, a token endpoint, and the proxy in front of both.
pub(crate) struct Rig {
    pub(crate) api: Upstream,
    pub(crate) idp: Idp,
    pub(crate) proxy: Proxy,
}

impl Rig {
    /// An API that answers with `script`, and tokens `token-1`, `token-2`, ….
    pub(crate) async fn start<F>(
        script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::with("", script).await
    }

    /// The same, with further lines of the provider's YAML (flow style, e.g. `replay_buffer: 1KiB`).
    pub(crate) async fn with<F>(
        provider: &str,
        script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::of(
            Upstream::start(script).await,
            Idp::counting().await,
            provider,
        )
        .await
    }

    pub(crate) async fn of(api: Upstream, idp: Idp, provider: &str) -> Self {
        let yaml = acme(&api.url(), &idp.url(), provider);
        let proxy = Proxy::start(&yaml).await;
        Self { api, idp, proxy }
    }

    /// A new connection to the proxy.
    pub(crate) async fn caller(&self) -> Caller {
        Caller::connect(self.proxy.listen).await
    }

    /// One request in absolute form on a connection of its own.
    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        self.caller().await.send(method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "").await
    }
}

/// What the scripted account must never be seen with.
pub(crate) const CLIENT_SECRET: &str = "s3cret+of/acme=";

/// The YAML of one provider `acme` at host `api.test`; `lines` are further keys of the provider, one per
/// line without indentation. Without `listen` and `admin`: [`Proxy::start`] adds them.
pub(crate) fn acme(api: &str, token_url: &str, lines: &str) -> String {
    let mut keys = String::new();
    let mut token = String::new();
    for line in lines.lines() {
        match line.strip_prefix("token.") {
            Some(line) => token.push_str(&format!("      {line}\n")),
            None => keys.push_str(&format!("    {line}\n")),
        }
    }
    format!(
        "providers:\n  acme:\n    hosts: [api.test]\n    upstream: {api}\n    client_id: acme-id\n    client_secret: {CLIENT_SECRET}\n    token:\n      url: {token_url}\n{token}{keys}"
    )
}

/// Writes an authority for interception, as `bursar ca new` does.
pub(crate) fn write_intercepting(directory: &Path, hosts: &[&str]) {
    let hosts: Vec<Box<str>> = hosts.iter().map(|host| (*host).into()).collect();
    let (certificate, key) = bursar_tls::authority::make(&hosts).unwrap();
    std::fs::write(directory.join("ca.pem"), certificate).unwrap();
    let file = directory.join("ca.key");
    std::fs::write(&file, key.expose()).unwrap();
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, owner_only).unwrap();
}
