//! A fleet at real authorization servers that end tokens: Doorkeeper, whose newest token ends the one before, and
//! oidc-provider, which ends a whole family of tokens where a refresh token comes twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::support::eventually;
use crate::support::metrics::Scrape;
use crate::support::program::Program;
use crate::support::relay::{Network, Relay};
use crate::support::store::{Server as StoreServer, Store};

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A store, where it and what else is needed are installed.
async fn store_beside(needs: Needs) -> Option<Store> {
    let (store, is_met) = (StoreServer::redis().await, needs.are_met().await);
    match store {
        Some(store) if is_met => Some(store.start().await),
        _ => None,
    }
}

/// An instance's file.
fn file(store: &Store, server: &Server, place: &str, path: &str, token: &str) -> String {
    let text = |name: &str| server.text(&format!("{place}/{name}"));
    let (id, secret) = (text("client_id"), text("client_secret"));
    let (origin, url) = (server.origin(), server.text("/token_url"));
    format!(
        "fleet: {{url: '{}', keys: ['{KEY}']}}
providers: {{peer: {{hosts: [api.test], paths: ['{path}'], client_id: '{id}', client_secret: '{secret}', upstream: '{origin}', token: {{url: '{url}', timeout: 2s{token}}}}}}}",
        store.url()
    )
}

async fn start(file: &str) -> Program {
    Program::start(file, "info,bursar::access=off").await
}

/// A caller at each program, until it is told to stop; the statuses that they got. A program that is killed or stopped
/// meanwhile is none of them.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<u16>>,
}

impl Load {
    fn on(programs: &[Program], path: &'static str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut callers = JoinSet::new();
        for listen in programs.iter().map(|program| program.listen) {
            let stop = stop.clone();
            callers.spawn(async move {
                let mut statuses = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    statuses.extend(status(listen, path).await);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                statuses
            });
        }
        Self { stop, callers }
    }

    async fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.concat()
    }
}

/// Of a request on a connection of its own, which is told in full where it is none that was wanted; None where that
/// breaks off.
async fn status(listen: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(listen).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.ok()?;
    let response = String::from_utf8_lossy(&response);
    let status = response.split(' ').nth(1)?.parse().ok()?;
    if status != 200 {
        report(&format!("{listen}: {response}"));
    }
    Some(status)
}

#[expect(clippy::print_stderr, reason = "for whoever asks for results")]
fn report(row: &str) {
    eprintln!("{row}");
}

async fn sum(programs: &[Program], name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for program in programs {
        sum += Scrape::of(program.admin).await.value(name, labels);
    }
    sum
}

#[tokio::test]
async fn instances_whose_new_token_ends_the_one_before_renew_it_once_and_surface_no_401() {
    let Some(store) = store_beside(Needs::Doorkeeper).await else {
        return;
    };
    let environment = [("REVOKE_PREV", "1"), ("ACCESS_TOKEN_TTL", "20")];
    let server = Server::start(&["ruby", "doorkeeper.rb"], &environment).await;
    let file = file(&store, &server, "", "/**", ", single_active: true");
    let mut programs = Vec::new();
    for _ in 0..5 {
        programs.push(start(&file).await);
    }
    let load = Load::on(&programs, "/payment-links");
    let seconds = std::env::var("BURSAR_FLEET_SECONDS").ok();
    let seconds = seconds
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(60);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let statuses = load.stop().await;
    let failed = statuses.iter().filter(|status| **status != 200).count();
    let logs: Vec<String> = programs.iter().map(Program::logged).collect();
    let logs = logs.join("\n--\n");
    assert_eq!(failed, 0, "of {}\n{logs}", statuses.len());
    let calls = server.token_calls().await;
    // A token of 20 s is renewed after 16 s or so.
    let renewals = seconds / 14 + 2;
    assert!(calls <= renewals, "{calls} calls in {seconds} s\n{logs}");
    assert!(!logs.contains("revoking each other"), "{logs}");
    let absorbed = sum(
        &programs,
        "bursar_unauthorized_total",
        &[("result", "absorbed")],
    );
    let (requests, absorbed) = (statuses.len(), absorbed.await);
    report(&format!(
        "{requests} requests in {seconds} s, none failed; {calls} token calls, {absorbed} 401s absorbed"
    ));
}

