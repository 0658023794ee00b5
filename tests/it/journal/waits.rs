//! What waits for the journal: a payment's head and the end of its body, and the end of its answer. While nothing can
//! be written they stand still, and whatever moves no money goes on.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;

use super::with_journal;
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Message, Raw, RawUpstream};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{Latch, Rig, acme, eventually};

/// So many requests that move no money get through in the time in which a payment would.
const OTHERS: usize = 20;

/// Nothing can be written while it lives.
struct Lock(rusqlite::Connection);

impl Lock {
    fn of(journal: &Path) -> Self {
        let other = rusqlite::Connection::open(journal.join("journal.sqlite")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(other)
    }

    fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

const TOKEN: &str = "0123456789-admin-token";

async fn freeze(admin: SocketAddr) -> Message {
    let request = format!(
        "POST /freeze/acme HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
    );
    Raw::connect(admin).await.ask(request).await
}

async fn others_go_on(proxy: &Proxy) {
    let mut caller = Caller::connect(proxy.listen).await;
    for _ in 0..OTHERS {
        assert_eq!(caller.send("GET", "/other", "").await.status, 200);
    }
}

async fn rig(api: Upstream, journal: &Path) -> Rig {
    let idp = Idp::counting().await;
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), journal);
    let proxy = Proxy::start(&yaml).await;
    Rig { api, idp, proxy }
}

#[tokio::test]
async fn no_payment_goes_before_its_row_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let rig = rig(
        Upstream::start(|_| async { answer(200, "paid") }).await,
        directory.path(),
    )
    .await;
    let payments = || {
        let seen = rig.api.seen();
        seen.iter().filter(|seen| seen.target == "/pay").count()
    };
    for body in ["", "amount=10", &"x".repeat(100_000)] {
        let before = payments();
        let lock = Lock::of(directory.path());
        let mut caller = rig.caller().await;
        let body = body.to_owned();
        let paying = tokio::spawn(async move { caller.send("POST", "/pay", body).await });
        others_go_on(&rig.proxy).await;
        assert_eq!(payments(), before);
        lock.release();
        let status = paying.await.unwrap().status.as_u16();
        // A machine that is too busy for that has refused it.
        assert_eq!(payments(), before + usize::from(status == 200), "{status}");
        assert!([200, 503].contains(&status), "{status}");
    }
}

#[tokio::test]
async fn a_payment_that_waits_for_its_row_is_not_sent_after_a_freeze() {
    let api = Upstream::start(|_| async { answer(200, "paid") }).await;
    let (idp, directory) = (Idp::counting().await, tempfile::tempdir().unwrap());
    let acme = acme(&api.url(), &idp.url(), "");
    let yaml = with_journal(&acme, directory.path());
    let proxy = Proxy::start(&format!("admin_token: {TOKEN}\n{yaml}")).await;
    let lock = Lock::of(directory.path());
    let mut caller = Caller::connect(proxy.listen).await;
    let paying = tokio::spawn(async move { caller.send("POST", "/pay", "x").await });
    others_go_on(&proxy).await;
    let admin = proxy.admin;
    let freezing = tokio::spawn(freeze(admin));
    eventually(|| async { proxy.json("/status").await.1["frozen"] == json!(["acme"]) }).await;
    lock.release();
    assert_eq!(paying.await.unwrap().problem()["request_sent"], "no");
    assert!(api.seen().iter().all(|seen| seen.target != "/pay"));
    assert_eq!(freezing.await.unwrap().status(), 200);
    proxy
        .metric_becomes("bursar_journal_unresolved", &[], 0.0)
        .await;
}

#[tokio::test]
async fn a_freeze_that_the_journal_could_not_take_is_in_it_as_soon_as_that_can_be() {
    let api = Upstream::start(|_| async { answer(200, "paid") }).await;
    let (idp, directory) = (Idp::counting().await, tempfile::tempdir().unwrap());
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let proxy = Proxy::start(&format!("admin_token: {TOKEN}\n{yaml}")).await;
    let lock = Lock::of(directory.path());
    assert_eq!(freeze(proxy.admin).await.status(), 503);
    lock.release();
    let reader = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    let count = || {
        let sql = "SELECT count(*) FROM decisions WHERE is_frozen = 1";
        reader.query_row(sql, [], |row| row.get::<_, u32>(0))
    };
    eventually(|| async { count() == Ok(1) }).await;
}

#[tokio::test]
async fn the_end_of_a_payments_body_goes_when_its_hash_is_written() {
    let api = RawUpstream::start(|_, mut raw| async move {
        loop {
            let Ok(_request) = raw.try_read_message().await else {
                return;
            };
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let has_come = |text: &str| {
        let captured = api.captured();
        let all = captured
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        all.collect::<String>().contains(text)
    };
    for (framing, begin, end, last) in [
        ("Content-Length: 11", "begin-", "end-1", "end-1"),
        (
            "Transfer-Encoding: chunked",
            "6\r\nbegun-\r\n",
            "5\r\nend-2\r\n0\r\n\r\n",
            "0\r\n\r\n",
        ),
    ] {
        let mut caller = Raw::connect(proxy.listen).await;
        let head = format!("POST /pay HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n");
        caller.write(format!("{head}{begin}")).await;
        let first = begin.trim_end().rsplit("\r\n").next().unwrap();
        eventually(|| async { has_come(first) }).await;
        let lock = Lock::of(directory.path());
        caller.write(end).await;
        others_go_on(&proxy).await;
        assert!(!has_come(last), "{framing}");
        lock.release();
        assert_eq!(caller.read_message().await.status(), 200);
        assert!(has_come(last), "{framing}");
    }
}

#[tokio::test]
async fn the_end_of_a_payments_answer_is_told_when_that_is_written() {
    let latch = Latch::closed();
    let held = latch.clone();
    let api = Upstream::start(move |request: Request<Bytes>| {
        let held = held.clone();
        async move {
            match request.uri().path() {
                "/other" => answer(200, ""),
                path => {
                    held.wait().await;
                    let body = if path == "/empty" { "" } else { "paid" };
                    Response::new(full(body))
                }
            }
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let rig = rig(api, directory.path()).await;
    let mut paying = Vec::new();
    for path in ["/empty", "/pay"] {
        for is_http2 in [false, true] {
            let mut caller = match is_http2 {
                true => Caller::connect_http2(rig.proxy.listen).await,
                false => rig.caller().await,
            };
            paying.push(tokio::spawn(
                async move { caller.send("POST", path, "x").await },
            ));
        }
    }
    latch.reached_by(paying.len()).await;
    let lock = Lock::of(directory.path());
    latch.open();
    others_go_on(&rig.proxy).await;
    assert!(paying.iter().all(|paying| !paying.is_finished()));
    lock.release();
    for paying in paying {
        let reply = paying.await.unwrap();
        assert_eq!(reply.status, 200);
        assert!(["", "paid"].contains(&reply.text()));
    }
}
