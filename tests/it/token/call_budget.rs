//! The budget of token calls, the breaker, and instances that revoke each other's tokens.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::support::metrics::{Scrape, admin};
use crate::support::proxy::Program;

const PROVIDER: [(&str, &str); 1] = [("provider", "acme")];

#[tokio::test]
async fn a_token_call_beyond_the_budget_waits_and_its_request_is_503() {
    let lines =
        "token.calls_per_minute: 1\ntoken.wait: 100ms\nroutes: [{path: /other, scopes: [other]}]";
    let rig = Rig::of(api().await, Idp::counting().await, lines).await;
    let exhausted = "bursar_token_budget_exhausted_total";
    assert_eq!(rig.proxy.metric(exhausted, &PROVIDER).await, 0.0);
    rig.idp.reached_by(1).await;
    let reply = rig.get("/other").await;
    assert_unavailable(&reply);
    let detail = reply.problem()["detail"].to_string();
    assert!(detail.contains("token.calls_per_minute"), "{detail}");
    let wait: u64 = reply.all("retry-after")[0].parse().unwrap();
    assert!((20..=60).contains(&wait), "{wait}");
    assert_eq!(rig.proxy.metric(exhausted, &PROVIDER).await, 1.0);
    let (_, status) = rig.proxy.json("/status").await;
    let endpoint = &status["token_endpoints"][0];
    assert_eq!(endpoint["calls_per_minute"], 1);
    assert_eq!(endpoint["calls_that_waited"], 1);
    // The token that is there is not held up.
    assert_eq!(rig.get("/a").await.status, 200);
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn calls_are_held_while_the_token_endpoint_is_down_and_a_probe_ends_that() {
    let works = Arc::new(AtomicBool::new(false));
    let up = works.clone();
    let idp = Idp::start(move |call| {
        let works = up.load(Ordering::SeqCst);
        async move {
            match works {
                true => token(&format!("token-{}", call.number)),
                false => answer(503, "<html>down</html>"),
            }
        }
    });
    let rig = Rig::of(api().await, idp.await, "").await;
    let open = "bursar_token_breaker_open";
    rig.proxy.metric_becomes(open, &PROVIDER, 1.0).await;
    let (_, status) = rig.proxy.json("/status").await;
    assert_eq!(status["token_endpoints"][0]["calls_are_held"], true);
    works.store(true, Ordering::SeqCst);
    rig.proxy.metric_becomes(open, &PROVIDER, 0.0).await;
    assert_eq!(rig.get("/a").await.status, 200);
}

#[tokio::test]
async fn after_an_outage_in_which_calls_hang_the_first_token_comes_within_5_s() {
    let works = Arc::new(AtomicBool::new(false));
    let up = works.clone();
    let idp = Idp::start(move |call| {
        let works = up.load(Ordering::SeqCst);
        async move {
            match (works, call.number) {
                (true, _) => token("back"),
                (false, 1) => answer(500, "trouble"),
                (false, _) => std::future::pending().await,
            }
        }
    });
    let rig = Rig::of(api().await, idp.await, "token.wait: 200ms").await;
    let asked = async {
        while rig.get("/a").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Instant::now()
    };
    let returned = async {
        // The second call is under way, and never gets a response.
        rig.idp.reached_by(2).await;
        works.store(true, Ordering::SeqCst);
        Instant::now()
    };
    let (asked, returned) = soon(async { tokio::join!(asked, returned) }).await;
    let took = asked - returned;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// A token endpoint where each token ends the one before, and an API that takes the last one only.
async fn one_token_at_a_time() -> (Idp, Upstream) {
    let last = Arc::new(Mutex::new(String::new()));
    let valid = last.clone();
    let idp = Idp::start(move |call| {
        let text = format!("token-{}", call.number);
        *last.lock().unwrap() = format!("Bearer {text}");
        async move { token(&text) }
    });
    let api = Upstream::start(move |request: Request<Bytes>| {
        let is_valid = request.headers()["authorization"] == *valid.lock().unwrap();
        async move { answer(if is_valid { 200 } else { 401 }, "") }
    });
    (idp.await, api.await)
}

#[tokio::test]
async fn instances_that_revoke_each_others_tokens_are_told_of_and_do_not_renew_for_ever() {
    let (idp, api) = one_token_at_a_time().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let instances = [
        Program::start(&yaml, "info").await,
        Program::start(&yaml, "info").await,
    ];
    let contention = "bursar_token_contention_total";
    for round in 0..30 {
        for instance in &instances {
            let mut caller = Caller::connect(instance.listen).await;
            let status = caller.send("GET", "/a", "").await.status;
            // Each is served with a new token, until it has had ten.
            assert!(status == 200 || round > 8, "{status} in round {round}");
        }
    }
    assert!(idp.calls() <= 2 * 11, "{} calls", idp.calls());
    for instance in instances {
        let labels = [("provider", "acme"), ("account", "default")];
        let count = Scrape::of(instance.admin).await.value(contention, &labels);
        assert!(count >= 3.0, "{count}");
        let ready = admin(instance.admin, "/readyz").await;
        assert_eq!(ready.status, 200);
        for path in ["/readyz", "/status"] {
            let told = admin(instance.admin, path).await;
            let told = told.text();
            assert!(told.contains("instances are revoking each other"), "{told}");
        }
        instance.signal("TERM").await;
        let (code, log) = instance.ended().await;
        assert_eq!(code, Some(0), "{log}");
        let lines = log.matches("instances are revoking each other").count();
        assert_eq!(lines, 1, "{log}");
    }
}
