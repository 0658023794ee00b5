//! Nobody waits for a window that others have used up.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;

use super::{Rig, proxy, text};
use crate::support::caller::{Caller, read};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, OK, SETTINGS, WINDOW_UPDATE, frame,
};
use crate::support::idp::Idp;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full, stream};
use crate::support::{PATIENCE, becomes_true, eventually};

/// More than any window.
const LARGE: usize = 64 << 20;
/// A good many windows of one stream.
const UNREAD: usize = 20;

/// A server with room for many, that has so much for everybody who asks for `/large`.
async fn server() -> (Upstream, Authority) {
    let authority = Authority::new();
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let large = Bytes::from(vec![b'x'; LARGE]);
    let api = Upstream::with_streams(tls, 100, move |request| {
        let is_large = request.uri().path() == "/large";
        let body = if is_large {
            large.clone()
        } else {
            "small".into()
        };
        async move { answer(200, body) }
    });
    (api.await, authority)
}

#[tokio::test]
async fn callers_that_do_not_read_hold_up_nobody_else_at_a_provider() {
    let (api, authority) = server().await;
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let idp = Idp::counting().await;
    let proxy = proxy(directory.path(), &api.url(), &idp, "http: \"2\"").await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.text(), "small");
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        let mut stuck = Raw::connect(proxy.listen).await;
        stuck
            .write("POST http://api.test/large HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n")
            .await;
        // A part is read, and no more.
        stuck.read_head().await;
        unread.push(stuck);
    }
    // What is on its way to the unread ones has come as far as it can.
    for _ in 0..20 {
        assert_eq!(caller.send("POST", "/x", "").await.text(), "small");
    }
    let connections = api.seen().iter().map(|seen| seen.connection).max();
    assert_eq!(connections, Some(0));
}

#[tokio::test]
async fn an_upload_that_a_provider_does_not_read_holds_up_no_other_to_it() {
    let rig = Rig::start("http: \"2\"", |_, mut frames| async move {
        // No window is ever given back.
        while let Some(seen) = frames.next().await {
            let ends = seen.flags & 1 != 0;
            if matches!(seen.kind, HEADERS | DATA) && ends {
                let mut bytes = frame(HEADERS, END_HEADERS, seen.stream, OK);
                bytes.extend(frame(DATA, 1, seen.stream, b"small"));
                frames.write(bytes).await;
            }
        }
    })
    .await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.text(), "small");
    let request = Request::post("http://api.test/large").body(full(vec![b'x'; LARGE]));
    let stuck = caller.begin_later(request.unwrap()).await;
    let (sender, body) = stream();
    let request = Request::post("http://api.test/unknown").body(body);
    let unknown = caller.begin_later(request.unwrap()).await;
    for _ in 0..200 {
        let reply = caller.send("POST", "/x", vec![b'x'; 1000]).await;
        assert_eq!(reply.text(), "small");
    }
    assert!(!stuck.is_finished() && !unknown.is_finished());
    drop(sender);
}

#[tokio::test]
async fn a_connection_that_its_provider_does_not_read_gets_no_further_request() {
    let rig = Rig::start("http: \"2\"", |number, mut frames| async move {
        // There is room for everything.
        let most = 0x7fff_ffff_u32;
        let window = [&[0, 4], &most.to_be_bytes()[..]].concat();
        frames.write(frame(SETTINGS, 0, 0, &window)).await;
        let more = (most - 65_535).to_be_bytes();
        frames.write(frame(WINDOW_UPDATE, 0, 0, &more)).await;
        while let Some(seen) = frames.next().await {
            if number == 0 && seen.kind == DATA {
                return std::future::pending().await;
            }
            if seen.kind == HEADERS && seen.flags & END_STREAM != 0 {
                frames.answer(seen.stream).await;
            }
        }
    })
    .await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    let request = Request::post("http://api.test/large").body(full(vec![b'x'; LARGE]));
    let stuck = caller.begin_later(request.unwrap()).await;
    // What is sent before the connection is full waits there; what comes later does not.
    let mut answered_in_a_row = 0;
    let is_answered = becomes_true(PATIENCE, async || {
        let reply = caller.send("GET", "/x", "");
        let reply = tokio::time::timeout(Duration::from_secs(1), reply);
        answered_in_a_row = if reply.await.is_ok() {
            answered_in_a_row + 1
        } else {
            0
        };
        answered_in_a_row == 4
    });
    assert!(is_answered.await && !stuck.is_finished());
}

#[tokio::test]
async fn an_upload_that_a_provider_does_not_read_holds_up_no_other_of_its_caller() {
    let idp = Idp::counting().await;
    let api = Upstream::streaming(|request| async move {
        if request.uri().path() == "/stuck" {
            std::future::pending::<()>().await;
        }
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        answer(200, "read")
    });
    let api = api.await;
    let directory = tempfile::tempdir().unwrap();
    Authority::new().write(&directory.path().join("ca.pem"));
    let proxy = proxy(directory.path(), &api.url(), &idp, "").await;
    let mut caller = Caller::connect_http2(proxy.listen).await;
    let mut stuck = Vec::new();
    for number in 1..=UNREAD {
        let request = Request::post("http://api.test/stuck").body(full(vec![b'x'; LARGE]));
        stuck.push(caller.begin_later(request.unwrap()).await);
        api.reached_by(number).await;
    }
    for _ in 0..20 {
        let reply = caller.send("POST", "/x", vec![b'x'; 200_000]).await;
        assert_eq!(reply.text(), "read");
    }
    assert!(stuck.iter().all(|stuck| !stuck.is_finished()));
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_told_from_a_slow_provider() {
    let (api, authority) = server().await;
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let idp = Idp::counting().await;
    let keys = "timeouts: {idle: 1s}";
    let proxy = proxy(directory.path(), &api.url(), &idp, keys).await;
    let mut http1 = Raw::connect(proxy.listen).await;
    http1
        .write("GET http://api.test/large HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    let mut http2 = Caller::connect_http2(proxy.listen).await;
    let request = Request::get("http://api.test/large").body(full(""));
    let answer = http2.begin(request.unwrap()).await.unwrap();
    for line in proxy.access_lines(2).await {
        assert_eq!(text(&line["reason"]), "request_timeout", "{line}");
    }
    assert!(read(answer).await.is_err());
    let limit = [("limit", "write_timeout")];
    let name = "bursar_limit_reached_total";
    eventually(|| async { proxy.metric(name, &limit).await >= 2.0 }).await;
    drop(http1);
}
