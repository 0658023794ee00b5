//! HTTP/2 towards providers: what they have not processed is sent again, a window is nobody's alone, and which HTTP is
//! spoken at all.

mod early_response;
mod fields;
mod flow_control;
mod settings;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Version};
use rustls::ServerConfig;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::support::caller::{Caller, Reply, read};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, FrameServer, Frames, HEADERS, OK, RST_STREAM, frame, goaway,
};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full, stream};
use crate::support::{Latch, acme, eventually, soon};

/// A proxy with a journal in front of a server that is written frame by frame.
struct Rig {
    _server: FrameServer,
    proxy: Proxy,
    _idp: Idp,
    _directory: TempDir,
}

impl Rig {
    async fn start<F>(
        keys: &str,
        serve: impl Fn(usize, Frames) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(keys, async |tls| FrameServer::start(tls, serve).await).await
    }

    async fn with(keys: &str, start: impl AsyncFnOnce(Arc<ServerConfig>) -> FrameServer) -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        authority.write(&directory.path().join("ca.pem"));
        let tls = authority.server(&["h2"], ClientCertificate::Ignored);
        let server = start(tls).await;
        let idp = Idp::counting().await;
        let proxy = proxy(directory.path(), &server.url, &idp, keys).await;
        Self {
            proxy,
            _server: server,
            _idp: idp,
            _directory: directory,
        }
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let mut caller = Caller::connect(self.proxy.listen).await;
        caller.send(method, path, body).await
    }

    /// Waits until so many requests are over and so many payments in doubt.
    async fn ends_with(&self, lines: usize, in_doubt: u32) {
        self.proxy.access_lines(lines).await;
        let unresolved = "bursar_journal_unresolved";
        self.proxy
            .metric_becomes(unresolved, &[], in_doubt.into())
            .await;
    }
}

async fn proxy(directory: &Path, url: &str, idp: &Idp, keys: &str) -> Proxy {
    let keys = format!("tls: {{ca: ca.pem}}\n{keys}");
    let journal = directory.join("journal");
    let acme = acme(url, &idp.url(), &keys);
    let yaml = format!("journal: {{path: {}}}\n{acme}", journal.display());
    Proxy::start_in(directory, &yaml).await
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// How a server says that it has not processed a request, and what it does then.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    Goaway(u32),
    GoawayInTwoSteps,
    GoawayAndEnd,
    GoawayAndReset,
    EndInTheSameWrite,
    Reset(u32),
}

/// Answers the first request, and refuses the second one.
async fn refuse(mut frames: Frames, refusal: Refusal) {
    let first = frames.request().await.unwrap();
    frames.answer(first).await;
    let Some(second) = frames.request().await else {
        return;
    };
    match refusal {
        Refusal::Goaway(error) => frames.write(goaway(first, error)).await,
        Refusal::GoawayInTwoSteps => {
            frames.write(goaway(0x7fff_ffff, 0)).await;
            frames.write(goaway(first, 0)).await;
        }
        Refusal::GoawayAndEnd => {
            frames.write(goaway(first, 0)).await;
            return frames.close().await;
        }
        Refusal::GoawayAndReset => {
            frames.write(goaway(first, 0)).await;
            return frames.reset();
        }
        Refusal::EndInTheSameWrite => {
            let both = [goaway(0x7fff_ffff, 0), goaway(first, 0)].concat();
            frames.write(both).await;
            return frames.close().await;
        }
        Refusal::Reset(error) => {
            let reset = frame(RST_STREAM, 0, second, &error.to_be_bytes());
            frames.write(reset).await;
        }
    }
    while let Some(stream) = frames.request().await {
        frames.answer(stream).await;
    }
}

