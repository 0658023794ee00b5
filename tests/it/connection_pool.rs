//! How long connections to providers are kept: as long as their servers say, and never beyond an age.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bursar_config::Names;
use bytes::Bytes;
use http::Request;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::caller::{Caller, read};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::RawUpstream;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{Latch, Rig, acme, eventually, soon};

const UPSTREAM: (&str, &[(&str, &str)]) = ("bursar_connections", &[("side", "upstream")]);

/// How many connections it takes to send three requests, one after another, where each answer has that head.
async fn connections_with(head: &str) -> usize {
    let head = head.to_owned();
    let api = RawUpstream::start(move |_, mut raw| {
        let answer = format!("{head}\r\nContent-Length: 2\r\n\r\nok");
        async move {
            while raw.try_read_message().await.is_ok() {
                raw.write(&answer).await;
            }
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Caller::connect(proxy.listen).await;
    for _ in 0..3 {
        assert_eq!(caller.send("POST", "/x", "body").await.text(), "ok");
    }
    api.connections()
}

#[tokio::test]
async fn a_connection_is_used_again_unless_its_server_says_otherwise() {
    for (head, connections) in [
        ("HTTP/1.1 200 OK", 1),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100", 1),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: max=2", 1),
        (
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=99999999999999999999999",
            1,
        ),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=soon, max=few", 1),
        (
            "HTTP/1.1 200 OK\r\nConnection: x-close\r\nX-Close: close",
            1,
        ),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1", 3),
        (
            "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nKEEP-ALIVE: Timeout = \"0\"",
            3,
        ),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: max=1,timeout=60", 3),
        ("HTTP/1.1 200 OK\r\nKeep-Alive: max=0", 3),
        (
            "HTTP/1.1 200 OK\r\nKeep-Alive: x=\u{e9}, ;, timeout=60\r\nKeep-Alive: timeout=1",
            3,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close", 3),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive, CLOSE", 3),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive",
            3,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: \"Close\"", 3),
        ("HTTP/1.0 200 OK", 3),
        ("HTTP/1.0 200 OK\r\nKeep-Alive: timeout=5", 3),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive", 1),
        (
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=15, max=9",
            1,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=1",
            3,
        ),
    ] {
        assert_eq!(connections_with(head).await, connections, "{head}");
    }
}

#[tokio::test]
async fn requests_are_counted_where_a_server_said_how_many_it_takes() {
    let api = RawUpstream::start(|number, mut raw| async move {
        let mut said = "Keep-Alive: timeout=60, max=3\r\n";
        while raw.try_read_message().await.is_ok() {
            let answer = format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 1\r\n\r\n{number}");
            raw.write(answer).await;
            said = "";
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let mut connections = String::new();
    for _ in 0..6 {
        connections += caller.send("GET", "/x", "").await.text();
    }
    assert_eq!(connections, "000111");
}

/// How long an idle connection is kept whose server says that. Time passes by itself.
async fn idle_for(said: &str, provider: &str) -> Duration {
    let (send, mut answered) = mpsc::channel(1);
    let said = said.to_owned();
    let api = RawUpstream::start(move |_, mut raw| {
        let answer = format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\nok");
        let send = send.clone();
        async move {
            raw.read_message().await;
            raw.write(answer).await;
            send.send(raw).await.ok();
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), provider)).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.text(), "ok");
    let mut raw = soon(answered.recv()).await.unwrap();
    tokio::time::pause();
    let since = Instant::now();
    raw.closed().await;
    let kept = since.elapsed();
    tokio::time::resume();
    kept
}

#[tokio::test]
async fn an_idle_connection_is_given_up_a_second_before_its_server_does_that() {
    for (said, provider, seconds) in [
        ("Keep-Alive: timeout=5\r\n", "", 4),
        ("Keep-Alive: max=9; Timeout = 2\r\n", "", 1),
        ("", "timeouts: {pool_idle: 3s}", 3),
        ("Keep-Alive: timeout=9\r\n", "timeouts: {pool_idle: 3s}", 3),
        ("Keep-Alive: timeout=9\r\n", "timeouts: {pool_age: 2s}", 2),
        ("", "timeouts: {pool_age: 2s}", 2),
    ] {
        let kept = idle_for(said, provider).await.as_secs_f64();
        let expected = f64::from(seconds);
        // What went before took a moment of its age.
        assert!(
            (expected - 0.5..expected + 0.5).contains(&kept),
            "{said:?} {provider:?}: {kept}"
        );
    }
}

/// Lets time pass.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_busy_connection_that_grows_old_finishes_and_is_not_used_again() {
    let latch = Latch::closed();
    let api = Upstream::held("done", &latch).await;
    let rig = Rig::of(api, Idp::counting().await, "timeouts: {pool_age: 2s}").await;
    let mut caller = rig.caller().await;
    let held = tokio::spawn(async move { caller.send("POST", "/held", "x").await });
    latch.reached_by(1).await;
    pass(Duration::from_secs(3)).await;
    latch.open();
    assert_eq!(soon(held).await.unwrap().text(), "done");
    assert_eq!(rig.get("/x").await.text(), "done");
    assert_eq!(rig.get("/x").await.text(), "done");
    let connections: Vec<usize> = rig.api.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 1]);
    let (name, labels) = UPSTREAM;
    rig.proxy.metric_becomes(name, labels, 1.0).await;
}

