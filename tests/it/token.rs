//! Tokens over real sockets: what token endpoints may do, and what comes at start-up.

mod call_budget;
mod check;
mod endpoint_requests;
mod endpoint_responses;
mod live_check;
mod secrets;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use serde_json::json;
use tokio::net::TcpSocket;

use crate::support::caller::{Caller, Reply};
use crate::support::idp::{Idp, TokenCall, token};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Body, Upstream, answer, full};
use crate::support::{CLIENT_SECRET, Latch, Rig, acme, eventually, soon};

const FETCHES: &str = "bursar_token_fetches_total";

/// An API that takes every token.
async fn api() -> Upstream {
    Upstream::start(|_| async { answer(200, "paid") }).await
}

async fn send(proxy: &Proxy, method: &str, url: &str) -> Reply {
    let request = Request::builder().method(method).uri(url);
    let request = request.body(full("")).unwrap();
    Caller::connect(proxy.listen).await.request(request).await
}

/// How often the calls of `acme` ended in each way.
async fn outcomes(proxy: &Proxy) -> Vec<(String, f64)> {
    let scrape = proxy.scrape().await;
    let all = scrape.all().iter().filter(|(name, labels, value)| {
        name == FETCHES && labels["provider"] == "acme" && *value > 0.0
    });
    all.map(|(_, labels, value)| (labels["outcome"].clone(), *value))
        .collect()
}

/// One request while the token endpoint answers with `script`: the reply, once its failure is counted
/// as `outcome` and as nothing else.
async fn refused<F>(
    lines: &str,
    outcome: &str,
    script: impl Fn(TokenCall) -> F + Send + Sync + 'static,
) -> (Rig, Reply)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let rig = Rig::of(api().await, Idp::start(script).await, lines).await;
    let reply = rig.get("/a").await;
    let outcomes = outcomes(&rig.proxy).await;
    assert!(
        outcomes.len() == 1 && outcomes[0].0 == outcome,
        "{outcomes:?}"
    );
    assert_eq!(rig.api.count(), 0);
    assert_eq!(reply.problem()["request_sent"], "no");
    assert!(!reply.text().contains(CLIENT_SECRET));
    (rig, reply)
}

