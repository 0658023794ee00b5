//! A provider's 401: renewed once, replayed once, and otherwise relayed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;

use crate::support::caller::Caller;
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Body, Upstream, answer, full};
use crate::support::{Latch, Rig, acme, eventually};

/// What the API says when it does not like a token; it must reach callers byte for byte.
fn unauthorized() -> Response<Body> {
    let mut reply = answer(401, "{\"error\":\"not you\"}");
    let challenge = "Bearer realm=\"acme\", error=\"invalid_token\"";
    let headers = reply.headers_mut();
    headers.insert("www-authenticate", challenge.parse().unwrap());
    headers.insert("x-own", "1".parse().unwrap());
    reply
}

#[track_caller]
fn assert_own_401(reply: &crate::support::caller::Reply) {
    assert_eq!(reply.status, 401);
    assert_eq!(reply.text(), "{\"error\":\"not you\"}");
    assert_eq!(reply.all("x-own"), ["1"]);
    assert_eq!(
        reply.all("www-authenticate"),
        ["Bearer realm=\"acme\", error=\"invalid_token\""]
    );
    assert_eq!(reply.headers.get("proxy-status"), None);
}

fn token_of<T>(request: &Request<T>) -> String {
    let authorization = request.headers()["authorization"].to_str().unwrap();
    authorization.strip_prefix("Bearer ").unwrap().to_owned()
}

/// An API that takes that token only.
fn takes(token: &'static str) -> impl Fn(Request<Bytes>) -> std::future::Ready<Response<Body>> {
    move |request| {
        std::future::ready(if token_of(&request) == token {
            answer(200, "welcome")
        } else {
            unauthorized()
        })
    }
}

/// Every result of both counters: those named have that value, all others are 0.
async fn assert_counted(proxy: &Proxy, unauthorized: &[(&str, f64)], replays: &[(&str, f64)]) {
    let scrape = proxy.scrape().await;
    for (name, expected) in [
        ("bursar_unauthorized_total", unauthorized),
        ("bursar_replays_total", replays),
    ] {
        for (series, labels, value) in scrape.all() {
            if series == name {
                let result = &labels["result"];
                let wanted = expected.iter().find(|(key, _)| key == result);
                let wanted = wanted.map_or(0.0, |(_, value)| *value);
                assert_eq!(*value, wanted, "{name} {result}");
            }
        }
    }
}

#[tokio::test]
async fn a_replay_differs_from_its_request_in_authorization_alone() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    for api in [
        Upstream::start(takes("token-2")).await,
        Upstream::with_tls(
            authority.server(&["h2"], ClientCertificate::Ignored),
            takes("token-2"),
        )
        .await,
    ] {
        let idp = Idp::counting().await;
        let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        let request = Request::post("http://api.test/pay;x?a=%20b")
            .header("idempotency-key", "k-1")
            .header("x-same", "1")
            .header("x-latin", b"caf\xe9".as_slice())
            .header("x-same", "2")
            .header("content-type", "text/plain")
            .body(full("amount=10"));
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.request(request.unwrap()).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "welcome"));
        let [first, second] = api.seen().try_into().unwrap();
        assert_eq!(first.all("authorization"), ["Bearer token-1"]);
        assert_eq!(second.all("authorization"), ["Bearer token-2"]);
        assert_eq!(second.all("idempotency-key"), ["k-1"]);
        assert_eq!(second.body.as_deref(), Some(&b"amount=10"[..]));
        assert_eq!(
            (&first.method, &first.target, &first.body, &first.authority),
            (
                &second.method,
                &second.target,
                &second.body,
                &second.authority
            )
        );
        let but_authorization = |mut seen: crate::support::upstream::Seen| {
            seen.headers.remove("authorization");
            // In their order.
            seen.headers.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(but_authorization(first), but_authorization(second));
        assert_counted(&proxy, &[("absorbed", 1.0)], &[("ok", 1.0)]).await;
        let lines = proxy.access_lines(1).await;
        assert_eq!(
            (&lines[0]["replayed"], &lines[0]["token_generation"]),
            (&json!(true), &json!(2))
        );
        // The next request begins with the token that was good.
        assert_eq!(caller.send("GET", "/x", "").await.status, 200);
        assert_eq!((api.count(), idp.calls()), (3, 2));
    }
}

