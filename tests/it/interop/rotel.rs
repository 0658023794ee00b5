//! A real receiver of traces: rotel, and behind it a decoder with OpenTelemetry's own messages.

use serde_json::{Value, json};

use super::{Needs, Server};
use crate::support::caller::basic;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

async fn spans(server: &Server) -> Vec<Value> {
    let spans = server.control("GET", "/control/spans").await;
    spans.as_array().unwrap().clone()
}

#[tokio::test]
async fn spans_reach_a_real_receiver_with_their_parents_links_and_attributes() {
    if !Needs::Rotel.are_met().await {
        return;
    }
    let server = Server::start(&["python3", "otlp.py"], &[]).await;
    let api = Upstream::start(|request: http::Request<bytes::Bytes>| async move {
        let is_first = request.headers()["authorization"] == "Bearer token-1";
        answer(if is_first { 401 } else { 200 }, "x")
    })
    .await;
    let idp = Idp::counting().await;
    let yaml = acme(
        &api.url(),
        &idp.url(),
        "routes: [{methods: [GET], path: '/links/*'}]",
    );
    let traces = format!(
        "callers: {{shop: {{password: pw, allow: [acme]}}}}\ntraces: {{endpoint: 'http://127.0.0.1:{}'}}\n",
        server.ready["receiver"]
    );
    let mut proxy = Proxy::start(&format!("{traces}{yaml}")).await;
    eventually(|| async { proxy.json("/readyz").await.0 == 200 }).await;
    let shop = basic("shop", "pw");
    let request = format!(
        "GET http://api.test/links/1?key=2 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {shop}\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
    );
    assert_eq!(
        Raw::connect(proxy.listen)
            .await
            .ask(&request)
            .await
            .status(),
        200
    );
    // Nobody has this one recorded.
    let other = request.replace("-01\r\n", "-00\r\n");
    assert_eq!(
        Raw::connect(proxy.listen).await.ask(&other).await.status(),
        200
    );
    proxy.shut_down();
    proxy.drained().await;
    eventually(|| async { spans(&server).await.len() >= 6 }).await;
    let spans = spans(&server).await;
    assert_eq!(spans.len(), 6, "{spans:#?}");
    let named = |name: &str| {
        let found = spans.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {spans:#?}"))
    };
    let own = named("GET /links/*");
    assert_eq!(own["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(
        (&own["parent"], &own["kind"]),
        (&json!("00f067aa0ba902b7"), &json!("SPAN_KIND_SERVER"))
    );
    let attributes = &own["attributes"];
    assert_eq!(attributes["http.route"], "/links/*");
    assert_eq!(attributes["http.response.status_code"], 200);
    assert_eq!(attributes["bursar.caller"], "shop");
    assert_eq!(own["resource"]["service.name"], "bursar");
    let age = own["age"].as_f64().unwrap();
    assert!((0.0..300.0).contains(&age), "{age}");
    let (wait, flight) = (named("wait for token"), named("token flight"));
    assert_eq!(wait["links"], json!([[flight["trace"], flight["id"]]]));
    assert_eq!(wait["parent"], own["id"]);
    let sendings = spans
        .iter()
        .filter(|span| span["parent"] == own["id"] && span["kind"] == "SPAN_KIND_CLIENT");
    let counts: Vec<&Value> = sendings
        .map(|span| &span["attributes"]["http.request.resend_count"])
        .collect();
    assert!(
        counts.contains(&&Value::Null) && counts.contains(&&json!(1)),
        "{spans:#?}"
    );
    let call = spans
        .iter()
        .find(|span| span["parent"] == flight["id"])
        .unwrap();
    assert_eq!(
        (&call["kind"], &call["is_error"]),
        (&json!("SPAN_KIND_CLIENT"), &json!(false))
    );
}
