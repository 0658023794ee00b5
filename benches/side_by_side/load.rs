//! The callers: one thread that sends requests, and notes how long each took.
//!
//! It says `begin` on standard output when it is warm, and then one line of JSON. What is told of the
//! proxy is read between the two. It ends when its standard input does.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::certificates;
use crate::upstream::TOOK;
use crate::wire::{Head, Wire};

/// So many callers of a crowd connect at once.
const CONNECTING: usize = 64;

/// Of a day's mixture: how many providers there are, which part of the requests is payments, how long a provider takes,
/// and how often it revokes its tokens.
pub(crate) const PROVIDERS: usize = 4;
const PAYMENTS: f64 = 0.1;
const SHORTEST_MS: f64 = 5.0;
const LONGEST_MS: f64 = 2000.0;
const REVOCATIONS: Duration = Duration::from_secs(30);

/// Who asks, with its password.
const CALLER: &str = "Proxy-Authorization: Basic Yzpw\r\n";

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) proxy: SocketAddr,
    pub(crate) kind: Kind,
    pub(crate) callers: usize,
    pub(crate) warm: f64,
    pub(crate) seconds: f64,
    pub(crate) path: String,
    /// Bytes of the request's body; none: GET.
    pub(crate) body: Option<usize>,
    /// Hosts and accounts that requests go to in turn; none: one host.
    pub(crate) spread: Option<usize>,
    /// The authority to trust inside a tunnel; none: plain HTTP.
    pub(crate) tunnel: Option<PathBuf>,
    /// The provider's token endpoint, which also revokes.
    pub(crate) control: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// One request after the other on connections that stay.
    Steady,
    /// A new connection for each request.
    Fresh,
    /// Connections that had one request and stay.
    Idle,
    /// One request of each caller, and the token is revoked meanwhile.
    Storm,
    /// A day's mixture: reads and payments, to several providers, that take a while; tokens are revoked now and then.
    Day,
    /// None: what the proxy does by itself.
    Watch,
    /// So many requests, however long they take.
    Count(usize),
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) requests: usize,
    pub(crate) failures: usize,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) token_calls: Option<u64>,
    /// The most of them at once, since the token endpoint is there.
    pub(crate) token_calls_at_once: Option<u64>,
}

struct Callers {
    job: Job,
    tls: Option<TlsConnector>,
    requests: Vec<Vec<u8>>,
    next: Cell<usize>,
    measuring: Cell<bool>,
    stop: Cell<bool>,
    took: RefCell<Vec<u32>>,
    failures: Cell<usize>,
    /// Tokens handed out before that is measured.
    tokens: Cell<u64>,
}

/// Either kind of connection.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}
type Connection = Wire<Box<dyn Stream>>;