#[tokio::test]
async fn a_route_that_forbids_replays_hands_on_the_401_and_renews_for_the_next() {
    let routes = "routes: [{path: /never, replay: never}]";
    let rig = Rig::with(routes, takes("token-2")).await;
    assert_own_401(&rig.send("POST", "/never", "amount=10").await);
    assert_eq!(rig.api.only().body.as_deref(), Some(&b"amount=10"[..]));
    assert_counted(&rig.proxy, &[("surfaced", 1.0)], &[("not_allowed", 1.0)]).await;
    // Nobody asked for it, yet the token was renewed.
    eventually(|| async { rig.idp.calls() == 2 }).await;
    eventually(|| async { rig.send("POST", "/never", "").await.status == 200 }).await;
    assert_eq!(rig.idp.calls(), 2);
}

#[tokio::test]
async fn where_a_key_is_needed_only_a_request_that_carries_it_is_replayed() {
    let routes = "routes: [{path: /pay, replay: if_keyed, idempotency_header: Idempotency-Key}]";
    let rig = Rig::with(routes, takes("token-2")).await;
    let pay = |key: Option<&str>| {
        let request = Request::post("http://api.test/pay");
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        request.body(full("amount=10")).unwrap()
    };
    let reply = rig.caller().await.request(pay(Some("k-1"))).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "welcome"));
    assert_eq!(rig.api.count(), 2);
    let rig = Rig::with(routes, takes("token-2")).await;
    for key in [None, Some("")] {
        // A token that is good by then is used all the same.
        let reply = rig.caller().await.request(pay(key)).await;
        assert!(
            [200, 401].contains(&reply.status.as_u16()),
            "{}",
            reply.status
        );
    }
    let bodies = rig.api.seen();
    assert_eq!(bodies.len(), 2, "one sending each: {bodies:#?}");
}

#[tokio::test]
async fn a_newer_token_in_the_cache_is_used_without_a_token_call() {
    let latch = Latch::closed();
    let held = latch.clone();
    let rig = Rig::start(move |request| {
        let held = held.clone();
        async move {
            if request.uri().path() == "/slow" && token_of(&request) == "token-1" {
                held.wait().await;
            }
            takes("token-2")(request).await
        }
    })
    .await;
    let (slow, ()) = tokio::join!(rig.get("/slow"), async {
        latch.reached_by(1).await;
        assert_eq!(rig.get("/fast").await.status, 200);
        latch.open();
    });
    assert_eq!(slow.status, 200);
    assert_eq!((rig.idp.calls(), rig.api.count()), (2, 4));
    assert_counted(&rig.proxy, &[("absorbed", 2.0)], &[("ok", 2.0)]).await;
}

#[tokio::test]
async fn one_fetch_serves_a_burst_of_401s() {
    const BURST: usize = 100;
    let latch = Latch::closed();
    let held = latch.clone();
    let rig = Rig::start(move |request| {
        let held = held.clone();
        async move {
            if token_of(&request) == "token-1" {
                held.wait().await;
            }
            takes("token-2")(request).await
        }
    })
    .await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..BURST {
        let mut caller = rig.caller().await;
        callers.spawn(async move { caller.send("POST", "/x", "abc").await.status });
    }
    latch.reached_by(BURST).await;
    latch.open();
    while let Some(status) = callers.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!((rig.idp.calls(), rig.api.count()), (2, 2 * BURST));
    assert_counted(&rig.proxy, &[("absorbed", 100.0)], &[("ok", 100.0)]).await;
}