#[tokio::test]
async fn without_single_active_contention_names_the_key_that_is_missing() {
    let Some(store) = store_beside(Needs::Doorkeeper).await else {
        return;
    };
    let server = Server::start(&["ruby", "doorkeeper.rb"], &[("REVOKE_PREV", "1")]).await;
    let inside = file(&store, &server, "", "/**", "");
    let outside = inside.lines().skip(1).collect::<Vec<_>>().join("\n");
    let programs = [start(&inside).await, start(&outside).await];
    for _ in 0..12 {
        for program in &programs {
            let mut caller = Caller::connect(program.listen).await;
            caller.send("GET", "/payment-links", "").await;
        }
    }
    for (program, missing) in [
        (&programs[0], "set `token.single_active: true`"),
        (
            &programs[1],
            "make them one `fleet` and set `token.single_active: true`",
        ),
    ] {
        let status = program.json("/status").await;
        let contention = status["tokens"][0]["contention"].as_str();
        assert!(
            contention.is_some_and(|advice| advice.contains(missing)),
            "{status}"
        );
        assert!(program.logged().contains(missing));
    }
}

async fn fingerprint(program: &Program) -> String {
    let status = program.json("/status").await;
    status["tokens"][0]["fingerprint"].to_string()
}

/// Waits until an instance begins to ask the token endpoint, and says which.
async fn next_holder(programs: &[Program]) -> usize {
    let mut won = vec![f64::MAX; programs.len()];
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        for (index, program) in programs.iter().enumerate() {
            let scrape = Scrape::of(program.admin).await;
            let now = scrape.value("bursar_fleet_leases_total", &[("result", "won")]);
            if now > std::mem::replace(&mut won[index], now) {
                return index;
            }
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "nobody renews the token"
        );
    }
}

#[tokio::test]
async fn a_refresh_token_never_arrives_twice_however_its_holder_ends() {
    let Some(store) = store_beside(Needs::OidcProvider).await else {
        return;
    };
    let environment = [("ACCESS_TOKEN_TTL", "4")];
    let server = Server::start(&["node", "oidc-provider.mjs"], &environment).await;
    // So slow that its holder can be hit in the middle of a call.
    let port = server.ready["port"].as_u64().unwrap();
    let relay = Relay::to(([127, 0, 0, 1], u16::try_from(port).unwrap()).into()).await;
    relay.set(Network::Delays(Duration::from_millis(300)));
    let token = ", refresh: grant, scopes: [links.read]";
    let direct = file(&store, &server, "/clients/ladder", "/**", token);
    let (url, slow) = (
        server.text("/token_url"),
        format!("http://{}/token", relay.address),
    );
    let file = direct.replace(url, &slow);
    let mut programs = Vec::new();
    for _ in 0..5 {
        programs.push(start(&file).await);
    }
    let rounds = std::env::var("BURSAR_FLEET_ROUNDS").ok();
    let rounds: u32 = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    let (mut sent, mut bad_rounds) = (0, Vec::new());
    for round in 0..rounds {
        let load = Load::on(&programs, "/api/links");
        let held = next_holder(&programs).await;
        if round % 2 == 0 {
            programs[held].signal("KILL").await;
            programs[held] = start(&file).await;
        } else {
            programs[held].signal("STOP").await;
            // Longer than its lease, which is for 2 s and 2 s.
            tokio::time::sleep(Duration::from_secs(5)).await;
            programs[held].signal("CONT").await;
        }
        // One accident at a time.
        let before = fingerprint(&programs[(held + 1) % programs.len()]).await;
        eventually(|| async {
            let mut all = Vec::new();
            for program in &programs {
                all.push(fingerprint(program).await);
            }
            all.iter().all(|one| *one != before && *one == all[0])
        })
        .await;
        let statuses = load.stop().await;
        sent += statuses.len();
        let failed = statuses.iter().filter(|status| **status != 200).count();
        if failed > 0 {
            let logs: Vec<String> = programs.iter().map(Program::logged).collect();
            report(&format!("round {round}:\n{}", logs.join("\n--\n")));
            bad_rounds.push((round, failed));
        }
    }
    let stats = server.stats().await;
    let refreshed = server.tokens("refresh_token", "200").await;
    let by_credentials = server.tokens("client_credentials", "200").await;
    report(&format!("{rounds} rounds, {sent} requests: {stats}"));
    // What comes twice is answered 400, and ends the whole family.
    assert_eq!(server.tokens("refresh_token", "400").await, 0, "{stats}");
    assert!(refreshed > 0 && by_credentials > 0, "{stats}");
    assert_eq!(
        bad_rounds,
        [],
        "rounds in which requests failed, and how many"
    );
}
