//! Bursar among real programs: authorization servers, callers, a parent proxy and a Prometheus;
//! `tests/peers/install` installs them.
//!
//! A test whose programs are missing is skipped, and says so, so that `cargo test` passes on a machine
//! with Rust only. With `BURSAR_REQUIRE_PEERS` in the environment it fails instead.

mod admin_page;
mod authorization_servers;
mod callers;
mod clock;
mod expect_continue;
mod fleet;
mod https;
mod jq;
mod malformed_responses;
mod monitoring;
mod nginx;
mod openssl;
mod prometheus;
mod provider_days;
mod rotel;
mod sandbox;
mod squid;
mod tls;

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::support::caller::{Caller, Reply};
use crate::support::upstream::full;

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");
/// Compilers, frameworks and a browser are done within that, even where every core is taken by others.
const PATIENCE: Duration = Duration::from_secs(240);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let limited = tokio::time::timeout(PATIENCE, future);
    limited
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened for {PATIENCE:?}"))
}

/// A program that runs in `tests/peers` and finds no proxy in its environment.
fn command(line: &[&str]) -> Command {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).current_dir(PEERS);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Standard output; the test fails where the program does.
async fn output(line: &[&str]) -> String {
    let output = within(line[0], command(line).output()).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a test needs that may not be there.
#[derive(Debug, Clone, Copy)]
enum Needs {
    Amtool,
    Chromium,
    Curl,
    Go,
    Java,
    Jq,
    Node24,
    NodeWithAxios,
    NodeWithUndici,
    Nginx,
    Openssl,
    OidcProvider,
    Php,
    Node,
    Python,
    PythonWithAiohttp,
    PythonWithRequests,
    Rotel,
    Ruby,
    Doorkeeper,
    Faketime,
    Prometheus,
    Promtool,
    Squid,
    Sslscan,
    Testssl,
}

impl Needs {
    /// Succeeds where it is installed.
    fn probe(self) -> &'static [&'static str] {
        const NODE: [&str; 3] = ["node", "--input-type=module", "-e"];
        match self {
            Self::Amtool => &["amtool", "--version"],
            Self::Chromium => &[
                NODE[0],
                NODE[1],
                NODE[2],
                "await import('@axe-core/playwright'); process.exit(fs.existsSync('/usr/bin/chromium') ? 0 : 1)",
            ],
            Self::Curl => &["curl", "--version"],
            // Compiled by the installer, which takes minutes where every core is taken.
            Self::Go => &["test", "-x", "go-caller"],
            Self::Jq => &["jq", "--version"],
            Self::Java => &["javac", "-version"],
            Self::Node24 => &["node_modules/.bin/node", "--version"],
            Self::NodeWithAxios => &[NODE[0], NODE[1], NODE[2], "await import('axios')"],
            Self::NodeWithUndici => &[NODE[0], NODE[1], NODE[2], "await import('undici')"],
            Self::Nginx => &["nginx", "-v"],
            Self::Openssl => &["openssl", "version"],
            Self::OidcProvider => &[NODE[0], NODE[1], NODE[2], "await import('oidc-provider')"],
            Self::Php => &["php", "-r", "exit(function_exists('curl_init') ? 0 : 1);"],
            Self::Node => &["node", "--version"],
            Self::Python => &["python3", "--version"],
            Self::PythonWithAiohttp => &["python3", "-c", "import aiohttp"],
            Self::PythonWithRequests => &["python3", "-c", "import requests"],
            Self::Rotel => &["python3", "-c", "import rotel, opentelemetry.proto"],
            Self::Ruby => &["ruby", "--version"],
            Self::Doorkeeper => &["gem", "contents", "doorkeeper"],
            Self::Faketime => &["sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1"],
            Self::Prometheus => &["prometheus", "--version"],
            Self::Promtool => &["promtool", "--version"],
            Self::Squid => &["squid", "-v"],
            Self::Sslscan => &["sslscan", "--version"],
            Self::Testssl => &["testssl", "--version"],
        }
    }

    /// Whether the test can go on.
    async fn are_met(self) -> bool {
        let probed = within("a probe", command(self.probe()).output()).await;
        if probed.is_ok_and(|output| output.status.success()) {
            return true;
        }
        bursar_testkit::skip(&format!("{self:?}"));
        false
    }
}

/// A server of `tests/peers`; it ends with its standard input.
struct Server {
    /// The line that it prints when it is ready.
    ready: Value,
    _stdin: ChildStdin,
    _child: Child,
}

impl Server {
    async fn start(line: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(line)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = within(line[1], lines.next_line()).await.unwrap();
        let ready = ready.unwrap_or_else(|| panic!("{line:?} ended before it was ready"));
        Self {
            ready: serde_json::from_str(&ready).unwrap(),
            _stdin: child.stdin.take().unwrap(),
            _child: child,
        }
    }

    fn text(&self, pointer: &str) -> &str {
        let value = self.ready.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no {pointer} in {}", self.ready))
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.ready["port"])
    }

    /// The answers so far: `token` by grant and status, `api` by method and status.
    async fn stats(&self) -> Value {
        self.control("GET", "/control/stats").await
    }

    /// How often the token endpoint answered that grant with that status.
    async fn tokens(&self, grant: &str, status: &str) -> u64 {
        self.stats().await["token"][grant][status]
            .as_u64()
            .unwrap_or(0)
    }

    /// How often the token endpoint answered at all.
    async fn token_calls(&self) -> u64 {
        let stats = self.stats().await;
        let grants = stats["token"].as_object().unwrap().values();
        let counts = grants.flat_map(|statuses| statuses.as_object().unwrap().values());
        counts.filter_map(Value::as_u64).sum()
    }

    async fn control(&self, method: &str, path: &str) -> Value {
        let reply = direct(&self.origin(), method, path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        serde_json::from_slice(&reply.body).unwrap()
    }
}

/// One request to a server, without a proxy.
async fn direct(origin: &str, method: &str, path: &str) -> Reply {
    let authority = origin.strip_prefix("http://").unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", authority);
    let mut caller = Caller::connect(authority.parse().unwrap()).await;
    caller.request(request.body(full("")).unwrap()).await
}