#[tokio::test]
async fn a_second_401_is_relayed_and_its_token_left_alone_for_a_while() {
    let rig = Rig::start(takes("none")).await;
    assert_own_401(&rig.get("/x").await);
    assert_eq!((rig.idp.calls(), rig.api.count()), (2, 2));
    assert_counted(
        &rig.proxy,
        &[("surfaced", 1.0)],
        &[("unauthorized_again", 1.0)],
    )
    .await;
    for _ in 0..3 {
        assert_own_401(&rig.get("/x").await);
    }
    assert_eq!((rig.idp.calls(), rig.api.count()), (2, 5));
    let replays = [("unauthorized_again", 1.0), ("token_too_young", 3.0)];
    assert_counted(&rig.proxy, &[("surfaced", 4.0)], &replays).await;
}

#[tokio::test]
async fn the_same_token_again_is_no_reason_to_replay() {
    let api = Upstream::start(takes("none")).await;
    let idp = Idp::start(|_| async { idp::token("always-me") }).await;
    let rig = Rig::of(api, idp, "").await;
    for _ in 0..2 {
        assert_own_401(&rig.send("POST", "/x", "abc").await);
    }
    assert_eq!((rig.idp.calls(), rig.api.count()), (2, 2));
    let replays = [("token_unchanged", 1.0), ("token_too_young", 1.0)];
    assert_counted(&rig.proxy, &[("surfaced", 2.0)], &replays).await;
    let fetches = [("grant", "client_credentials"), ("outcome", "unchanged")];
    assert_eq!(
        rig.proxy
            .metric("bursar_token_fetches_total", &fetches)
            .await,
        1.0
    );
}

#[tokio::test]
async fn where_no_token_can_be_had_the_provider_speaks_for_itself() {
    for (status, body) in [
        (500, "oops"),
        (401, "{\"error\":\"invalid_client\"}"),
        (429, "{}"),
        (200, ""),
    ] {
        let api = Upstream::start(takes("none")).await;
        let idp = Idp::start(move |call| async move {
            match call.number {
                1 => idp::token("token-1"),
                _ => answer(status, body),
            }
        });
        let rig = Rig::of(api, idp.await, "").await;
        for _ in 0..2 {
            assert_own_401(&rig.send("POST", "/x", "abc").await);
        }
        assert_eq!(rig.api.count(), 2, "{status} {body}");
        // After what passes it is asked again soon, and by nobody's request; not after a refusal.
        assert!(rig.idp.calls() == 2 || status != 401, "{status} {body}");
        assert_counted(
            &rig.proxy,
            &[("surfaced", 2.0)],
            &[("token_unavailable", 2.0)],
        )
        .await;
    }
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_holds_a_401_up_for_token_wait_only() {
    let latch = Latch::closed();
    let held = latch.clone();
    let idp = Idp::start(move |call| {
        let held = held.clone();
        async move {
            if call.number > 1 {
                held.wait().await;
            }
            idp::token("token-1")
        }
    });
    let api = Upstream::start(takes("none")).await;
    let rig = Rig::of(api, idp.await, "token.wait: 100ms").await;
    assert_own_401(&rig.send("POST", "/x", "abc").await);
    assert_counted(
        &rig.proxy,
        &[("surfaced", 1.0)],
        &[("token_unavailable", 1.0)],
    )
    .await;
    latch.open();
}

#[tokio::test]
async fn a_401_that_asks_for_another_scope_is_relayed_at_once() {
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"x\"";
    let rig = Rig::start(move |_| async move {
        let mut reply = unauthorized();
        let value = challenge.parse().unwrap();
        reply.headers_mut().insert("www-authenticate", value);
        reply
    })
    .await;
    let reply = rig.get("/x").await;
    assert_eq!(
        (reply.status.as_u16(), reply.all("www-authenticate")),
        (401, vec![challenge])
    );
    assert_eq!((rig.idp.calls(), rig.api.count()), (1, 1));
    assert_counted(&rig.proxy, &[("surfaced", 1.0)], &[("not_allowed", 1.0)]).await;
}

#[tokio::test]
async fn no_other_status_renews_or_replays() {
    let rig = Rig::start(|request| async move {
        let status = request.uri().path().trim_start_matches('/');
        answer(status.parse().unwrap(), "{\"error\":\"invalid_token\"}")
    })
    .await;
    for status in [302, 400, 403, 407, 429, 500, 503] {
        let reply = rig.send("POST", &format!("/{status}"), "abc").await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.headers.get("proxy-status"), None);
    }
    assert_eq!((rig.idp.calls(), rig.api.count()), (1, 7));
    assert_counted(&rig.proxy, &[], &[]).await;
}

