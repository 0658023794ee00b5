//! The real program on every core of the machine: connections are shared out, and what they share stays one.

use std::collections::HashMap;
use std::thread::available_parallelism;

use http::StatusCode;
use tokio::task::JoinSet;

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::metrics::admin;
use crate::support::proxy::Program;
use crate::support::upstream::{Upstream, answer};
use crate::support::{Latch, acme, eventually};

/// Callers of each worker.
const SHARE: usize = 3;

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// As many connections as make a share for every worker.
async fn callers(program: &Program) -> Vec<Caller> {
    let mut callers = Vec::new();
    for _ in 0..SHARE * cores() {
        callers.push(Caller::connect(program.listen).await);
    }
    callers
}

/// All send one request at a time, together. What they are answered.
async fn send_all(callers: &mut Vec<Caller>, path: &'static str) -> Vec<(StatusCode, String)> {
    let mut sending = JoinSet::new();
    for mut caller in callers.drain(..) {
        sending.spawn(async move {
            let reply = caller.send("GET", path, "").await;
            (caller, (reply.status, reply.text().to_owned()))
        });
    }
    let (back, replies): (Vec<_>, _) = sending.join_all().await.into_iter().unzip();
    *callers = back;
    replies
}

/// How many callers each group has whose requests came to the provider over common connections.
fn groups(api: &Upstream) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut last = HashMap::new();
    for seen in api.seen() {
        let caller: usize = seen.target.trim_start_matches('/').parse().unwrap();
        let other = *last.entry(seen.connection).or_insert(caller);
        let is_of = |group: &Vec<usize>| group.contains(&caller) || group.contains(&other);
        let (same, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_of);
        groups = others;
        let mut joined = same.concat();
        joined.extend([caller, other]);
        joined.sort_unstable();
        joined.dedup();
        groups.push(joined);
    }
    groups.iter().map(Vec::len).collect()
}

#[tokio::test]
async fn each_core_has_its_share_of_the_callers_and_connections_to_the_provider_of_its_own() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let mut names = program.threads();
    names.retain(|name| name.starts_with("worker-"));
    names.sort_unstable();
    let numbers = if cores() > 1 { cores() } else { 0 };
    let mut expected: Vec<_> = (0..numbers)
        .map(|number| format!("worker-{number}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let mut callers = callers(&program).await;
    // A worker takes its latest connection first, so that its callers soon have had one in common.
    let shares = vec![SHARE; cores()];
    while groups(&api) != shares {
        assert!(api.count() < 100 * callers.len(), "{:?}", groups(&api));
        for (number, caller) in callers.iter_mut().enumerate() {
            let reply = caller.send("GET", &format!("/{number}"), "").await;
            assert_eq!(reply.status, 200);
        }
    }
}

#[tokio::test]
async fn a_storm_of_401s_on_all_cores_costs_one_token_call() {
    let (latch, token) = (Latch::closed(), Latch::closed());
    let reached = latch.clone();
    let api = Upstream::start(move |request| {
        let latch = reached.clone();
        async move {
            if request.headers()["authorization"] == "Bearer token-2" {
                return answer(200, "done");
            }
            latch.wait().await;
            answer(401, "")
        }
    })
    .await;
    let idp = Idp::held(&token).await;
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let mut callers = callers(&program).await;
    let count = callers.len();
    let storm = tokio::spawn(async move { send_all(&mut callers, "/x").await });
    // Nobody has a token yet: the call is the one of the start.
    token.reached_by(1).await;
    token.open();
    latch.reached_by(count).await;
    assert_eq!(idp.calls(), 1);
    latch.open();
    let replies = storm.await.unwrap();
    assert_eq!(replies, vec![(StatusCode::OK, "done".to_owned()); count]);
    assert_eq!((idp.calls(), api.count()), (2, 2 * count));
}

#[tokio::test]
async fn a_signal_drains_what_is_in_flight_on_every_core() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("done", &latch).await, Idp::counting().await);
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let mut callers = callers(&program).await;
    let count = callers.len();
    let held = tokio::spawn(async move { send_all(&mut callers, "/held").await });
    latch.reached_by(count).await;
    program.signal("TERM").await;
    eventually(|| async { admin(program.admin, "/readyz").await.status == 503 }).await;
    latch.open();
    let replies = held.await.unwrap();
    assert_eq!(replies, vec![(StatusCode::OK, "done".to_owned()); count]);
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("cut off"), "{log}");
    assert_eq!(log.matches("bursar::access").count(), count, "{log}");
}
