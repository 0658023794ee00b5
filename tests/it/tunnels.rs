//! `CONNECT`: plain HTTP in a provider's tunnel, and tunnels and requests to hosts that are no provider's.

use std::time::Duration;

use bursar_http::tunnel::FIRST_BYTES_TIMEOUT;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::caller::{Caller, basic};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{
    Rig, acme, closed_in, eventually, soon, without_instances, without_request_id,
};

const CONNECT: &str = "CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\n\r\n";

/// Opens a tunnel on a connection of its own.
async fn tunnel(proxy: &Proxy, connect: &str) -> Raw {
    let mut caller = Raw::connect(proxy.listen).await;
    caller.write(connect).await;
    let head = caller.read_head().await;
    let version = if connect.contains("HTTP/1.0") {
        "1.0"
    } else {
        "1.1"
    };
    assert_eq!(without_request_id(&head), format!("HTTP/{version} 200 OK"));
    caller
}

#[tokio::test]
async fn plain_http_in_a_tunnel_is_served_with_a_token_for_the_caller_who_opened_it() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "fine") }).await,
        Idp::counting().await,
    );
    let yaml = acme(&api.url(), &idp.url(), "");
    let proxy = Proxy::start(&format!(
        "callers: {{shop: {{password: p, allow: [{{provider: acme, methods: [GET]}}]}}}}\n{yaml}"
    ))
    .await;
    let connect = "CONNECT api.test:80 HTTP/1.0\r\n";
    let refused = Raw::connect(proxy.listen)
        .await
        .ask(format!("{connect}\r\n"))
        .await;
    assert_eq!(refused.status(), 407);
    let password = basic("shop", "p");
    let connect = format!("{connect}Proxy-Authorization: {password}\r\n\r\n");
    let mut caller = tunnel(&proxy, &connect).await;
    for host in ["api.test", "API.test:80"] {
        let request =
            format!("GET /x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic own\r\n\r\n");
        let reply = caller.ask(request).await;
        assert_eq!((reply.status(), reply.text()), (200, "fine"));
    }
    let reply = caller
        .ask("POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(reply.status(), 403);
    for seen in api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
    }
    assert_eq!(api.count(), 2);
    drop(caller);
    let lines = proxy.access_lines(5).await;
    for line in &lines[1..] {
        assert_eq!(line["caller"], "shop");
    }
    let line = &lines[4];
    assert_eq!(
        (&line["method"], &line["path"]),
        (&json!("CONNECT"), &json!("api.test:80"))
    );
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&json!(200), &json!(null))
    );
}

#[tokio::test]
async fn what_is_sent_along_with_connect_is_in_the_tunnel_already() {
    let rig = Rig::start(|_| async { answer(200, "fine") }).await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    caller
        .write(format!(
            "{CONNECT}GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n"
        ))
        .await;
    assert_eq!(
        without_request_id(&caller.read_head().await),
        "HTTP/1.1 200 OK"
    );
    assert_eq!(caller.read_message().await.text(), "fine");
    assert_eq!(rig.api.only().all("authorization"), ["Bearer token-1"]);
}

#[tokio::test]
async fn the_401_of_a_request_in_a_tunnel_is_absorbed() {
    let rig = Rig::start(|request| async move {
        let is_old = request.headers()["authorization"] == "Bearer token-1";
        answer(if is_old { 401 } else { 200 }, request.into_body())
    })
    .await;
    let mut caller = tunnel(&rig.proxy, CONNECT).await;
    let reply = caller
        .ask("POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    assert_eq!((reply.status(), reply.text()), (200, "body"));
}

#[tokio::test]
async fn http2_may_be_outside_of_a_tunnel_or_inside() {
    let rig = Rig::start(|_| async { answer(200, "fine") }).await;
    let stream = tunnel(&rig.proxy, CONNECT).await.into_stream();
    let reply = Caller::over_http2(stream).await.send("GET", "/x", "").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "fine"));
    let mut outside = Caller::connect_http2(rig.proxy.listen).await;
    let stream = outside.tunnel("api.test:80").await.unwrap();
    let mut inside = Caller::over(TokioIo::new(stream)).await;
    for _ in 0..2 {
        let reply = inside.send("GET", "/x", "").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "fine"));
        // The connection goes on as it was.
        assert_eq!(outside.send("GET", "/x", "").await.status, 200);
    }
    for seen in rig.api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
    }
}

