//! The request's way when all is well: targets, headers, bodies, versions.

use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use http_body_util::BodyExt as _;

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Body, Upstream, answer, full, stream};
use crate::support::{Rig, acme, without_instances, without_request_id};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The proxy between raw callers and a raw API.
struct RawRig {
    api: RawUpstream,
    _idp: Idp,
    proxy: Proxy,
}

impl RawRig {
    async fn answering(answer: &'static [u8]) -> Self {
        let (api, idp) = (RawUpstream::answering(answer).await, Idp::counting().await);
        let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
        Self {
            api,
            _idp: idp,
            proxy,
        }
    }

    async fn caller(&self) -> Raw {
        Raw::connect(self.proxy.listen).await
    }
}

#[tokio::test]
async fn every_form_of_a_target_ends_in_the_same_request_even_on_one_connection() {
    let rig = RawRig::answering(OK).await;
    // Nothing in it may be decoded, resolved or sorted.
    let path = "/a/%7Eb;v=1//./c%2Fd/?q=%20x&&y=%zz+a?b";
    let mut caller = rig.caller().await;
    let requests = [
        (format!("http://api.test{path}"), "api.test"),
        (path.to_owned(), "api.test"),
        (format!("https://api.test{path}"), "other.test"),
        (path.to_owned(), "API.test:443"),
        (format!("http://API.TEST:80{path}"), "api.test:9"),
        (path.to_owned(), "api.test.:80"),
        (format!("https://api.test:443{path}"), ""),
    ];
    for (target, host) in &requests {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = caller.ask(request).await;
        assert_eq!(reply.status(), 200, "{target} {host}: {reply:?}");
    }
    let expected = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nvia: 1.1 bursar\r\nauthorization: Bearer token-1\r\n\r\n",
        rig.api.address
    );
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    assert_eq!(without_instances(&seen), expected.repeat(requests.len()));
}

#[tokio::test]
async fn what_old_programs_do_not_encode_in_a_target_is_encoded() {
    let rig = RawRig::answering(OK).await;
    let mut caller = rig.caller().await;
    for target in [
        "/<a>?f={\"s\":\"<1>\"}",
        "http://api.test/<a>?f={\"s\":\"<1>\"}",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: api.test\r\nX-Like: \"<a>\"\r\n\r\n");
        assert_eq!(caller.ask(request).await.status(), 200, "{target}");
    }
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    let line = "GET /%3Ca%3E?f={%22s%22:%22%3C1%3E%22} HTTP/1.1\r\n";
    assert_eq!(seen.matches(line).count(), 2, "{seen}");
    assert_eq!(seen.matches("x-like: \"<a>\"\r\n").count(), 2, "{seen}");
}