pub(crate) async fn run(job: Job) -> anyhow::Result<()> {
    let resume = false;
    let tls = job
        .tunnel
        .as_deref()
        .map(|ca| certificates::connector(ca, resume));
    let callers = Rc::new(Callers {
        tls: tls.transpose()?,
        requests: requests(&job),
        next: Cell::new(0),
        measuring: Cell::new(false),
        stop: Cell::new(false),
        took: RefCell::default(),
        failures: Cell::new(0),
        tokens: Cell::new(0),
        job,
    });
    let local = LocalSet::new();
    let seconds = local.run_until(callers.clone().work());
    let seconds = seconds.await?;
    let mut outcome = callers.outcome(seconds);
    if matches!(callers.job.kind, Kind::Storm | Kind::Watch) {
        let (calls, at_once) = token_calls(callers.job.control).await?;
        outcome.token_calls = Some(calls - callers.tokens.get());
        outcome.token_calls_at_once = Some(at_once);
    }
    println!("{}", serde_json::to_string(&outcome)?);
    // Connections stay open until the proxy's memory has been read.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// The bytes of each request. Hosts come in an order that is nobody's own, the same each time: what they
/// need lies anywhere in a proxy's memory, as it does where real callers ask.
fn requests(job: &Job) -> Vec<Vec<u8>> {
    // Nobody inside a tunnel says a second time who it is.
    let caller = if job.tunnel.is_some() { "" } else { CALLER };
    let request = |host: &str, account: &str| {
        let fields = format!("{caller}{account}");
        request_head(&job.path, host, &fields, job.body)
    };
    match job.spread {
        None => vec![request("api.bench.test", "")],
        Some(count) => {
            let mut order: Vec<usize> = (0..count).collect();
            fastrand::Rng::with_seed(1).shuffle(&mut order);
            let each = order.into_iter().map(|at| {
                request(
                    &format!("h{at}.bench.test"),
                    &format!("Bursar-Account: a{at}\r\n"),
                )
            });
            each.collect()
        }
    }
}

/// A GET, or a POST with a body of that length behind it.
fn request_head(target: &str, host: &str, fields: &str, body: Option<usize>) -> Vec<u8> {
    let (method, length) = match body {
        None => ("GET", String::new()),
        Some(length) => (
            "POST",
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        ),
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: side-by-side/1.0\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip\r\n{fields}{length}\r\n"
    )
    .into_bytes()
}

impl Callers {
    /// Seconds between `begin` and the end.
    async fn work(self: Rc<Self>) -> io::Result<f64> {
        match self.job.kind {
            Kind::Steady | Kind::Fresh | Kind::Day => self.steadily().await,
            Kind::Count(count) => {
                let mut wire = self.connect().await?;
                self.exchange(&mut wire).await?;
                let since = self.begin();
                for _ in 0..count {
                    self.exchange(&mut wire).await?;
                }
                Ok(since.elapsed().as_secs_f64())
            }
            Kind::Idle | Kind::Storm => self.at_once().await,
            Kind::Watch => {
                self.tokens.set(token_calls(self.job.control).await?.0);
                let since = self.begin();
                tokio::time::sleep(Duration::from_secs_f64(self.job.seconds)).await;
                Ok(since.elapsed().as_secs_f64())
            }
        }
    }

    fn begin(&self) -> Instant {
        self.measuring.set(true);
        println!("begin");
        Instant::now()
    }

    async fn steadily(self: Rc<Self>) -> io::Result<f64> {
        // Every host once, so that each token has been obtained.
        let each = self.job.spread.unwrap_or(0).div_ceil(self.job.callers);
        let mut ready = JoinSet::new();
        for _ in 0..self.job.callers {
            let callers = self.clone();
            ready.spawn_local(async move {
                let mut wire = callers.connect().await?;
                for _ in 0..each {
                    callers.exchange(&mut wire).await?;
                }
                io::Result::Ok(wire)
            });
        }
        let mut wires = Vec::new();
        while let Some(wire) = ready.join_next().await {
            wires.push(wire??);
        }
        for wire in wires {
            let callers = self.clone();
            tokio::task::spawn_local(callers.go_on(wire));
        }
        if self.job.kind == Kind::Day {
            tokio::task::spawn_local(revoke_now_and_then(self.job.control));
        }
        tokio::time::sleep(Duration::from_secs_f64(self.job.warm)).await;
        let since = self.begin();
        tokio::time::sleep(Duration::from_secs_f64(self.job.seconds)).await;
        self.stop.set(true);
        Ok(since.elapsed().as_secs_f64())
    }

    async fn go_on(self: Rc<Self>, mut wire: Connection) {
        while !self.stop.get() {
            let done = match self.job.kind {
                Kind::Fresh => self.fresh().await,
                Kind::Day => self.exchange_of_a_day(&mut wire).await,
                _ => self.exchange(&mut wire).await,
            };
            if let Err(error) = done
                && !self.stop.get()
            {
                self.failed(&error.to_string());
                if let Ok(again) = self.connect().await {
                    wire = again;
                }
            }
        }
    }

    async fn fresh(&self) -> io::Result<()> {
        let since = Instant::now();
        let mut wire = self.connect().await?;
        let before = self.took.borrow().len();
        self.exchange(&mut wire).await?;
        if let Some(took) = self.took.borrow_mut().get_mut(before) {
            *took = microseconds(since);
        }
        Ok(())
    }

    /// Many callers, each on its own connection: all connect and have one request, and then wait, or,
    /// in the storm, send another one together.
    async fn at_once(self: Rc<Self>) -> io::Result<f64> {
        let mut wires = Vec::new();
        let mut first = self.connect().await?;
        self.exchange(&mut first).await?;
        let mut since = Instant::now();
        if self.job.kind == Kind::Idle {
            since = self.begin();
        }
        while wires.len() < self.job.callers {
            let mut connecting = JoinSet::new();
            for _ in 0..CONNECTING.min(self.job.callers - wires.len()) {
                let callers = self.clone();
                connecting.spawn_local(async move {
                    let mut wire = callers.connect().await?;
                    callers.exchange(&mut wire).await?;
                    io::Result::Ok(wire)
                });
            }
            while let Some(wire) = connecting.join_next().await {
                wires.push(wire??);
            }
        }
        if self.job.kind == Kind::Idle {
            tokio::time::sleep(Duration::from_secs_f64(self.job.seconds)).await;
            // They must be open until the very end.
            std::mem::forget(wires);
            return Ok(since.elapsed().as_secs_f64());
        }
        self.tokens.set(token_calls(self.job.control).await?.0);
        since = self.begin();
        let mut under_way = JoinSet::new();
        for mut wire in wires {
            let callers = self.clone();
            under_way.spawn_local(async move { callers.exchange(&mut wire).await });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        ask(self.job.control, "POST /revoke HTTP/1.1\r\n\r\n").await?;
        while let Some(done) = under_way.join_next().await {
            if done?.is_err() {
                self.failures.set(self.failures.get() + 1);
            }
        }
        Ok(since.elapsed().as_secs_f64())
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.job.proxy).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Wire::new(Box::new(stream)));
        };
        let mut wire = Wire::new(stream);
        wire.send(b"CONNECT api.bench.test:443 HTTP/1.1\r\nHost: api.bench.test:443\r\nProxy-Authorization: Basic Yzpw\r\n\r\n").await?;
        match wire.head().await? {
            Some(head) if head.is_ok() => {}
            _ => return Err(io::Error::other("no tunnel")),
        }
        let name = rustls::pki_types::ServerName::try_from("api.bench.test");
        let name = name.map_err(io::Error::other)?;
        let stream = tls.connect(name, wire.into_stream()).await?;
        Ok(Wire::new(Box::new(stream)))
    }

    async fn exchange(&self, wire: &mut Connection) -> io::Result<()> {
        let at = self.next.get();
        self.next.set((at + 1) % self.requests.len());
        let since = Instant::now();
        let body = self.job.body.unwrap_or(0);
        if body <= 64 * 1024 {
            // In one piece, as programs with small bodies do.
            let mut request = self.requests[at].clone();
            request.resize(request.len() + body, b'0');
            wire.send(&request).await?;
        } else {
            wire.send(&self.requests[at]).await?;
            wire.send_zeros(body).await?;
        }
        let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        wire.skip(head.length()?).await?;
        self.note(&head, microseconds(since));
        Ok(())
    }

    /// One request of a day's mixture. What is noted is how much longer it took than it was at the provider.
    async fn exchange_of_a_day(&self, wire: &mut Connection) -> io::Result<()> {
        let number = self.next.get();
        self.next.set(number + 1);
        // As many between 5 and 50 ms as between 200 ms and 2 s.
        let wait = SHORTEST_MS * (LONGEST_MS / SHORTEST_MS).powf(fastrand::f64());
        let provider = fastrand::usize(..PROVIDERS);
        let (path, body) = if fastrand::f64() < PAYMENTS {
            ("/v1/payments", Some(1000))
        } else {
            ("/v1/payments/42", None)
        };
        let target = format!("{path}?wait={wait:.0}&number={number}");
        let host = format!("h{provider}.bench.test");
        let mut request = request_head(&target, &host, CALLER, body);
        request.resize(request.len() + body.unwrap_or(0), b'0');
        let since = Instant::now();
        wire.send(&request).await?;
        let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let took = microseconds(since);
        wire.skip(head.length()?).await?;
        let there = head.field(TOOK).and_then(|took| took.parse().ok());
        self.note(&head, took.saturating_sub(there.unwrap_or(0)));
        Ok(())
    }

    /// A response that took so many microseconds.
    fn note(&self, head: &Head, took: u32) {
        if !head.is_ok() {
            self.failed(&String::from_utf8_lossy(head.first_line()));
        } else if self.measuring.get() && !self.stop.get() {
            self.took.borrow_mut().push(took);
        }
    }

    /// The first few are told.
    fn failed(&self, why: &str) {
        let before = self.failures.replace(self.failures.get() + 1);
        if before < 5 {
            eprintln!("failed: {why}");
        }
    }

    fn outcome(&self, seconds: f64) -> Outcome {
        let mut took = self.took.borrow_mut();
        took.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is an index"
            )]
            let index = (took.len() as f64 * share) as usize;
            took.get(index)
                .or(took.last())
                .map_or(0.0, |took| f64::from(*took))
        };
        Outcome {
            requests: took.len(),
            failures: self.failures.get(),
            seconds,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            token_calls: None,
            token_calls_at_once: None,
        }
    }
}

/// All tokens at once, so that about one request in a hundred meets a 401.
async fn revoke_now_and_then(control: SocketAddr) -> io::Result<()> {
    loop {
        tokio::time::sleep(REVOCATIONS).await;
        ask(control, "POST /revoke HTTP/1.1\r\n\r\n").await?;
    }
}

fn microseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// How often the token endpoint was asked for a token, and how many times at once at most.
async fn token_calls(control: SocketAddr) -> io::Result<(u64, u64)> {
    let answer = ask(control, "GET /calls HTTP/1.1\r\n\r\n").await?;
    let (calls, at_once) = answer.split_once(' ').unwrap_or_default();
    let number = |text: &str| text.parse().map_err(io::Error::other);
    Ok((number(calls)?, number(at_once)?))
}

async fn ask(control: SocketAddr, request: &str) -> io::Result<String> {
    let mut wire = Wire::new(TcpStream::connect(control).await?);
    wire.send(request.as_bytes()).await?;
    let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    wire.text(head.length()?).await
}

/// The first line of the answer to one request, without a runtime.
pub(crate) fn try_once(proxy: SocketAddr, request: &str) -> io::Result<String> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::net::TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    io::BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
