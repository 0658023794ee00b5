//! What operators see: health, readiness, status, metrics, logs; and what nobody may see.

use std::collections::HashSet;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::caller::{Caller, basic};
use crate::support::idp::{self, Idp};
use crate::support::metrics::{Scrape, admin};
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{CLIENT_SECRET, Latch, PATIENCE, Rig, acme, eventually};

#[tokio::test]
async fn the_admin_port_is_for_reading_only() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/nothing", 404),
        ("POST", "/healthz", 405),
        ("POST", "/status", 405),
        ("DELETE", "/metrics", 405),
    ] {
        let mut caller = Raw::connect(rig.proxy.admin).await;
        caller
            .write(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ))
            .await;
        let head = caller.read_head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{method} {path}: {head}"
        );
    }
    let metrics = admin(rig.proxy.admin, "/metrics").await;
    assert_eq!(metrics.all("content-type"), ["text/plain; version=0.0.4"]);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_told_which_it_takes() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let ask = async |method: &str, path: &str| {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let mut raw = Raw::connect(rig.proxy.admin).await;
        raw.ask(request).await
    };
    for (method, path, allowed) in [
        ("GET", "/freeze/acme", "POST"),
        ("PUT", "/freeze/acme", "POST"),
        ("GET", "/thaw/acme", "POST"),
        ("GET", "/reload", "POST"),
        ("PUT", "/log-level", "GET, HEAD, POST"),
        ("DELETE", "/log-level/restore", "POST"),
        ("POST", "/status", "GET, HEAD"),
        ("OPTIONS", "/", "GET, HEAD"),
    ] {
        let reply = ask(method, path).await;
        assert_eq!(
            (reply.status(), reply.field("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
    }
    for method in ["GET", "POST", "PUT"] {
        let reply = ask(method, "/nope").await;
        assert_eq!((reply.status(), reply.field("allow")), (404, None));
        assert!(reply.text().contains("/freeze/PROVIDER"), "{method}");
    }
}

#[tokio::test]
async fn ready_is_whoever_has_had_one_token() {
    let latch = Latch::closed();
    let held = latch.clone();
    let idp = Idp::start(move |call| {
        let held = held.clone();
        async move {
            held.wait().await;
            match call.number {
                1 => idp::reply(200, &json!({"access_token": "short", "expires_in": 3})),
                _ => answer(500, "oops"),
            }
        }
    });
    let (idp, other) = (
        idp.await,
        Idp::start(|_| async { idp::reply(401, &json!({"error": "invalid_client"})) }).await,
    );
    let second = acme("http://127.0.0.1:1", &other.url(), "")
        .replace("acme:", "other:")
        .replace("api.test", "other.test");
    let yaml = acme("http://127.0.0.1:1", &idp.url(), "token.wait: 50ms");
    let proxy = Proxy::start(&format!(
        "{yaml}{}",
        second.strip_prefix("providers:\n").unwrap()
    ))
    .await;

    other.reached_by(1).await;
    let (status, body) = proxy.json("/readyz").await;
    assert_eq!((status, &body["ready"]), (503, &json!(false)));
    assert_eq!(
        body["providers"]["acme"],
        json!({"healthy": false, "why": "no token yet"})
    );
    eventually(|| async {
        proxy.json("/readyz").await.1["providers"]["other"]["why"] != "no token yet"
    })
    .await;
    assert_eq!(admin(proxy.admin, "/healthz").await.status, 200);

    // One of two is enough.
    latch.open();
    eventually(|| async { proxy.json("/readyz").await.0 == 200 }).await;
    let (_, body) = proxy.json("/readyz").await;
    assert_eq!(body["providers"]["acme"], json!({"healthy": true}));
    assert_eq!(body["providers"]["other"]["healthy"], false);

    // And it stays so, although that one has no token any more.
    eventually(|| async {
        // A token that nobody wants is not renewed, so nothing is wrong with its provider.
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send("GET", "/x", "").await;
        reply.status == 503
    })
    .await;
    let (status, body) = proxy.json("/readyz").await;
    assert_eq!(
        (status, &body["providers"]["acme"]["healthy"]),
        (200, &json!(false))
    );
}

#[tokio::test]
async fn who_wants_no_token_at_start_is_ready_at_once() {
    let idp = Idp::counting().await;
    let token = format!("token: {{url: \"{}\"}}", idp.url());
    let payu = format!(
        "providers:\n  payu: {{preset: payu, environment: sandbox, client_id: a, client_secret: b, {token}}}\n"
    );
    let proxy = Proxy::start(&payu).await;
    assert_eq!(proxy.json("/readyz").await.0, 200);
    assert_eq!(idp.calls(), 0);
}

#[tokio::test]
async fn status_tells_everything_about_a_token_but_the_token() {
    let idp = Idp::start(|_| async {
        idp::reply(
            200,
            &json!({"access_token": "very-secret-token", "expires_in": 600, "scope": "a"}),
        )
    });
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let rig = Rig::of(api, idp.await, "token.scopes: [b, a]").await;
    assert_eq!(rig.get("/x").await.status, 200);
    let (status, body) = rig.proxy.json("/status").await;
    assert_eq!((status, &body["draining"]), (200, &json!(false)));
    let token = &body["tokens"][0];
    for (field, expected) in [
        ("provider", json!("acme")),
        ("account", json!("default")),
        ("scopes", json!("a b")),
        ("generation", json!(1)),
        ("missing_scopes", json!("b")),
        ("last_outcome", json!("ok")),
        ("last_error", Value::Null),
    ] {
        assert_eq!(token[field], expected, "{field}");
    }
    let left = token["expires_in_seconds"].as_f64().unwrap();
    assert!((570.0..=600.0).contains(&left), "{left}");
    assert!(token["age_seconds"].as_f64().unwrap() < 30.0);
    let line = &rig.proxy.access_lines(1).await[0];
    assert_eq!(token["fingerprint"], line["token_fingerprint"]);
    for path in ["/status", "/readyz", "/metrics"] {
        let text = admin(rig.proxy.admin, path).await.text().to_owned();
        for secret in ["very-secret", CLIENT_SECRET, "acme-id"] {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
}

/// Name, labels that are the same for all its series, and a label with each of its values.
const SERIES: [(&str, &str, (&str, &str)); 23] = [
    ("requests_total", ACME, ("caller", "shop")),
    ("request_duration_seconds_count", ACME, ("provider", "acme")),
    ("requests_in_flight", ACME, ("provider", "acme")),
    (
        "refusals_total",
        "provider=none caller=anonymous",
        ("reason", REASONS),
    ),
    (
        "refusals_total",
        "provider=acme caller=shop",
        ("reason", REASONS),
    ),
    (
        "payments_total",
        "provider=acme account=default",
        ("outcome", "answered not_sent in_doubt"),
    ),
    ("journal_unresolved", "", ("provider", "acme")),
    ("token_renewal_failing", ACCOUNT, ("scopes", "a")),
    ("admin_refusals_total", "", ("reason", "token host origin")),
    ("unauthorized_total", ACME, ("result", "absorbed surfaced")),
    ("replays_total", ACME, ("result", RESULTS)),
    ("token_expiry_timestamp_seconds", ACCOUNT, ("scopes", "a")),
    ("token_issued_timestamp_seconds", ACCOUNT, ("scopes", "a")),
    ("token_generation", ACCOUNT, ("scopes", "a")),
    ("token_fetches_total", CREDENTIALS, ("outcome", OUTCOMES)),
    ("token_fetches_total", REFRESH, ("outcome", OUTCOMES)),
    (
        "token_fetch_duration_seconds_count",
        ACME,
        ("grant", GRANTS),
    ),
    ("token_wait_seconds_count", ACME, ("provider", "acme")),
    (
        "caller_credentials_replaced_total",
        ACME,
        ("caller", "shop"),
    ),
    ("connections", "", ("side", "caller upstream")),
    ("egress_denied_total", "mode=enforce", ("rule", RULES)),
    ("egress_denied_total", "mode=report", ("rule", RULES)),
    ("config_reloads_total", "", ("outcome", "ok rejected")),
];
const ACME: &str = "provider=acme";
const ACCOUNT: &str = "provider=acme account=default";
const CREDENTIALS: &str = "provider=acme account=default grant=client_credentials";
const REFRESH: &str = "provider=acme account=default grant=refresh_token";
const GRANTS: &str = "client_credentials refresh_token";
const RESULTS: &str = "ok unauthorized_again failed body_too_large token_unchanged token_too_young \
    token_unavailable not_allowed";
const REASONS: &str = "bad_request caller_unauthenticated destination_not_allowed route_not_allowed \
    token_endpoint_protected connect_not_allowed method_not_allowed request_timeout target_too_long \
    headers_too_large misdirected address_not_allowed upstream_unreachable upstream_tls upstream_protocol \
    credentials_rejected token_unavailable overloaded draining upstream_timeout loop \
    caller_limit_exceeded caller_left";
const RULES: &str = "unspecified loopback private link_local metadata cgnat multicast documentation \
    benchmark reserved embedded_ipv4 literal";
const OUTCOMES: &str = "ok unchanged rejected rate_limited unavailable malformed";

#[tokio::test]
async fn every_known_series_exists_from_the_start() {
    let latch = Latch::closed();
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::held(&latch).await,
    );
    let yaml = acme(
        &api.url(),
        &idp.url(),
        "token.refresh: grant\ntoken.scopes: [a]",
    );
    let proxy = Proxy::start(&format!(
        "callers: {{shop: {{password: p, allow: [acme]}}}}\n{yaml}"
    ))
    .await;
    let scrape = proxy.scrape().await;
    for (name, labels, (label, values)) in SERIES {
        let labels = labels
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap());
        for value in values.split_whitespace() {
            let labels: Vec<_> = labels.clone().chain([(label, value)]).collect();
            let name = format!("bursar_{name}");
            assert_eq!(scrape.value(&name, &labels), 0.0, "{name} {labels:?}");
        }
    }
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(scrape.value("bursar_build_info", &version), 1.0);
    assert_eq!(scrape.value("bursar_password_hashes_total", &[]), 0.0);
    assert!(scrape.value("process_open_fds", &[]) > 0.0);
    latch.open();
}

#[tokio::test]
async fn the_wire_makes_no_labels() {
    let rig = Rig::start(|_| async { answer(299, "") }).await;
    let names = |scrape: &Scrape| -> HashSet<String> {
        scrape
            .all()
            .iter()
            .map(|(name, labels, _)| format!("{name} {labels:?}"))
            .collect()
    };
    let before = names(&rig.proxy.scrape().await);
    for target in [
        "http://api.test/made-up",
        "http://made-up.test/",
        "/made-up",
    ] {
        let request = format!(
            "MADEUP {target} HTTP/1.1\r\nHost: made-up\r\nAuthorization: {}\r\n\r\n",
            basic("made-up", "x")
        );
        Raw::connect(rig.proxy.listen).await.ask(request).await;
    }
    let after = names(&rig.proxy.scrape().await);
    for series in after.difference(&before) {
        assert!(!series.to_lowercase().contains("made"), "{series}");
        // A status is the provider's to choose.
        assert!(series.starts_with("bursar_requests_total"), "{series}");
    }
}

#[tokio::test]
async fn a_request_leaves_one_line_with_every_field_and_no_secret_path() {
    let rig = Rig::start(|_| async { answer(201, "four") }).await;
    let reply = rig.send("POST", "/a%20b?secret=1", "abc").await;
    assert_eq!(reply.status, 201);
    let line = rig.proxy.access_lines(1).await.remove(0);
    for (field, expected) in [
        ("message", json!("request")),
        ("level", json!("INFO")),
        ("caller", json!("anonymous")),
        ("provider", json!("acme")),
        ("method", json!("POST")),
        ("path", json!("/a%20b")),
        ("status", json!(201)),
        ("reason", Value::Null),
        ("token_generation", json!(1)),
        ("replayed", json!(false)),
        ("request_bytes", json!(3)),
        ("response_bytes", json!(4)),
    ] {
        assert_eq!(line[field], expected, "{field}: {line}");
    }
    assert!(
        line["route"].is_string() && line["request_id"].as_str().unwrap().len() == 32,
        "{line}"
    );
    let (total, upstream) = (
        line["total_ms"].as_f64().unwrap(),
        line["upstream_ms"].as_f64().unwrap(),
    );
    assert!(
        line["token_wait_ms"].as_f64().is_some() && total >= upstream && upstream > 0.0,
        "{line}"
    );
    assert!(!line.to_string().contains("secret"), "{line}");
}

#[tokio::test]
async fn segments_that_a_preset_calls_secret_are_masked() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::start(|_| async {
            idp::reply(
                200,
                &json!({"data": {"access_token": "t", "expires_in": 600}}),
            )
        })
        .await,
    );
    let yaml = format!(
        "providers:\n  quidkey: {{preset: quidkey, environment: sandbox, upstream: \"{}\", client_id: a, client_secret: b, token: {{url: \"{}\", refresh_url: \"{}r\"}}}}\n",
        api.url(),
        idp.url(),
        idp.url()
    );
    let proxy = Proxy::start(&yaml).await;
    let paths = [
        "/api/v1/payment-requests/TOKEN",
        "/api/v1/payment-requests/TOKEN/bank",
        "/api/v1//payment-requests/x/../TOKEN?TOKEN",
        "/api/v1/%70ayment-requests/TOKEN",
        "/api/v1/payment-requests;a=b/TOKEN",
        "/api/v1/payment-requests/TOKEN%2f..",
        "/api/v1/payments/TOKEN/status",
        "/api/v1/Payments/TOKEN",
    ];
    for path in paths {
        // Nobody knows where a `..` leads that somebody has to decode first.
        let expected = if path.ends_with("..") { 403 } else { 200 };
        let mut caller = Raw::connect(proxy.listen).await;
        let reply = caller
            .ask(format!(
                "GET {path} HTTP/1.1\r\nHost: core-dev.quidkey.com\r\n\r\n"
            ))
            .await;
        assert_eq!(reply.status(), expected, "{path}: {reply:?}");
    }
    for (line, path) in proxy.access_lines(paths.len()).await.iter().zip(paths) {
        assert!(!line.to_string().contains("TOKEN"), "{path}: {line}");
        let below = ["/api/v1/payment-requests/***", "/api/v1/payments/***"];
        let is_payment = path.to_ascii_lowercase().contains("/payments/");
        assert_eq!(line["path"], below[usize::from(is_payment)]);
    }
}

