//! One measurement: a provider, a proxy and callers, each on the core that it is given.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bursar_testkit::metrics::Scrape;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::load::{Kind, Outcome};
use crate::peers::Peer;
use crate::process::{self, Running, Talker, two_cores};
use crate::setup::Setup;
use crate::work::Work;
use crate::{Options, single};

const PATIENCE: Duration = Duration::from_secs(30);
/// Of the configuration, in a day's mixture.
const RELOADS: Duration = Duration::from_secs(60);

/// The figures of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) resident: f64,
    pub(crate) resident_peak: f64,
    /// What the measured part of the work added to resident memory.
    pub(crate) grown: f64,
    pub(crate) requests: f64,
    pub(crate) failures: f64,
    pub(crate) seconds: f64,
    pub(crate) token_calls: f64,
    pub(crate) token_calls_at_once: f64,
    /// From the start until a connection is accepted.
    pub(crate) listening_ms: f64,
    /// How much of the proxy's core somebody else used, of 1.
    pub(crate) disturbed: f64,
    /// How often the disk was waited for, in the works of payments alone: how many share one `fdatasync` follows from it.
    pub(crate) syncs_per_second: f64,
}

pub(crate) fn measure(
    work: Work,
    peer: Peer,
    options: &Options,
    dir: &Path,
) -> anyhow::Result<Figures> {
    let [first, second] = two_cores()?;
    let both = format!("{first},{second}");
    // The proxy has a core for itself, as far as the machine's other users let it.
    let (cores, others) = match work {
        Work::TwoCores => ((both.clone(), 2), both),
        _ => ((first.to_string(), 1), second.to_string()),
    };
    let setup = set_up(work, options, dir, cores)?;
    let _provider = provider(work, &setup, &others)?;
    let mut proxy = peer.start(&setup)?;
    let listening_ms = listening(&setup)?;
    let job = work.job(options.seconds, dir, setup.listen, setup.token);
    ready(&mut proxy, &setup)?;
    let this = std::env::current_exe()?.display().to_string();
    let words = ["load".to_owned(), serde_json::to_string(&job)?];
    let mut callers = Talker::start(&others, &this, &words)?;
    let line = callers.line()?;
    anyhow::ensure!(line.trim() == "begin", "not a beginning: {line}");
    let syncs = || match (work, peer) {
        (Work::Payment | Work::PaymentOne, Peer::Bursar) => {
            let scrape = single().block_on(Scrape::of(setup.admin));
            scrape.value("bursar_journal_syncs_total", &[])
        }
        _ => 0.0,
    };
    let syncs_before = syncs();
    let (cpu, core, memory) = (proxy.cpu(), process::busy(first), proxy.memory());
    let line = match (work, peer) {
        (Work::Day, Peer::Bursar) => reloading(&proxy, &setup, || callers.line())?,
        _ => callers.line()?,
    };
    let (cpu_after, core_after, memory_after) = (proxy.cpu(), process::busy(first), proxy.memory());
    let outcome: Outcome = serde_json::from_str(&line)?;
    let syncs_per_second = (syncs() - syncs_before) / outcome.seconds;
    drop(callers);
    anyhow::ensure!(proxy.end(), "it does not end when it is asked to");
    let microseconds =
        |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6;
    let user = microseconds(cpu_after.user, cpu.user);
    let system = microseconds(cpu_after.system, cpu.system);
    #[expect(clippy::cast_precision_loss, reason = "they are not that many")]
    let requests = match job.kind {
        Kind::Storm => job.callers as f64,
        // What is measured is a token call.
        Kind::Watch => outcome.token_calls.unwrap_or(0).max(1) as f64,
        _ => outcome.requests as f64,
    };
    let elsewhere = (core_after - core - user - system).max(0.0) / (outcome.seconds * 1e6);
    Ok(Figures {
        user_us: user / requests,
        system_us: system / requests,
        per_second: requests / outcome.seconds,
        p50_us: outcome.p50_us,
        p99_us: outcome.p99_us,
        p999_us: outcome.p999_us,
        resident: resident(memory_after.now),
        resident_peak: resident(memory_after.peak),
        grown: resident(memory_after.now) - resident(memory.now),
        requests,
        failures: outcome.failures as f64,
        seconds: outcome.seconds,
        token_calls: outcome.token_calls.unwrap_or(0) as f64,
        token_calls_at_once: outcome.token_calls_at_once.unwrap_or(0) as f64,
        listening_ms,
        disturbed: if work == Work::TwoCores {
            0.0
        } else {
            elsewhere
        },
        syncs_per_second,
    })
}

