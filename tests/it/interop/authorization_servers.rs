//! Real authorization servers: oidc-provider and Doorkeeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::support::eventually;
use crate::support::proxy::Proxy;

async fn oidc_provider(environment: &[(&str, &str)]) -> Option<Server> {
    if !Needs::OidcProvider.are_met().await {
        return None;
    }
    Some(Server::start(&["node", "oidc-provider.mjs"], environment).await)
}

async fn doorkeeper(environment: &[(&str, &str)]) -> Option<Server> {
    if !Needs::Doorkeeper.are_met().await {
        return None;
    }
    Some(Server::start(&["ruby", "doorkeeper.rb"], environment).await)
}

/// A proxy in front of a server's API, for an account whose credentials are at `place` in the ready line.
async fn proxy(server: &Server, place: &str, keys: &str, token: &str) -> Proxy {
    let text = |name: &str| server.text(&format!("{place}/{name}"));
    let (id, secret) = (text("client_id"), text("client_secret"));
    let (upstream, url) = (server.origin(), server.text("/token_url"));
    Proxy::start(&format!(
        "providers: {{peer: {{{keys}, client_id: '{id}', client_secret: '{secret}', upstream: '{upstream}', token: {{url: '{url}'{token}}}}}}}"
    ))
    .await
}

const ACME: &str = "hosts: [api.test]";

async fn api(proxy: &Proxy, method: &str, path: &str, body: Vec<u8>) -> Reply {
    Caller::connect(proxy.listen)
        .await
        .send(method, path, body)
        .await
}

/// So many requests at once, all answered 200.
async fn burst(proxy: &Proxy, path: &'static str, count: usize) {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..count {
        let listen = proxy.listen;
        callers.spawn(async move { Caller::connect(listen).await.send("GET", path, "").await });
    }
    for reply in within("a burst", callers.join_all()).await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

/// Requests on `count` connections until `done`; every one is answered 200.
async fn load_until<F: Future<Output = bool>>(
    proxy: &Proxy,
    path: &'static str,
    count: usize,
    done: impl FnMut() -> F,
) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (listen, stop) = (proxy.listen, stop.clone());
        callers.spawn(async move {
            let mut caller = Caller::connect(listen).await;
            while !stop.load(Ordering::Relaxed) {
                let reply = caller.send("GET", path, "").await;
                assert_eq!(reply.status, 200, "{reply:?}");
                // Real servers on few cores: enough load, not all that there is.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    eventually(done).await;
    stop.store(true, Ordering::Relaxed);
    within("the load", callers.join_all()).await;
}

async fn absorbed(proxy: &Proxy) -> f64 {
    let result = [("result", "absorbed")];
    proxy.metric("bursar_unauthorized_total", &result).await
}

#[tokio::test]
async fn oidc_provider_takes_form_encoded_basic_and_body_credentials() {
    let Some(server) = oidc_provider(&[]).await else {
        return;
    };
    for (place, auth) in [("/clients/basic", "basic_form"), ("/clients/post", "body")] {
        let token = format!(", client_auth: {auth}, scopes: [links.write, links.read]");
        let proxy = proxy(&server, place, ACME, &token).await;
        let reply = api(&proxy, "GET", "/api/links", Vec::new()).await;
        assert_eq!(reply.status, 200, "{auth}: {reply:?}");
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["client"], server.text(&format!("{place}/client_id")));
        assert_eq!(answer["scope"], "links.read links.write");
    }
    let stats = server.stats().await;
    assert_eq!(stats["token"], json!({"client_credentials": {"200": 2}}));
}

#[tokio::test]
async fn a_family_of_refresh_tokens_survives_rotation_under_load() {
    let Some(server) = oidc_provider(&[("ACCESS_TOKEN_TTL", "2")]).await else {
        return;
    };
    let proxy = proxy(&server, "/clients/ladder", ACME, ", refresh: grant").await;
    load_until(&proxy, "/api/links", 20, || async {
        server.tokens("refresh_token", "200").await >= 4
    })
    .await;
    // One refusal would mean that a token was offered twice, and the family is dead.
    let stats = server.stats().await;
    assert_eq!(stats["token"]["client_credentials"], json!({"200": 1}));
    let refreshes = stats["token"]["refresh_token"].as_object().unwrap();
    assert_eq!(refreshes.keys().collect::<Vec<_>>(), ["200"]);
}

#[tokio::test]
async fn oidc_provider_revoking_tokens_is_absorbed() {
    let Some(server) = oidc_provider(&[]).await else {
        return;
    };
    let proxy = proxy(&server, "/clients/ladder", ACME, ", refresh: grant").await;
    burst(&proxy, "/api/links", 1).await;
    // The access token alone, so that the refresh token brings the next one, for sixty at once.
    server.control("POST", "/control/revoke?only=access").await;
    burst(&proxy, "/api/links", 60).await;
    assert_eq!(
        server.stats().await["token"],
        json!({"client_credentials": {"200": 1}, "refresh_token": {"200": 1}})
    );
    // Everything: the refresh token is refused, and client_credentials follows in the same flight.
    server.control("POST", "/control/revoke").await;
    let before = absorbed(&proxy).await;
    let body = vec![b'x'; 300_000];
    let reply = api(&proxy, "POST", "/api/links", body).await;
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        (reply.status.as_u16(), &answer["bytes"]),
        (200, &json!(300_000))
    );
    assert_eq!(
        server.stats().await["token"],
        json!({"client_credentials": {"200": 2}, "refresh_token": {"200": 1, "400": 1}})
    );
    assert_eq!(absorbed(&proxy).await - before, 1.0);
}