#[tokio::test]
async fn no_secret_is_in_the_log_at_any_level() {
    let idp = Idp::start(|call| async move {
        let token = format!("{TOKEN}-{}", call.number);
        idp::reply(
            200,
            &json!({"access_token": token, "expires_in": 600, "refresh_token": "r3fresh-token"}),
        )
    })
    .await;
    let api = Upstream::start(|request| async move {
        let fresh = request.headers()["authorization"]
            .to_str()
            .unwrap()
            .ends_with("-2");
        answer(if fresh { 200 } else { 401 }, "r3sponse-body")
    })
    .await;
    let yaml = acme(
        &api.url(),
        &idp.url(),
        "token.client_auth: basic\ntoken.refresh: grant",
    );
    let yaml = format!(
        "callers: {{shop: {{password: {PASSWORD}, allow: [acme]}}, bank: {{password: '{HASH}', allow: [acme]}}}}\n{yaml}"
    );
    let program = Program::start(&yaml, "trace").await;
    let mut http1 = Caller::connect(program.listen).await;
    let mut http2 = Caller::connect_http2(program.listen).await;
    for caller in [&mut http1, &mut http2] {
        let request = http::Request::post("http://api.test/pay?qu3ry=1")
            .header("proxy-authorization", basic("shop", PASSWORD))
            .header("authorization", "Bearer st0len")
            .body(full("b0dy-of-request"));
        assert_eq!(caller.request(request.unwrap()).await.status, 200);
    }
    for (password, status) in [(HASHED, 200), ("wr0ng-password", 407)] {
        assert_eq!(get_as_bank(&mut http1, password).await, status);
    }
    let refused = Caller::connect(program.listen)
        .await
        .send("GET", "/x", "")
        .await;
    assert_eq!(refused.status, 407);
    assert_eq!(admin(program.admin, "/status").await.status, 200);
    send_malformed_targets(program.listen).await;
    drop((http1, http2));
    program.signal("TERM").await;
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.lines().count() > 20, "{log}");
    assert_no_secret(&log);
}