#[tokio::test]
async fn what_a_server_has_not_processed_is_sent_again_whatever_it_does_then() {
    for refusal in [
        Refusal::Goaway(0),
        Refusal::Goaway(2),
        Refusal::Goaway(11),
        Refusal::Goaway(0xff),
        Refusal::GoawayInTwoSteps,
        Refusal::GoawayAndEnd,
        Refusal::GoawayAndReset,
        Refusal::EndInTheSameWrite,
        Refusal::Reset(7),
    ] {
        let rig = Rig::start("", move |number, mut frames| async move {
            if number == 0 {
                return refuse(frames, refusal).await;
            }
            while let Some(stream) = frames.request().await {
                frames.answer(stream).await;
            }
        })
        .await;
        // A worker has connections of its own, so that a caller stays with one.
        let mut caller = Caller::connect(rig.proxy.listen).await;
        for _ in 0..3 {
            let reply = caller.send("POST", "/pay", "amount").await;
            assert_eq!(reply.status, 200, "{refusal:?}: {reply:?}");
        }
        rig.ends_with(3, 0).await;
    }
}

#[tokio::test]
async fn what_a_server_may_have_processed_is_in_doubt_and_sent_once() {
    let seen = Arc::new(AtomicUsize::new(0));
    for error in [0, 2] {
        seen.store(0, Ordering::Relaxed);
        let count = seen.clone();
        let rig = Rig::start("", move |_, mut frames| {
            let count = count.clone();
            async move {
                if let Some(stream) = frames.request().await {
                    count.fetch_add(1, Ordering::Relaxed);
                    frames.write(goaway(stream, error)).await;
                    frames.close().await;
                }
            }
        })
        .await;
        let reply = rig.send("POST", "/pay", "amount").await;
        assert_eq!(reply.status, 502);
        assert_eq!(text(&reply.problem()["request_sent"]), "maybe");
        rig.ends_with(1, 1).await;
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_everywhere_was_not_sent() {
    let rig = Rig::start("", |_, mut frames| async move {
        while let Some(stream) = frames.request().await {
            let refused = frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]);
            frames.write(refused).await;
        }
    })
    .await;
    let reply = rig.send("POST", "/pay", "amount").await;
    assert_eq!(text(&reply.problem()["request_sent"]), "no");
    rig.ends_with(1, 0).await;
}

/// A server that refuses a body once its first part has come, and answers on its second connection.
async fn refuse_in_the_middle(number: usize, mut frames: Frames, bodies: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut body = Vec::new();
    while let Some(frame) = frames.next().await {
        if frame.kind != DATA {
            continue;
        }
        body.extend(&frame.payload);
        if number == 0 {
            frames.write(goaway(0, 0)).await;
            bodies.lock().unwrap().push(std::mem::take(&mut body));
        } else if frame.flags & 1 != 0 {
            frames.answer(frame.stream).await;
            bodies.lock().unwrap().push(std::mem::take(&mut body));
        }
    }
}

#[tokio::test]
async fn a_body_that_was_sent_in_part_goes_again_from_its_beginning_or_not_at_all() {
    for (keys, is_kept) in [("", true), ("replay_buffer: 4B", false)] {
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = bodies.clone();
        let rig = Rig::start(keys, move |number, frames| {
            refuse_in_the_middle(number, frames, seen.clone())
        })
        .await;
        let (mut sender, body) = stream();
        let request = Request::post("http://api.test/pay").body(body).unwrap();
        let mut caller = Caller::connect(rig.proxy.listen).await;
        let sending = tokio::spawn(async move {
            let answer = caller.begin(request).await.unwrap();
            read(answer).await.unwrap()
        });
        sender.send_data(Bytes::from("first")).await.unwrap();
        eventually(|| async { !bodies.lock().unwrap().is_empty() }).await;
        if is_kept {
            sender.send_data(Bytes::from(" second")).await.unwrap();
        }
        drop(sender);
        let reply = soon(sending).await.unwrap();
        let bodies = bodies.lock().unwrap().clone();
        if is_kept {
            assert_eq!(reply.status, 200);
            assert_eq!(bodies, [&b"first"[..], b"first second"]);
        } else {
            assert_eq!(text(&reply.problem()["request_sent"]), "no");
            assert_eq!(bodies, [b"first"]);
        }
    }
}

