//! Fleet's store with many token keys: the real scripts at a real Redis. What a key takes of its memory, and what a
//! renewal costs it in CPU time and bytes; times are this machine's, and include this program's.
//!
//! `cargo bench --bench fleet_store`; `BURSAR_FLEET_KEYS` is the number of keys (10,000).

#![expect(clippy::print_stdout, reason = "a benchmark talks to a person")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use bursar_base::secret::Secret;
use bursar_config::Config;
use bursar_fleet::store::{Event, Events};
use bursar_fleet::{
    Answer, CallRequest, Failed, Fleet, Publication, Question, RefreshValue, TokenEntry, TokenValue,
};
use bursar_telemetry::metrics::Metrics;
use bursar_testkit::store::{Server, Store};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Scripts under way at once.
const AT_ONCE: usize = 64;
/// As long as a JSON Web Token of a payment API, and a refresh token.
const TOKEN_LENGTH: usize = 900;
const REFRESH_LENGTH: usize = 64;
const LIFETIME: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() {
    let keys: u64 = std::env::var("BURSAR_FLEET_KEYS")
        .ok()
        .and_then(|keys| keys.parse().ok())
        .unwrap_or(10_000);
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let (fleet, _events) = join(&store).await;
    let (other, _other_events) = join(&store).await;
    println!(
        "{keys} token keys, tokens of {TOKEN_LENGTH} bytes, {} scripts at once",
        AT_ONCE
    );
    println!(
        "| | seconds | scripts in a second | CPU µs of the store per script | bytes in | bytes out |"
    );
    println!("|---|---|---|---|---|---|");
    let published: Vec<Arc<AtomicU64>> = (0..keys).map(|_| Arc::default()).collect();
    let empty = number(&store, "memory", "used_memory").await;
    measure(
        &store,
        "first token: lease and publication",
        2 * keys,
        each(&fleet, &published, Step::Renew),
    )
    .await;
    let full = number(&store, "memory", "used_memory").await;
    measure(
        &store,
        "renewal: lease and publication",
        2 * keys,
        each(&fleet, &published, Step::Renew),
    )
    .await;
    measure(
        &store,
        "renewal: its call out of the quota",
        keys,
        each(&fleet, &published, Step::TakeCall),
    )
    .await;
    measure(
        &store,
        "another instance looks",
        keys,
        each(&other, &published, Step::Look),
    )
    .await;
    measure(
        &store,
        "a lease that is given back",
        2 * keys,
        each(&other, &published, Step::GiveBack),
    )
    .await;
    println!(
        "memory of the store: {} bytes for each key",
        full.saturating_sub(empty) / keys
    );
}

#[derive(Clone, Copy)]
enum Step {
    Renew,
    TakeCall,
    Look,
    GiveBack,
}

async fn join(store: &Store) -> (Fleet, Events) {
    let yaml = format!(
        "fleet: {{url: '{}', keys: [{KEY}]}}
providers:
  acme: {{hosts: [api.acme.example], client_id: a, client_secret: b, token: {{url: 'https://login.acme.example/token'}}}}",
        store.url()
    );
    let config = Config::parse(&yaml, Path::new("")).expect("it is a configuration");
    let metrics = Metrics::new(&config).expect("every metric has a name of its own");
    let (settings, series) = (config.fleet.as_ref(), metrics.fleet.clone());
    let (fleet, mut events) = Fleet::start(
        settings.expect("it has a fleet"),
        bursar_fleet::Description::default(),
        series.expect("it has a fleet"),
    )
    .expect("there is no TLS");
    while events.next().await.expect("the store is there") != Event::Up {}
    (fleet, events)
}

/// Does it for every key, so many at once.
async fn each(fleet: &Fleet, published: &[Arc<AtomicU64>], step: Step) {
    let mut under_way = JoinSet::new();
    for (key, last) in published.iter().enumerate() {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        let (fleet, last) = (fleet.clone(), last.clone());
        under_way.spawn(async move { one(&fleet, key, &last, step).await });
    }
    under_way.join_all().await;
}

/// `last` is the number of the key's last token.
async fn one(fleet: &Fleet, key: usize, last: &AtomicU64, step: Step) {
    if matches!(step, Step::TakeCall) {
        return take_call(fleet).await;
    }
    let canonical = format!("provider account-{key} secret");
    let entry = TokenEntry {
        canonical: canonical.as_bytes(),
        context: "production",
        proof: b"none",
    };
    // A lease is given to those who know what is there.
    let known = [last.load(Ordering::Relaxed)];
    let question = Question {
        known: match step {
            Step::Look => &[],
            _ => &known,
        },
        highest: 0,
        lease: (!matches!(step, Step::Look)).then_some(Duration::from_secs(12)),
        wants_refresh_token: false,
        is_awaited: true,
    };
    let answer = fleet.ask(entry, question).await.expect("the store answers");
    let Answer::Won(lease) = answer else { return };
    if matches!(step, Step::GiveBack) {
        let given = fleet.report_failure(entry, Failed::default()).await;
        return given.expect("the store answers");
    }
    let value = TokenValue {
        access_token: Secret::new("t".repeat(TOKEN_LENGTH)),
        lifetime: Some(LIFETIME),
        scope: None,
        after_unauthorized: false,
        refresh_token: Some(RefreshValue {
            text: Secret::new("r".repeat(REFRESH_LENGTH)),
            lifetime: Some(LIFETIME),
        }),
        secret: None,
    };
    let publication = Publication {
        number: lease.number,
        issued: Instant::now(),
        lifetime: LIFETIME,
        value: &value,
    };
    let published = fleet.publish(entry, publication).await;
    drop(published.expect("the store answers"));
    last.store(lease.number, Ordering::Relaxed);
}

/// Out of a quota that is never used up.
async fn take_call(fleet: &Fleet) {
    let (interval, tolerance) = (Duration::from_micros(1), Duration::from_secs(15));
    let request = CallRequest {
        interval,
        tolerance,
        longest: tolerance + interval,
        ahead: Duration::ZERO,
        unreported: Duration::ZERO,
    };
    let reply = fleet.take_call("acme", request).await;
    assert!(reply.expect("the store answers").is_taken);
}

async fn measure(store: &Store, what: &str, scripts: u64, work: impl Future<Output = ()>) {
    let before = [
        number(store, "stats", "total_net_input_bytes").await,
        number(store, "stats", "total_net_output_bytes").await,
    ];
    let (cpu, began) = (store.process().cpu(), Instant::now());
    work.await;
    let took = began.elapsed().as_secs_f64();
    let now = store.process().cpu();
    let cpu = (now.user + now.system).saturating_sub(cpu.user + cpu.system);
    let input = number(store, "stats", "total_net_input_bytes").await - before[0];
    let output = number(store, "stats", "total_net_output_bytes").await - before[1];
    println!(
        "| {what} | {took:.1} | {:.0} | {:.1} | {} | {} |",
        scripts as f64 / took,
        cpu.as_secs_f64() * 1e6 / scripts as f64,
        input / scripts,
        output / scripts,
    );
}

/// A number that the store tells of itself.
async fn number(store: &Store, section: &str, name: &str) -> u64 {
    let mut connection = store.connect_as_operator().await;
    let text = connection.call(&["INFO", section]).await.text();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_default()
}
