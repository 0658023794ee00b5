//! Routes that a provider refuses whatever the token: learnt, shown, and no trouble for others.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::Rig;
use crate::support::caller::Caller;
use crate::support::idp::{Idp, reply};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Upstream, answer};

const UNAUTHORIZED: &str = "{\"status\":\"Unauthorized\"}";
const ROUTES: &str = "token.scopes: [s]\nroutes: [{path: /refused, scopes: [s]}, {path: /forbidden, scopes: [s]}, {path: /taken, scopes: [s]}, {path: '/mixed/**', scopes: [s]}, {methods: [POST], path: /once, scopes: [s], replay: never}]";

/// An API that revokes tokens when it is told to, refuses two paths and takes the rest.
async fn rig(revoked: &Arc<Mutex<HashSet<String>>>) -> Rig {
    let revoked = revoked.clone();
    let api = Upstream::start(move |request| {
        let token = request.headers()["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        let is_revoked = revoked.lock().unwrap().contains(&token);
        let path = request.uri().path().to_owned();
        async move {
            match &*path {
                _ if is_revoked => answer(401, UNAUTHORIZED),
                "/mixed/refused" | "/unmatched/refused" => answer(401, UNAUTHORIZED),
                "/refused" | "/once" => answer(401, UNAUTHORIZED),
                "/forbidden" => answer(403, UNAUTHORIZED),
                _ => answer(200, token),
            }
        }
    });
    Rig::of(api.await, Idp::counting().await, ROUTES).await
}

/// What `/status` says of routes, by route.
async fn refused(proxy: &Proxy) -> Vec<Value> {
    let (_, status) = proxy.json("/status").await;
    let tokens = status["tokens"].as_array().unwrap().iter();
    let routes = tokens.flat_map(|token| token["refused_routes"].as_array().unwrap().clone());
    routes.collect()
}

#[tokio::test]
async fn a_refused_route_is_learnt_after_one_renewal_and_shown_beside_its_403s() {
    let rig = rig(&Arc::default()).await;
    assert_eq!(rig.get("/taken").await.status, 200);
    for _ in 0..5 {
        let reply = rig.get("/refused").await;
        // The provider's own, byte for byte.
        assert_eq!((reply.status.as_u16(), reply.text()), (401, UNAUTHORIZED));
    }
    assert_eq!(rig.idp.calls(), 2);
    // Sent twice once, and once from then on.
    assert_eq!(rig.api.count(), 1 + 6);
    for _ in 0..3 {
        let reply = rig.get("/forbidden").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (403, UNAUTHORIZED));
    }
    let shown = refused(&rig.proxy).await;
    for (place, (route, why, counts)) in [
        (
            "/refused",
            "acme refuses this route with these scopes",
            (5, 0),
        ),
        (
            "/forbidden",
            "acme answers 403 on this route with these scopes",
            (0, 3),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let row = &shown[place];
        assert_eq!((&row["route"], &row["why"]), (&json!(route), &json!(why)));
        let counted = (&row["unauthorized"], &row["forbidden"]);
        assert_eq!(counted, (&json!(counts.0), &json!(counts.1)), "{row}");
    }
    let replays = [("result", "token_too_young")];
    assert_eq!(
        rig.proxy.metric("bursar_replays_total", &replays).await,
        4.0
    );
}

#[tokio::test]
async fn a_revocation_is_mended_on_every_other_route_however_many_are_refused() {
    let revoked = Arc::<Mutex<HashSet<String>>>::default();
    let rig = rig(&revoked).await;
    // Even where nothing was ever taken before.
    assert_eq!(rig.get("/refused").await.status, 401);
    for _ in 0..2 {
        revoked
            .lock()
            .unwrap()
            .insert(format!("Bearer token-{}", rig.idp.calls()));
        let reply = rig.get("/taken").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(rig.get("/refused").await.status, 401);
        assert_eq!(rig.get("/x").await.status, 200);
    }
    // The first 401 on each new generation asked for one more.
    assert_eq!(rig.idp.calls(), 2 + 2 * 2);
}

#[tokio::test]
async fn a_route_whose_requests_are_refused_and_taken_in_turn_costs_one_renewal_and_hides_no_revocation()
 {
    for route in ["mixed", "unmatched"] {
        let revoked = Arc::<Mutex<HashSet<String>>>::default();
        let rig = rig(&revoked).await;
        let began = tokio::time::Instant::now();
        for _ in 0..15 {
            assert_eq!(rig.get(&format!("/{route}/taken")).await.status, 200);
            assert_eq!(rig.get(&format!("/{route}/refused")).await.status, 401);
        }
        if began.elapsed().as_secs() < 10 {
            assert_eq!(rig.idp.calls(), 2);
        }
        let (calls, now) = (rig.idp.calls(), format!("Bearer token-{}", rig.idp.calls()));
        revoked.lock().unwrap().insert(now);
        assert_eq!(rig.get("/taken").await.status, 200);
        assert_eq!(rig.idp.calls(), calls + 1);
        let contended = rig
            .proxy
            .metric("bursar_token_contention_total", &[("provider", "acme")])
            .await;
        assert_eq!(contended, 0.0);
    }
}

#[tokio::test]
async fn a_route_that_works_at_last_is_forgotten_by_status() {
    let is_granted = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let granted = is_granted.clone();
    let rig = Rig::start(move |_| {
        let is_granted = granted.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            match is_granted {
                true => answer(200, ""),
                false => answer(401, UNAUTHORIZED),
            }
        }
    })
    .await;
    assert_eq!(rig.get("/x").await.status, 401);
    assert_eq!(refused(&rig.proxy).await.len(), 1);
    is_granted.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(rig.get("/x").await.status, 200);
    assert!(refused(&rig.proxy).await.is_empty());
}

