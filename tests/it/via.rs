//! Instances in a row: one after another is a way, the same one again is a loop.

use bytes::Bytes;
use http::{Request, Version};
use serde_json::json;
use tempfile::tempdir;
use tokio::net::TcpListener;

use super::support::caller::Caller;
use super::support::idp::Idp;
use super::support::proxy::{Program, Proxy};
use super::support::raw::Raw;
use super::support::tls::{Authority, ClientCertificate};
use super::support::upstream::{Upstream, answer, full};
use super::support::{Rig, acme, without_instances};

/// A port that is free.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// An instance on that port that takes requests for itself to `upstream`.
async fn instance(port: u16, upstream: &str, idp: &Idp) -> Proxy {
    let yaml = acme(upstream, &idp.url(), "");
    let hosts = format!("hosts: [api.test, \"127.0.0.1:{port}\"]");
    let yaml = yaml.replace("hosts: [api.test]", &hosts);
    Proxy::start(&format!(
        "listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:0\n{yaml}"
    ))
    .await
}

#[tokio::test]
async fn two_instances_in_a_row_are_no_loop() {
    let rig = Rig::start(|_| async { answer(200, "paid") }).await;
    let port = free_port().await;
    let second = instance(port, &rig.api.url(), &rig.idp).await;
    let first = instance(
        free_port().await,
        &format!("http://127.0.0.1:{port}"),
        &rig.idp,
    )
    .await;
    let mut caller = Caller::connect(first.listen).await;
    let request = Request::post("http://api.test/pay")
        .header("via", "1.1 bursar")
        .header("proxy-authorization", "Basic eDp5")
        .header("idempotency-key", "k")
        .body(full("four"))
        .unwrap();
    let reply = caller.request(request).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
    let seen = rig.api.only();
    assert_eq!(seen.all("via").len(), 3);
    assert_eq!(seen.all("via")[0], "1.1 bursar");
    assert_ne!(seen.all("via")[1], seen.all("via")[2]);
    assert_eq!(seen.all("authorization").len(), 1);
    assert_eq!(seen.all("idempotency-key"), ["k"]);
    assert!(seen.all("proxy-authorization").is_empty());
    // Both are on the way back, too.
    assert_eq!(reply.all("via").len(), 2);
    drop(second);
}

#[tokio::test]
async fn a_request_that_comes_back_is_a_loop_even_over_another_instance() {
    let idp = Idp::counting().await;
    let (one, two) = (free_port().await, free_port().await);
    let itself = free_port().await;
    let proxies = [
        instance(one, &format!("http://127.0.0.1:{two}"), &idp).await,
        instance(two, &format!("http://127.0.0.1:{one}"), &idp).await,
        instance(itself, &format!("http://127.0.0.1:{itself}"), &idp).await,
    ];
    for proxy in &proxies {
        for mut caller in [
            Caller::connect(proxy.listen).await,
            Caller::connect_http2(proxy.listen).await,
        ] {
            let reply = caller.send("POST", "/pay", "x").await;
            assert_eq!(reply.status, 508);
            assert_eq!(reply.problem()["reason"], json!("loop"));
            assert_eq!(reply.problem()["request_sent"], json!("no"));
            // It came from an instance behind this one, whose `Proxy-Status` would pose as this one's.
            assert!(reply.all("proxy-status").is_empty());
        }
        let looped = [("reason", "loop")];
        assert_eq!(proxy.metric("bursar_refusals_total", &looped).await, 2.0);
    }
}

#[tokio::test]
async fn an_instance_knows_itself_in_every_version_and_after_a_reload_and_others_pass() {
    let directory = tempdir().unwrap();
    let authority = Authority::new();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let api = Upstream::with_tls(tls, |_: Request<Bytes>| async { answer(200, "x") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
    let program = Program::start_in(directory, &yaml, "info").await;
    let mut caller = Caller::connect_http2(program.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    let seen = api.only();
    assert_eq!(seen.version, Version::HTTP_2);
    let own = seen.all("via")[0].strip_prefix("2 ").unwrap().to_owned();
    program.rewrite(&format!("{yaml}    trace: forward\n"));
    program.reload().await;
    for (via, status) in [
        (format!("1.1 {own}"), 508),
        (format!("1.0 fred (x), 2 {own} (y, z), 1.1 mary"), 508),
        (format!("1.1 {}", own.to_uppercase()), 508),
        ("1.1 bursar".to_owned(), 200),
        ("1.1 bursar-0123456789abcdef".to_owned(), 200),
    ] {
        let mut raw = Raw::connect(program.listen).await;
        let request = format!(
            "GET http://api.test/x HTTP/1.1\r\nHost: a\r\nVia: 1.1 a\r\nVia: {via}\r\n\r\n"
        );
        let reply = raw.ask(request).await;
        assert_eq!(reply.status(), status, "{via}: {reply:?}");
        let request = Request::get("http://api.test/x").header("via", &via);
        let reply = caller.request(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, status, "{via}");
    }
    let last = api.seen().pop().unwrap();
    assert_eq!(
        last.all("via")[1],
        format!("2 {own}"),
        "a reload changes it"
    );
    assert_eq!(without_instances(&own), "bursar");
}