/// Has Bursar reload a file that has changed, every minute until that is done.
fn reloading<T: Send>(
    proxy: &Running,
    setup: &Setup,
    until: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(until);
        let (mut since, mut count) = (Instant::now(), 0);
        while !done.is_finished() {
            std::thread::sleep(Duration::from_millis(100));
            if since.elapsed() >= RELOADS {
                (since, count) = (Instant::now(), count + 1);
                let changed = format!("{}replay_memory: {}MiB\n", setup.bursar(), 256 + count % 2);
                std::fs::write(setup.dir.join("bursar.yaml"), changed)?;
                proxy.signal("HUP");
                println!(
                    "reload {count}: {:.1} MB",
                    resident(proxy.memory().now) / 1e6
                );
            }
        }
        done.join().expect("waiting for a line does not panic")
    })
}

fn resident(kibibytes: u64) -> f64 {
    kibibytes as f64 * 1024.0
}

fn set_up(
    work: Work,
    options: &Options,
    dir: &Path,
    cores: (String, usize),
) -> anyhow::Result<Setup> {
    Ok(Setup {
        dir: dir.to_owned(),
        listen: free()?,
        admin: free()?,
        api: free()?,
        token: free()?,
        cores,
        spread: work.spread(),
        providers: work.providers(),
        hurried: work.spread().is_some() && work != Work::Start,
        intercept: work.is_tunnel(),
        journal: work.is_journaled().then(|| dir.join("journal")),
        logs: options.peer_logs,
        bursar: options.bursar.clone(),
    })
}

fn provider(work: Work, setup: &Setup, cores: &str) -> anyhow::Result<Running> {
    // Renewed several times in a run, except where there are too many.
    let lifetime = if work.spread().is_some() || matches!(work, Work::Storm | Work::Day) {
        "3600"
    } else {
        "5"
    };
    let mut args = [
        "upstream",
        "--api",
        &setup.api.to_string(),
        "--token",
        &setup.token.to_string(),
        "--certificate",
        &setup.path("server.pem"),
        "--key",
        &setup.path("server.key"),
        "--lifetime-seconds",
        lifetime,
        "--delay-milliseconds",
        match work {
            Work::Storm => "50",
            // So that calls are under way at the same time.
            Work::Start => "200",
            _ => "1",
        },
    ]
    .map(str::to_owned)
    .to_vec();
    if work.is_http2() {
        args.push("--http2".to_owned());
    }
    let this = std::env::current_exe()?.display().to_string();
    process::start(cores, &this, &args, &setup.dir.join("upstream.log"))
}

/// Milliseconds until somebody listens; making an authority before is not counted.
fn listening(setup: &Setup) -> anyhow::Result<f64> {
    let since = Instant::now();
    while TcpStream::connect(setup.listen).is_err() {
        anyhow::ensure!(since.elapsed() < PATIENCE, "it does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(since.elapsed().as_secs_f64() * 1e3)
}

/// Waits until a request gets through.
fn ready(proxy: &mut Running, setup: &Setup) -> anyhow::Result<()> {
    let since = Instant::now();
    let (host, account) = match (setup.spread, setup.providers) {
        (None, None) => ("api.bench.test", ""),
        (None, Some(_)) => ("h0.bench.test", ""),
        (Some(_), _) => ("h0.bench.test", "Bursar-Account: a0\r\n"),
    };
    let request = format!(
        "GET /v1/payments/1 HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic Yzpw\r\n{account}\r\n"
    );
    loop {
        let answer = crate::load::try_once(setup.listen, &request);
        if answer
            .as_ref()
            .is_ok_and(|line| line.starts_with("HTTP/1.1 200"))
        {
            return Ok(());
        }
        anyhow::ensure!(
            !proxy.has_ended(),
            "it ended; its log is in {}",
            setup.dir.display()
        );
        anyhow::ensure!(
            since.elapsed() < PATIENCE,
            "it does not answer 200 but {answer:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?)
}
