//! A whole day with each provider, against the sandbox: from the first call to reconciliation, revocations in between.

use serde_json::json;

use super::sandbox::Sandbox;
use super::*;
use crate::support::proxy::Proxy;

/// One provider's day, by a client that knows nothing of tokens.
async fn day(provider: &str, title: &str) {
    if !Needs::PythonWithRequests.are_met().await {
        return;
    }
    let sandbox = Sandbox::start().await;
    let proxy = format!("http://{}", sandbox.listen);
    let (url, authority) = sandbox.revocation(title);
    let line = ["python3", "day.py", &proxy, provider, &url, &authority];
    let calls: f64 = output(&line).await.trim().parse().unwrap();
    let scrape = crate::support::metrics::Scrape::of(sandbox.admin).await;
    let of = |result| [("provider", provider), ("result", result)];
    let unauthorized = |result| scrape.value("bursar_unauthorized_total", &of(result));
    assert_eq!(unauthorized("surfaced"), 0.0);
    assert!(unauthorized("absorbed") >= 1.0);
    let requests = scrape.value("bursar_requests_total", &[("provider", provider)]);
    assert_eq!(requests, calls);
}

#[tokio::test]
async fn a_day_with_paylater() {
    day("paylater", "PayLater").await;
}

#[tokio::test]
async fn a_day_with_payu() {
    day("payu", "PayU").await;
}

#[tokio::test]
async fn a_day_with_alternative_payments() {
    day("alternative_payments", "Alternative Payments").await;
}

#[tokio::test]
async fn a_day_with_quidkey() {
    day("quidkey", "Quidkey").await;
}

#[tokio::test]
async fn a_scope_that_payu_does_not_take_looks_as_payu_has_it_and_is_named() {
    let sandbox = Sandbox::start().await;
    let (url, authority) = sandbox.revocation("PayU");
    let payu = url.strip_suffix("/sandbox/revoke").unwrap();
    let yaml = format!(
        "providers:
  payu:
    preset: payu
    environment: sandbox
    client_id: 5f0c1d7e9a3b
    client_secret: sandbox-payu
    upstream: {payu}
    tls: {{ca: {authority}}}
    token: {{url: '{payu}/oauth/token'}}
    routes:
      - {{methods: [GET], path: '/api/v1/merchants/*', scopes: [send_sign_in_otp]}}
      - {{methods: [GET], path: /api/v1/partners/fetch_rates, scopes: [send_sign_in_otp]}}
"
    );
    let proxy = Proxy::start(&yaml).await;
    let get = async |path: &str| {
        let request = Request::get(format!("http://uat-partner.payu.in{path}"));
        let request = request.body(full("")).unwrap();
        let reply = Caller::connect(proxy.listen).await.request(request).await;
        (reply.status.as_u16(), reply.text().trim().to_owned())
    };
    let refusal = "{\"status\":\"Unauthorized\"}".to_owned();
    for _ in 0..3 {
        let refused = get("/api/v1/merchants/8123456").await;
        assert_eq!(refused, (401, refusal.clone()));
        let refused = get("/api/v1/partners/fetch_rates").await;
        assert_eq!(refused, (403, refusal.clone()));
    }
    let (_, status) = proxy.json("/status").await;
    let keys = status["tokens"].as_array().unwrap().iter();
    let key = keys
        .into_iter()
        .find(|key| key["scopes"] == "send_sign_in_otp");
    let routes = &key.unwrap()["refused_routes"];
    assert_eq!(routes[0]["route"], "GET /api/v1/merchants/*");
    assert_eq!(
        routes[0]["why"],
        "PayU refuses this route with these scopes"
    );
    assert_eq!(routes[0]["unauthorized"], json!(3));
    assert_eq!(routes[1]["route"], "GET /api/v1/partners/fetch_rates");
    assert_eq!(
        (&routes[1]["unauthorized"], &routes[1]["forbidden"]),
        (&json!(0), &json!(3))
    );
    // A first token, and one renewal in vain.
    let fetches = [("provider", "payu"), ("outcome", "ok")];
    assert_eq!(
        proxy.metric("bursar_token_fetches_total", &fetches).await,
        2.0
    );
}