#[tokio::test]
async fn a_route_that_may_not_be_replayed_is_learnt_about_too() {
    let rig = rig(&Arc::default()).await;
    assert_eq!(rig.get("/taken").await.status, 200);
    assert_eq!(rig.send("POST", "/once", "").await.status, 401);
    rig.proxy
        .metric_becomes("bursar_token_generation", &[("provider", "acme")], 2.0)
        .await;
    for _ in 0..4 {
        assert_eq!(rig.send("POST", "/once", "").await.status, 401);
    }
    assert_eq!(rig.idp.calls(), 2);
    // Nothing was sent twice.
    assert_eq!(rig.api.count(), 1 + 5);
    assert_eq!(refused(&rig.proxy).await[0]["route"], "POST /once");
}

#[tokio::test]
async fn a_refresh_token_whose_token_is_refused_too_costs_one_401_and_no_word_on_scopes() {
    let api = Upstream::start(|request| async move {
        match request.headers()["authorization"].to_str().unwrap() {
            "Bearer client_credentials-3" => answer(200, ""),
            _ => answer(401, UNAUTHORIZED),
        }
    });
    let idp = Idp::start(|call| async move {
        let grant = call.field("grant_type").unwrap();
        let token = format!("{grant}-{}", call.number);
        let body = json!({"access_token": token, "expires_in": 3600, "refresh_token": "r"});
        reply(200, &body)
    });
    let rig = Rig::of(api.await, idp.await, "token.refresh: grant").await;
    for (status, calls) in [(401, 2), (200, 3)] {
        assert_eq!(rig.get("/x").await.status, status);
        assert_eq!(rig.idp.calls(), calls);
        assert!(refused(&rig.proxy).await.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_that_names_the_scope_is_shown_without_a_renewal() {
    let rig = Rig::start(|_| async {
        let mut reply = answer(401, "");
        let value = "Bearer error=\"insufficient_scope\"".parse().unwrap();
        reply.headers_mut().insert("www-authenticate", value);
        reply
    })
    .await;
    assert_eq!(rig.get("/x").await.status, 401);
    let shown = refused(&rig.proxy).await;
    assert_eq!(shown[0]["why"], "acme refuses this route with these scopes");
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn status_calls_a_provider_of_a_preset_by_its_name() {
    let api = Upstream::start(|_| async { answer(401, UNAUTHORIZED) }).await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&format!(
        "providers: {{india: {{preset: payu, environment: sandbox, client_id: a, client_secret: b, upstream: '{}', token: {{url: '{}'}}}}}}",
        api.url(),
        idp.url()
    ))
    .await;
    let request = http::Request::get("http://uat-partner.payu.in/api/v1/merchants/1")
        .body(crate::support::upstream::full(""))
        .unwrap();
    let reply = Caller::connect(proxy.listen).await.request(request).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (401, UNAUTHORIZED));
    let row = &refused(&proxy).await[0];
    assert_eq!(row["why"], "PayU refuses this route with these scopes");
    assert!(
        row["route"]
            .as_str()
            .unwrap()
            .contains("/api/v1/merchants/"),
        "{row}"
    );
}