#[tokio::test]
async fn doorkeeper_takes_raw_basic_and_body_credentials() {
    let Some(server) = doorkeeper(&[]).await else {
        return;
    };
    for auth in ["basic", "body"] {
        let proxy = proxy(&server, "", ACME, &format!(", client_auth: {auth}")).await;
        burst(&proxy, "/payment-links", 1).await;
    }
    // And says of another encoding what a wrong secret is.
    let proxy = proxy(&server, "", ACME, ", client_auth: basic_form").await;
    let reply = api(&proxy, "GET", "/payment-links", Vec::new()).await;
    assert_eq!(reply.problem()["reason"], "credentials_rejected");
    assert_eq!(
        server.stats().await["token"],
        json!({"client_credentials": {"200": 2, "401": 1}})
    );
}

#[tokio::test]
async fn doorkeeper_grants_each_payu_operation_its_scope_and_no_more() {
    let Some(server) = doorkeeper(&[]).await else {
        return;
    };
    let keys = "hosts: [api.test], preset: payu, environment: sandbox";
    let proxy = proxy(&server, "", keys, "").await;
    for (method, path, scope) in [
        ("GET", "/payment-links", "read_payment_links"),
        ("GET", "/payment-links/7", "read_payment_links"),
        ("POST", "/payment-links", "create_payment_links"),
        ("PUT", "/payment-links/7", "update_payment_links"),
    ] {
        let reply = api(&proxy, method, path, Vec::new()).await;
        assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["result"]["scope"], scope);
    }
    assert_eq!(server.token_calls().await, 3);
}

#[tokio::test]
async fn the_same_token_again_makes_no_storm() {
    let environment = [("REUSE", "1"), ("ACCESS_TOKEN_TTL", "10")];
    let Some(server) = doorkeeper(&environment).await else {
        return;
    };
    let proxy = proxy(&server, "", ACME, "").await;
    load_until(&proxy, "/payment-links", 3, || async {
        let generation = proxy.metric("bursar_token_generation", &[]).await;
        generation >= 2.0
    })
    .await;
    let unchanged = [("outcome", "unchanged")];
    let fetches = "bursar_token_fetches_total";
    assert!(proxy.metric(fetches, &unchanged).await >= 1.0);
    // The first, renewal ahead, the real end; there the server says `expires_in: 0` for a second.
    let calls = server.token_calls().await;
    assert!((3..=6).contains(&calls), "{calls} calls for two tokens");
}

#[tokio::test]
async fn doorkeeper_revoking_tokens_is_absorbed() {
    let Some(server) = doorkeeper(&[]).await else {
        return;
    };
    let proxy = proxy(&server, "", ACME, "").await;
    burst(&proxy, "/payment-links", 1).await;
    server.control("POST", "/control/revoke").await;
    burst(&proxy, "/payment-links", 60).await;
    assert_eq!(server.token_calls().await, 2);
    assert!(absorbed(&proxy).await >= 1.0);
}

#[tokio::test]
async fn two_instances_whose_tokens_revoke_each_other_do_not_renew_for_ever() {
    let Some(server) = doorkeeper(&[("REVOKE_PREV", "1")]).await else {
        return;
    };
    let instances = [
        proxy(&server, "", ACME, "").await,
        proxy(&server, "", ACME, "").await,
    ];
    let mut statuses = Vec::new();
    for _ in 0..20 {
        for instance in &instances {
            let reply = api(instance, "GET", "/payment-links", Vec::new()).await;
            statuses.push(reply.status.as_u16());
        }
    }
    // Each takes the other's token away: absorbed at first, the provider's own 401 in the end.
    assert!(
        statuses[..16].iter().all(|status| *status == 200),
        "{statuses:?}"
    );
    assert!(statuses.contains(&401), "{statuses:?}");
    let calls = server.token_calls().await;
    assert!(calls <= 22, "{calls} calls");
    // One gives way, and the other one's token is left alone from then on.
    let mut gave_way = 0.0;
    for instance in &instances {
        let replays = instance.scrape().await;
        let replays = |result| replays.value("bursar_replays_total", &[("result", result)]);
        assert!(replays("ok") <= 10.0);
        gave_way += replays("token_too_young");
    }
    assert!(gave_way > 0.0);
}
