//! The edge of an attempt: which one is the last, with which token, and what is in doubt between two of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Request;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::journal::{outcomes, with_journal};
use crate::support::caller::Caller;
use crate::support::frames::{FrameServer, RST_STREAM, frame, goaway, settings};
use crate::support::idp::{self, Idp};
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{answer, full};
use crate::support::{Latch, Rig, acme, eventually};

/// The first sending, and those after it where a provider certainly did not process the one before.
const SENDINGS: usize = 5;
/// Of a stream that was not processed (RFC 9113 section 7).
const REFUSED_STREAM: u32 = 7;

/// An authority, and a directory with its certificate.
fn authority() -> (Authority, TempDir) {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(&directory.path().join("ca.pem"));
    (authority, directory)
}

fn refusal(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes())
}

#[tokio::test]
async fn what_is_refused_unprocessed_each_time_is_sent_five_times_and_is_not_in_doubt() {
    let (authority, directory) = authority();
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let (sendings, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (sent, opened) = (sendings.clone(), connections.clone());
    let api = FrameServer::start(tls, move |_, mut frames| {
        opened.fetch_add(1, Ordering::SeqCst);
        let sent = sent.clone();
        async move {
            while let Some(stream) = frames.request().await {
                sent.fetch_add(1, Ordering::SeqCst);
                frames.write(refusal(stream)).await;
            }
        }
    })
    .await;
    let idp = Idp::counting().await;
    let journal = directory.path().join("journal");
    let yaml = acme(&api.url, &idp.url(), "tls: {ca: ca.pem}");
    let proxy = Proxy::start_in(directory.path(), &with_journal(&yaml, &journal)).await;
    // Two on the first connection, and each other on a new one, because those that are open have failed it then. The
    // last one is still open when the GET comes.
    for (method, expected) in [("POST", SENDINGS - 1), ("GET", SENDINGS - 2)] {
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send(method, "/pay", "").await;
        let problem = reply.problem();
        assert_eq!(
            (
                reply.status.as_u16(),
                &problem["reason"],
                &problem["request_sent"]
            ),
            (502, &json!("upstream_protocol"), &json!("no"))
        );
        assert_eq!(sendings.swap(0, Ordering::SeqCst), SENDINGS, "{method}");
        assert_eq!(connections.swap(0, Ordering::SeqCst), expected, "{method}");
    }
    assert!(outcomes(&journal).await.is_empty());
}

#[tokio::test]
async fn between_a_refusal_and_the_next_attempt_nothing_is_in_doubt() {
    let (authority, directory) = authority();
    let tls = authority.server(&["h2"], ClientCertificate::Ignored);
    let second = Latch::closed();
    let reached = second.clone();
    let api = FrameServer::start_silent(tls, move |number, mut frames| {
        let reached = reached.clone();
        async move {
            if number > 0 {
                // Without settings no payment is sent there.
                return reached.wait().await;
            }
            frames.write(settings(None)).await;
            let stream = frames.request().await.unwrap();
            frames.write(refusal(stream)).await;
            frames.write(goaway(0, 0)).await;
            while frames.next().await.is_some() {}
        }
    })
    .await;
    let idp = Idp::counting().await;
    // Apart, because the program's directory ends with it.
    let journal = tempfile::tempdir().unwrap();
    let yaml = acme(&api.url, &idp.url(), "tls: {ca: ca.pem}");
    let yaml = with_journal(&yaml, journal.path());
    let program = Program::start_in(directory, &yaml, "info").await;
    let mut caller = Raw::connect(program.listen).await;
    caller
        .write("POST /pay HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    second.reached_by(1).await;
    program.signal("KILL").await;
    program.ended().await;
    assert!(outcomes(journal.path()).await.is_empty());
    second.open();
}

#[tokio::test]
async fn between_a_401_and_its_replay_nothing_is_in_doubt() {
    let api = RawUpstream::start(|_, mut raw| async move {
        raw.read_message().await;
        raw.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\n")
            .await;
        // The rest of it does not come, and is not waited for.
        raw.closed().await;
    })
    .await;
    let renewal = Latch::closed();
    let held = renewal.clone();
    let idp = Idp::start(move |call| {
        let held = held.clone();
        async move {
            if call.number > 1 {
                held.wait().await;
            }
            idp::token(&format!("token-{}", call.number))
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let program = Program::start(&yaml, "info").await;
    let mut caller = Raw::connect(program.listen).await;
    caller
        .write("POST /pay HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    renewal.reached_by(1).await;
    program.signal("KILL").await;
    program.ended().await;
    assert!(outcomes(directory.path()).await.is_empty());
    renewal.open();
}

/// As long the first token is good for.
const SHORT: Duration = Duration::from_secs(2);

/// Tokens of which the first is good for [`SHORT`], and when it was handed out.
async fn short_lived() -> (Idp, Arc<OnceLock<Instant>>) {
    let issued: Arc<OnceLock<Instant>> = Arc::default();
    let first = issued.clone();
    let idp = Idp::start(move |call| {
        let _already = first.set(Instant::now());
        let lifetime = if call.number == 1 {
            SHORT.as_secs()
        } else {
            3600
        };
        let token = format!("token-{}", call.number);
        async move {
            idp::reply(
                200,
                &json!({"access_token": token, "token_type": "bearer", "expires_in": lifetime}),
            )
        }
    })
    .await;
    (idp, issued)
}

async fn is_over(issued: &OnceLock<Instant>) {
    let is_over = || issued.get().is_some_and(|at| at.elapsed() >= SHORT);
    eventually(|| async { is_over() }).await;
}

#[tokio::test]
async fn a_token_that_runs_out_while_connecting_is_not_sent() {
    let (authority, directory) = authority();
    let tls = TlsAcceptor::from(authority.server(&[], ClientCertificate::Ignored));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let latch = Latch::closed();
    let held = latch.clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        held.wait().await;
        let mut raw = Raw::over(tls.accept(stream).await.unwrap());
        let request = raw.read_message().await;
        raw.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
        request
    });
    let (idp, issued) = short_lived().await;
    let lines = "tls: {ca: ca.pem}\ntimeouts: {connect: 20s}";
    let proxy = Proxy::start_in(directory.path(), &acme(&url, &idp.url(), lines)).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let asking = tokio::spawn(async move { caller.send("POST", "/x", "abc").await });
    latch.reached_by(1).await;
    is_over(&issued).await;
    latch.open();
    let request = serving.await.unwrap();
    assert_eq!(request.field("authorization"), Some("Bearer token-2"));
    assert_eq!(asking.await.unwrap().status, 200);
    let lines = proxy.access_lines(1).await;
    assert_eq!(
        (&lines[0]["token_generation"], &lines[0]["replayed"]),
        (&json!(2), &json!(false))
    );
}

#[tokio::test]
async fn a_token_that_runs_out_while_the_journal_is_written_is_not_sent() {
    let api = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (idp, issued) = short_lived().await;
    let directory = tempfile::tempdir().unwrap();
    // A journal that stands still for too long is only warned of.
    let yaml = format!(
        "journal: {{path: {}, on_failure: warn}}\n{}",
        directory.path().display(),
        acme(&api.url(), &idp.url(), "")
    );
    let proxy = Proxy::start(&yaml).await;
    let other = rusqlite::Connection::open(directory.path().join("journal.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut caller = Caller::connect(proxy.listen).await;
    let asking = tokio::spawn(async move { caller.send("POST", "/x", "abc").await });
    is_over(&issued).await;
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(asking.await.unwrap().status, 200);
    let captured = api.captured();
    let request = String::from_utf8_lossy(&captured[0]);
    assert!(request.contains("Bearer token-2"), "{request}");
}

#[tokio::test]
async fn a_key_in_the_body_lets_nothing_be_sent_again_where_that_is_forbidden() {
    let routes = "routes: [{path: /pay, replay: never, idempotency_field: /key}]";
    let rig = Rig::with(routes, |_| async { answer(401, "no") }).await;
    let request = Request::post("http://api.test/pay")
        .header("content-type", "application/json")
        .body(full("{\"key\": \"k-1\"}"));
    let reply = rig.caller().await.request(request.unwrap()).await;
    assert_eq!((reply.status.as_u16(), rig.api.count()), (401, 1));
}