#[track_caller]
fn assert_unavailable(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.problem()["reason"], "token_unavailable");
    assert_eq!(reply.all("retry-after").len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_token_is_503_and_cached_by_nobody() {
    for (status, body, outcome) in [
        (200, "<html>please log in</html>", "malformed"),
        (403, "<html>a firewall</html>", "unavailable"),
        (200, "", "malformed"),
        (200, r#"{"success":false,"access_token":"t"}"#, "malformed"),
        (200, r#"{"access_token":"a\r\nX-Evil: 1"}"#, "malformed"),
        (200, r#"["access_token"]"#, "malformed"),
        (200, r#"{"access_token":"t","expires_in":0}"#, "malformed"),
        (500, r#"{"error":"server_error"}"#, "unavailable"),
    ] {
        // A short wait, because some of these are worth waiting through.
        let script = move |_| async move { answer(status, body) };
        let (_rig, reply) = refused("token.wait: 300ms", outcome, script).await;
        assert_unavailable(&reply);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_is_given_up() {
    let script = |_| std::future::pending();
    let (_rig, reply) = refused("token.timeout: 200ms", "unavailable", script).await;
    assert_unavailable(&reply);
}

#[tokio::test]
async fn a_request_waits_for_a_token_no_longer_than_it_may() {
    let latch = Latch::closed();
    let idp = Idp::held(&latch);
    let rig = Rig::of(api().await, idp.await, "token.wait: 100ms").await;
    assert_unavailable(&rig.get("/a").await);
    // The flight goes on, and its token is for the next request.
    latch.open();
    let metric = [("provider", "acme"), ("outcome", "ok")];
    rig.proxy.metric_becomes(FETCHES, &metric, 1.0).await;
    assert_eq!(rig.get("/a").await.status, 200);
    assert_eq!(rig.idp.calls(), 1);
    let wait = "bursar_token_wait_seconds_count";
    assert_eq!(rig.proxy.metric(wait, &[("provider", "acme")]).await, 1.0);
}

#[tokio::test]
async fn a_token_endpoint_that_is_not_there_is_503() {
    // Bound, so that nobody else takes the port, but nobody listens.
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = format!("http://{}/token", port.local_addr().unwrap());
    let proxy = Proxy::start(&acme("https://api.example", &nobody, "")).await;
    assert_unavailable(&send(&proxy, "GET", "http://api.test/a").await);
}

#[tokio::test]
async fn a_redirect_of_the_token_endpoint_is_not_followed() {
    let elsewhere = Arc::new(Idp::counting().await);
    let location = elsewhere.url();
    let script = move |_| {
        let redirect = Response::builder()
            .status(307)
            .header("location", &location);
        let redirect = redirect.body(full("")).unwrap();
        async move { redirect }
    };
    let (_rig, reply) = refused("", "unavailable", script).await;
    assert_unavailable(&reply);
    assert_eq!(elsewhere.calls(), 0);
}

#[tokio::test]
async fn an_answer_of_a_gigabyte_is_cut_off_after_a_mebibyte() {
    const CHUNK: usize = 64 << 10;
    let (sent, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (sent.clone(), gone.clone());
    let script = move |_| {
        let (sent, gone) = counters.clone();
        async move {
            let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
            tokio::spawn(async move {
                let chunk = Bytes::from(vec![b' '; CHUNK]);
                while sent.load(Ordering::SeqCst) < 1 << 30
                    && sender.send_data(chunk.clone()).await.is_ok()
                {
                    sent.fetch_add(CHUNK, Ordering::SeqCst);
                }
                gone.fetch_add(1, Ordering::SeqCst);
            });
            Response::new(body.boxed_unsync())
        }
    };
    let (_rig, reply) = refused("", "malformed", script).await;
    assert_unavailable(&reply);
    eventually(|| async { gone.load(Ordering::SeqCst) > 0 }).await;
    let sent = sent.load(Ordering::SeqCst);
    // The rest is in the sockets' buffers.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn a_reply_is_json_whatever_its_content_type_says() {
    let idp = Idp::start(|_| async {
        let reply = Response::builder().header("content-type", "text/html");
        reply
            .body(full(r#"{"access_token":"t","expires_in":"3600","x":[]}"#))
            .unwrap()
    });
    let rig = Rig::of(api().await, idp.await, "").await;
    assert_eq!(rig.get("/a").await.text(), "paid");
    assert_eq!(rig.api.only().all("authorization"), ["Bearer t"]);
}

#[tokio::test]
async fn a_refused_account_is_502_and_costs_one_call() {
    for (status, body) in [
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"unauthorized_client"}"#),
        (403, r#"{"message":"Invalid credentials"}"#),
        (401, "<html>who are you?</html>"),
        (400, "error=invalid_client"),
    ] {
        let script = move |_| async move { answer(status, body) };
        let (rig, reply) = refused("", "rejected", script).await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.problem()["reason"], "credentials_rejected");
        for _ in 0..20 {
            assert_eq!(rig.get("/a").await.status, 502);
        }
        assert_eq!(rig.idp.calls(), 1);
        let (status, ready) = rig.proxy.json("/readyz").await;
        assert_eq!(
            (status, &ready["providers"]["acme"]["healthy"]),
            (503, &json!(false))
        );
    }
}

#[tokio::test]
async fn a_rate_limit_is_passed_on_and_kept() {
    let script = |_| async {
        let limited = Response::builder().status(429).header("retry-after", "30");
        limited.body(full("slow down")).unwrap()
    };
    let (rig, reply) = refused("", "rate_limited", script).await;
    assert_unavailable(&reply);
    for _ in 0..20 {
        let reply = rig.get("/a").await;
        assert_unavailable(&reply);
        let wait: u64 = reply.all("retry-after")[0].parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
    }
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn sixty_callers_on_a_cold_cache_make_one_call() {
    let latch = Latch::closed();
    let idp = Idp::held(&latch);
    // A scope of its own, so that nothing is obtained at start-up.
    let lines = "routes: [{path: /cold, scopes: [cold]}]\ntoken.scopes: [warm]";
    let rig = Rig::of(api().await, idp.await, lines).await;
    latch.reached_by(1).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let listen = rig.proxy.listen;
        callers.spawn(async move { Caller::connect(listen).await.send("GET", "/cold", "").await });
    }
    let in_flight = [("provider", "acme")];
    let metric = "bursar_requests_in_flight";
    rig.proxy.metric_becomes(metric, &in_flight, 60.0).await;
    latch.open();
    for reply in soon(callers.join_all()).await {
        assert_eq!(reply.status, 200);
    }
    assert_eq!(rig.idp.calls(), 2);
    for seen in rig.api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-2"]);
    }
}

/// The provider as its preset has it, but for where things are.
fn preset(name: &str, api: &Upstream, idp: &Idp, extra: &str) -> String {
    let (api, url) = (api.url(), idp.url());
    format!(
        "providers: {{{name}: {{preset: {name}, environment: sandbox, client_id: 'i+d', client_secret: 's:e/c+r%e&t= x', upstream: '{api}', token: {{url: '{url}'{extra}}}}}}}"
    )
}

#[tokio::test]
async fn a_token_comes_at_start_up_and_makes_the_proxy_ready() {
    let latch = Latch::closed();
    let idp = Idp::held(&latch);
    let rig = Rig::of(api().await, idp.await, "").await;
    latch.reached_by(1).await;
    let (status, body) = rig.proxy.json("/readyz").await;
    assert_eq!((status, &body["ready"]), (503, &json!(false)));
    latch.open();
    eventually(|| async { rig.proxy.json("/readyz").await.0 == 200 }).await;
    let scrape = rig.proxy.scrape().await;
    let labels = [("provider", "acme"), ("account", "default"), ("scopes", "")];
    let value = |name| scrape.value(name, &labels);
    assert_eq!(value("bursar_token_generation"), 1.0);
    let lifetime = value("bursar_token_expiry_timestamp_seconds")
        - value("bursar_token_issued_timestamp_seconds");
    assert!((lifetime - 3600.0).abs() < 0.1, "{lifetime}");
    let grant = [("provider", "acme"), ("grant", "client_credentials")];
    assert_eq!(
        scrape.value("bursar_token_fetch_duration_seconds_count", &grant),
        1.0
    );
    assert_eq!(rig.get("/a").await.status, 200);
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn one_well_account_makes_the_proxy_ready_and_the_other_is_shown() {
    let (api, good) = (api().await, Idp::counting().await);
    let bad = Idp::start(|_| async { answer(401, r#"{"error":"invalid_client"}"#) }).await;
    let provider = |name: &str, idp: &Idp| {
        let (upstream, url) = (api.url(), idp.url());
        format!(
            "  {name}: {{hosts: [{name}.test], client_id: i, client_secret: s, upstream: '{upstream}', token: {{url: '{url}'}}}}\n"
        )
    };
    let yaml = format!(
        "providers:\n{}{}",
        provider("good", &good),
        provider("bad", &bad)
    );
    let proxy = Proxy::start(&yaml).await;
    let rejected = [("provider", "bad"), ("outcome", "rejected")];
    proxy.metric_becomes(FETCHES, &rejected, 1.0).await;
    eventually(|| async { proxy.json("/readyz").await.0 == 200 }).await;
    let (_, body) = proxy.json("/readyz").await;
    assert_eq!(body["providers"]["good"]["healthy"], true);
    assert_eq!(body["providers"]["bad"]["healthy"], false);
    let (_, status) = proxy.json("/status").await;
    assert!(!status.to_string().contains("token-1"), "{status}");
}

#[tokio::test]
async fn a_proxy_that_wants_no_token_at_start_up_is_ready_at_once() {
    let (api, idp) = (api().await, Idp::counting().await);
    let proxy = Proxy::start(&preset("payu", &api, &idp, "")).await;
    assert_eq!(proxy.json("/readyz").await.0, 200);
    // Every series exists from the start, at 0, and no call was made for them.
    let scrape = proxy.scrape().await;
    for outcome in [
        "ok",
        "unchanged",
        "rejected",
        "rate_limited",
        "unavailable",
        "malformed",
    ] {
        assert_eq!(
            scrape.value(FETCHES, &[("provider", "payu"), ("outcome", outcome)]),
            0.0
        );
    }
    let scopes = [("provider", "payu"), ("scopes", "create_payment_links")];
    assert_eq!(
        scrape.value("bursar_token_expiry_timestamp_seconds", &scopes),
        0.0
    );
    assert_eq!(idp.calls(), 0);
}