#[tokio::test]
async fn an_old_http_2_connection_gets_no_request_and_ends_with_its_last_one() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(&directory.path().join("ca.pem"));
    let latch = Latch::closed();
    let open = latch.clone();
    let script = move |request: Request<Bytes>| {
        let latch = open.clone();
        async move {
            if request.uri().path() == "/held" {
                latch.wait().await;
            }
            answer(200, "done")
        }
    };
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let api = Upstream::with_tls(tls, script).await;
    let idp = Idp::counting().await;
    let lines = "tls: {ca: ca.pem}\ntimeouts: {pool_age: 2s}";
    let yaml = acme(&api.url(), &idp.url(), lines);
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let held = tokio::spawn(async move { caller.send("POST", "/held", "x").await });
    latch.reached_by(1).await;
    pass(Duration::from_secs(3)).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.text(), "done");
    let (name, labels) = UPSTREAM;
    assert_eq!(proxy.metric(name, labels).await, 2.0);
    latch.open();
    assert_eq!(soon(held).await.unwrap().text(), "done");
    assert_eq!(caller.send("GET", "/x", "").await.text(), "done");
    let connections: Vec<usize> = api.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 1]);
    // The old one ends with its request, and the other one when it is old.
    eventually(|| async { proxy.metric(name, labels).await < 2.0 }).await;
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_followed_once_connections_are_old() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let _servers = [(first, "first"), (second, "second")]
        .map(|(listener, word)| Upstream::at(listener, move |_| async move { answer(200, word) }));
    let at =
        |address: &str| Arc::new([("localhost".into(), vec![address.parse().unwrap()])].into());
    let table = Arc::new(ArcSwap::new(at("127.0.0.1")));
    let idp = Idp::counting().await;
    let upstream = format!("http://localhost:{port}");
    let yaml = acme(&upstream, &idp.url(), "timeouts: {pool_age: 2s}");
    let names = Names::Changing(table.clone());
    let proxy = Proxy::start_naming(Path::new(""), &yaml, names).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.text(), "first");
    table.store(at("127.0.0.2"));
    assert_eq!(caller.send("GET", "/x", "").await.text(), "first");
    pass(Duration::from_secs(3)).await;
    assert_eq!(caller.send("GET", "/x", "").await.text(), "second");
}

#[tokio::test]
async fn idle_connections_to_a_server_are_given_up_once_it_did_not_respond_in_time() {
    let both = Latch::closed();
    let open_both = both.clone();
    let api = RawUpstream::start(move |_, mut raw| {
        let both = both.clone();
        async move {
            while let Ok(request) = raw.try_read_message().await {
                let path = request.start().split(' ').nth(1);
                match path {
                    Some("/both") => both.wait().await,
                    Some("/lost") => std::future::pending().await,
                    _ => {}
                }
                raw.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
            }
        }
    })
    .await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "timeouts: {head: 300ms}");
    let proxy = Proxy::start(&yaml).await;
    // All of one worker.
    let mut caller = Caller::connect_http2(proxy.listen).await;
    let mut responses = Vec::new();
    for _ in 0..2 {
        let request = Request::get("http://api.test/both").body(full(""));
        responses.push(caller.begin_later(request.unwrap()).await);
    }
    open_both.reached_by(2).await;
    open_both.open();
    for response in responses {
        let response = soon(response).await.unwrap().unwrap();
        assert_eq!(read(response).await.unwrap().text(), "ok");
    }
    assert_eq!(caller.send("POST", "/lost", "").await.status, 504);
    assert_eq!(caller.send("POST", "/next", "").await.status, 200);
    assert_eq!(api.connections(), 3);
}