#[tokio::test]
async fn a_connection_that_was_ended_while_idle_gets_no_request() {
    let said = Latch::closed();
    let latch = said.clone();
    let rig = Rig::start("", move |number, mut frames| {
        let latch = latch.clone();
        async move {
            let first = frames.request().await.unwrap();
            frames.answer(first).await;
            if number == 0 {
                latch.wait().await;
                frames.write(goaway(first, 0)).await;
            }
            // It stays open, and says nothing more.
            assert!(number > 0 || frames.request().await.is_none());
        }
    })
    .await;
    let mut caller = Caller::connect(rig.proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
    said.open();
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
    rig.ends_with(2, 0).await;
}

#[tokio::test]
async fn a_server_that_takes_one_request_for_each_connection_gets_them_all_once() {
    const CALLERS: usize = 8;
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let rig = Rig::start("http: \"2\"", move |_, mut frames| {
        let count = count.clone();
        async move {
            let Some(first) = frames.request().await else {
                return;
            };
            count.fetch_add(1, Ordering::Relaxed);
            frames.answer(first).await;
            frames.write(goaway(first, 0)).await;
            while frames.next().await.is_some() {}
        }
    })
    .await;
    let listen = rig.proxy.listen;
    let callers = (0..CALLERS).map(|_| {
        tokio::spawn(async move {
            let mut caller = Caller::connect(listen).await;
            for _ in 0..5 {
                assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        soon(caller).await.unwrap();
    }
    rig.ends_with(CALLERS * 5, 0).await;
    assert_eq!(done.load(Ordering::Relaxed), CALLERS * 5);
}

/// A server that speaks both, and wants each request over HTTP/1.1, as it says with a reset or a GOAWAY.
#[tokio::test]
async fn a_server_that_wants_http1_gets_it_and_is_remembered() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let idp = Idp::counting().await;
    for (keys, statuses) in [("", &[200, 200][..]), ("http: \"2\"", &[502])] {
        let handshakes = Arc::new(AtomicUsize::new(0));
        let tls = authority.server(&["h2", "http/1.1"], ClientCertificate::Ignored);
        let count = handshakes.clone();
        let url = serve_both(tls, count).await;
        let proxy = proxy(directory.path(), &url, &idp, keys).await;
        let mut caller = Caller::connect(proxy.listen).await;
        for status in statuses {
            let reply = caller.send("POST", "/pay", "x").await;
            assert_eq!(reply.status, *status, "{reply:?}");
            if *status == 502 {
                assert_eq!(text(&reply.problem()["request_sent"]), "no");
            }
        }
        if keys.is_empty() {
            assert_eq!(handshakes.load(Ordering::Relaxed), 1);
        }
        drop(proxy);
        std::fs::remove_dir_all(directory.path().join("journal")).unwrap();
    }
}

/// Refuses over HTTP/2, which it counts, and answers over HTTP/1.1.
async fn serve_both(tls: Arc<ServerConfig>, http2: Arc<AtomicUsize>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let accepting = tokio_rustls::TlsAcceptor::from(tls.clone()).accept(tcp);
            let mut stream = accepting.await.unwrap();
            let http2 = http2.clone();
            tokio::spawn(async move {
                let mut space = [0; 4096];
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2.fetch_add(1, Ordering::Relaxed);
                    let refused = [0, 0, 0, 0x0d];
                    let both = [frame(4, 0, 0, b""), frame(4, 1, 0, b"")].concat();
                    stream.write_all(&both).await.unwrap();
                    let mut seen: Vec<u8> = Vec::new();
                    let head = [1, 4, 0, 0, 0, 1];
                    while !seen.windows(6).any(|part| part == head) {
                        let read = stream.read(&mut space).await.unwrap();
                        seen.extend(&space[..read]);
                    }
                    let reset = frame(RST_STREAM, 0, 1, &refused);
                    stream.write_all(&reset).await.unwrap();
                }
                while let Ok(1..) = stream.read(&mut space).await {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn the_http_that_is_wanted_is_spoken_or_nothing_is_sent() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let idp = Idp::counting().await;
    let none: &[&str] = &[];
    let (both, old) = (&["h2", "http/1.1"][..], &["http/1.1"][..]);
    let (one, two) = (Some(Version::HTTP_11), Some(Version::HTTP_2));
    for (http, offered, spoken) in [
        ("auto", both, two),
        ("auto", old, one),
        ("auto", none, one),
        ("\"1.1\"", both, one),
        ("1.1", none, one),
        ("\"2\"", both, two),
        ("2", old, None),
        ("\"2\"", none, None),
    ] {
        let tls = authority.server(offered, ClientCertificate::Ignored);
        let api = Upstream::with_tls(tls, |_| async { answer(200, "") }).await;
        let keys = format!("http: {http}");
        let proxy = proxy(directory.path(), &api.url(), &idp, &keys).await;
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send("POST", "/pay", "x").await;
        let seen = api.seen().first().map(|seen| seen.version);
        assert_eq!(seen, spoken, "{http} {offered:?}");
        if spoken.is_none() {
            let problem = reply.problem();
            assert_eq!(text(&problem["request_sent"]), "no");
            assert_eq!(text(&problem["reason"]), "upstream_tls");
            assert!(text(&problem["detail"]).contains("HTTP/2"));
        }
        drop(proxy);
        std::fs::remove_dir_all(directory.path().join("journal")).unwrap();
    }
}

#[tokio::test]
async fn without_tls_http2_is_spoken_where_it_is_wanted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::new(());
            respond.send_response(head, true).unwrap();
        }
    });
    let idp = Idp::counting().await;
    let yaml = acme(&url, &idp.url(), "http: \"2\"");
    let proxy = Proxy::start(&yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
}

#[tokio::test]
async fn a_connection_carries_one_payment_at_a_time_unless_http2_is_all_that_is_wanted() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("ca.pem"));
    let idp = Idp::counting().await;
    for (keys, methods, connections) in [
        ("", ["POST", "POST"], [0, 1]),
        ("", ["POST", "GET"], [0, 0]),
        ("http: \"2\"", ["POST", "POST"], [0, 0]),
    ] {
        let latch = Latch::closed();
        let held = latch.clone();
        let tls = authority.server(&["h2"], ClientCertificate::Ignored);
        let api = Upstream::with_tls(tls, move |request| {
            let held = held.clone();
            async move {
                if request.uri().path() == "/held" {
                    held.wait().await;
                }
                answer(200, "")
            }
        })
        .await;
        let proxy = proxy(directory.path(), &api.url(), &idp, keys).await;
        // One connection, so that one worker serves both. The first request brings the server's settings.
        let mut caller = Caller::connect_http2(proxy.listen).await;
        assert_eq!(caller.send("GET", "/x", "").await.status, 200);
        let mut answers = Vec::new();
        for (number, method) in methods.into_iter().enumerate() {
            let request = Request::builder().method(method);
            let request = request.uri("http://api.test/held").body(full(""));
            answers.push(caller.begin_later(request.unwrap()).await);
            latch.reached_by(number + 1).await;
        }
        latch.open();
        for answer in answers {
            assert_eq!(soon(answer).await.unwrap().unwrap().status(), 200);
        }
        let seen: Vec<_> = api
            .seen()
            .iter()
            .skip(1)
            .map(|seen| seen.connection)
            .collect();
        assert_eq!(seen, connections, "{keys} {methods:?}");
        drop(proxy);
        std::fs::remove_dir_all(directory.path().join("journal")).unwrap();
    }
}

#[tokio::test]
async fn a_connection_on_which_a_payment_timed_out_gets_no_other_request_and_ends_with_its_last() {
    let timed_out = Latch::closed();
    let goes_on = timed_out.clone();
    let (ended, mut ends) = mpsc::channel(1);
    let rig = Rig::start("timeouts: {head: 300ms}", move |number, mut frames| {
        let (goes_on, ended) = (goes_on.clone(), ended.clone());
        async move {
            let first = frames.request().await.unwrap();
            if number > 0 {
                return frames.answer(first).await;
            }
            frames.write(frame(HEADERS, END_HEADERS, first, OK)).await;
            let _lost = frames.request().await;
            goes_on.wait().await;
            frames.write(frame(DATA, END_STREAM, first, b"read")).await;
            while frames.next().await.is_some() {}
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    let request = Request::get("http://api.test/read").body(full(""));
    let reading = caller.begin_later(request.unwrap()).await;
    let reading = soon(reading).await.unwrap().unwrap();
    assert_eq!(caller.send("POST", "/lost", "").await.status, 504);
    assert_eq!(caller.send("POST", "/next", "").await.status, 200);
    timed_out.open();
    assert_eq!(read(reading).await.unwrap().text(), "read");
    soon(ends.recv()).await.unwrap();
}
