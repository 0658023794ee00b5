//! Traces: what spans say. Which requests have any is in [`sampling`], what becomes of them on their way in [`export`].

mod export;
mod receiver;
mod sampling;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::support::caller::{Caller, basic};
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Body, Upstream, answer, full};
use crate::support::{Latch, acme, eventually, free_port};
use receiver::{Receiver, Span};

/// What a caller says that records its own part of a trace.
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PARENTS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENTS_ID: &str = "00f067aa0ba902b7";

/// Peers, and a proxy that sends spans to `receiver`.
struct Rig {
    api: Upstream,
    idp: Idp,
    proxy: Proxy,
}

impl Rig {
    async fn start(traces: &str, provider: &str, api: Upstream, idp: Idp) -> Self {
        let yaml = acme(&api.url(), &idp.url(), provider);
        let proxy = Proxy::start(&format!("{traces}{yaml}")).await;
        Self { api, idp, proxy }
    }

    /// The same once there is a token.
    async fn ready(traces: &str, provider: &str) -> Self {
        let api = Upstream::start(|_| async { answer(200, "x") }).await;
        let rig = Self::start(traces, provider, api, Idp::counting().await).await;
        rig.has_token().await;
        rig
    }

    async fn has_token(&self) {
        eventually(|| async { self.proxy.json("/readyz").await.0 == 200 }).await;
    }

    /// A request with those fields; its status.
    async fn ask(&self, fields: &str) -> u16 {
        ask(&self.proxy, fields).await
    }

    /// The spans that have come when the proxy has ended.
    async fn ended(mut self) -> Self {
        self.proxy.shut_down();
        self.proxy.drained().await;
        self
    }
}

async fn ask(proxy: &Proxy, fields: &str) -> u16 {
    let request = format!("GET http://api.test/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    Raw::connect(proxy.listen)
        .await
        .ask(&request)
        .await
        .status()
}

/// The only span of that name.
#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    let [span] = found[..] else {
        panic!("{name}: {spans:#?}");
    };
    span
}

fn takes(token: &'static str) -> impl Fn(Request<Bytes>) -> std::future::Ready<Response<Body>> {
    move |request| {
        let is_it = request.headers()["authorization"] == format!("Bearer {token}").as_str();
        std::future::ready(answer(if is_it { 200 } else { 401 }, "x"))
    }
}

