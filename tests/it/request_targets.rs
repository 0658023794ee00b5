//! Targets and authorities in every spelling that means the same: what goes on is one of them, and what is compared
//! is normalised first.

use bytes::Bytes;
use http::{Request, Uri, Version};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::intercept::Intercepting;
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{Rig, acme, without_request_id};

/// A tunnel in clear.
async fn tunnel(proxy: &Proxy, target: &str) -> Raw {
    let mut caller = Raw::connect(proxy.listen).await;
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    caller.write(connect).await;
    assert_eq!(
        without_request_id(&caller.read_head().await),
        "HTTP/1.1 200 OK"
    );
    caller
}

#[tokio::test]
async fn authority_and_host_are_compared_after_normalisation() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for (scheme, authority, host, status) in [
        ("http", "api.test", "api.test", 200),
        ("http", "api.test:80", "api.test", 200),
        ("http", "api.test", "api.test:80", 200),
        ("https", "api.test:443", "api.test", 200),
        ("https", "api.test", "api.test:443", 200),
        ("http", "api.test.", "api.test", 200),
        ("http", "api.test", "api.test.:80", 200),
        ("http", "api.test:", "api.test", 200),
        ("http", "api.test", "api.test:", 200),
        ("http", "API.test", "api.TEST:080", 200),
        ("http", "other.test", "api.test", 400),
        ("http", "api.test:81", "api.test", 400),
        ("http", "api.test:443", "api.test", 400),
        ("https", "api.test:80", "api.test", 400),
        ("http", "api.test", "api.test..", 400),
        ("http", "api.test", "u@api.test", 400),
        ("http", "api.test", "", 400),
    ] {
        let mut caller = Caller::connect_http2(rig.proxy.listen).await;
        let request = Request::get(format!("{scheme}://{authority}/x")).header("host", host);
        let reply = caller.request(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, status, "{scheme} {authority} {host}");
    }
}

#[tokio::test]
async fn a_tunnel_s_host_is_compared_with_those_inside_after_normalisation() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    for (connect, host, status) in [
        ("api.test:80", "api.test", 200),
        ("API.test:80", "api.TEST:80", 200),
        ("api.test.:80", "api.test", 200),
        ("api.test:80", "api.test.:080", 200),
        ("api.test:80", "api.test:", 200),
        ("api.test:80", "api.test:443", 421),
        ("api.test:80", "other.test", 421),
    ] {
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = tunnel(&rig.proxy, connect).await.ask(request).await;
        assert_eq!(reply.status(), status, "{connect} {host}");
        let request = format!("GET http://{host}/x HTTP/1.1\r\nHost: a\r\n\r\n");
        let reply = tunnel(&rig.proxy, connect).await.ask(request).await;
        assert_eq!(reply.status(), status, "{connect} {host}");
        let stream = tunnel(&rig.proxy, connect).await.into_stream();
        let request = Request::get("http://api.test/x").header("host", host);
        let mut caller = Caller::over_http2(stream).await;
        let reply = caller.request(request.body(full("")).unwrap()).await;
        let status = if status == 421 { 400 } else { status };
        assert_eq!(reply.status, status, "{connect} {host}");
    }
}

