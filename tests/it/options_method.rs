//! `OPTIONS` that asks about Bursar itself: in every form, and without a word of who asks.

use http::{Request, Version};

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{answer, full};
use crate::support::{Rig, acme, without_request_id};

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[tokio::test]
async fn an_asterisk_is_answered_by_bursar_whoever_asks() {
    let api = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let callers = "callers: {shop: {password: pw, allow: [acme]}}";
    let proxy = Proxy::start(&format!("{callers}\n{yaml}")).await;
    let asterisk = "OPTIONS * HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let mut direct = Raw::connect(proxy.listen).await;
    let mut inside = Raw::connect(proxy.listen).await;
    let connect = "CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\nProxy-Authorization: Basic c2hvcDpwdw==\r\n\r\n";
    inside.write(connect).await;
    assert_eq!(
        without_request_id(&inside.read_head().await),
        "HTTP/1.1 200 OK"
    );
    for raw in [&mut direct, &mut inside] {
        // The connection goes on.
        for _ in 0..2 {
            let reply = raw.ask(asterisk).await;
            assert_eq!((reply.status(), reply.field("allow")), (204, Some(METHODS)));
            assert_eq!(reply.field("content-length"), None);
            assert!(reply.field("date").is_some());
        }
        let reply = raw.ask("OPTIONS * HTTP/1.1\r\n\r\n").await;
        assert_eq!(reply.status(), 400);
    }
    let old = Raw::connect(proxy.listen)
        .await
        .ask("OPTIONS * HTTP/1.0\r\n\r\n")
        .await;
    assert_eq!(old.status(), 204);
    let mut http2 = Caller::connect_http2(proxy.listen).await;
    let request = Request::options("http://api.test/x").header("max-forwards", "0");
    let request = request.version(Version::HTTP_2).body(full("")).unwrap();
    let reply = http2.request(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.headers["allow"].as_bytes()),
        (204, METHODS.as_bytes())
    );
    assert_eq!(api.connections(), 0);
    // Those are no provider's responses.
    let count = [("status", "204")];
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.get("bursar_requests_total", &count), None);
}

#[tokio::test]
async fn a_request_says_how_often_it_may_go_on() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    for (fields, status, arrives) in [
        ("Max-Forwards: 0\r\n", 204, None),
        ("Max-Forwards: 7\r\n", 200, Some(vec!["6"])),
        ("Max-Forwards: x\r\n", 200, Some(vec![])),
        ("", 200, Some(vec![])),
    ] {
        let before = rig.api.count();
        let head = format!("OPTIONS http://api.test/x HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n");
        assert_eq!(caller.ask(head).await.status(), status, "{fields}");
        let seen = rig.api.seen();
        let seen = seen.get(before).map(|seen| seen.all("max-forwards"));
        assert_eq!(seen, arrives, "{fields}");
    }
    // Other methods do not count.
    let get = "GET http://api.test/x HTTP/1.1\r\nHost: api.test\r\nMax-Forwards: 0\r\n\r\n";
    assert_eq!(caller.ask(get).await.status(), 200);
    assert_eq!(rig.api.seen().last().unwrap().all("max-forwards"), ["0"]);
}
