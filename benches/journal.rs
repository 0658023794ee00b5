//! What does the journal cost? POSTs from 64 keep-alive callers over loopback, without a journal and with one.
//!
//! `cargo bench --bench journal`. The proxy is a process of its own, so that its CPU time can be told
//! from that of the callers and the provider, which share this one. Figures are CPU time per request.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

const CALLERS: usize = 64;
const REQUESTS: usize = 1500;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 512\r\n\r\n";

const POST: &[u8] = b"POST http://a.example/v1/payments HTTP/1.1\r\nHost: a.example\r\nProxy-Authorization: Basic Yzpw\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n{\"amount\":1000,\"currency\":\"EUR\"}\n";

#[tokio::main]
async fn main() {
    let endpoint = support::token_endpoint(Duration::from_secs(3600)).await;
    let provider = provider().await;
    // On a disk, as a journal is, and not in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let journal = |name: &str, keys: &str| {
        let path = directory.path().join(name);
        format!("journal: {{path: \"{}\"{keys}}}\n", path.display())
    };
    for (name, keys) in [
        ("without a journal", String::new()),
        ("with one", journal("durable", "")),
        ("with one, sync: false", journal("fast", ", sync: false")),
    ] {
        measure(name, start(&keys, endpoint, provider)).await;
    }
}

async fn measure(name: &str, (mut bursar, address): (Child, SocketAddr)) {
    load(address, 20).await;
    let before = support::cpu_time(bursar.id());
    let started = Instant::now();
    load(address, REQUESTS).await;
    let elapsed = started.elapsed();
    let after = support::cpu_time(bursar.id());
    let count = CALLERS * REQUESTS;
    let each =
        |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / count as f64;
    let (user, system) = (each(after.0, before.0), each(after.1, before.1));
    println!("{count} POSTs {name}, {CALLERS} keep-alive callers, 0.5 kB replies");
    println!(
        "  CPU per request: {:.1} us ({user:.1} user, {system:.1} system)",
        user + system
    );
    println!(
        "  {:.0} requests a second, with callers and provider on the same machine",
        count as f64 / elapsed.as_secs_f64()
    );
    bursar.kill().expect("the proxy still runs");
    bursar.wait().expect("the proxy ends");
}

/// Bursar with a caller's password, in the release build.
fn start(keys: &str, endpoint: SocketAddr, provider: SocketAddr) -> (Child, SocketAddr) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    write!(
        file,
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{keys}callers: {{c: {{password: p, allow: [a]}}}}\n\
         providers: {{a: {{hosts: [a.example], upstream: \"http://{provider}\", client_id: i, client_secret: s, token: {{url: \"http://{endpoint}/t\"}}}}}}"
    )
    .expect("a temporary file can be written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(["run", "--config"])
        .arg(file.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the proxy starts");
    let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
    let address = loop {
        let line = lines
            .next()
            .expect("the proxy says where it listens")
            .expect("the log is text");
        let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
        if let Some(address) = line["listen"].as_str() {
            break address.parse().expect("it is an address");
        }
    };
    // Somebody must read the log, or the proxy would drop lines.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

/// A provider that answers whatever it is asked.
async fn provider() -> SocketAddr {
    let (listener, address) = support::listen().await;
    tokio::spawn(async move {
        let answer: Vec<u8> = ANSWER
            .iter()
            .copied()
            .chain(std::iter::repeat_n(b'x', 512))
            .collect();
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let mut read = 0;
                // Requests come one at a time and fit; a POST's body ends with the only line feed of its own.
                while let Ok(more @ 1..) = stream
                    .read(request.get_mut(read..).unwrap_or_default())
                    .await
                {
                    read += more;
                    let whole = request.get(..read).unwrap_or_default();
                    if !whole.ends_with(b"}\n") {
                        continue;
                    }
                    read = 0;
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn load(proxy: SocketAddr, requests: usize) {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(async move {
            let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
            let mut answer = vec![0; 4096];
            for _ in 0..requests {
                stream
                    .write_all(POST)
                    .await
                    .expect("the proxy takes requests");
                let mut read = 0;
                while !answer
                    .get(..read)
                    .is_some_and(|answer| answer.ends_with(b"xxxxxxxx"))
                {
                    read += stream
                        .read(&mut answer[read..])
                        .await
                        .expect("the proxy answers");
                }
            }
        });
    }
    callers.join_all().await;
}
