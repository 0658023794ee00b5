//! What Bursar answers itself: every reason that can be provoked, in the form that a caller can rely on.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Sender;
use serde_json::json;

use crate::support::caller::{Caller, basic};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Message, Raw, RawUpstream};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, stream};
use crate::support::{PATIENCE, Rig, acme, becomes_true, soon};

/// Status, reason and error type of `Proxy-Status`.
type Expected = (u16, &'static str, &'static str);

/// Everything that RFC 9457, RFC 9209 and the contract promise about an answer of Bursar's own.
#[track_caller]
fn assert_refusal(reply: &Message, (status, reason, error): Expected, sent: &str) {
    assert_eq!(reply.status(), status, "{reply:?}");
    assert_eq!(
        reply.field("content-type"),
        Some("application/problem+json")
    );
    let expected = format!("bursar; error={error}; details=\"{reason}\"");
    assert_eq!(reply.field("proxy-status"), Some(&*expected));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["reason"], reason);
    assert_eq!(problem["request_sent"], sent);
    assert_eq!(problem["request_id"].as_str().unwrap().len(), 32);
    for member in ["title", "detail"] {
        assert!(!problem[member].as_str().unwrap().is_empty(), "{problem}");
    }
}

#[tokio::test]
async fn what_a_request_itself_is_refused_for() {
    let rig = Rig::with("paths: [\"/api/**\"]", |_| async { answer(200, "") }).await;
    let bad = (400, "bad_request", "http_request_error");
    let method = (405, "method_not_allowed", "http_request_error");
    let host = (403, "destination_not_allowed", "http_request_denied");
    let path = (403, "route_not_allowed", "http_request_denied");
    let token = (403, "token_endpoint_protected", "http_request_denied");
    let cases = [
        ("GET /api HTTP/1.1\r\n", bad),
        (
            "GET /api HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n",
            bad,
        ),
        ("GET /api HTTP/1.1\r\nHost:\r\n", bad),
        ("GET /api HTTP/1.1\r\nHost: api test\r\n", bad),
        ("GET /api HTTP/1.1\r\nHost: user@api.test\r\n", bad),
        ("GET /api HTTP/1.1\r\nHost: api.test:x\r\n", bad),
        (
            "GET http://user:pass@api.test/api HTTP/1.1\r\nHost: api.test\r\n",
            bad,
        ),
        ("GET ftp://api.test/api HTTP/1.1\r\nHost: api.test\r\n", bad),
        ("GET * HTTP/1.1\r\nHost: api.test\r\n", bad),
        ("GET http://api.test/api HTTP/1.1\r\n", bad),
        ("CONNECT api.test:80 HTTP/1.1\r\n", bad),
        (
            "TRACE http://api.test/api HTTP/1.1\r\nHost: api.test\r\n",
            method,
        ),
        ("CONNECT /api HTTP/1.1\r\nHost: api.test\r\n", method),
        (
            "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n",
            (403, "connect_not_allowed", "http_request_denied"),
        ),
        (
            "CONNECT api.test:443 HTTP/1.0\r\n",
            (403, "connect_not_allowed", "http_request_denied"),
        ),
        (
            "GET http://other.test/api HTTP/1.1\r\nHost: api.test\r\n",
            host,
        ),
        (
            "GET http://api.test:8443/api HTTP/1.1\r\nHost: api.test\r\n",
            host,
        ),
        (
            "GET http://api.test/other HTTP/1.1\r\nHost: api.test\r\n",
            path,
        ),
        (
            "GET http://api.test/api/../other HTTP/1.1\r\nHost: api.test\r\n",
            path,
        ),
        (
            "POST http://api.test/token HTTP/1.1\r\nHost: api.test\r\n",
            token,
        ),
        (
            "POST http://api.test/x/..//TOKEN;a/ HTTP/1.1\r\nHost: api.test\r\n",
            token,
        ),
        (
            "POST http://api.test/%74oken HTTP/1.1\r\nHost: api.test\r\n",
            token,
        ),
    ];
    for (head, expected) in &cases {
        let reason = [("reason", expected.1)];
        let before = rig.proxy.metric("bursar_refusals_total", &reason).await;
        let mut caller = Raw::connect(rig.proxy.listen).await;
        caller.write(format!("{head}\r\n")).await;
        let reply = caller.try_read_message().await;
        let reply = reply.unwrap_or_else(|error| panic!("{head}: {error}"));
        assert_refusal(&reply, *expected, "no");
        let after = rig.proxy.metric("bursar_refusals_total", &reason).await;
        assert_eq!(after, before + 1.0, "{head}");
        assert_eq!(reply.field("allow").is_some(), expected.0 == 405);
        if head.starts_with("CONNECT") {
            assert_eq!(reply.field("connection"), Some("close"));
            assert_eq!(caller.read_to_end().await.unwrap(), b"");
        }
    }
    assert_eq!(rig.api.count(), 0);
    let lines = rig.proxy.access_lines(cases.len()).await;
    for (line, (head, expected)) in lines.iter().zip(&cases) {
        let found = (&line["status"], &line["reason"]);
        assert_eq!(found, (&json!(expected.0), &json!(expected.1)), "{head}");
    }
}