/// Over HTTP/2, where no client library would: the path is malformed, then the authority.
async fn send_malformed_targets(address: SocketAddr) {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut frame = |kind: u8, flags: u8, stream: u8, block: &[u8]| {
        let length = u8::try_from(block.len()).unwrap();
        sent.extend([0, 0, length, kind, flags, 0, 0, 0, stream]);
        sent.extend(block);
    };
    frame(4, 0, 0, b"");
    let targets = [
        ("/x?qu3ry=\"1\"", "api.test"),
        ("/x", "shop:pa55-of-shop@api test"),
    ];
    for (stream, (path, authority)) in [1, 3].into_iter().zip(targets) {
        let mut block = Vec::new();
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
        ];
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        // HEADERS with END_STREAM and END_HEADERS.
        frame(1, 5, stream, &block);
    }
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&sent).await.unwrap();
    // RST_STREAM of both.
    let is_refused = |said: &[u8], stream: u8| {
        let frame = [0, 0, 4, 3, 0, 0, 0, 0, stream];
        said.windows(9).any(|said| said == frame)
    };
    let mut said = Vec::new();
    while !(is_refused(&said, 1) && is_refused(&said, 3)) {
        let read = tokio::time::timeout(PATIENCE, connection.read_buf(&mut said)).await;
        assert_ne!(read.unwrap().unwrap(), 0, "{said:?}");
    }
}

