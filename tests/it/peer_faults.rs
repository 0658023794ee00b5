//! Peers that break, hang, leave and garble: what callers get, and what is never sent twice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::caller::{self, Caller};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full, stream};
use crate::support::{Latch, Rig, acme, eventually, soon};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const POST: &str = "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc";

/// One byte is missing.
fn unfinished() -> &'static str {
    POST.strip_suffix('c').unwrap()
}

async fn proxy(api: &str, idp: &Idp, lines: &str) -> Proxy {
    Proxy::start(&acme(api, &idp.url(), lines)).await
}

/// Neither in-flight requests nor upstream connections are left over.
async fn assert_idle(proxy: &Proxy) {
    let acme = [("provider", "acme")];
    proxy
        .metric_becomes("bursar_requests_in_flight", &acme, 0.0)
        .await;
}

#[tokio::test]
async fn what_may_have_reached_the_provider_is_never_sent_again() {
    for (fault, on_reused) in [
        ("reset", false),
        ("reset", true),
        ("close", false),
        ("close", true),
        ("HELLO\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Le", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            false,
        ),
        ("HTTP/1.1 2xx OK\r\n\r\n", false),
    ] {
        let api = RawUpstream::start(move |_, mut raw| async move {
            if on_reused {
                raw.read_message().await;
                raw.write(OK).await;
            }
            raw.read_message().await;
            match fault {
                "reset" => raw.reset(),
                "close" => {}
                garbage => raw.write(garbage).await,
            }
        })
        .await;
        let idp = Idp::counting().await;
        let proxy = proxy(&api.url(), &idp, "").await;
        let mut caller = Caller::connect(proxy.listen).await;
        if on_reused {
            assert_eq!(caller.send("POST", "/first", "abc").await.status, 200);
        }
        let reply = caller.send("POST", "/second", "abc").await;
        let problem = reply.problem();
        assert_eq!(
            (
                reply.status.as_u16(),
                &problem["reason"],
                &problem["request_sent"]
            ),
            (502, &json!("upstream_protocol"), &json!("maybe")),
            "{fault} {on_reused}"
        );
        assert_eq!(
            (api.count("/second"), api.connections()),
            (1, 1),
            "{fault} {on_reused}"
        );
        assert_eq!(idp.calls(), 1);
        assert_idle(&proxy).await;
    }
}

#[tokio::test]
async fn only_a_stream_that_was_refused_unprocessed_is_sent_again() {
    for (reason, status, requests) in [
        (h2::Reason::REFUSED_STREAM, 200, 2),
        (h2::Reason::INTERNAL_ERROR, 502, 1),
        (h2::Reason::CANCEL, 502, 1),
    ] {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        authority.write(&directory.path().join("ca.pem"));
        let tls = TlsAcceptor::from(authority.server(&["h2"], ClientCertificate::Ignored));
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let requests_seen = seen.clone();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = tls.accept(stream).await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let first = {
                    let mut seen = requests_seen.lock().unwrap();
                    seen.push(format!("{} {}", request.method(), request.uri().path()));
                    seen.len() == 1
                };
                if first {
                    respond.send_reset(reason);
                } else {
                    let answer = http::Response::new(());
                    respond.send_response(answer, true).unwrap();
                }
            }
        });
        let idp = Idp::counting().await;
        let yaml = acme(&url, &idp.url(), "tls: {ca: ca.pem}");
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send("POST", "/x", "abc").await;
        assert_eq!(reply.status, status, "{reason:?}");
        assert_eq!(
            *seen.lock().unwrap(),
            vec!["POST /x"; requests],
            "{reason:?}"
        );
        serving.abort();
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_provider_closed_costs_nothing() {
    for reset in [false, true] {
        let api = RawUpstream::start(move |_, mut raw| async move {
            raw.read_message().await;
            raw.write(OK).await;
            if reset {
                raw.reset();
            }
        })
        .await;
        let idp = Idp::counting().await;
        let proxy = proxy(&api.url(), &idp, "").await;
        let mut caller = Caller::connect(proxy.listen).await;
        for requests in 1..=5 {
            let reply = caller.send("POST", "/x", "abc").await;
            assert_eq!(reply.status, 200, "{reset}: {reply:?}");
            assert_eq!(api.connections(), requests);
            let upstream = [("side", "upstream")];
            proxy
                .metric_becomes("bursar_connections", &upstream, 0.0)
                .await;
        }
    }
}