#[tokio::test]
async fn what_the_parser_refuses_is_counted_and_closed() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let long = |bytes| "x".repeat(bytes);
    for (request, status, reason) in [
        ("HELLO\r\n\r\n".to_owned(), 400, "bad_request"),
        (
            "GET /x HTTP/1.1\r\nHost: api.test\r\nBad Name: 1\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
                .to_owned(),
            400,
            "bad_request",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: +1\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            format!("GET /{} HTTP/1.1\r\nHost: api.test\r\n\r\n", long(65_535)),
            414,
            "target_too_long",
        ),
        (
            format!(
                "GET /x HTTP/1.1\r\nHost: api.test\r\nX: {}\r\n\r\n",
                long(140_000)
            ),
            431,
            "headers_too_large",
        ),
        (
            format!(
                "GET /x HTTP/1.1\r\nHost: api.test\r\n{}\r\n",
                "X: 1\r\n".repeat(200)
            ),
            431,
            "headers_too_large",
        ),
    ] {
        let labels = [("reason", reason)];
        let before = rig.proxy.metric("bursar_refusals_total", &labels).await;
        let mut caller = Raw::connect(rig.proxy.listen).await;
        caller.write(&request).await;
        let start: String = request.chars().take(60).collect();
        let reply = caller.try_read_message().await;
        let reply = reply.unwrap_or_else(|error| panic!("{start}: {error}"));
        assert_eq!(reply.status(), status, "{start}");
        caller.closed().await;
        rig.proxy
            .metric_becomes("bursar_refusals_total", &labels, before + 1.0)
            .await;
    }
    assert_eq!(rig.api.count(), 0);
    let (_, status) = rig.proxy.json("/status").await;
    let told = status["recent_refusals"].as_array().unwrap();
    assert!(
        told.iter().all(|one| one["client"] == "127.0.0.1"),
        "{told:?}"
    );
}

#[tokio::test]
async fn http_2_requests_meet_the_same_refusals() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    for (method, uri, via, status) in [
        ("GET", "http://other.test/", "", 403),
        ("POST", "http://api.test/token", "", 403),
        ("TRACE", "http://api.test/", "", 405),
        ("GET", "http://api.test/", "2 bursar", 200),
        ("GET", "http://api.test/", "2 other", 200),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("via", via);
        let request = request.body(crate::support::upstream::full("")).unwrap();
        let reply = caller.request(request).await;
        assert_eq!(reply.status, status, "{method} {uri}");
        assert_eq!(reply.headers.get("connection"), None);
    }
}