#[tokio::test]
async fn an_intercepted_tunnel_takes_every_spelling_of_its_host() {
    let rig = Intercepting::start("").await;
    for (connect, authority, host) in [
        ("api.test:443", "api.test", "api.test:443"),
        ("API.TEST.:443", "api.test:443", "Api.test"),
        ("api.test.:443", "api.test.", "api.test.:443"),
    ] {
        let stream = rig.tunnel(connect).await;
        let stream = rig.tls(stream, "api.test", &["h2"]).await.unwrap();
        let mut caller = Caller::over_http2(stream).await;
        let request = Request::get(format!("https://{authority}/api")).header("host", host);
        let reply = caller.request(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, 200, "{connect} {authority} {host}");
        let stream = rig.tunnel(connect).await;
        let stream = rig.tls(stream, "api.test", &["http/1.1"]).await.unwrap();
        let request = format!("GET /api HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = Raw::over(stream).ask(request).await;
        assert_eq!(reply.status(), 200, "{connect} {host}");
    }
}

/// What hyper has no way to write: an `OPTIONS` without a path over HTTP/2.
fn pathless() -> Uri {
    let mut parts = Uri::from_static("http://api.test").into_parts();
    parts.path_and_query = Some("*".parse().unwrap());
    Uri::from_parts(parts).unwrap()
}

#[tokio::test]
async fn a_target_without_a_path_goes_on_as_a_slash_or_as_an_asterisk() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(&directory.path().join("ca.pem"));
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let tls = authority.server(&[alpn], ClientCertificate::Ignored);
        let api = Upstream::with_tls(tls, |_: Request<Bytes>| async { answer(200, "") }).await;
        let idp = Idp::counting().await;
        let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        let sent = [
            ("GET", "http://api.test", "/"),
            ("GET", "http://api.test?x=1", "/?x=1"),
            ("POST", "http://api.test?", "/?"),
            ("OPTIONS", "http://api.test", "*"),
            ("OPTIONS", "HTTP://api.test.:80", "*"),
            ("OPTIONS", "http://api.test/", "/"),
            ("OPTIONS", "http://api.test?x=/", "/?x=/"),
            ("OPTIONS", "http://api.test", "*"),
        ];
        let head = |(method, target, _): &(&str, &str, &str)| {
            format!("{method} {target} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n")
        };
        let mut expected = Vec::new();
        // One after another, and all at once.
        let mut caller = Raw::connect(proxy.listen).await;
        for one in &sent {
            assert_eq!(caller.ask(head(one)).await.status(), 200, "{one:?}");
            expected.push(one.2);
        }
        let mut caller = Raw::connect(proxy.listen).await;
        caller
            .write(sent.iter().map(head).collect::<String>())
            .await;
        for one in &sent {
            assert_eq!(caller.read_message().await.status(), 200, "{one:?}");
            expected.push(one.2);
        }
        // In a tunnel.
        let mut caller = tunnel(&proxy, "api.test:80").await;
        for one in &sent {
            assert_eq!(caller.ask(head(one)).await.status(), 200, "{one:?}");
            expected.push(one.2);
        }
        // Over HTTP/2, in a tunnel and outside.
        let inside = tunnel(&proxy, "api.test:80").await.into_stream();
        for mut caller in [
            Caller::connect_http2(proxy.listen).await,
            Caller::over_http2(inside).await,
        ] {
            for (method, uri, target) in [
                ("OPTIONS", pathless(), "*"),
                ("OPTIONS", Uri::from_static("http://api.test/"), "/"),
                ("GET", Uri::from_static("http://api.test?x=1"), "/?x=1"),
            ] {
                let request = Request::builder().method(method).uri(uri);
                let reply = caller.request(request.body(full("")).unwrap()).await;
                assert_eq!(reply.status, 200, "{method} {target}");
                expected.push(target);
            }
        }
        let seen = api.seen();
        let targets: Vec<&str> = seen.iter().map(|seen| &*seen.target).collect();
        assert_eq!(targets, expected);
        assert!(seen.iter().all(|seen| seen.version == version));
    }
}

#[tokio::test]
async fn no_path_is_the_path_that_is_judged_as_a_slash() {
    let rig = Rig::with("paths: [\"/api/**\"]", |_| async { answer(200, "") }).await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    for target in ["http://api.test", "http://api.test?/api/x"] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: api.test\r\n\r\n");
        assert_eq!(caller.ask(request).await.status(), 403, "{target}");
    }
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    let request = Request::options(pathless()).body(full("")).unwrap();
    assert_eq!(caller.request(request).await.status, 403);
    assert_eq!(rig.api.count(), 0);
}

#[tokio::test]
async fn a_server_name_without_its_dot_is_the_tunnel_s() {
    let rig = Intercepting::start("").await;
    let stream = rig.tunnel("api.test.:443").await;
    let config = crate::support::tls::client(&rig.directory.path().join("ca.pem"), None, &[]);
    let name = ServerName::try_from("api.test.").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream);
    let mut caller = Raw::over(stream.await.unwrap());
    let reply = caller
        .ask("GET /api HTTP/1.1\r\nHost: api.test.\r\n\r\n")
        .await;
    assert_eq!(reply.status(), 200);
}
