//! Keys in bodies: by which a request is sent again, and written down, and when a body has none.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bursar_config::Config;
use bursar_http::headers::clean_request;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::BodyExt as _;

use crate::journal::{outcomes, with_journal};
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Body, Upstream, answer, full, stream};
use crate::support::{acme, eventually};

const ROUTE: &str = "routes: [{path: /pay, replay: if_keyed, idempotency_header: x-key, idempotency_field: /payment/key}]";
const KEYED: &str = r#"{"payment":{"amount":7,"key":"k-1"}}"#;

/// A body of unknown length.
fn chunked(text: &'static str) -> Body {
    let (mut sender, body) = stream();
    tokio::spawn(async move { drop(sender.send_data(Bytes::from(text)).await) });
    body
}

type Headers = &'static [(&'static str, &'static str)];

/// Headers and bodies, and whether there is a key in them.
fn bodies() -> Vec<(Headers, Body, bool)> {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let large = format!(
        "{{\"payment\":{{\"key\":\"k-1\"}},\"a\":\"{}\"}}",
        "x".repeat(64 * 1024)
    );
    vec![
        (&[JSON], full(KEYED), true),
        (
            &[("content-type", "application/vnd.a+json; charset=utf-8")],
            full(KEYED),
            true,
        ),
        (&[("content-encoding", "identity")], full(KEYED), true),
        (&[JSON, ("x-key", "k-1")], full("{}"), true),
        // Which of two counts, the provider alone knows.
        (
            &[JSON, ("x-key", "k-1"), ("x-key", "k-2")],
            full("{}"),
            false,
        ),
        (&[JSON], full("{}"), false),
        (&[JSON], full(r#"{"payment":{"key":7}}"#), false),
        (&[JSON], full(r#"{"payment":{"key":{"key":"k-1"}}}"#), false),
        (
            &[JSON],
            full(r#"{"payment":{"key":"k-1","key":"k-2"}}"#),
            false,
        ),
        (
            &[JSON],
            full(r#"{"payment":{"key":"k-1"},"Payment":{"key":"k-2"}}"#),
            false,
        ),
        (&[JSON], full(r#"{"payment":{"key":""}}"#), false),
        (&[JSON], full("payment[key]=k-1"), false),
        (&[JSON], full(""), false),
        (&[JSON], full(large), false),
        (&[JSON], chunked(KEYED), true),
        (&[JSON, ("content-encoding", "gzip")], full(KEYED), false),
        (&[("content-type", "text/plain")], full(KEYED), false),
        (&[JSON, ("content-type", "text/plain")], full(KEYED), false),
    ]
}

#[tokio::test]
async fn a_request_is_sent_again_by_the_key_in_its_body_and_not_without_one() {
    let count = AtomicUsize::new(0);
    let api = Upstream::start(move |_| {
        let is_first = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        async move { answer(if is_first { 401 } else { 200 }, "") }
    })
    .await;
    let idp = Idp::counting().await;
    // Not kept here, and yet treated alike.
    for journal in [false, true] {
        for (headers, body, is_keyed) in bodies() {
            let yaml = acme(&api.url(), &idp.url(), ROUTE);
            let directory = tempfile::tempdir().unwrap();
            let yaml = match journal {
                true => with_journal(&yaml, directory.path()),
                false => yaml,
            };
            // One for each, because 401s may cause so many renewals in a minute and no more.
            let proxy = Proxy::start(&yaml).await;
            let before = api.count();
            let mut request = Request::post("http://api.test/pay");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut caller = Caller::connect(proxy.listen).await;
            let reply = caller.request(request.body(body).unwrap()).await;
            let expected = if is_keyed { (200, 2) } else { (401, 1) };
            let found = (reply.status.as_u16(), api.count() - before);
            assert_eq!(found, expected, "{headers:?} {:?}", api.seen()[before].body);
            if is_keyed {
                let [first, second] = &api.seen()[before..] else {
                    panic!("{:?}", api.seen());
                };
                assert_eq!(first.body, second.body);
            } else {
                // The API is at its beginning again.
                let request = Request::get("http://api.test/x").body(full("")).unwrap();
                assert_eq!(caller.request(request).await.status, 200);
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_slowly_goes_on_as_it_comes_and_has_its_key_all_the_same() {
    let api = Upstream::streaming(|mut request: Request<hyper::body::Incoming>| async move {
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        answer(401, "")
    })
    .await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    for yaml in [
        acme(&api.url(), &idp.url(), ROUTE),
        with_journal(&acme(&api.url(), &idp.url(), ROUTE), directory.path()),
    ] {
        let before = api.count();
        let proxy = Proxy::start(&yaml).await;
        let mut caller = Raw::connect(proxy.listen).await;
        let (first, rest) = KEYED.split_at(20);
        let head = format!(
            "POST http://api.test/pay HTTP/1.1\r\nHost: api.test\r\nContent-Length: {}\r\n\r\n",
            KEYED.len()
        );
        caller.write(format!("{head}{first}")).await;
        // Nobody waits for the end.
        api.reached_by(before + 1).await;
        caller.write(rest).await;
        assert_eq!(caller.read_message().await.status(), 401);
        assert_eq!(api.count(), before + 2);
    }
}

#[tokio::test]
async fn the_journal_has_the_key_of_the_body_as_it_has_a_headers() {
    let api = RawUpstream::resetting().await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ROUTE), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let long = "k".repeat(5000);
    let bodies = [
        (KEYED.to_owned(), Some("k-1".to_owned())),
        (
            format!("{{\"payment\":{{\"key\":\"{long}\"}}}}"),
            Some("k".repeat(2048)),
        ),
        (
            r#"{"payment":{"key":"schl\u00fcssel"}}"#.to_owned(),
            Some("schlüssel".to_owned()),
        ),
        ("{}".to_owned(), None),
    ];
    for (count, (body, key)) in (1..).zip(bodies) {
        let request = Request::post("http://api.test/pay")
            .body(full(body))
            .unwrap();
        let reply = Caller::connect(proxy.listen).await.request(request).await;
        assert_eq!(reply.status, 502);
        eventually(|| async { outcomes(directory.path()).await.len() == count }).await;
        let mut listed = outcomes(directory.path()).await;
        listed.sort_by_key(|outcome| outcome["time"].to_string());
        let last = listed.pop().unwrap();
        assert_eq!(last["idempotency_key"].as_str(), key.as_deref(), "{last}");
        assert!(last["body_sha256"].is_string(), "{last}");
    }
}

#[tokio::test]
async fn the_journal_has_the_key_of_a_body_that_comes_after_its_head() {
    let api = RawUpstream::resetting().await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ROUTE), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let mut caller = Raw::connect(proxy.listen).await;
    caller
        .write("POST http://api.test/pay HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // Of unknown length, so that the head does not wait for it.
    let (first, rest) = KEYED.split_at(20);
    for part in [first, rest, ""] {
        caller
            .write(format!("{:x}\r\n{part}\r\n", part.len()))
            .await;
    }
    assert_eq!(caller.read_message().await.status(), 502);
    eventually(|| async { outcomes(directory.path()).await.len() == 1 }).await;
    let outcome = &outcomes(directory.path()).await[0];
    assert_eq!(outcome["idempotency_key"], "k-1", "{outcome}");
    assert!(outcome["body_sha256"].is_string(), "{outcome}");
}

#[test]
fn what_makes_no_sense_about_keys_and_tokens_is_said() {
    for (route, expected) in [
        (
            "path: /a, idempotency_field: key",
            "idempotency_field: must be a JSON pointer (RFC 6901)",
        ),
        (
            "path: /a, idempotency_field: ''",
            "idempotency_field: must be a JSON pointer (RFC 6901)",
        ),
        (
            "path: /a, replay: if_keyed",
            "idempotency_header: is missing; `replay: if_keyed` needs",
        ),
        (
            "path: /a, authorization: theirs",
            "authorization: must be one of bursar, caller, caller_or_bursar",
        ),
        (
            "path: /a, authorization: caller, scopes: [a]",
            "scopes: has no effect beside `authorization: caller`",
        ),
    ] {
        let keys = format!("routes: [{{{route}}}]");
        let yaml = acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", &keys);
        let problems = Config::parse(&yaml, Path::new("")).unwrap_err();
        let expected = format!("providers.acme.routes[0].{expected}");
        let found = problems.iter().map(ToString::to_string);
        assert!(
            found.clone().any(|problem| problem.contains(&expected)),
            "{route}: {problems:?}"
        );
    }
    // The preset knows the key of some requests, and of others it does not.
    for (route, is_keyed) in [
        ("path: /api/v1/payment-requests", true),
        ("methods: [POST], path: /api/v1/**", true),
        ("methods: [GET], path: /api/v1/payment-requests", false),
        ("path: /api/v1/refund-session", false),
    ] {
        let yaml = format!(
            "providers: {{p: {{preset: quidkey, environment: sandbox, client_id: a, client_secret: b, routes: [{{{route}, replay: if_keyed}}]}}}}"
        );
        let parsed = Config::parse(&yaml, Path::new(""));
        assert_eq!(parsed.is_ok(), is_keyed, "{route}: {parsed:?}");
    }
    // The caller's token needs no scopes, not even default ones.
    for route in [
        "authorization: caller",
        "authorization: caller_or_bursar, scopes: [a]",
    ] {
        let yaml = format!(
            "providers: {{p: {{preset: payu, environment: sandbox, client_id: a, client_secret: b, routes: [{{path: /a, {route}}}]}}}}"
        );
        Config::parse(&yaml, Path::new("")).unwrap();
    }
}

/// Names of which some are taken out of requests, and some only begin or end like those.
const NAMES: [&str; 43] = [
    "b3",
    "baggage",
    "bursar-account",
    "bursar-idempotency-key",
    "bursar-reference",
    "bursar-request-id",
    "connection",
    "content-length",
    "correlation-context",
    "elastic-apm-traceparent",
    "expect",
    "grpc-trace-bin",
    "idempotency-key",
    "keep-alive",
    "newrelic",
    "newrelic-id",
    "ot-baggage-key",
    "ot-tracer-traceid",
    "proxy-connection",
    "proxy-key",
    "sentry-trace",
    "te",
    "trace-id",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "uber-key",
    "uber-trace-id",
    "uberctx-key",
    "upgrade",
    "upgrade-insecure-requests",
    "x-amzn-trace-id",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-ot-span-context",
    "x-request-id",
    "x-rewrite-url",
];

#[test]
fn a_header_that_is_taken_out_of_requests_holds_no_key_and_any_other_may() {
    let underscores = NAMES.map(|name| name.replace('-', "_"));
    for name in NAMES
        .into_iter()
        .chain(underscores.iter().map(|name| &**name))
    {
        for forwards_trace in [false, true] {
            let trace = if forwards_trace {
                "trace: forward\n"
            } else {
                ""
            };
            let keys =
                format!("{trace}routes: [{{path: /pay, idempotency_header: {name}, scopes: [a]}}]");
            let yaml = acme("https://api.test", "https://login.test/token", &keys);
            let is_accepted = Config::parse(&yaml, Path::new("")).is_ok();
            let mut headers = HeaderMap::new();
            let header: HeaderName = name.parse().unwrap();
            headers.insert(&header, HeaderValue::from_static("k-1"));
            clean_request(&mut headers, forwards_trace);
            // A length reaches the provider, and is no key.
            let reaches = headers.contains_key(&header) && name != "content-length";
            assert_eq!(is_accepted, reaches, "{name}, {forwards_trace}");
        }
    }
}