/// A provider at that API and token endpoint with short time-outs, one request, and what came back.
async fn one_request(api: &str, token_url: &str, lines: &str) -> (Message, Proxy) {
    let proxy = Proxy::start(&acme(api, token_url, lines)).await;
    let mut caller = Raw::connect(proxy.listen).await;
    let reply = caller
        .ask("POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    (reply, proxy)
}

/// An address where nobody listens.
async fn dead() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn what_the_api_is_to_blame_for() {
    let idp = Idp::counting().await;
    let silent = || {
        RawUpstream::start(|_, mut raw| async move {
            raw.closed().await;
        })
    };
    let garbage = RawUpstream::answering(b"220 smtp.test ready\r\n\r\n").await;
    let stranger = Authority::new().server(&["h2"], ClientCertificate::Ignored);
    let stranger = Upstream::with_tls(stranger, |_| async { answer(200, "") }).await;
    let (waiting, handshaking) = (silent().await, silent().await);
    let no_handshake = format!("https://{}", handshaking.address);
    let (connect, head) = ("timeouts: {connect: 250ms}", "timeouts: {head: 250ms}");
    for (api, lines, expected, sent) in [
        (
            dead().await,
            "",
            (502, "upstream_unreachable", "destination_unavailable"),
            "no",
        ),
        (
            stranger.url(),
            "",
            (502, "upstream_tls", "tls_protocol_error"),
            "no",
        ),
        (
            garbage.url(),
            "",
            (502, "upstream_protocol", "http_protocol_error"),
            "maybe",
        ),
        (
            no_handshake,
            connect,
            (504, "upstream_timeout", "connection_timeout"),
            "no",
        ),
        (
            waiting.url(),
            head,
            (504, "upstream_timeout", "http_response_timeout"),
            "maybe",
        ),
    ] {
        let (reply, proxy) = one_request(&api, &idp.url(), lines).await;
        assert_refusal(&reply, expected, sent);
        let reason = [("reason", expected.1)];
        assert_eq!(proxy.metric("bursar_refusals_total", &reason).await, 1.0);
    }
    // Nothing was sent twice.
    assert_eq!((garbage.count("POST"), waiting.count("POST")), (1, 1));
}

#[tokio::test]
async fn what_the_token_endpoint_is_to_blame_for() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let unavailable = (503, "token_unavailable", "destination_unavailable");
    let rejected = (502, "credentials_rejected", "destination_unavailable");
    for (status, body, expected) in [
        (401, "{\"error\":\"invalid_client\"}", rejected),
        (400, "{\"error\":\"invalid_scope\"}", rejected),
        (403, "{\"message\":\"no\"}", rejected),
        (403, "<html>", unavailable),
        (429, "", unavailable),
        (500, "oops", unavailable),
        (200, "", unavailable),
        (
            200,
            "{\"success\":false,\"access_token\":\"a\"}",
            unavailable,
        ),
    ] {
        let idp = Idp::start(move |_| async move { answer(status, body) }).await;
        // A failure that passes is waited for, a refused account is not.
        let wait = if expected == rejected {
            ""
        } else {
            "token.wait: 50ms"
        };
        let (reply, _proxy) = one_request(&api.url(), &idp.url(), wait).await;
        assert_refusal(&reply, expected, "no");
        let retry_after: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!(retry_after >= 1, "{status} {body}");
    }
    let (reply, _proxy) = one_request(&api.url(), &dead().await, "token.wait: 50ms").await;
    assert_refusal(&reply, unavailable, "no");
    assert_eq!(api.count(), 0);
}

