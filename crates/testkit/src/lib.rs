//! What tests, the storm and benchmarks share: emulated providers, callers, and runners of the program. It knows
//! nothing of the proxy but its program, so that a crate below the proxy can use it too.
//!
//! - [`upstream::Upstream`]: a scripted server, also behind TLS; it fails its test where a script panicked.
//! - [`idp::Idp`]: the same as a token endpoint.
//! - [`caller::Caller`]: an HTTP/1.1 or HTTP/2 caller; [`raw`]: both sides byte by byte; [`wire`]: HTTP/1.1 as it
//!   stands on the wire, for peers that read it piece by piece.
//! - [`frames::FrameServer`]: a server of HTTP/2 frame by frame.
//! - [`balancer::Balancer`]: a TCP balancer in front of several proxies.
//! - [`parent::Parent`]: a parent proxy between the proxy and its servers.
//! - [`store::Server`]: a real Redis or Valkey, also as a cluster or with Sentinels, and [`store::resp`], a client that
//!   shows what it says; [`relay::Relay`]: the network in between.
//! - [`tls::Authority`]: certificates for one test.
//! - [`program::Program`]: the real program; [`process::Process`]: what the system says of it.
//! - [`metrics::Scrape`]: `/metrics` as Prometheus reads it.
//!
//! Nothing waits for a time to pass. What has to happen is waited for with [`eventually`] or [`soon`],
//! and holding a peer back is a [`Latch`].

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where its peers cannot go on"
)]

pub mod balancer;
pub mod caller;
pub mod frames;
pub mod idp;
pub mod metrics;
pub mod parent;
pub mod process;
pub mod program;
pub mod raw;
pub mod relay;
pub mod store;
pub mod tls;
pub mod upstream;
pub mod wire;

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long anything may take that must happen. Only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Says of the test that runs that it is skipped, because that program is not installed.
///
/// # Panics
/// With `BURSAR_REQUIRE_PEERS` in the environment.
pub fn skip(program: &str) {
    let missing = format!("{program} is not installed, see tests/peers/install");
    assert!(
        std::env::var_os("BURSAR_REQUIRE_PEERS").is_none(),
        "{missing}"
    );
    // Past the harness, which would show it for failing tests only; in one piece among its lines.
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {missing}\n", thread.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The future's output; the test fails where it takes too long.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
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
pub fn eventually<F: Future<Output = bool>>(
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
pub fn without_instances(text: &str) -> String {
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

/// A head without the line that names its request, which has to be there once.
#[must_use]
pub fn without_request_id(head: &str) -> String {
    let is_id = |line: &&str| line.to_ascii_lowercase().starts_with("bursar-request-id: ");
    assert_eq!(head.lines().filter(is_id).count(), 1, "{head}");
    let lines: Vec<&str> = head.lines().filter(|line| !is_id(line)).collect();
    lines.join("\r\n")
}

/// How long a peer that says nothing waits until the proxy closes the connection, without waiting so long:
/// from here on time passes whenever nothing else happens.
pub async fn closed_in(stream: &mut TcpStream) -> Duration {
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
pub struct Latch {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Latch {
    pub fn closed() -> Self {
        Self {
            open: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        }
    }

    pub async fn wait(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let mut open = self.open.subscribe();
        soon(open.wait_for(|open| *open)).await.unwrap();
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until that many wait.
    pub async fn reached_by(&self, count: usize) {
        let mut waiting = self.waiting.subscribe();
        soon(waiting.wait_for(|waiting| *waiting >= count))
            .await
            .unwrap();
    }
}

/// Waits until `condition` holds, for as long as `patience`; says whether it did.
pub async fn becomes_true(patience: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition().await {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// A listener on a free port of loopback, and where it is.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A free port of loopback, for a program that cannot choose one itself; nobody else is given it so soon.
pub fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// Waits until somebody listens at that port of loopback.
pub async fn listening_at(port: u16) {
    let is_open = || async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
    eventually(is_open).await;
}
