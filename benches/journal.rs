//! Cost of the journal: POSTs from 64 keep-alive callers over loopback, without a journal and with one.
//!
//! `cargo bench --bench journal`. The proxy is a process of its own, so that its CPU time can be told
//! from that of the callers and the provider, which share this one. Figures are CPU time per request.

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

use std::net::SocketAddr;
use std::time::Duration;

use bursar_testkit::program::{Launch, Program};
use bursar_testkit::{idp, listen};
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
    let endpoint = idp::cheap(Duration::from_secs(3600)).await;
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
        measure(name, start(&keys, endpoint, provider).await).await;
    }
}

async fn measure(name: &str, bursar: Program) {
    load(bursar.listen, 20).await;
    let before = bursar.process.cpu();
    let started = Instant::now();
    load(bursar.listen, REQUESTS).await;
    let elapsed = started.elapsed();
    let after = bursar.process.cpu();
    let count = CALLERS * REQUESTS;
    let each =
        |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / count as f64;
    let (user, system) = (
        each(after.user, before.user),
        each(after.system, before.system),
    );
    println!("{count} POSTs {name}, {CALLERS} keep-alive callers, 0.5 kB replies");
    println!(
        "  CPU per request: {:.1} us ({user:.1} user, {system:.1} system)",
        user + system
    );
    println!(
        "  {:.0} requests a second, with callers and provider on the same machine",
        count as f64 / elapsed.as_secs_f64()
    );
}

/// Bursar with a caller's password, in the release build.
async fn start(keys: &str, endpoint: SocketAddr, provider: SocketAddr) -> Program {
    let yaml = format!(
        "{keys}callers: {{c: {{password: p, allow: [a]}}}}\n\
         providers: {{a: {{hosts: [a.example], upstream: \"http://{provider}\", client_id: i, client_secret: s, token: {{url: \"http://{endpoint}/t\"}}}}}}"
    );
    let directory = tempfile::tempdir().expect("a directory");
    // Somebody must read the log, or the proxy would drop lines.
    let launch = Launch::default().keeping(|_| false);
    launch.run_in(directory, &yaml).await
}

/// A provider that answers whatever it is asked.
async fn provider() -> SocketAddr {
    let (listener, address) = listen().await;
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