#[tokio::test]
async fn what_was_too_large_to_keep_surfaces_the_401_and_helps_the_next_request() {
    let yaml = "replay_memory: 1500B\n";
    for (buffer, body, replays) in [
        ("1000B", 1000, ("ok", 1.0)),
        ("1000B", 1001, ("body_too_large", 1.0)),
        // Not its own buffer but the memory of all is too small.
        ("1MiB", 1501, ("body_too_large", 1.0)),
        ("1MiB", 1500, ("ok", 1.0)),
    ] {
        let (api, idp) = (
            Upstream::start(takes("token-2")).await,
            Idp::counting().await,
        );
        let lines = format!("replay_buffer: {buffer}");
        let proxy = Proxy::start(&format!("{yaml}{}", acme(&api.url(), &idp.url(), &lines))).await;
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send("POST", "/x", "x".repeat(body)).await;
        let unauthorized = if replays.0 == "ok" {
            assert_eq!(reply.status, 200, "{buffer} {body}");
            [("absorbed", 1.0)]
        } else {
            assert_own_401(&reply);
            idp.reached_by(2).await;
            [("surfaced", 1.0)]
        };
        assert_counted(&proxy, &unauthorized, &[replays]).await;
        // The renewal may still be on its way when the next request comes.
        proxy
            .metric_becomes("bursar_token_generation", &[("provider", "acme")], 2.0)
            .await;
        assert_eq!(
            caller.send("POST", "/x", "x".repeat(body)).await.status,
            200
        );
        assert_eq!(idp.calls(), 2);
        let (_, status) = proxy.json("/status").await;
        assert_eq!(status["replay_memory_used_bytes"], 0);
    }
}

#[tokio::test]
async fn an_early_401_is_replayed_with_what_was_kept_and_then_the_rest() {
    // How long it is as it is framed.
    const BODY: [usize; 2] = [18, 38];
    for chunked in [true, false] {
        let second = Latch::closed();
        let arrived = second.clone();
        let api = RawUpstream::start(move |number, mut raw| {
            let arrived = arrived.clone();
            async move {
                if number == 0 {
                    // Long before the body is complete; the connection stays open.
                    raw.read_head().await;
                    raw.read_exact(5).await;
                    raw.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                        .await;
                    raw.closed().await;
                } else {
                    raw.read_head().await;
                    arrived.open();
                    let body = String::from_utf8(raw.read_exact(BODY[usize::from(chunked)]).await)
                        .unwrap();
                    let body = body.replace("\r\n", "|");
                    raw.write(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ))
                    .await;
                    raw.closed().await;
                }
            }
        })
        .await;
        let idp = Idp::counting().await;
        let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "replay_buffer: 10B")).await;
        let mut caller = Raw::connect(proxy.listen).await;
        let framing = if chunked {
            "Transfer-Encoding: chunked"
        } else {
            "Content-Length: 18"
        };
        let chunk = |text: &str| {
            if chunked {
                format!("{:x}\r\n{text}\r\n", text.len())
            } else {
                text.to_owned()
            }
        };
        caller
            .write(format!(
                "POST /x HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n{}",
                chunk("kept,")
            ))
            .await;
        second.wait().await;
        // More than the buffer in all, but nobody will need it a third time.
        caller.write(chunk("the rest")).await;
        caller.write(chunk(", end")).await;
        if chunked {
            caller.write("0\r\n\r\n").await;
        }
        let reply = caller.read_message().await;
        let expected = if chunked {
            "5|kept,|8|the rest|5|, end|0||"
        } else {
            "kept,the rest, end"
        };
        assert_eq!((reply.status(), reply.text()), (200, expected));
        assert_eq!(api.connections(), 2);
        assert_counted(&proxy, &[("absorbed", 1.0)], &[("ok", 1.0)]).await;
    }
}

