//! Correlation: `Bursar-Request-Id` on every response, and what callers know their requests by, in the access line and in
//! the journal.

use serde_json::{Value, json};

use super::support::caller::basic;
use super::support::idp::Idp;
use super::support::proxy::Proxy;
use super::support::raw::{Message, Raw};
use super::support::upstream::{Upstream, answer};
use super::support::{Rig, acme};
use crate::journal::{outcomes, with_journal};

/// The one request id of a response, which is 32 digits.
fn request_id(reply: &Message) -> String {
    let lines = reply.head.lines();
    let ids = lines.filter_map(|line| {
        line.split_once(": ")
            .filter(|(name, _)| name.eq_ignore_ascii_case("bursar-request-id"))
    });
    let ids: Vec<_> = ids.map(|(_, id)| id.to_owned()).collect();
    let [id] = ids.as_slice() else {
        panic!("{}", reply.head);
    };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    assert!(id.len() == 32 && id.bytes().all(is_digit), "{id}");
    id.clone()
}

#[tokio::test]
async fn every_response_says_its_request_id_whoever_has_made_it() {
    let api = Upstream::start(|_| async {
        let mut response = answer(200, "x");
        for id in ["theirs", "again"] {
            let id = http::HeaderValue::from_static(id);
            response.headers_mut().append("Bursar-Request-Id", id);
        }
        response
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let yaml = acme(&api.url(), &idp.url(), "");
    let callers = "callers: {shop: {password: correct-horse, allow: [acme]}}\n";
    let proxy = Proxy::start(&format!("{callers}{yaml}")).await;
    let shop = format!(
        "Proxy-Authorization: {}\r\n",
        basic("shop", "correct-horse")
    );
    let requests = [
        (
            format!("GET http://api.test/x HTTP/1.1\r\nHost: a\r\n{shop}\r\n"),
            200,
        ),
        (
            "GET http://api.test/x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            407,
        ),
        (
            format!("GET http://nobody.test/x HTTP/1.1\r\nHost: a\r\n{shop}\r\n"),
            403,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 204),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            400,
        ),
        (
            format!("CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\n{shop}\r\n"),
            200,
        ),
    ];
    let mut ids = Vec::new();
    for (request, status) in requests {
        let reply = Raw::connect(proxy.listen).await.ask(&request).await;
        assert_eq!(reply.status(), status, "{request}");
        let id = request_id(&reply);
        if let Ok(problem) = serde_json::from_slice::<Value>(&reply.body) {
            assert_eq!(problem["request_id"], json!(id));
        }
        ids.push(id);
    }
    let lines = proxy.access_lines(ids.len()).await;
    for id in ids {
        assert!(
            lines.iter().any(|line| line["request_id"] == json!(id)),
            "{id}"
        );
    }
}

/// Sends a request with those fields, in clear; what its line says of them.
async fn noted(rig: &Rig, fields: &str, count: usize) -> Value {
    let request = format!("GET http://api.test/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let reply: Message = Raw::connect(rig.proxy.listen).await.ask(&request).await;
    assert_eq!(reply.status(), 200, "{fields}");
    let line = rig.proxy.access_lines(count).await.pop().unwrap();
    json!([
        line["reference"],
        line["reference_dropped"],
        line["caller_request_id"],
        line["trace_id"],
    ])
}

#[tokio::test]
async fn a_reference_is_noted_and_never_forwarded_and_a_bad_one_is_dropped_and_said_so() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let long = "x".repeat(257);
    let whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let cases = [
        (
            "Bursar-Reference: order-17\r\n".to_owned(),
            json!(["order-17", null, null, null]),
        ),
        (
            "Connection: Bursar-Reference\r\nBursar-Reference: order-17\r\n".to_owned(),
            json!(["order-17", null, null, null]),
        ),
        (
            "Bursar-Reference: a,b\r\n".to_owned(),
            json!(["a,b", null, null, null]),
        ),
        (
            "Bursar-Reference: a, b\r\n".to_owned(),
            json!([null, "not_visible_ascii", null, null]),
        ),
        (
            "Bursar-Reference: caf\u{e9}\r\n".to_owned(),
            json!([null, "not_visible_ascii", null, null]),
        ),
        (
            "Bursar-Reference:\r\n".to_owned(),
            json!([null, "empty", null, null]),
        ),
        (
            "Bursar-Reference: a\r\nbursar-reference: a\r\n".to_owned(),
            json!([null, "repeated", null, null]),
        ),
        (
            format!("Bursar-Reference: {long}\r\n"),
            json!([null, "too_long", null, null]),
        ),
        (
            "X-Request-Id: r-1\r\n".to_owned(),
            json!([null, null, "r-1", null]),
        ),
        (
            format!("X-Request-Id: {long}\r\n"),
            json!([null, null, null, null]),
        ),
        (
            format!("traceparent: {whole}\r\n"),
            json!([null, null, null, "4bf92f3577b34da6a3ce929d0e0e4736"]),
        ),
        (
            format!("traceparent: {whole}x\r\n"),
            json!([null, null, null, null]),
        ),
    ];
    for (at, (fields, expected)) in cases.iter().enumerate() {
        assert_eq!(noted(&rig, fields, at + 1).await, *expected, "{fields}");
    }
    let seen = rig.api.seen();
    assert_eq!(seen.len(), cases.len());
    for request in &seen {
        assert!(!request.headers.contains_key("bursar-reference"));
    }
    let forwarded = seen
        .iter()
        .filter(|request| request.headers.contains_key("x-request-id"));
    assert_eq!(forwarded.count(), 2);
}

#[tokio::test]
async fn a_reference_among_the_trailers_is_neither_noted_nor_forwarded() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let request = "POST http://api.test/x HTTP/1.1\r\nHost: a\r\nTrailer: Bursar-Reference, X-Sum\r\n\
        Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nBursar-Reference: order-17\r\nX-Sum: s\r\n\r\n";
    let reply = Raw::connect(rig.proxy.listen).await.ask(request).await;
    assert_eq!(reply.status(), 200);
    let trailers = rig.api.only().trailers.unwrap();
    assert!(trailers.contains_key("x-sum") && !trailers.contains_key("bursar-reference"));
    assert_eq!(rig.proxy.access_lines(1).await[0]["reference"], Value::Null);
}

#[tokio::test]
async fn a_refused_request_s_line_says_its_reference_too() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let request = "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\nBursar-Reference: order-17\r\n\r\n";
    let reply = Raw::connect(rig.proxy.listen).await.ask(request).await;
    assert_eq!(reply.status(), 400);
    assert_eq!(
        rig.proxy.access_lines(1).await[0]["reference"],
        json!("order-17")
    );
}

#[tokio::test]
async fn a_payment_in_doubt_is_found_by_the_reference_that_the_shop_gave_it() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let api = Upstream::start(|_| async { std::future::pending().await }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "timeouts: {head: 300ms}");
    let proxy = Proxy::start(&with_journal(&yaml, &journal)).await;
    let request = "POST http://api.test/pay HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nBursar-Reference: order-17\r\n\
        X-Request-Id: r-1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\nx";
    let reply = Raw::connect(proxy.listen).await.ask(request).await;
    assert_eq!(reply.status(), 504);
    proxy
        .metric_becomes("bursar_journal_unresolved", &[], 1.0)
        .await;
    let found = outcomes(&journal).await;
    assert_eq!(found[0]["reference"], json!("order-17"));
    assert_eq!(found[0]["caller_request_id"], json!("r-1"));
    assert_eq!(
        found[0]["trace_id"],
        json!("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!(found[0]["request_id"], json!(request_id(&reply)));
}