#[tokio::test]
async fn a_request_for_another_host_than_the_tunnels_is_misdirected() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for request in [
        "GET /x HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: api.test:443\r\n\r\n",
        "GET http://other.test/x HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET http://localhost/x HTTP/1.1\r\nHost: api.test\r\n\r\n",
    ] {
        let reply = tunnel(&rig.proxy, CONNECT).await.ask(request).await;
        assert_eq!(reply.status(), 421, "{request}");
        assert!(reply.text().contains("\"misdirected\""), "{request}");
    }
    let mut caller = tunnel(&rig.proxy, CONNECT).await;
    let reply = caller.ask(CONNECT).await;
    assert_eq!(reply.status(), 403);
    assert!(reply.text().contains("\"connect_not_allowed\""));
    assert_eq!(rig.api.count(), 0);
}

#[tokio::test]
async fn a_providers_tunnel_that_carries_something_else_is_closed() {
    for (bytes, reason) in [
        (
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
            json!("connect_not_allowed"),
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", json!("bad_request")),
        (b"\x00\x01\x02", json!("bad_request")),
        (b"", json!(null)),
    ] {
        let rig = Rig::start(|_| async { answer(200, "") }).await;
        let mut caller = tunnel(&rig.proxy, CONNECT).await;
        caller.write(bytes).await;
        caller.finish().await;
        assert_eq!(caller.read_to_end().await.unwrap_or_default(), b"");
        let lines = rig.proxy.access_lines(1).await;
        assert_eq!(lines[0]["reason"], reason, "{bytes:?}");
        assert_eq!(rig.api.count(), 0);
    }
}

#[tokio::test]
async fn connect_to_a_providers_other_ports_is_refused_and_says_why() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for (target, reason) in [
        ("api.test:443", "connect_not_allowed"),
        ("api.test:8443", "connect_not_allowed"),
        // The token endpoint's host.
        ("127.0.0.1:80", "connect_not_allowed"),
        ("other.test:443", "destination_not_allowed"),
        ("other.test:80", "destination_not_allowed"),
    ] {
        let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let reply = Raw::connect(rig.proxy.listen).await.ask(connect).await;
        assert_eq!(reply.status(), 403, "{target}");
        assert!(reply.text().contains(reason), "{target}: {}", reply.text());
    }
    let connect = "CONNECT api.test:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let reply = Raw::connect(rig.proxy.listen).await.ask(connect).await;
    assert_eq!(reply.status(), 400);
}