#[tokio::test]
async fn connections_are_used_again_until_pool_idle_is_over() {
    let rig = Rig::with("timeouts: {pool_idle: 1s}", |_| async { answer(200, "x") }).await;
    for _ in 0..3 {
        assert_eq!(rig.get("/x").await.status, 200);
    }
    let upstream = [("side", "upstream")];
    rig.proxy
        .metric_becomes("bursar_connections", &upstream, 0.0)
        .await;
    assert_eq!(rig.get("/x").await.status, 200);
    let connections: Vec<usize> = rig.api.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1]);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_relayed_at_once() {
    let api = RawUpstream::start(|_, mut raw| async move {
        raw.read_head().await;
        raw.write(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
        )
        .await;
        raw.closed().await;
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "").await;
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut caller = Raw::connect(proxy.listen).await;
        let head = format!("POST /x HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n");
        caller.write(head).await;
        caller.write("5\r\nbegin\r\n").await;
        let reply = caller.read_message().await;
        assert_eq!((reply.status(), reply.text()), (413, "big"));
    }
    assert_eq!(api.connections(), 2);
    assert_idle(&proxy).await;
}

#[tokio::test]
async fn an_early_answer_can_be_read_after_the_whole_request_was_written() {
    let api = RawUpstream::start(|_, mut raw| async move {
        raw.read_head().await;
        raw.write(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
        )
        .await;
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "").await;
    let mut caller = Raw::connect(proxy.listen).await;
    caller
        .write("POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 900000\r\n\r\n")
        .await;
    proxy.access_lines(1).await;
    for _ in 0..90 {
        caller.write(vec![b'x'; 10_000]).await;
        tokio::task::yield_now().await;
    }
    let reply = caller.read_message().await;
    assert_eq!((reply.status(), reply.text()), (413, "big"));
}

#[tokio::test]
async fn the_limit_for_the_head_counts_from_the_end_of_the_request() {
    // The upload takes longer than timeouts.head; what is measured is the wait after it.
    let api = RawUpstream::start(|number, mut raw| async move {
        raw.read_message().await;
        if number == 0 {
            raw.write(OK).await;
        }
        raw.closed().await;
    })
    .await;
    let idp = Idp::counting().await;
    let limit = Duration::from_millis(700);
    let proxy = proxy(&api.url(), &idp, "timeouts: {head: 700ms, idle: 20s}").await;
    for (number, status) in [(0, 200), (1, 504)] {
        let mut caller = Raw::connect(proxy.listen).await;
        caller.write(POST.strip_suffix("bc").unwrap()).await;
        eventually(|| async { api.count("\r\n\r\na") > number }).await;
        tokio::time::sleep(limit + limit / 5).await;
        let sent = tokio::time::Instant::now();
        let reply = caller.ask("bc").await;
        assert_eq!(reply.status(), status);
        assert!(status == 200 || sent.elapsed() >= limit);
    }
    assert_eq!(api.count("POST"), 2);
}

#[tokio::test]
async fn the_limit_for_the_head_counts_anew_for_each_request_on_a_connection() {
    let limit = Duration::from_secs(2);
    let api = RawUpstream::start(move |_, mut raw| async move {
        raw.read_message().await;
        raw.write(OK).await;
        raw.read_message().await;
        tokio::time::sleep(limit / 4).await;
        raw.write(OK).await;
        raw.read_message().await;
        raw.closed().await;
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "timeouts: {head: 2s, idle: 20s}").await;
    let mut caller = Raw::connect(proxy.listen).await;
    assert_eq!(caller.ask(POST).await.status(), 200);
    // The first request's limit is over.
    tokio::time::sleep(limit + limit / 4).await;
    assert_eq!(caller.ask(POST).await.status(), 200);
    let sent = tokio::time::Instant::now();
    assert_eq!(caller.ask(POST).await.status(), 504);
    assert!(sent.elapsed() >= limit);
    assert_eq!(api.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_never_looks_complete() {
    for (answer, complete) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
            false,
        ),
        // Nothing of the body: the head alone has to get through.
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        // Without either the end of the connection is the end of the answer.
        ("HTTP/1.1 200 OK\r\n\r\nhalf", true),
    ] {
        for fault in ["close", "reset", "stall"] {
            if complete && fault != "close" {
                continue;
            }
            let api = RawUpstream::start(move |_, mut raw| async move {
                raw.read_message().await;
                raw.write(answer).await;
                match fault {
                    "stall" => raw.closed().await,
                    "reset" => raw.reset(),
                    _ => {}
                }
            })
            .await;
            let idp = Idp::counting().await;
            let proxy = proxy(&api.url(), &idp, "timeouts: {idle: 400ms}").await;
            for http2 in [false, true] {
                let mut caller = if http2 {
                    Caller::connect_http2(proxy.listen).await
                } else {
                    Caller::connect(proxy.listen).await
                };
                let request = Request::get("http://api.test/x").body(full("")).unwrap();
                let reply = caller.begin(request).await;
                let reply =
                    reply.unwrap_or_else(|error| panic!("{answer} {fault} {http2}: {error}"));
                assert_eq!(reply.status(), 200);
                let read = caller::read(reply).await;
                assert_eq!(read.is_ok(), complete, "{answer} {fault} {http2}: {read:?}");
            }
            let lines = proxy.access_lines(2).await;
            let is_garbled = answer.contains("zz");
            for line in lines {
                let reason = match (complete, fault, is_garbled) {
                    (true, ..) => serde_json::Value::Null,
                    (_, "stall", false) => json!("upstream_timeout"),
                    _ => json!("upstream_protocol"),
                };
                assert_eq!(
                    (&line["status"], &line["reason"]),
                    (&json!(200), &reason),
                    "{answer} {fault}"
                );
            }
            assert_idle(&proxy).await;
        }
    }
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_request_along() {
    // Whether it left or sent nonsense cannot be told; a caller that ended only its side reads the answer.
    a_caller_leaves("upload", 400).await;
    a_caller_leaves("read", 200).await;
}

#[tokio::test]
async fn a_request_is_seen_through_when_its_caller_leaves_while_it_waits() {
    // A caller that has ended its side may still read: one that left cannot be told from it, and what
    // becomes of its payment is better known than not.
    let (arrived, release) = (Latch::closed(), Latch::closed());
    let (here, held) = (arrived.clone(), release.clone());
    let rig = Rig::start(move |_| {
        let (arrived, release) = (here.clone(), held.clone());
        async move {
            arrived.open();
            release.wait().await;
            answer(200, "paid")
        }
    })
    .await;
    for leaves in [true, false] {
        let mut caller = Raw::connect(rig.proxy.listen).await;
        caller.write(POST).await;
        arrived.wait().await;
        if leaves {
            drop(caller);
            release.open();
        } else {
            caller.finish().await;
            assert_eq!(caller.read_message().await.text(), "paid");
        }
    }
    assert_eq!(rig.api.count(), 2);
    for line in rig.proxy.access_lines(2).await {
        assert_eq!(line["status"], 200);
    }
    assert_idle(&rig.proxy).await;
}

/// While it uploads, or while it reads the answer.
async fn a_caller_leaves(stage: &'static str, status: u16) {
    let gone = Latch::closed();
    let (seen, arrived) = (gone.clone(), Latch::closed());
    let here = arrived.clone();
    let api = RawUpstream::start(move |_, mut raw| {
        let (gone, arrived) = (seen.clone(), here.clone());
        async move {
            raw.read_head().await;
            arrived.open();
            if stage == "read" {
                raw.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
                    .await;
                raw.write_until_blocked(100_000_000).await;
            }
            // The abort is all that ends this.
            raw.closed().await;
            gone.open();
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "").await;
    let mut caller = Raw::connect(proxy.listen).await;
    let request = if stage == "upload" {
        unfinished()
    } else {
        POST
    };
    caller.write(request).await;
    let acme = [("provider", "acme")];
    proxy
        .metric_becomes("bursar_requests_in_flight", &acme, 1.0)
        .await;
    arrived.wait().await;
    if stage == "read" {
        caller.read_head().await;
    }
    caller.reset();
    assert_idle(&proxy).await;
    gone.wait().await;
    let lines = proxy.access_lines(1).await;
    assert_eq!(lines[0]["status"], status, "{stage}: {}", lines[0]);
    let status = status.to_string();
    let (name, label) = match stage {
        "read" => ("bursar_requests_total", ("status", &*status)),
        _ => (
            "bursar_refusals_total",
            ("reason", lines[0]["reason"].as_str().unwrap()),
        ),
    };
    assert_eq!(
        proxy.metric(name, &[label, ("provider", "acme")]).await,
        1.0
    );
}

#[tokio::test]
async fn an_http_2_caller_that_gives_up_takes_its_request_along() {
    let gone = Latch::closed();
    let seen = gone.clone();
    let api = RawUpstream::start(move |_, mut raw| {
        let gone = seen.clone();
        async move {
            raw.read_head().await;
            raw.closed().await;
            gone.open();
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "").await;
    let mut caller = Caller::connect_http2(proxy.listen).await;
    let request = Request::get("http://api.test/x").body(full("")).unwrap();
    tokio::select! {
        _ = caller.begin(request) => panic!("it was answered"),
        () = eventually(|| async { api.count("GET") == 1 }) => {}
    }
    gone.wait().await;
    assert_idle(&proxy).await;
    let lines = proxy.access_lines(1).await;
    assert_eq!(lines[0]["status"], 499);
}

#[tokio::test]
async fn a_caller_whose_upload_stalls_is_told_so() {
    let gone = Latch::closed();
    let seen = gone.clone();
    let api = RawUpstream::start(move |_, mut raw| {
        let gone = seen.clone();
        async move {
            assert!(
                raw.try_read_message().await.is_err(),
                "the upload looks complete"
            );
            gone.open();
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "timeouts: {idle: 200ms}").await;
    let mut caller = Raw::connect(proxy.listen).await;
    let reply = caller.ask(unfinished()).await;
    assert_eq!(
        (reply.status(), reply.field("connection")),
        (408, Some("close"))
    );
    assert!(reply.text().contains("\"request_timeout\""), "{reply:?}");
    gone.wait().await;
    assert_idle(&proxy).await;
}

#[tokio::test]
async fn a_broken_upload_does_not_look_complete_to_the_provider() {
    let api = RawUpstream::start(|_, mut raw| async move {
        assert!(
            raw.try_read_message().await.is_err(),
            "the upload looks complete"
        );
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = proxy(&api.url(), &idp, "").await;
    let chunked =
        "POST /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let cases = [(chunked, "nonsense\r\n"), (chunked, ""), (unfinished(), "")];
    for (number, (request, rest)) in cases.into_iter().enumerate() {
        let mut caller = Raw::connect(proxy.listen).await;
        caller.write(request).await;
        let arrived = || async {
            let captured = api.captured();
            let last = captured.get(number);
            last.is_some_and(|last| last.ends_with(b"ab") || last.ends_with(b"abc\r\n"))
        };
        eventually(arrived).await;
        caller.write(rest).await;
        caller.finish().await;
        let reply = caller.read_message().await;
        assert_eq!(reply.status(), 400, "{request}{rest}");
        assert!(reply.text().contains("\"bad_request\""), "{reply:?}");
    }
    assert_idle(&proxy).await;
}

#[tokio::test]
async fn a_caller_that_ends_its_side_after_the_request_still_gets_the_answer() {
    let latch = Latch::closed();
    let held = latch.clone();
    let rig = Rig::start(move |_| {
        let held = held.clone();
        async move {
            held.wait().await;
            answer(200, "late")
        }
    })
    .await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    caller.write(POST).await;
    caller.finish().await;
    latch.reached_by(1).await;
    latch.open();
    assert_eq!(caller.read_message().await.text(), "late");
}

#[tokio::test]
async fn connections_without_a_request_are_harmless() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    Raw::connect(rig.proxy.listen).await.reset();
    let mut silent = Raw::connect(rig.proxy.listen).await;
    silent.finish().await;
    soon(silent.closed()).await;
    let mut half = Raw::connect(rig.proxy.listen).await;
    half.write("GET /x HT").await;
    half.reset();
    let idle = Raw::connect(rig.proxy.listen).await;
    assert_eq!(rig.get("/x").await.status, 200);
    drop(idle);
    let callers = [("side", "caller")];
    rig.proxy
        .metric_becomes("bursar_connections", &callers, 0.0)
        .await;
    assert_eq!(
        rig.proxy
            .metric("bursar_refusals_total", &[("reason", "bad_request")])
            .await,
        0.0
    );
    rig.proxy.access_lines(1).await;
}

#[tokio::test]
async fn a_provider_in_trouble_does_not_hold_up_another() {
    let latch = Latch::closed();
    let held = latch.clone();
    let slow = Upstream::start(move |_| {
        let held = held.clone();
        async move {
            held.wait().await;
            answer(200, "slow")
        }
    });
    let (slow, quick) = (
        slow.await,
        Upstream::start(|_| async { answer(200, "quick") }).await,
    );
    let (idp, other) = (Idp::counting().await, Idp::counting().await);
    let second = acme(&quick.url(), &other.url(), "")
        .replace("acme:", "other:")
        .replace("api.test", "other.test");
    let yaml = format!(
        "{}{}",
        acme(&slow.url(), &idp.url(), ""),
        second.strip_prefix("providers:\n").unwrap()
    );
    let proxy = Proxy::start(&yaml).await;
    let mut waiting = Raw::connect(proxy.listen).await;
    waiting.write(POST).await;
    latch.reached_by(1).await;
    let mut caller = Raw::connect(proxy.listen).await;
    let reply = caller
        .ask("GET http://other.test/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(reply.text(), "quick");
    latch.open();
    assert_eq!(waiting.read_message().await.text(), "slow");
}

#[tokio::test]
async fn a_pause_in_an_upload_is_no_stall_while_bytes_come() {
    let rig = Rig::with("timeouts: {idle: 1s, head: 1s}", |request| async move {
        answer(200, request.into_body())
    })
    .await;
    let (mut sender, body) = stream();
    let request = Request::post("http://api.test/x").body(body).unwrap();
    let mut caller = rig.caller().await;
    let (reply, ()) = tokio::join!(caller.request(request), async {
        // Pauses below the limit, and longer than it together.
        for _ in 0..4 {
            sender.send_data("x".into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        drop(sender);
    });
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "xxxx"));
}
