//! What the scenarios share. A test is mostly: script the peers, send, compare.
//!
//! - [`Rig`]: an API, a token endpoint and the proxy between them, for the usual case.
//! - [`proxy::Proxy`]: the proxy in process, from YAML text; [`proxy::Program`]: the real binary.
//! - [`upstream::Upstream`]: a scripted server, also behind TLS; it fails its test where a script panicked.
//! - [`idp::Idp`]: the same as a token endpoint.
//! - [`caller::Caller`]: an HTTP/1.1 or HTTP/2 caller; [`raw`]: both sides byte by byte.
//! - [`frames::FrameServer`]: a server of HTTP/2 frame by frame.
//! - [`balancer::Balancer`]: a TCP balancer in front of several proxies.
//! - [`parent::Parent`]: a parent proxy between the proxy and its servers.
//! - [`metrics::Scrape`]: `/metrics` as Prometheus reads it.
//!
//! Nothing waits for a time to pass. What has to happen is waited for with [`eventually`] or [`soon`],
//! and holding a peer back is a [`Gate`].

pub(crate) mod balancer;
pub(crate) mod caller;
pub(crate) mod frames;
pub(crate) mod idp;
pub(crate) mod metrics;
pub(crate) mod parent;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use caller::{Caller, Reply};
use idp::Idp;
use proxy::Proxy;
use upstream::{Body, Upstream};

/// How long anything may take that must happen. Only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The future's output; the test fails where it takes too long.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let limited = tokio::time::timeout(PATIENCE, future);
        limited
            .await
            .unwrap_or_else(|_| panic!("{place}: nothing happened for {PATIENCE:?}"))
    }
}

/// Waits until `condition` holds; the test fails where it does not.
#[track_caller]
pub(crate) fn eventually<F: Future<Output = bool>>(
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(
                Instant::now() < deadline,
                "{place}: did not come true within {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The text with `bursar` for every name that an instance has in `Via`.
pub(crate) fn without_instances(text: &str) -> String {
    let mut parts = text.split("bursar-");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (instance, rest) = part.split_at(16);
        assert!(
            instance.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{text}"
        );
        plain.extend(["bursar", rest]);
    }
    plain
}

/// How long a peer that says nothing waits until the proxy closes the connection, without waiting so long:
/// from here on time passes whenever nothing else happens.
pub(crate) async fn closed_in(stream: &mut TcpStream) -> Duration {
    tokio::time::pause();
    let begun = Instant::now();
    // An alert may come before.
    drop(stream.read_to_end(&mut Vec::new()).await);
    let waited = begun.elapsed();
    tokio::time::resume();
    waited
}

/// Holds back whoever waits at it, until it is opened for ever.
#[derive(Clone)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self {
            open: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        }
    }

    pub(crate) async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let mut open = self.open.subscribe();
        soon(open.wait_for(|open| *open)).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until so many have come to the gate.
    pub(crate) async fn reached_by(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        soon(waiting.wait_for(|waiting| *waiting >= count))
            .await
            .unwrap();
    }
}

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