#[tokio::test]
async fn an_upload_that_is_refused_still_reads_the_answer() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let framings = ["Content-Length: 900000", "Transfer-Encoding: chunked"];
    for (number, framing) in framings.into_iter().enumerate() {
        let mut caller = Raw::connect(rig.proxy.listen).await;
        caller
            .write(format!(
                "POST http://other.test/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"
            ))
            .await;
        // All of it is written before the answer is looked at, as simple programs do; and long after the
        // answer was given.
        let refused = [("reason", "destination_not_allowed")];
        rig.proxy
            .metric_becomes("bursar_refusals_total", &refused, number as f64 + 1.0)
            .await;
        if framing.starts_with("Transfer") {
            caller
                .write(format!("DBBA0\r\n{}\r\n0\r\n\r\n", "x".repeat(900_000)))
                .await;
        } else {
            caller.write("x".repeat(900_000)).await;
        }
        let reply = caller.read_message().await;
        assert_refusal(
            &reply,
            (403, "destination_not_allowed", "http_request_denied"),
            "no",
        );
        assert_eq!(reply.field("connection"), Some("close"));
        caller.finish().await;
        assert_eq!(caller.read_to_end().await.unwrap(), b"");
    }
    // Without a body the connection goes on.
    let mut caller = Raw::connect(rig.proxy.listen).await;
    for _ in 0..2 {
        let reply = caller
            .ask("GET http://other.test/x HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        assert_eq!((reply.status(), reply.field("connection")), (403, None));
    }
}

/// A request over HTTP/2 that is refused before its body comes.
async fn refused_upload(caller: &mut Caller) -> Sender<Bytes, io::Error> {
    let (sender, body) = stream();
    let request = http::Request::post("http://other.test/x").body(body);
    let reply = caller.request(request.unwrap()).await;
    assert_eq!(reply.problem()["reason"], "destination_not_allowed");
    sender
}

#[tokio::test]
async fn an_http_2_upload_that_is_refused_is_read_on_for_a_while() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    let piece = Bytes::from(vec![b'x'; 100_000]);
    let mut sender = refused_upload(&mut caller).await;
    for _ in 0..9 {
        soon(sender.send_data(piece.clone())).await.unwrap();
    }
    drop(sender);
    let mut endless = refused_upload(&mut caller).await;
    let mut sent = 0;
    while soon(endless.send_data(piece.clone())).await.is_ok() {
        sent += piece.len();
    }
    // What is under way is no part of it.
    assert!((1 << 20..3 << 20).contains(&sent), "{sent}");
    let mut slow = refused_upload(&mut caller).await;
    let is_reset = async || slow.send_data(Bytes::from_static(b"x")).await.is_err();
    assert!(becomes_true(PATIENCE, is_reset).await);
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
}

#[tokio::test]
async fn only_the_right_password_in_the_right_place_passes() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let yaml = acme(&api.url(), &idp.url(), "");
    let proxy = Proxy::start(&format!(
        "callers: {{shop: {{password: 'p:w', allow: [acme]}}}}\n{yaml}"
    ))
    .await;
    let (right, wrong) = (basic("shop", "p:w"), basic("shop", "x"));
    let (absolute, origin) = ("GET http://api.test/x", "GET /x");
    let connect = "CONNECT api.test:443";
    for (target, proxy_authorization, authorization, status) in [
        (absolute, None, None, 407),
        (absolute, None, Some(&right), 407),
        (absolute, Some(&wrong), None, 407),
        (absolute, Some(&right), None, 200),
        (absolute, Some(&right), Some(&wrong), 200),
        (connect, None, Some(&right), 407),
        (connect, Some(&right), None, 403),
        (origin, None, None, 401),
        (origin, None, Some(&wrong), 401),
        (origin, None, Some(&right), 200),
        (origin, Some(&right), None, 200),
        (origin, Some(&wrong), Some(&right), 401),
    ] {
        let mut request = format!("{target} HTTP/1.1\r\nHost: api.test\r\n");
        request
            .extend(proxy_authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")));
        request.extend(authorization.map(|value| format!("Authorization: {value}\r\n")));
        let reply = Raw::connect(proxy.listen)
            .await
            .ask(format!("{request}\r\n"))
            .await;
        assert_eq!(reply.status(), status, "{request}");
        assert_eq!(
            reply.field("proxy-authenticate").is_some(),
            status == 407,
            "{request}"
        );
        assert_eq!(
            reply.field("www-authenticate").is_some(),
            status == 401,
            "{request}"
        );
        if [401, 407].contains(&status) {
            assert_refusal(
                &reply,
                (status, "caller_unauthenticated", "http_request_denied"),
                "no",
            );
            assert!(
                !reply.head.to_lowercase().contains("connection: keep"),
                "{request}"
            );
        }
    }
    for seen in api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
        assert_eq!(seen.headers.get("proxy-authorization"), None);
    }
    // Of the three gateway requests only the one with both fields had one that was not for Bursar.
    let replaced = [("caller", "shop")];
    let replaced = proxy
        .metric("bursar_caller_credentials_replaced_total", &replaced)
        .await;
    assert_eq!(replaced, 1.0);
    let refused = [("reason", "caller_unauthenticated")];
    assert_eq!(proxy.metric("bursar_refusals_total", &refused).await, 7.0);
}