#[tokio::test]
async fn a_replay_is_a_second_sending_after_a_wait_for_a_flight_that_is_a_trace_of_its_own() {
    let receiver = Receiver::start().await;
    let api = Upstream::start(takes("token-2")).await;
    let routes = "routes: [{methods: [POST], path: '/pay/*'}]";
    let rig = Rig::start(
        &receiver.yaml("ratio: 1"),
        routes,
        api,
        Idp::counting().await,
    )
    .await;
    rig.has_token().await;
    let mut caller = Caller::connect(rig.proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay/1", "amount=10").await.status, 200);
    let spans = receiver.received(6).await;
    let own = named(&spans, "POST /pay/*");
    let of_kind = |kind| {
        let mut found: Vec<&Span> = spans
            .iter()
            .filter(|span| span.kind == kind && span.trace == own.trace)
            .collect();
        found.sort_by_key(|span| span.times);
        found
    };
    let [first, second] = of_kind(SpanKind::Client)[..] else {
        panic!("{spans:#?}");
    };
    let [wait] = of_kind(SpanKind::Internal)[..] else {
        panic!("{spans:#?}");
    };
    let sent = [
        "http.response.status_code",
        "http.request.resend_count",
        "error.type",
    ];
    assert_eq!(first.say(&sent), json!([401, null, "401"]));
    assert_eq!(second.say(&sent), json!([200, 1, null]));
    assert_eq!(
        (first.is_error, second.is_error, own.is_error),
        (true, false, false)
    );
    let (flight, call) = {
        let root = named(&spans, "token flight");
        let call = spans
            .iter()
            .find(|span| span.parent == root.id && span.trace == root.trace);
        (root, call.unwrap())
    };
    assert_eq!(wait.links, [flight.context()]);
    assert!(flight.trace != own.trace && flight.parent.is_empty());
    assert_eq!(
        flight.say(&[
            "bursar.provider",
            "bursar.account",
            "bursar.flight.reason",
            "bursar.token_generation"
        ]),
        json!(["acme", "default", "unauthorized", 2])
    );
    let names = [
        "http.request.method",
        "http.response.status_code",
        "server.address",
        "server.port",
        "url.scheme",
        "bursar.grant",
    ];
    let port = rig.idp.address().port();
    let expected = json!(["POST", 200, "127.0.0.1", port, "http", "client_credentials"]);
    assert_eq!((call.kind, call.say(&names)), (SpanKind::Client, expected));
    for child in [first, wait, second] {
        assert_eq!(child.parent, own.id);
        let (begins, ends) = child.times;
        assert!(own.times.0 <= begins && ends <= own.times.1, "{spans:#?}");
    }
    assert!(own.parent.is_empty());
    let names = [
        "bursar.replayed",
        "bursar.route",
        "http.route",
        "bursar.provider",
        "bursar.account",
        "bursar.caller",
        "network.protocol.version",
        "client.address",
        "server.address",
    ];
    assert_eq!(
        own.say(&names),
        json!([
            true,
            "POST /pay/*",
            "/pay/*",
            "acme",
            "default",
            "anonymous",
            "1.1",
            "127.0.0.1",
            "api.test"
        ])
    );
    assert_eq!(own.resource["service.name"], json!("bursar"));
    // Who has the line finds the trace, and the other way round.
    let line = &rig.proxy.access_lines(1).await[0];
    assert_eq!(
        (&line["trace_id"], &line["request_id"]),
        (&json!(own.trace), &own.says("bursar.request_id"))
    );
}

#[tokio::test]
async fn all_who_wait_for_a_token_link_to_its_one_flight() {
    let receiver = Receiver::start().await;
    let latch = Latch::closed();
    let api = Upstream::start(|_| async { answer(200, "x") }).await;
    let idp = Idp::held(&latch).await;
    let rig = Rig::start(&receiver.yaml("ratio: 1"), "", api, idp).await;
    rig.idp.reached_by(1).await;
    let listen = rig.proxy.listen;
    let requests: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn(async move {
                Caller::connect(listen)
                    .await
                    .send("GET", "/x", "")
                    .await
                    .status
            })
        })
        .collect();
    let in_flight = "bursar_requests_in_flight";
    rig.proxy.metric_becomes(in_flight, &[], 3.0).await;
    latch.open();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    // Of each request its own, its wait and its sending; and the flight with its call.
    let spans = receiver.received(3 * 3 + 2).await;
    let flight = named(&spans, "token flight");
    assert_eq!(flight.says("bursar.flight.reason"), json!("startup"));
    let waits: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name == "wait for token")
        .collect();
    assert_eq!(waits.len(), 3);
    for wait in waits {
        assert_eq!(wait.links, [flight.context()]);
        assert!(!wait.is_error);
    }
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn what_was_refused_or_could_not_be_reached_is_told_in_the_words_of_the_log() {
    let receiver = Receiver::start().await;
    let gone = format!("http://127.0.0.1:{}", free_port());
    let idp = Idp::counting().await;
    let yaml = acme(&gone, &idp.url(), "paths: ['/x/**']");
    let proxy = Proxy::start(&format!("{}{yaml}", receiver.yaml("ratio: 1"))).await;
    eventually(|| async { proxy.json("/readyz").await.0 == 200 }).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/other", "").await.status, 403);
    assert_eq!(caller.send("GET", "/x", "").await.status, 502);
    let spans = receiver.received(3).await;
    let names = [
        "http.response.status_code",
        "error.type",
        "bursar.reason",
        "bursar.detail",
        "bursar.cause",
    ];
    let find = |status: u16| {
        spans
            .iter()
            .find(|span| span.kind == SpanKind::Server && span.says(names[0]) == json!(status))
    };
    let refused = find(403).unwrap();
    assert_eq!(
        refused.say(&names),
        json!([403, null, "route_not_allowed", "outside_paths", null])
    );
    let failed = find(502).unwrap();
    assert_eq!(
        failed.say(&names),
        json!([
            502,
            "upstream_unreachable",
            "upstream_unreachable",
            "no_connection",
            "refused"
        ])
    );
    assert_eq!((refused.is_error, failed.is_error), (false, true));
    let sending = spans
        .iter()
        .find(|span| span.kind == SpanKind::Client)
        .unwrap();
    assert_eq!(
        sending.say(&names),
        json!([null, "refused", null, null, "refused"])
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_an_error_of_the_wait_the_flight_and_its_call() {
    let receiver = Receiver::start().await;
    let api = Upstream::start(|_| async { answer(200, "x") }).await;
    let refusal = json!({"error": "invalid_client", "error_description": "r-secret"});
    let idp = Idp::start(move |_| {
        let refused = idp::reply(401, &refusal);
        async { refused }
    });
    // No token is wanted before somebody asks for one.
    let routes = "routes: [{path: /x, scopes: [a]}]\npaths: [/x]";
    let rig = Rig::start(&receiver.yaml("ratio: 1"), routes, api, idp.await).await;
    assert_eq!(rig.ask("").await, 502);
    eventually(|| async {
        receiver
            .spans()
            .iter()
            .any(|span| span.name == "token flight")
    })
    .await;
    let spans = receiver.spans();
    let wait = named(&spans, "wait for token");
    let flight = spans
        .iter()
        .find(|span| (span.trace.clone(), span.id.clone()) == wait.links[0]);
    let flight = flight.unwrap();
    let call = spans.iter().find(|span| span.parent == flight.id).unwrap();
    let own = spans
        .iter()
        .find(|span| span.kind == SpanKind::Server)
        .unwrap();
    let errors = [wait, flight, call, own].map(|span| span.says("error.type"));
    assert_eq!(
        errors,
        ["rejected", "rejected", "401", "credentials_rejected"].map(|word| json!(word))
    );
    assert_eq!(flight.says("bursar.scopes"), json!("a"));
}

#[tokio::test]
async fn no_secret_and_nothing_of_a_path_query_header_or_body_leaves_with_a_span() {
    let receiver = Receiver::start().await;
    let api = Upstream::start(|request: Request<Bytes>| async move {
        let is_first = request.headers()["authorization"] == "Bearer token-1";
        let mut reply = answer(if is_first { 401 } else { 500 }, "answered-secret");
        reply
            .headers_mut()
            .insert("x-of-api", "field-secret".parse().unwrap());
        reply
    });
    let callers = "callers: {shop: {password: pass-secret, allow: [acme]}}\n";
    let traces = format!("{callers}{}", receiver.yaml("ratio: 1"));
    let rig = Rig::start(&traces, "", api.await, Idp::counting().await).await;
    rig.has_token().await;
    let shop = basic("shop", "pass-secret");
    let request = Request::post("http://api.test/customers/path-secret?key=query-secret")
        .header("proxy-authorization", &shop)
        .header("authorization", "Bearer own-secret")
        .header("bursar-reference", "reference-secret")
        .header("x-request-id", "id-secret")
        .header("user-agent", "agent-secret")
        .header("cookie", "cookie-secret")
        .header("traceparent", PARENT)
        .header("tracestate", "state-secret=1")
        .header("baggage", "baggage-secret=1")
        .body(full("body-secret"));
    let mut caller = Caller::connect(rig.proxy.listen).await;
    assert_eq!(caller.request(request.unwrap()).await.status, 500);
    let odd = format!(
        "METHOD-SECRET http://host-secret.test/x HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {shop}\r\n\r\n"
    );
    assert_eq!(
        Raw::connect(rig.proxy.listen)
            .await
            .ask(&odd)
            .await
            .status(),
        403
    );
    rig.ended().await;
    let spans = receiver.spans();
    assert!(spans.iter().any(|span| span.name == "POST default"));
    let odd = named(&spans, "HTTP");
    assert_eq!(
        odd.say(&["http.request.method", "server.address"]),
        json!(["_OTHER", null])
    );
    let text = String::from_utf8_lossy(&receiver.bytes()).to_ascii_lowercase();
    for secret in [
        "secret",
        "token-1",
        "token-2",
        "s3cret",
        "acme-id",
        "bearer",
        "basic",
        "customers",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
    let encoded = shop.strip_prefix("Basic ").unwrap().to_ascii_lowercase();
    assert!(!text.contains(&encoded));
}

#[tokio::test]
async fn a_caller_that_leaves_ends_what_was_under_way_and_a_response_that_breaks_off_is_an_error() {
    let receiver = Receiver::start().await;
    let latch = Latch::closed();
    let api = Upstream::held("x", &latch).await;
    let rig = Rig::start(&receiver.yaml("ratio: 1"), "", api, Idp::counting().await).await;
    rig.has_token().await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    let request = Request::get("http://api.test/held").body(full(""));
    let pending = caller.begin_later(request.unwrap()).await;
    rig.api.reached_by(1).await;
    pending.abort();
    let spans = receiver.received(2).await;
    latch.open();
    let errors = |spans: &[Span]| {
        let found = spans.iter().map(|span| {
            (
                span.kind,
                span.say(&[
                    "http.response.status_code",
                    "error.type",
                    "network.protocol.version",
                ]),
            )
        });
        found.collect::<Vec<_>>()
    };
    let expected = [
        (SpanKind::Client, json!([null, "caller_left", null])),
        (SpanKind::Server, json!([null, "caller_left", "2"])),
    ];
    assert_eq!(errors(&spans), expected);
    let receiver = Receiver::start().await;
    let api = RawUpstream::start(|_, mut raw| async move {
        drop(raw.try_read_head().await);
        raw.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
            .await;
    })
    .await;
    let yaml = acme(&api.url(), &rig.idp.url(), "");
    let proxy = Proxy::start(&format!("{}{yaml}", receiver.yaml("ratio: 1"))).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.write("GET http://api.test/x HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    drop(raw.read_to_end().await);
    eventually(|| async {
        let spans = receiver.spans();
        spans.iter().any(|span| span.kind == SpanKind::Server)
    })
    .await;
    let spans = receiver.spans();
    let own = spans.iter().find(|span| span.kind == SpanKind::Server);
    assert_eq!(
        own.unwrap()
            .say(&["http.response.status_code", "error.type", "bursar.detail"]),
        json!([200, "upstream_protocol", "cut_off"])
    );
}

#[tokio::test]
async fn a_request_past_all_providers_is_a_sending_too() {
    let receiver = Receiver::start().await;
    let other = Upstream::start(|_| async { answer(204, "") }).await;
    let port = other.address.port();
    let passthrough = format!("passthrough: [{{host: localhost, ports: [{port}]}}]\n");
    let traces = format!("{passthrough}{}", receiver.yaml("ratio: 1"));
    let rig = Rig::ready(&traces, "").await;
    let request = format!(
        "GET http://localhost:{port}/x HTTP/1.1\r\nHost: a\r\ntraceparent: {PARENT}\r\n\r\n"
    );
    let reply = Raw::connect(rig.proxy.listen).await.ask(&request).await;
    assert_eq!(reply.status(), 204);
    // It is for its server, and was never Bursar's to change.
    assert_eq!(other.only().all("traceparent"), [PARENT]);
    let spans = receiver.received(2).await;
    let own = named(&spans, "GET passthrough localhost");
    assert_eq!(
        own.say(&[
            "bursar.route",
            "http.route",
            "bursar.provider",
            "server.address"
        ]),
        json!(["passthrough localhost", null, null, null])
    );
    let sending = named(&spans, "GET");
    let names = ["server.address", "server.port", "http.response.status_code"];
    assert_eq!(sending.say(&names), json!(["localhost", port, 204]));
    assert_eq!(sending.parent, own.id);
}