#[tokio::test]
async fn an_early_401_that_surfaces_does_not_wait_for_the_upload() {
    let api = RawUpstream::start(|_, mut raw| async move {
        raw.read_head().await;
        raw.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
            .await;
        raw.closed().await;
    })
    .await;
    let idp = Idp::start(|_| async { idp::token("always-me") }).await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Raw::connect(proxy.listen).await;
    let reply = caller
        .ask("POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000000\r\n\r\nbegin")
        .await;
    assert_eq!((reply.status(), reply.text()), (401, "no"));
    assert_counted(&proxy, &[("surfaced", 1.0)], &[("token_unchanged", 1.0)]).await;
}

#[tokio::test]
async fn a_replay_that_breaks_off_is_not_repeated() {
    let api = RawUpstream::start(|number, mut raw| async move {
        raw.read_message().await;
        match number {
            0 => {
                raw.write(
                    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                )
                .await;
            }
            _ => raw.reset(),
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let reply = Caller::connect(proxy.listen)
        .await
        .send("POST", "/x", "abc")
        .await;
    let problem = reply.problem();
    assert_eq!(
        (reply.status.as_u16(), &problem["reason"]),
        (502, &json!("upstream_protocol"))
    );
    assert_eq!(problem["request_sent"], "maybe");
    assert_eq!(api.count("POST"), 2);
    assert_counted(&proxy, &[("absorbed", 1.0)], &[("failed", 1.0)]).await;
}

#[tokio::test]
async fn two_instances_cannot_renew_each_other_for_ever() {
    // A token is good for one request, as if another instance had taken it away since.
    let used: Arc<Mutex<HashSet<String>>> = Arc::default();
    let rig = Rig::start(move |request| {
        let is_new = used.lock().unwrap().insert(token_of(&request));
        async move {
            if is_new {
                answer(200, "")
            } else {
                unauthorized()
            }
        }
    })
    .await;
    let mut statuses = Vec::new();
    for _ in 0..13 {
        statuses.push(rig.get("/x").await.status.as_u16());
    }
    assert_eq!(statuses[..11], [200; 11]);
    assert_eq!(statuses[11..], [401, 401]);
    assert_eq!(rig.idp.calls(), 11);
    let unauthorized = [("absorbed", 10.0), ("surfaced", 2.0)];
    assert_counted(
        &rig.proxy,
        &unauthorized,
        &[("ok", 10.0), ("token_too_young", 2.0)],
    )
    .await;
}

#[tokio::test]
async fn scope_sets_have_tokens_of_their_own() {
    let fetched: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = fetched.clone();
    let calls = AtomicUsize::new(0);
    let idp = Idp::start(move |call| {
        assert_eq!(call.path, "/token");
        assert_eq!(call.headers["accept"], "application/json");
        let scope = call.field("scope").unwrap_or_default();
        let number = calls.fetch_add(1, Ordering::SeqCst);
        asked.lock().unwrap().push(scope.clone());
        async move { idp::token(&format!("{}-{number}", scope.replace(' ', "+"))) }
    });
    let revoked: Arc<Mutex<HashSet<String>>> = Arc::default();
    let refused = revoked.clone();
    let api = Upstream::start(move |request| {
        let token = token_of(&request);
        let is_revoked = refused.lock().unwrap().contains(&token);
        async move {
            if is_revoked {
                unauthorized()
            } else {
                answer(200, token)
            }
        }
    });
    let lines = "token.scopes: [z, a]\nroutes: [{path: /read, scopes: [r]}]";
    let rig = Rig::of(api.await, idp.await, lines).await;
    let (read, other) = (rig.get("/read").await, rig.get("/x").await);
    assert!(read.text().starts_with("r-"), "{read:?}");
    assert!(other.text().starts_with("a+z-"), "{other:?}");
    revoked.lock().unwrap().insert(read.text().to_owned());
    assert_eq!(rig.get("/read").await.status, 200);
    assert_eq!(rig.get("/x").await.text(), other.text());
    assert_eq!(rig.idp.seen().len(), 3);
    assert_eq!(
        fetched
            .lock()
            .unwrap()
            .iter()
            .filter(|scope| *scope == "r")
            .count(),
        2
    );
}