#[tokio::test]
async fn a_payment_without_a_body_says_so_to_a_server_of_http_1() {
    let rig = RawRig::answering(OK).await;
    for (method, length) in [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("DELETE", false),
    ] {
        let mut caller = Caller::connect_http2(rig.proxy.listen).await;
        assert_eq!(caller.send(method, "/capture", "").await.status, 200);
        let seen = rig.api.captured().pop().unwrap();
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.contains(&format!("{method} /capture")), "{seen}");
        let last = seen.rsplit(method).next().unwrap();
        assert_eq!(last.contains("\r\ncontent-length: 0\r\n"), length, "{seen}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let rig =
        Rig::start(|request| async move { answer(200, request.uri().path().to_owned()) }).await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    let requests: Vec<String> = (0..7)
        .map(|number| format!("GET http://api.test/{number} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
        .collect();
    caller.write(requests.concat()).await;
    for number in 0..7 {
        assert_eq!(caller.read_message().await.text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn every_pair_of_versions_carries_request_and_answer() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let script = |request: Request<Bytes>| async move {
        let mut reply = answer(
            201,
            format!("{} {}", request.method(), request.body().len()),
        );
        let headers = reply.headers_mut();
        headers.append("set-cookie", "a=1; Path=/".parse().unwrap());
        headers.append("set-cookie", "b=2".parse().unwrap());
        headers.append("x-same", "1".parse().unwrap());
        headers.append("x-same", "1".parse().unwrap());
        reply
    };
    for (alpn, version) in [
        (None, Version::HTTP_11),
        (Some(&[][..]), Version::HTTP_11),
        (Some(&["http/1.1"]), Version::HTTP_11),
        (Some(&["h2", "http/1.1"]), Version::HTTP_2),
    ] {
        let api = match alpn {
            None => Upstream::start(script).await,
            Some(alpn) => {
                let tls = authority.server(alpn, ClientCertificate::Ignored);
                Upstream::with_tls(tls, script).await
            }
        };
        let idp = Idp::counting().await;
        let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        for mut caller in [
            Caller::connect(proxy.listen).await,
            Caller::connect_http2(proxy.listen).await,
        ] {
            let reply = caller.send("POST", "/x?y", "four").await;
            assert_eq!(reply.status, 201);
            assert_eq!(reply.text(), "POST 4");
            assert_eq!(reply.all("set-cookie"), ["a=1; Path=/", "b=2"]);
            assert_eq!(reply.all("x-same"), ["1", "1"]);
            assert_eq!(reply.all("via").len(), 1);
        }
        let address = api.address.to_string();
        for seen in api.seen() {
            assert_eq!((seen.version, seen.target.as_str()), (version, "/x?y"));
            let host = match version {
                Version::HTTP_2 => seen.authority.as_deref(),
                _ => Some(seen.all("host")[0]),
            };
            assert_eq!(host, Some(address.as_str()));
            assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
            assert_eq!(seen.body.as_deref(), Some(&b"four"[..]));
        }
        let seen = api.seen();
        let via = seen
            .iter()
            .map(|seen| without_instances(seen.all("via")[0]));
        assert_eq!(via.collect::<Vec<_>>(), ["1.1 bursar", "2 bursar"]);
    }
}

#[tokio::test]
async fn what_is_for_one_connection_or_poses_as_another_request_is_removed() {
    let rig = RawRig::answering(OK).await;
    let request = "POST http://api.test/x HTTP/1.1\r\n\
        Host: other.test\r\n\
        Connection: close, Authorization, X-Hop\r\n\
        Connection: Via , x-other-hop, content-length\r\n\
        X-Hop: 1\r\nX-Other-Hop: 1\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\
        Proxy-Authorization: Basic eDp5\r\nProxy-Something: 1\r\n\
        Authorization: Basic eDp5\r\nauthorization: Bearer stolen\r\n\
        X-HTTP-Method-Override: DELETE\r\nX-HTTP-Method: DELETE\r\nX-Method-Override: DELETE\r\n\
        X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n\
        Via: 1.0 fred\r\nVia: 1.1 p.example\r\n\
        Cookie: c=1\r\nIdempotency-Key: k\r\nX-Same: 1\r\nX-Same: 1\r\nContent-Length: 3\r\n\r\nabc";
    let reply = rig.caller().await.ask(request).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    let seen = without_instances(&seen);
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut fields: Vec<&str> = head.lines().skip(1).collect();
    fields.sort_by_key(|field| field.to_ascii_lowercase());
    let host = format!("host: {}", rig.api.address);
    let expected = [
        "authorization: Bearer token-1",
        "content-length: 3",
        "cookie: c=1",
        &host,
        "idempotency-key: k",
        "via: 1.1 bursar",
        "x-same: 1",
        "x-same: 1",
    ];
    assert_eq!((fields.as_slice(), body), (&expected[..], "abc"));
    let replaced = [("provider", "acme"), ("caller", "anonymous")];
    let replaced = rig
        .proxy
        .metric("bursar_caller_credentials_replaced_total", &replaced);
    assert_eq!(replaced.await, 1.0);
}

#[tokio::test]
async fn field_names_begin_their_words_with_capitals_for_callers_and_are_lower_case_for_providers()
{
    let rig = RawRig::answering(
        b"HTTP/1.1 200 OK\r\nx-ODD-Case: 1\r\netag: \"a\"\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let request = "GET /x HTTP/1.1\r\nhOsT: api.test\r\nX-oddCASE: 1\r\nlower: 2\r\n\r\n";
    let reply = rig.caller().await.ask(request).await;
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    for field in ["\r\nx-oddcase: 1\r\n", "\r\nlower: 2\r\n"] {
        assert!(seen.contains(field), "{seen}");
    }
    for field in ["X-Odd-Case: 1", "Etag: \"a\"", "Content-Length: 0"] {
        assert!(reply.head.contains(field), "{}", reply.head);
    }
}

#[tokio::test]
async fn answers_are_relayed_as_they_are() {
    for (method, answer, expected) in [
        (
            "GET",
            "HTTP/1.1 302 Found Elsewhere\r\nLocation: http://evil.test/\r\nSet-Cookie: a=1\r\nSet-Cookie: a=1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 302 Found Elsewhere\r\nContent-Length: 2\r\nLocation: http://evil.test/\r\nSet-Cookie: a=1\r\nSet-Cookie: a=1\r\nVia: 1.1 bursar\r\n\r\nno",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nServer: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nServer: x\r\nVia: 1.1 bursar\r\n\r\n",
        ),
        (
            "DELETE",
            "HTTP/1.1 204 No Content\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nVia: 1.1 bursar\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nVia: 1.1 bursar\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVia: 1.1 bursar\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.0 299 Odd\r\nContent-Length: 1\r\nProxy-Authenticate: Basic\r\n\r\nx",
            "HTTP/1.1 299 Odd\r\nContent-Length: 1\r\nVia: 1.0 bursar\r\n\r\nx",
        ),
    ] {
        let rig = RawRig::answering(answer.as_bytes()).await;
        let mut caller = rig.caller().await;
        // On the same connection twice: whatever was framed wrongly would spoil the second answer.
        for _ in 0..2 {
            let request = format!("{method} /x HTTP/1.1\r\nHost: api.test\r\n\r\n");
            caller.write(request).await;
            let (head, body) = expected.split_once("\r\n\r\n").unwrap();
            let found = without_request_id(&caller.read_head().await);
            let found = without_instances(&found);
            let mut fields: Vec<&str> = found.lines().collect();
            let is_date = |field: &&str| field.starts_with("Date: ");
            assert_eq!(fields.iter().copied().filter(is_date).count(), 1);
            if !head.contains("\r\nDate: ") {
                // It says when the answer came.
                fields.retain(|field| !is_date(field));
            }
            fields[1..].sort_by_key(|field| field.to_ascii_lowercase());
            assert_eq!(fields.join("\r\n").to_lowercase(), head.to_lowercase());
            assert_eq!(caller.read_exact(body.len()).await, body.as_bytes());
        }
    }
}

#[tokio::test]
async fn expect_is_answered_when_the_body_is_wanted_and_not_forwarded() {
    let rig = RawRig::answering(OK).await;
    let mut caller = rig.caller().await;
    let head = "POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    caller.write(head).await;
    assert_eq!(caller.read_head().await, "HTTP/1.1 100 Continue");
    let reply = caller.ask("abc").await;
    assert_eq!(reply.status(), 200);
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    assert!(!seen.to_lowercase().contains("expect"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nabc"), "{seen}");

    // A refusal comes instead, and the body is not waited for.
    let mut caller = rig.caller().await;
    let reply = caller.ask(head.replace("api.test/x", "other.test/x")).await;
    assert_eq!(
        (reply.status(), reply.field("connection")),
        (403, Some("close"))
    );
    assert_eq!(caller.read_to_end().await.unwrap(), b"");

    // But for the one client that would not read it, which spells the field like nobody else.
    let mut caller = rig.caller().await;
    let head = head.replace("api.test/x", "other.test/x");
    let head = head.replace("100-continue", "100-Continue");
    caller.write(&head).await;
    assert_eq!(caller.read_head().await, "HTTP/1.1 100 Continue");
    let reply = caller.ask("abc").await;
    assert_eq!(
        (reply.status(), reply.field("connection")),
        (403, Some("close"))
    );
    assert_eq!(caller.read_to_end().await.unwrap(), b"");
    // What expects something else, too, or is not HTTP/1.1, is told nothing.
    for other in [
        head.replace("100-Continue", "100-Continue\r\nExpect: x"),
        head.replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let mut caller = rig.caller().await;
        assert_eq!(caller.ask(other).await.status(), 403);
    }
}

#[tokio::test]
async fn http_1_0_callers_get_an_answer_that_ends_with_the_connection() {
    let rig = RawRig::answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    for request in [
        "GET http://api.test/x HTTP/1.0\r\n\r\n",
        "GET http://api.test/x HTTP/1.0\r\nHost: other.test\r\n\r\n",
        "GET /x HTTP/1.0\r\nHost: api.test\r\n\r\n",
        "GET /x HTTP/1.0\r\nHost: api.test\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let mut caller = rig.caller().await;
        caller.write(request).await;
        let reply = String::from_utf8(caller.read_to_end().await.unwrap()).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(body, "abcde", "{request}");
        // Whoever asked to keep it open is not told that it is.
        assert!(!head.contains("keep-alive"), "{head}");
    }
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    assert!(seen.contains("via: 1.0 bursar"), "{seen}");

    // Kept open where it asks for that and the length is known.
    let rig = RawRig::answering(OK).await;
    let mut caller = rig.caller().await;
    for _ in 0..2 {
        let reply = caller
            .ask("GET http://api.test/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        assert_eq!(reply.text(), "ok");
    }
}

#[tokio::test]
async fn trailers_go_both_ways_on_http_1() {
    let rig = RawRig::answering(
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n",
    )
    .await;
    let request = "POST /x HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nConnection: TE, X-Hop\r\nTrailer: X-Sum, X-Hop, Authorization\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Sum: 3\r\nX-Hop: 1\r\nAuthorization: Bearer stolen\r\n\r\n";
    let reply = rig.caller().await.ask(request).await;
    assert!(
        reply
            .text()
            .to_lowercase()
            .ends_with("0\r\nx-sum: 2\r\n\r\n"),
        "{reply:?}"
    );
    let seen = String::from_utf8(rig.api.captured().concat()).unwrap();
    let (_, body) = seen.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.to_lowercase(), "3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n");
    assert!(!seen.contains("stolen"), "{seen}");
}

#[tokio::test]
async fn trailers_go_both_ways_on_http_2() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let api = Upstream::with_tls(tls, |_| async {
        let mut reply = answer(200, "");
        *reply.body_mut() = with_trailers("ok", &[("x-sum", "2")]);
        reply
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let body = with_trailers("abc", &[("x-sum", "3"), ("authorization", "Bearer stolen")]);
    let request = Request::post("http://api.test/x").body(body).unwrap();
    let reply = Caller::connect_http2(proxy.listen)
        .await
        .request(request)
        .await;
    assert_eq!(reply.text(), "ok");
    assert_eq!(reply.trailers.unwrap()["x-sum"], "2");
    let seen = api.only();
    let trailers = seen.trailers.unwrap();
    assert_eq!(seen.body.unwrap(), "abc");
    assert_eq!(
        (trailers.len(), &trailers["x-sum"]),
        (1, &"3".parse().unwrap())
    );
}

fn with_trailers(data: &'static str, trailers: &[(&'static str, &'static str)]) -> Body {
    let trailers: HeaderMap = trailers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    full(data)
        .with_trailers(async move { Some(Ok(trailers)) })
        .boxed_unsync()
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_the_api() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    authority.write(&file("ca.pem"));
    authority.write_client(&file("own.pem"), &file("own.key"));
    let tls = authority.server(&["http/1.1"], ClientCertificate::Required);
    let (api, idp) = (
        Upstream::with_tls(tls, |_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    for (own, status) in [
        (", certificate: own.pem, key: own.key", 200),
        // TLS 1.3 tells a caller without a certificate after its request only.
        ("", 502),
    ] {
        let lines = format!("tls: {{ca: ca.pem{own}}}");
        let proxy = Proxy::start_in(directory.path(), &acme(&api.url(), &idp.url(), &lines)).await;
        let reply = Caller::connect(proxy.listen)
            .await
            .send("GET", "/x", "")
            .await;
        assert_eq!(reply.status, status, "{own}: {reply:?}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whole_with_any_method() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for method in ["POST", "GET", "DELETE"] {
        let (mut sender, body) = stream();
        let request = Request::builder()
            .method(method)
            .uri("http://api.test/x")
            // hyper takes a GET without it for one without a body.
            .header("transfer-encoding", "chunked");
        let mut caller = rig.caller().await;
        let sending = async {
            for data in ["a", "", "bc"] {
                sender.send_data(data.into()).await.unwrap();
            }
            drop(sender);
        };
        let (reply, ()) = tokio::join!(caller.request(request.body(body).unwrap()), sending);
        assert_eq!(reply.status, 200);
        let seen = rig.api.seen().pop().unwrap();
        assert_eq!(seen.body.as_deref(), Some(&b"abc"[..]), "{method}");
    }
}

#[tokio::test]
async fn a_replay_of_a_body_without_a_byte_says_that_there_is_none() {
    let api = RawUpstream::start(|_, mut raw| async move {
        while let Ok(message) = raw.try_read_message().await {
            let is_first = message.field("authorization") == Some("Bearer token-1");
            let status = if is_first { "401 No" } else { "200 OK" };
            raw.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
                .await;
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Raw::connect(proxy.listen).await;
    let post = "POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(caller.ask(post).await.status(), 200);
    let captured = String::from_utf8(api.captured().concat()).unwrap();
    let replay = captured.rsplit("POST /x").next().unwrap();
    assert!(replay.contains("Bearer token-2"), "{captured}");
    let has_length = replay
        .to_ascii_lowercase()
        .contains("content-length: 0\r\n");
    assert!(has_length, "{captured}");
}
