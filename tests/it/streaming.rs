//! Bodies go through as they come: early, whole, and no faster than the other side reads.

use std::io::Write as _;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use crate::support::caller::{self, Caller};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full, stream};
use crate::support::{Latch, Rig, acme, eventually, soon};

/// More than all sockets on the way may hold.
const MUCH: usize = 64 << 20;
/// What the kernel may hold of a body on the way: four sockets, each grown to its largest.
const HELD_BY_SOCKETS: usize = 32 << 20;

#[tokio::test]
async fn the_first_byte_of_an_answer_does_not_wait_for_the_last() {
    for http2 in [false, true] {
        let (first_read, last) = (Latch::closed(), Latch::closed());
        let (was_read, held) = (first_read.clone(), last.clone());
        let rig = Rig::start(move |_| {
            let (was_read, held) = (was_read.clone(), held.clone());
            async move {
                let (mut sender, body) = stream();
                tokio::spawn(async move {
                    sender.send_data("first".into()).await.unwrap();
                    was_read.wait().await;
                    sender.send_data("last".into()).await.unwrap();
                    held.open();
                });
                Response::new(body)
            }
        })
        .await;
        let mut caller = if http2 {
            Caller::connect_http2(rig.proxy.listen).await
        } else {
            rig.caller().await
        };
        let request = Request::get("http://api.test/x").body(full("")).unwrap();
        let mut reply = caller.begin(request).await.unwrap();
        let first = soon(reply.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first");
        first_read.open();
        assert_eq!(caller::read(reply).await.unwrap().text(), "last");
        last.wait().await;
    }
}

#[tokio::test]
async fn what_tls_holds_of_an_answer_does_not_wait_for_more_to_come() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["http/1.1"], ClientCertificate::Ignored);
    // A record of TLS has 16 KiB, which is more than is asked for at once; after the last one nothing comes.
    let api = Upstream::with_tls(tls, |request| async move {
        let length: Result<usize, _> = request.uri().path().trim_start_matches('/').parse();
        answer(200, vec![b'a'; length.unwrap()])
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    for length in [1, 8 << 10, 12_000, 16 << 10, (16 << 10) + 1, 100_000] {
        let reply = caller.send("GET", &format!("/{length}"), "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body.len(), length);
    }
}

#[tokio::test]
async fn what_tls_cannot_read_ends_an_answer_at_once() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["http/1.1"], ClientCertificate::Ignored);
    let api = RawUpstream::start(move |_, raw| {
        let accepting = TlsAcceptor::from(tls.clone()).accept(raw.into_stream());
        async move {
            let mut raw = Raw::over(accepting.await.unwrap());
            raw.read_message().await;
            // With it come the session tickets, which are then out of the way.
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
            raw.read_message().await;
            let (mut socket, mut session) = raw.into_stream().into_inner();
            let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n".to_vec();
            answer.resize(4000, b'a');
            session.writer().write_all(&answer).unwrap();
            let mut wire = Vec::new();
            session.write_tls(&mut wire).unwrap();
            // A record of 256 bytes that nobody has encrypted.
            wire.extend_from_slice(&[0x17, 3, 3, 1, 0]);
            wire.resize(wire.len() + 256, 7);
            socket.write_all(&wire).await.unwrap();
            Raw::over(socket).closed().await;
        }
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let url = api.url().replace("http:", "https:");
    let yaml = acme(&url, &idp.url(), "tls: {ca: ca.pem}\ntimeouts: {idle: 10m}");
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    let request = Request::get("http://api.test/x").body(full("")).unwrap();
    let reply = caller.begin(request).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(soon(caller::read(reply)).await.is_err());
    let line = &proxy.access_lines(2).await[1];
    assert_eq!(line["reason"], "upstream_protocol");
}

#[tokio::test]
async fn the_first_byte_of_an_upload_does_not_wait_for_the_last() {
    for http2 in [false, true] {
        let arrived = Latch::closed();
        let here = arrived.clone();
        let api = Upstream::streaming(move |mut request| {
            let here = here.clone();
            async move {
                let first = request.body_mut().frame().await.unwrap().unwrap();
                assert_eq!(first.into_data().unwrap(), "first");
                here.open();
                let rest = request.body_mut().frame().await.unwrap().unwrap();
                answer(200, rest.into_data().unwrap())
            }
        });
        let rig = Rig::of(api.await, Idp::counting().await, "").await;
        let mut caller = if http2 {
            Caller::connect_http2(rig.proxy.listen).await
        } else {
            rig.caller().await
        };
        let (mut sender, body) = stream();
        let request = Request::post("http://api.test/x").body(body).unwrap();
        let (reply, ()) = tokio::join!(caller.request(request), async {
            sender.send_data("first".into()).await.unwrap();
            arrived.wait().await;
            sender.send_data("last".into()).await.unwrap();
            drop(sender);
        });
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "last"));
    }
}