/// A password that is configured by its hash.
const HASHED: &str = "p4ss:w0rd";
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuumKxKh3CYLemG/HQI5Yhafiu.JiVrNjy";

async fn get_as_bank(caller: &mut Caller, password: &str) -> u16 {
    let request = http::Request::get("http://api.test/x")
        .header("proxy-authorization", basic("bank", password))
        .body(full(""));
    caller.request(request.unwrap()).await.status.as_u16()
}

const TOKEN: &str = "tok3n-from-idp";
const PASSWORD: &str = "pa55-of-shop";

/// Every line is JSON, and none holds a secret in any encoding.
fn assert_no_secret(log: &str) {
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    let plain = [
        CLIENT_SECRET,
        PASSWORD,
        HASHED,
        HASH,
        TOKEN,
        "wr0ng-password",
        "r3fresh",
        "st0len",
        "qu3ry",
        "b0dy-of",
        "r3sponse",
    ];
    let encoded = [
        BASE64.encode(format!("shop:{PASSWORD}")),
        BASE64.encode(format!("bank:{HASHED}")),
        BASE64.encode(format!("acme-id:{CLIENT_SECRET}")),
        BASE64.encode(CLIENT_SECRET),
        form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect(),
    ];
    for secret in plain.map(str::to_owned).into_iter().chain(encoded) {
        let found = log.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "{secret}");
    }
}