#[tokio::test]
async fn the_status_line_of_a_refused_connect_says_why_and_what_to_do() {
    let idp = Idp::counting().await;
    let yaml = acme("http://127.0.0.1:1", &idp.url(), "");
    let callers = "callers: {shop: {password: p, allow: [acme]}}\n";
    let proxy = Proxy::start(&format!("{callers}{yaml}")).await;
    let basic = format!("Proxy-Authorization: {}\r\n", basic("shop", "p"));
    for (target, fields, line) in [
        (
            "api.test:443",
            &*basic,
            "403 connect_not_allowed: use an http:// URL, or set intercept",
        ),
        (
            "api.test:443",
            "",
            "407 caller_unauthenticated: put NAME:PASSWORD@ into the proxy's URL",
        ),
        (
            "127.0.0.1:443",
            &*basic,
            "403 connect_not_allowed: a provider's tokens come from this host, and Bursar obtains them itself: leave the token call out",
        ),
        (
            "/x",
            &*basic,
            "405 method_not_allowed: CONNECT is written in capitals and takes host:port only",
        ),
        (
            "api.tets:443",
            &*basic,
            "403 destination_not_allowed: no provider has this host; did you mean api.test?",
        ),
        (
            "partner.payu.in:443",
            &*basic,
            "403 destination_not_allowed: this is PayU's production host; no provider here has it, see `hosts` of the providers",
        ),
    ] {
        let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n");
        let reply = Raw::connect(proxy.listen).await.ask(connect).await;
        assert_eq!(reply.start(), format!("HTTP/1.1 {line}"), "{target}");
    }
    // Whose it is can be counted.
    let lines = proxy.access_lines(6).await;
    let of_providers: Vec<&serde_json::Value> = (lines.iter())
        .filter(|line| line["provider"] == "acme")
        .map(|line| &line["detail"])
        .collect();
    assert_eq!(of_providers, ["not_intercepted", "token_host"], "{lines:?}");
    // Of any other request it is the usual one.
    let get = format!("GET http://api.tets/ HTTP/1.1\r\nHost: a\r\n{basic}\r\n");
    let reply = Raw::connect(proxy.listen).await.ask(get).await;
    assert_eq!(reply.start(), "HTTP/1.1 403 Forbidden");
    assert!(
        reply.text().contains("did you mean api.test?"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn draining_closes_a_tunnel_that_never_carried_a_byte() {
    let mut rig = Rig::start(|_| async { answer(200, "") }).await;
    let mut caller = tunnel(&rig.proxy, CONNECT).await;
    rig.proxy.shut_down();
    caller.closed().await;
    rig.proxy.drained().await;
}

#[tokio::test]
async fn a_tunnel_to_a_provider_that_stays_silent_is_closed() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for begins in ["", "GE"] {
        let mut stream = tunnel(&rig.proxy, CONNECT).await.into_stream();
        stream.write_all(begins.as_bytes()).await.unwrap();
        let waited = closed_in(&mut stream).await;
        // It began to wait a moment before this did.
        let waited = waited + Duration::from_secs(1);
        assert!(waited >= FIRST_BYTES_TIMEOUT, "{waited:?}");
        assert!(waited < FIRST_BYTES_TIMEOUT * 2, "{waited:?}");
    }
    let lines = rig.proxy.access_lines(2).await;
    assert_eq!(lines[0]["method"], "CONNECT");
    assert_eq!(rig.api.count(), 0);
}

/// A proxy that lets `shop` pass through to the ports of `localhost`, and nobody to `127.0.0.2`.
async fn passing(ports: &[u16]) -> (Proxy, Upstream, Idp) {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let yaml = acme(&api.url(), &idp.url(), "");
    let proxy = Proxy::start(&format!(
        "callers: {{shop: {{password: p, limits: {{in_flight: 1}}, allow: [acme]}}, other: {{password: o, allow: [acme]}}}}
passthrough:
  - {{host: localhost, ports: {ports:?}, callers: [shop]}}
  - {{host: '*.invalid'}}
{yaml}"
    ))
    .await;
    (proxy, api, idp)
}

#[tokio::test]
async fn a_passthrough_tunnel_is_opaque_and_its_bytes_are_counted() {
    let server = RawUpstream::start(|_, mut raw| async move {
        assert_eq!(raw.read_exact(5).await, b"\x00ping");
        raw.write(b"pong\x00").await;
        // The caller's end arrives, and the other way stays open.
        assert_eq!(raw.read_to_end().await.unwrap(), b"!");
        raw.write("more").await;
    })
    .await;
    let port = server.address.port();
    let (proxy, _api, idp) = passing(&[port]).await;
    let password = basic("shop", "p");
    let connect = format!(
        "CONNECT LOCALHOST:{port} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {password}\r\n\r\n"
    );
    let mut caller = tunnel(&proxy, &connect).await;
    caller.write(b"\x00ping").await;
    assert_eq!(caller.read_exact(5).await, b"pong\x00");
    // An open tunnel is no request of its caller.
    let get = format!("GET /x HTTP/1.1\r\nHost: api.test\r\nAuthorization: {password}\r\n\r\n");
    let reply = Raw::connect(proxy.listen).await.ask(get).await;
    assert_eq!(reply.status(), 200);
    caller.write("!").await;
    caller.finish().await;
    assert_eq!(caller.read_to_end().await.unwrap(), b"more");
    let lines = proxy.access_lines(2).await;
    let line = &lines[1];
    let path = format!("LOCALHOST:{port}");
    for (field, value) in [
        ("caller", json!("shop")),
        ("provider", json!("none")),
        ("route", json!("passthrough localhost")),
        ("method", json!("CONNECT")),
        ("path", json!(path)),
        ("status", json!(200)),
        ("reason", json!(null)),
        ("request_bytes", json!(6)),
        ("response_bytes", json!(9)),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert_eq!(idp.calls(), 1);
}

#[tokio::test]
async fn a_reset_in_a_passthrough_tunnel_reaches_the_other_side_as_one() {
    let (server_saw, mut seen) = tokio::sync::mpsc::channel(1);
    let server = RawUpstream::start(move |_, mut raw| {
        let server_saw = server_saw.clone();
        async move {
            match &*raw.read_exact(5).await {
                b"reset" => {
                    raw.write("half").await;
                    // It has been passed on.
                    raw.read_exact(1).await;
                    raw.reset();
                }
                _ => server_saw.send(raw.read_to_end().await).await.unwrap(),
            }
        }
    })
    .await;
    let port = server.address.port();
    let (proxy, ..) = passing(&[port]).await;
    let password = basic("shop", "p");
    let connect = format!(
        "CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {password}\r\n\r\n"
    );
    let mut caller = tunnel(&proxy, &connect).await;
    caller.write("reset").await;
    assert_eq!(caller.read_exact(4).await, b"half");
    caller.write("!").await;
    let error = caller.read_to_end().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut caller = tunnel(&proxy, &connect).await;
    caller.write("waits").await;
    caller.reset();
    let error = soon(seen.recv()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_passthrough_tunnel_may_be_a_stream_of_http2() {
    let server = RawUpstream::start(|_, mut raw| async move {
        let sent = raw.read_to_end().await.unwrap();
        raw.write(sent).await;
    })
    .await;
    let port = server.address.port();
    let (proxy, _api, _idp) = passing(&[port]).await;
    let mut caller = Caller::connect_http2(proxy.listen).await;
    caller.authorize(&basic("shop", "p"));
    let stream = caller.tunnel(&format!("localhost:{port}")).await.unwrap();
    let mut stream = TokioIo::new(stream);
    let sent = vec![b'x'; 300_000];
    let (mut receive, mut send) = tokio::io::split(&mut stream);
    let sending = async {
        send.write_all(&sent).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = soon(async { tokio::join!(sending, receive.read_to_end(&mut received)) }).await;
    read.unwrap();
    assert_eq!(received, sent);
    let lines = proxy.access_lines(1).await;
    assert_eq!(lines[0]["request_bytes"], 300_000);
    assert_eq!(lines[0]["response_bytes"], 300_000);
}

#[tokio::test]
async fn a_passthrough_leads_where_it_is_listed_and_for_whom() {
    let server = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.address.port();
    let (proxy, _api, _idp) = passing(&[port]).await;
    let connect = |target: String| format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n");
    let get = |target: String| format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n");
    let (shop, other) = (basic("shop", "p"), basic("other", "o"));
    for (request, caller, expected) in [
        (
            connect(format!("localhost:{port}")),
            &other,
            "destination_not_allowed",
        ),
        (
            connect("localhost:1".to_owned()),
            &shop,
            "destination_not_allowed",
        ),
        (
            connect(format!("127.0.0.2:{port}")),
            &shop,
            "destination_not_allowed",
        ),
        (
            connect("invalid:443".to_owned()),
            &shop,
            "destination_not_allowed",
        ),
        (
            connect("a.invalid:443".to_owned()),
            &shop,
            "upstream_unreachable",
        ),
        (
            get(format!("http://localhost:{port}/")),
            &other,
            "destination_not_allowed",
        ),
        (
            get(format!("https://localhost:{port}/")),
            &shop,
            "destination_not_allowed",
        ),
        (get("/".to_owned()), &shop, "destination_not_allowed"),
    ] {
        let request = format!("{request}Proxy-Authorization: {caller}\r\n\r\n");
        let reply = Raw::connect(proxy.listen).await.ask(&request).await;
        assert!(
            reply.text().contains(expected),
            "{request}: {}",
            reply.text()
        );
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_plain_request_passes_through_with_the_callers_own_credentials() {
    let server = Upstream::start(|request| async move { answer(201, request.into_body()) }).await;
    let port = server.address.port();
    let (proxy, _api, _idp) = passing(&[port]).await;
    let password = basic("shop", "p");
    let mut caller = Raw::connect(proxy.listen).await;
    for _ in 0..2 {
        let request = format!(
            "POST http://localhost:{port}/a?b HTTP/1.1\r\nHost: ignored\r\nProxy-Authorization: {password}\r\n\
             Authorization: Basic own\r\nProxy-Connection: keep-alive\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
             X-HTTP-Method-Override: PUT\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        );
        let reply = caller.ask(request).await;
        assert_eq!(reply.status(), 201);
        assert!(reply.text().contains("body"));
    }
    for seen in server.seen() {
        assert_eq!(seen.target, "/a?b");
        assert_eq!(seen.all("host"), [format!("localhost:{port}")]);
        assert_eq!(seen.all("authorization"), ["Basic own"]);
        assert_eq!(seen.all("x-http-method-override"), ["PUT"]);
        assert_eq!(without_instances(seen.all("via")[0]), "1.1 bursar");
        for gone in ["proxy-authorization", "proxy-connection", "x-hop"] {
            assert!(seen.all(gone).is_empty(), "{gone}");
        }
    }
    let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1]);
    let lines = proxy.access_lines(2).await;
    assert_eq!(lines[0]["route"], "passthrough localhost");
    assert_eq!(lines[0]["token_generation"], json!(null));
    eventually(|| async {
        let open = [("side", "upstream")];
        proxy.metric("bursar_connections", &open).await == 0.0
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_a_passthrough_is_streamed_and_a_401_is_the_callers() {
    let server = Upstream::start(|_| async { answer(401, "who?") }).await;
    let port = server.address.port();
    let (proxy, _api, idp) = passing(&[port]).await;
    let request = http::Request::get(format!("http://localhost:{port}/"))
        .header("proxy-authorization", basic("shop", "p"))
        .body(full(""))
        .unwrap();
    let reply = Caller::connect(proxy.listen).await.request(request).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (401, "who?"));
    assert_eq!((server.count(), idp.calls()), (1, 1));
}
