//! Where a length says that a body is whole before its end comes, as HTTP/2 may send it: nobody waits for that end.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::{outcomes, pairs, phases, sha256, with_journal};
use crate::support::caller::{Caller, read};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::RawUpstream;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Body, Upstream, full, stream};
use crate::support::{Latch, acme, eventually, soon};

/// A body without its end until the latch opens.
fn unended(data: &'static [u8], latch: &Latch) -> Body {
    let (mut sender, body) = stream();
    let latch = latch.clone();
    tokio::spawn(async move {
        if !data.is_empty() {
            sender.send_data(Bytes::from(data)).await.unwrap();
        }
        latch.wait().await;
    });
    body
}

#[tokio::test]
async fn an_answer_that_came_whole_is_not_in_doubt_though_its_stream_has_not_ended() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let latch = Latch::closed();
    let held = latch.clone();
    let api = Upstream::with_tls(tls, move |request| {
        let path = request.uri().path().to_owned();
        let answer = Response::builder();
        let answer = match &*path {
            "/paid" => answer
                .header("content-length", 4)
                .body(unended(b"paid", &held)),
            "/empty" => answer.header("content-length", 0).body(unended(b"", &held)),
            "/none" => answer.status(204).body(unended(b"", &held)),
            // To be asked for by HEAD.
            _ => answer.header("content-length", 7).body(unended(b"", &held)),
        };
        async move { answer.unwrap() }
    })
    .await;
    let idp = Idp::counting().await;
    let journal = directory.path().join("journal");
    let keys = "tls: {ca: ca.pem}\nroutes: [{path: /head, moves_money: true}]";
    let yaml = with_journal(&acme(&api.url(), &idp.url(), keys), &journal);
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    for (method, path, body) in [
        ("POST", "/paid", "paid"),
        ("POST", "/empty", ""),
        ("POST", "/none", ""),
        ("HEAD", "/head", ""),
    ] {
        let mut caller = Caller::connect(proxy.listen).await;
        assert_eq!(caller.send(method, path, "x").await.text(), body, "{path}");
    }
    proxy.access_lines(4).await;
    // Each is written down by the time of its access line, or a moment later.
    let written = async || {
        let writes = "bursar_journal_writes_total";
        proxy.metric(writes, &[("result", "ok")]).await
    };
    eventually(|| async { written().await >= 9.0 }).await;
    assert_eq!(phases(&journal).await, []);
    latch.open();
}

#[tokio::test]
async fn the_hash_of_a_body_is_written_before_its_last_byte_though_its_stream_has_not_ended() {
    let api = RawUpstream::resetting().await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let latch = Latch::closed();
    let mut caller = Caller::connect_http2(proxy.listen).await;
    let request = Request::post("http://api.test/pay")
        .header("content-length", 6)
        .body(unended(b"amount", &latch));
    let answer = caller.begin(request.unwrap()).await.unwrap();
    assert_eq!(read(answer).await.unwrap().status, 502);
    let expected = pairs(&[("/pay", "body_sent")]);
    eventually(|| async { phases(directory.path()).await == expected }).await;
    let listed = outcomes(directory.path()).await;
    assert_eq!(listed[0]["body_sha256"], sha256(b"amount"));
    latch.open();
}

/// Sends a part of each answer, and when the latch opens a reset without an error, as RFC 9113 section 8.1 has
/// it after the whole of an early answer.
async fn reset_in_the_middle(listener: TcpListener, tls: TlsAcceptor, latch: Latch) {
    let (stream, _) = listener.accept().await.unwrap();
    let stream = tls.accept(stream).await.unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut head = Response::new(());
        if request.uri().path() == "/sized" {
            let length = http::HeaderValue::from_static("10");
            head.headers_mut().insert("content-length", length);
        }
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from("part"), false).unwrap();
        let latch = latch.clone();
        tokio::spawn(async move {
            latch.wait().await;
            body.send_reset(h2::Reason::NO_ERROR);
        });
    }
}

#[tokio::test]
async fn an_answer_that_a_reset_without_an_error_ends_is_not_taken_for_whole() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let latch = Latch::closed();
    let serving = tokio::spawn(reset_in_the_middle(listener, tls.into(), latch.clone()));
    let _serving = AbortOnDropHandle::new(serving);
    let idp = Idp::counting().await;
    let journal = directory.path().join("journal");
    // Both on the one connection that is accepted, however long a busy machine takes to open it.
    let keys = "tls: {ca: ca.pem}\nhttp: \"2\"\ntimeouts: {connect: 60s}\ntoken.wait: 60s";
    let yaml = with_journal(&acme(&url, &idp.url(), keys), &journal);
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let mut answers = Vec::new();
    for path in ["/unsized", "/sized"] {
        let mut caller = Caller::connect(proxy.listen).await;
        let request = Request::post(format!("http://api.test{path}")).body(full("x"));
        let mut answer = caller.begin(request.unwrap()).await.unwrap();
        let part = soon(answer.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), "part");
        answers.push((caller, answer));
    }
    latch.open();
    let mut are_cut_off = Vec::new();
    for (_caller, answer) in answers {
        are_cut_off.push(read(answer).await.is_err());
    }
    // Without a length, too: the stream did not come to its end.
    assert_eq!(are_cut_off, [true, true]);
    let expected = pairs(&[("/sized", "response_lost"), ("/unsized", "response_lost")]);
    eventually(|| async { phases(&journal).await == expected }).await;
}

#[tokio::test]
async fn an_answer_of_unknown_length_is_whole_when_its_end_comes_apart() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let latch = Latch::closed();
    let held = latch.clone();
    let api = Upstream::with_tls(tls, move |_| {
        let body = unended(b"paid", &held);
        async move { Response::new(body) }
    })
    .await;
    let idp = Idp::counting().await;
    let journal = directory.path().join("journal");
    let yaml = acme(&api.url(), &idp.url(), "tls: {ca: ca.pem}");
    let proxy = Proxy::start_in(directory.path(), &with_journal(&yaml, &journal)).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let request = Request::post("http://api.test/pay").body(full("x"));
    let mut answer = caller.begin(request.unwrap()).await.unwrap();
    let part = soon(answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(part.into_data().unwrap(), "paid");
    latch.open();
    assert_eq!(read(answer).await.unwrap().text(), "");
    // That it is sent, that its answer has begun, and that it has ended.
    let ok = [("result", "ok")];
    let written = async || proxy.metric("bursar_journal_writes_total", &ok).await;
    eventually(|| async { written().await >= 3.0 }).await;
    proxy.access_lines(1).await;
    assert_eq!(phases(&journal).await, []);
}