#[tokio::test]
async fn http_2_callers_use_either_field_for_their_password() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let callers = "callers: {shop: {password: 'p:w', allow: [acme]}}";
    let proxy = Proxy::start(&format!("{callers}\n{yaml}")).await;
    let right = basic("shop", "p:w");
    let mut caller = Caller::connect_http2(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 401);
    for field in ["authorization", "proxy-authorization"] {
        let request = http::Request::get("http://api.test/x").header(field, &right);
        let request = request.body(crate::support::upstream::full("")).unwrap();
        assert_eq!(caller.request(request).await.status, 200, "{field}");
    }
}

#[tokio::test]
async fn a_caller_reaches_what_it_is_allowed_and_nothing_else() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let yaml = acme(&api.url(), &idp.url(), "");
    let yaml = format!(
        "callers:\n  all: {{password: a, allow: [acme]}}\n  nobody: {{password: n, allow: []}}\n  some:\n    password: s\n    allow:\n      - {{provider: acme, methods: [GET], paths: [\"/links/**\"]}}\n      - {{provider: acme, paths: [\"/open/*\"]}}\n{yaml}"
    );
    let proxy = Proxy::start(&yaml).await;
    for (name, password, method, path, status) in [
        ("all", "a", "DELETE", "/x", 200),
        ("nobody", "n", "GET", "/x", 403),
        ("some", "s", "GET", "/links", 200),
        ("some", "s", "GET", "/links/1/2", 200),
        ("some", "s", "POST", "/links/1", 403),
        ("some", "s", "GET", "/links/../x", 403),
        ("some", "s", "GET", "/links%2F..%2Fx", 403),
        ("some", "s", "GET", "/LINKS", 403),
        ("some", "s", "POST", "/open/1", 200),
        ("some", "s", "POST", "/open/1/2", 403),
        ("some", "s", "HEAD", "/links/1", 403),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://api.test{path}"))
            .header("proxy-authorization", basic(name, password))
            .body(crate::support::upstream::full(""));
        let reply = Caller::connect(proxy.listen)
            .await
            .request(request.unwrap())
            .await;
        assert_eq!(reply.status, status, "{name} {method} {path}");
    }
}

#[tokio::test]
async fn a_request_waits_for_its_token_and_not_for_longer_than_token_wait() {
    let latch = crate::support::Latch::closed();
    let idp = Idp::held(&latch);
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let rig = Rig::of(api, idp.await, "token.wait: 1s").await;
    let reply = soon(rig.get("/x")).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.problem()["reason"]),
        (503, &json!("token_unavailable"))
    );
    let (reply, ()) = tokio::join!(rig.get("/x"), async {
        tokio::task::yield_now().await;
        latch.open();
    });
    assert_eq!(reply.status, 200);
    assert_eq!((rig.idp.calls(), rig.api.count()), (1, 1));
    let waits = rig
        .proxy
        .metric("bursar_token_wait_seconds_count", &[("provider", "acme")]);
    assert!(waits.await >= 1.0);
    let waited = rig.proxy.access_lines(2).await[0]["token_wait_ms"]
        .as_f64()
        .unwrap();
    assert!(
        waited >= Duration::from_secs(1).as_secs_f64() * 1e3,
        "{waited}"
    );
}
