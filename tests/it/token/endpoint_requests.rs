//! What token endpoints are asked, byte for byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::*;
use crate::support::idp::reply;
use crate::support::upstream::Seen;

/// An endpoint in the shape of Keycloak or, with `wrap`, of Quidkey.
fn refreshing(wrap: bool) -> impl Future<Output = Idp> {
    Idp::start(move |call| async move {
        let fields = json!({
            "access_token": format!("a{}", call.number), "expires_in": 300,
            "refresh_token": format!("r{}", call.number), "refresh_expires_in": 1800, "not-before-policy": 0,
        });
        reply(
            200,
            &if wrap {
                json!({"success": true, "data": fields})
            } else {
                fields
            },
        )
    })
}

fn body(seen: &Seen) -> String {
    String::from_utf8(seen.body.clone().unwrap().to_vec()).unwrap()
}

const FORM: &str = "application/x-www-form-urlencoded";
const FORM_CREDENTIALS: &str = "client_id=i%2Bd&client_secret=s%3Ae%2Fc%2Br%25e%26t%3D+x";

#[tokio::test]
async fn paylater_gets_a_form_and_its_refresh_token_with_the_credentials() {
    let api = Upstream::start(|request| async move {
        let good = request.headers()["authorization"] == "Bearer a2";
        answer(if good { 200 } else { 401 }, "{}")
    })
    .await;
    let idp = refreshing(false).await;
    let proxy = Proxy::start(&preset("paylater", &api, &idp, "")).await;
    let url = "http://connect.uat.paylaterapp.com/api/paylater/merchant-portal/v2/web-checkout";
    assert_eq!(send(&proxy, "POST", url).await.status, 200);
    let seen = idp.seen();
    assert_eq!(seen.len(), 2);
    for call in &seen {
        assert_eq!(
            (call.method.as_str(), call.target.as_str()),
            ("POST", "/token")
        );
        assert_eq!(call.all("content-type"), [FORM]);
        assert_eq!(call.all("accept"), ["application/json"]);
        assert_eq!(call.all("accept-encoding"), ["identity"]);
        assert!(call.all("authorization").is_empty());
    }
    assert_eq!(
        body(&seen[0]),
        format!("grant_type=client_credentials&{FORM_CREDENTIALS}")
    );
    assert_eq!(
        body(&seen[1]),
        format!("grant_type=refresh_token&refresh_token=r1&{FORM_CREDENTIALS}")
    );
}

#[tokio::test]
async fn payu_gets_a_token_request_with_the_scope_of_each_operation() {
    for (method, path, scope) in [
        ("POST", "/payment-links", "create_payment_links"),
        ("GET", "/payment-links", "read_payment_links"),
        ("GET", "/payment-links/INV1", "read_payment_links"),
        ("GET", "/payment-links/INV1/txns", "read_payment_links"),
        ("PUT", "/payment-links/INV1", "update_payment_links"),
        ("POST", "/payment-links/INV1/share", "read_payment_links"),
        ("POST", "/api/v3/merchants", "refer_merchant"),
    ] {
        let (api, idp) = (api().await, Idp::counting().await);
        let proxy = Proxy::start(&preset("payu", &api, &idp, "")).await;
        let reply = send(&proxy, method, &format!("http://uatoneapi.payu.in{path}")).await;
        assert_eq!(reply.status, 200, "{method} {path}");
        let [call] = &idp.seen()[..] else {
            panic!("calls: {:?}", idp.seen())
        };
        assert_eq!(call.all("content-type"), [FORM]);
        let expected = format!("grant_type=client_credentials&scope={scope}&{FORM_CREDENTIALS}");
        assert_eq!(body(call), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn alternative_payments_gets_raw_basic_credentials() {
    let (api, idp) = (api().await, Idp::counting().await);
    let proxy = Proxy::start(&preset("alternative_payments", &api, &idp, "")).await;
    let url = "http://public-api.demo.alternativepayments.io/invoices";
    assert_eq!(send(&proxy, "GET", url).await.status, 200);
    let seen = idp.seen();
    let credentials = format!("Basic {}", BASE64.encode("i+d:s:e/c+r%e&t= x"));
    assert_eq!(seen[0].all("authorization"), [credentials]);
    assert_eq!(seen[0].all("content-type"), [FORM]);
    assert_eq!(body(&seen[0]), "grant_type=client_credentials");
}

#[tokio::test]
async fn quidkey_gets_json_and_its_refresh_token_alone_at_an_endpoint_of_its_own() {
    let api = Upstream::start(|request| async move {
        let good = request.headers()["authorization"] == "Bearer a2";
        answer(if good { 200 } else { 401 }, "{}")
    })
    .await;
    let idp = refreshing(true).await;
    let refresh = format!(
        ", refresh_url: '{}'",
        idp.url().replace("/token", "/refresh")
    );
    let proxy = Proxy::start(&preset("quidkey", &api, &idp, &refresh)).await;
    let url = "http://core-dev.quidkey.com/api/v1/payment-requests";
    assert_eq!(send(&proxy, "POST", url).await.status, 200);
    let seen = idp.seen();
    let json = |seen: &Seen| serde_json::from_str::<Value>(&body(seen)).unwrap();
    assert_eq!(
        json(&seen[0]),
        json!({"grant_type": "client_credentials", "client_id": "i+d", "client_secret": "s:e/c+r%e&t= x"})
    );
    assert_eq!(json(&seen[1]), json!({"refresh_token": "r1"}));
    assert_eq!(
        (seen[0].target.as_str(), seen[1].target.as_str()),
        ("/token", "/refresh")
    );
    for call in &seen {
        assert_eq!(call.all("content-type"), ["application/json"]);
        assert!(call.all("authorization").is_empty());
    }
}

#[tokio::test]
async fn a_provider_of_the_operators_own_needs_yaml_alone() {
    let idp = Idp::start(|call| async move {
        assert_eq!(
            call.field("scope").as_deref(),
            Some("links.read links.write")
        );
        assert_eq!(call.field("audience").as_deref(), Some("https://api/?a&b"));
        reply(
            200,
            &json!({"result": {"access_token": "deep", "expires_in": 60}}),
        )
    })
    .await;
    let api = api().await;
    let yaml = format!(
        "providers:
  acme:
    hosts: ['*.eu.acme.example']
    paths: [/v1/**]
    upstream: {api}
    client_id: id é
    client_secret: 'a:b/c+d%e&f= é'
    token:
      url: {idp}
      client_auth: basic_form
      response: /result
      scopes: [links.write, links.read]
      params: {{audience: 'https://api/?a&b'}}
",
        api = api.url(),
        idp = idp.url()
    );
    let proxy = Proxy::start(&yaml).await;
    let reply = send(&proxy, "GET", "http://a.b.eu.acme.example/v1/links?x=1").await;
    assert_eq!(reply.status, 200);
    assert_eq!(api.only().target, "/v1/links?x=1");
    assert_eq!(api.only().all("authorization"), ["Bearer deep"]);
    let credentials = BASE64.encode("id+%C3%A9:a%3Ab%2Fc%2Bd%25e%26f%3D+%C3%A9");
    assert_eq!(
        idp.seen()[0].all("authorization"),
        [format!("Basic {credentials}")]
    );
    let outside = send(&proxy, "GET", "http://a.eu.acme.example/v2/links").await;
    assert_eq!(outside.problem()["reason"], "route_not_allowed");
}
