//! Bursar itself: the real program as a child process, and what `/proc` says of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::plan::Id;
use crate::scene::Scene;
use crate::wire::PATIENCE;

/// Of which log and metrics must never hold one.
const SECRET: [&str; 4] = [
    "storm-token-",
    "storm-refresh-",
    "storm-secret-",
    "storm-pass-",
];

/// The last lines that were no access lines.
const MAX_LINES: usize = 40;

pub(crate) struct Program {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) child: Arc<Mutex<Child>>,
    id: u32,
    log: Arc<Mutex<Log>>,
    reading: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    addresses: Option<(SocketAddr, SocketAddr)>,
    lines: Vec<String>,
}

/// Waits until it holds; says whether it did.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn read_log<R>(scene: Arc<Scene>, mut lines: tokio::io::Lines<R>, log: Arc<Mutex<Log>>)
where
    R: tokio::io::AsyncBufRead + Unpin,
{
    while let Ok(Some(line)) = lines.next_line().await {
        let is_bad = line.contains("panicked") || SECRET.iter().any(|secret| line.contains(secret));
        if is_bad {
            scene.ledger().violation(format!("in the log: {line}"));
        }
        let mut log = log.lock().unwrap();
        if line.contains("\"bursar::access\"") {
            if line.contains("\"upstream_timeout\"") || line.contains("\"request_timeout\"") {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                let id = line["path"]
                    .as_str()
                    .and_then(|path| path.rsplit('/').next());
                let id: Option<Id> = id.and_then(|id| id.parse().ok());
                scene.ledger().timed_out.extend(id);
            }
            continue;
        }
        if line.contains("\"listening\"") {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            let address = |key: &str| line[key].as_str()?.parse().ok();
            log.addresses = address("listen").zip(address("admin"));
        }
        if log.lines.len() == MAX_LINES {
            log.lines.remove(0);
        }
        log.lines.push(line);
    }
}

/// `bursar outcomes`: what is in doubt.
pub(crate) async fn outcomes(config: &Path) -> Vec<Value> {
    let asking = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(["outcomes", "--json", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, asking).await;
    let output = output.expect("`bursar outcomes` does not end").unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("outcomes: {error}"))
}

impl Program {
    /// Starts it, and waits until it listens.
    pub(crate) async fn start(scene: &Arc<Scene>, config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bursar"))
            .args(["run", "--config"])
            .arg(config)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Log>> = Arc::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let reading = tokio::spawn(read_log(scene.clone(), lines, log.clone()));
        let addresses = || log.lock().unwrap().addresses;
        let mut has_ended = false;
        let listens = eventually(async || {
            has_ended = child.try_wait().is_ok_and(|status| status.is_some());
            addresses().is_some() || has_ended
        });
        assert!(
            listens.await && !has_ended,
            "it does not start: {:#?}",
            log.lock().unwrap().lines
        );
        let (listen, admin) = addresses().unwrap();
        Self {
            listen,
            admin,
            id: child.id().unwrap(),
            child: Arc::new(Mutex::new(child)),
            log,
            reading,
        }
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id.to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.await.unwrap().success(), "no signal {name}");
    }

    /// Waits for its end; None: by a signal.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        let child = &self.child;
        eventually(async || {
            status = child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        })
        .await;
        drop(tokio::time::timeout(PATIENCE, &mut self.reading).await);
        status.expect("it does not end").code()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().lines.clone()
    }

    /// How many file descriptors are open.
    pub(crate) fn descriptors(&self) -> usize {
        let directory = std::fs::read_dir(format!("/proc/{}/fd", self.id));
        directory.map_or(0, Iterator::count)
    }

    /// Memory that it really has, in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let digits = line.and_then(|line| line.split_whitespace().next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// How many file descriptors it may have.
    pub(crate) fn descriptor_limit(&self) -> Option<String> {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.id)).ok()?;
        let mut lines = limits.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
        Some(line.split_whitespace().next()?.to_owned())
    }

    /// Lets it have no more than those; false where that cannot be done.
    pub(crate) async fn limit_descriptors(&self, most: &str) -> bool {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &self.id.to_string(), &format!("--nofile={most}:")]);
        prlimit.status().await.is_ok_and(|status| status.success())
    }

    /// `/metrics`; empty where it cannot be had.
    pub(crate) async fn metrics(&self) -> String {
        let mut text = Vec::new();
        let asking = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut text).await
        };
        drop(tokio::time::timeout(PATIENCE, asking).await);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The sum of all series whose name and labels begin so.
    pub(crate) async fn metric(&self, begin: &str) -> Option<f64> {
        let text = self.metrics().await;
        let lines = text.lines().filter(|line| line.starts_with(begin));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value)
    }
}
