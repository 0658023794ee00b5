//! The breaker of a provider: off unless configured, and about connections, not about answers.

use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::support::caller::{Caller, Reply};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer};
use crate::support::{Rig, acme, eventually};

const OPEN: &str = "bursar_upstream_breaker_open";
const ACME: [(&str, &str); 1] = [("provider", "acme")];

async fn get(proxy: &Proxy) -> Reply {
    Caller::connect(proxy.listen)
        .await
        .send("GET", "/a", "")
        .await
}

/// A port where nobody listens yet.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_left_alone_until_one_request_gets_through() {
    let (socket, url) = nobody();
    let idp = Idp::counting().await;
    let lines = "breaker: {failures: 2, pause: 200ms}";
    let proxy = Proxy::start(&acme(&url, &idp.url(), lines)).await;
    assert_eq!(proxy.metric(OPEN, &ACME).await, 0.0);
    let mut reply = get(&proxy).await;
    for _ in 0..50 {
        if reply.status == 503 {
            break;
        }
        assert_eq!(reply.problem()["reason"], "upstream_unreachable");
        reply = get(&proxy).await;
    }
    let problem = reply.problem();
    assert_eq!(problem["reason"], "upstream_unavailable");
    assert_eq!(problem["request_sent"], "no");
    assert_eq!(reply.all("retry-after"), ["1"]);
    assert_eq!(proxy.metric(OPEN, &ACME).await, 1.0);
    let (status, ready) = proxy.json("/readyz").await;
    assert_eq!(
        (status, &ready["providers"]["acme"]["healthy"]),
        (200, &false.into())
    );
    let (_, status) = proxy.json("/status").await;
    assert_eq!(status["held_providers"][0], "acme");
    // The provider is back.
    let _api = Upstream::at(socket.listen(64).unwrap(), |_| async { answer(200, "") });
    eventually(|| async { get(&proxy).await.status == 200 }).await;
    assert_eq!(proxy.metric(OPEN, &ACME).await, 0.0);
    let (_, ready) = proxy.json("/readyz").await;
    assert_eq!(ready["providers"]["acme"]["healthy"], true);
}

#[tokio::test]
async fn answers_are_no_failures_whatever_they_say() {
    let rig = Rig::with("breaker: {failures: 1}", |_| async { answer(503, "") }).await;
    for _ in 0..5 {
        assert!(rig.get("/a").await.all("proxy-status").is_empty());
    }
    assert_eq!(rig.api.count(), 5);
    assert_eq!(rig.proxy.metric(OPEN, &ACME).await, 0.0);
}

#[tokio::test]
async fn without_a_breaker_every_request_is_tried() {
    let (_socket, url) = nobody();
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&url, &idp.url(), "")).await;
    for _ in 0..10 {
        let reply = get(&proxy).await;
        assert_eq!(reply.problem()["reason"], "upstream_unreachable");
    }
    assert_eq!(proxy.metric(OPEN, &ACME).await, 0.0);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_left_alone_too() {
    let lines = "breaker: {failures: 2, pause: 1h}\ntimeouts: {head: 100ms}";
    let rig = Rig::with(lines, |_| std::future::pending()).await;
    for _ in 0..2 {
        let reply = rig.get("/a").await;
        assert_eq!(reply.problem()["reason"], "upstream_timeout");
    }
    for _ in 0..3 {
        let reply = rig.get("/a").await;
        assert_eq!(reply.problem()["reason"], "upstream_unavailable");
    }
    assert_eq!(rig.api.count(), 2);
}

#[tokio::test]
async fn who_comes_back_when_told_to_does_not_come_too_soon() {
    let (_socket, url) = nobody();
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(
        &url,
        &idp.url(),
        "breaker: {failures: 1, pause: 30s}",
    ))
    .await;
    let begun = Instant::now();
    assert_eq!(get(&proxy).await.status, 502);
    let reply = get(&proxy).await;
    assert_eq!(reply.problem()["reason"], "upstream_unavailable");
    let seconds: u64 = reply.all("retry-after")[0].parse().unwrap();
    assert!(begun.elapsed() + Duration::from_secs(seconds) >= Duration::from_secs(30));
    assert!(seconds <= 30);
}

#[tokio::test]
async fn a_caller_that_sends_slowly_is_not_waited_for_to_know_that_the_provider_is_back() {
    let (socket, url) = nobody();
    let idp = Idp::counting().await;
    let lines = "breaker: {failures: 1, pause: 200ms}\ntimeouts: {idle: 1h}";
    let proxy = Proxy::start(&acme(&url, &idp.url(), lines)).await;
    eventually(|| async { get(&proxy).await.status == 503 }).await;
    let _api = Upstream::at(socket.listen(64).unwrap(), |_| async { answer(200, "") });
    let mut slow = Vec::new();
    loop {
        let mut caller = Raw::connect(proxy.listen).await;
        let head =
            "PUT http://api.test/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\n12";
        caller.write(head).await;
        slow.push(caller);
        let connections = [("side", "upstream")];
        if proxy.metric("bursar_connections", &connections).await == 1.0 {
            break;
        }
        assert!(slow.len() < 1000);
    }
    assert_eq!(get(&proxy).await.status, 503);
    eventually(|| async { get(&proxy).await.status == 200 }).await;
    assert_eq!(proxy.metric(OPEN, &ACME).await, 0.0);
}