#[tokio::test]
async fn an_api_is_not_read_faster_than_its_caller_reads() {
    let written = Latch::closed();
    let blocked = written.clone();
    let api = RawUpstream::start(move |_, mut raw| {
        let blocked = blocked.clone();
        async move {
            raw.read_message().await;
            raw.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"))
                .await;
            let written = raw.write_until_blocked(MUCH).await;
            assert!(
                written < HELD_BY_SOCKETS,
                "{written} bytes went into the proxy"
            );
            blocked.open();
            raw.write(vec![b'x'; MUCH - written]).await;
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let request = Request::get("http://api.test/x").body(full("")).unwrap();
    let reply = caller.begin(request).await.unwrap();
    written.wait().await;
    let reply = caller::read(reply).await.unwrap();
    assert_eq!(reply.body.len(), MUCH);
    let lines = proxy.access_lines(1).await;
    assert_eq!(lines[0]["response_bytes"], MUCH);
}

#[tokio::test]
async fn a_caller_is_not_read_faster_than_the_api_reads() {
    let full = Latch::closed();
    let blocked = full.clone();
    let api = RawUpstream::start(move |_, mut raw| {
        let blocked = blocked.clone();
        async move {
            raw.read_head().await;
            blocked.wait().await;
            raw.read_exact(MUCH).await;
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
            raw.closed().await;
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut caller = Raw::connect(proxy.listen).await;
    caller
        .write(format!(
            "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: {MUCH}\r\n\r\n"
        ))
        .await;
    let written = caller.write_until_blocked(MUCH).await;
    assert!(
        written < HELD_BY_SOCKETS,
        "{written} bytes went into the proxy"
    );
    let (_, status) = proxy.json("/status").await;
    // What was too large for the replay buffer is not kept at all.
    assert_eq!(status["replay_memory_used_bytes"], 0);
    full.open();
    caller.write(vec![b'x'; MUCH - written]).await;
    assert_eq!(caller.read_message().await.status(), 200);
    let lines = proxy.access_lines(1).await;
    assert_eq!(lines[0]["request_bytes"], MUCH);
}

#[tokio::test]
async fn bodies_arrive_byte_for_byte_in_both_directions_at_once() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    // No period that buffers could hide a mistake in.
    let body: Vec<u8> = (0..4_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let body = Bytes::from(body);
    let echo = |request: Request<Bytes>| async move { answer(200, request.into_body()) };
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    for api in [
        Upstream::start(echo).await,
        Upstream::with_tls(tls, echo).await,
    ] {
        let idp = Idp::counting().await;
        let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        for mut caller in [
            Caller::connect(proxy.listen).await,
            Caller::connect_http2(proxy.listen).await,
        ] {
            let reply = caller.send("POST", "/x", body.clone()).await;
            assert!(reply.body == body, "{} bytes came back", reply.body.len());
        }
    }
}

#[tokio::test]
async fn requests_beyond_a_providers_stream_limit_do_not_wait_inside_a_connection() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let release = Latch::closed();
    let held = release.clone();
    let api = Upstream::with_tls(tls, move |_| {
        let held = held.clone();
        async move {
            held.wait().await;
            answer(200, "")
        }
    })
    .await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let listen = proxy.listen;
    let callers: Vec<_> = (0..9)
        .map(|_| {
            tokio::spawn(async move { Caller::connect(listen).await.send("GET", "/x", "").await })
        })
        .collect();
    // The server takes two at a time on a connection, and answers none of them yet.
    api.reached_by(9).await;
    release.open();
    for caller in callers {
        assert_eq!(caller.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_its_neighbours() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let api = Upstream::with_tls(tls, |request| async move {
        let large = request.uri().path() == "/large";
        answer(
            200,
            if large {
                vec![b'x'; 8 << 20]
            } else {
                b"small".to_vec()
            },
        )
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let mut caller = Caller::connect_http2(proxy.listen).await;
    let mut unread = Vec::new();
    for _ in 0..2 {
        let request = Request::get("http://api.test/large")
            .body(full(""))
            .unwrap();
        unread.push(caller.begin(request).await.unwrap());
    }
    for _ in 0..3 {
        assert_eq!(caller.send("GET", "/x", "").await.text(), "small");
    }
    drop(unread);
    let in_flight = [("provider", "acme")];
    proxy
        .metric_becomes("bursar_requests_in_flight", &in_flight, 0.0)
        .await;
    eventually(|| async { api.count() == 5 }).await;
}
