//! A connection that is not busy rests between its requests: hyper's part of it is gone. Its caller must not be
//! able to tell.

use std::path::Path;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::idp::Idp;
use crate::support::metrics::Scrape;
use crate::support::proxy::Program;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, client};
use crate::support::upstream::{Upstream, answer};
use crate::support::{Latch, acme, eventually, soon};
use crate::support::{without_request_id, write_intercepting};

/// More than every buffer on its way holds.
const LARGE: usize = 32 << 20;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Connection = Raw<Box<dyn Stream>>;

/// How a caller's connection comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Clear,
    Tls,
    /// TLS in a tunnel, which is in clear.
    Intercepted,
}

struct Rig {
    api: Upstream,
    /// For answers to `/held`.
    latch: Latch,
    _idp: Idp,
    program: Program,
    way: Way,
}

impl Rig {
    async fn start(way: Way, top: &str) -> Self {
        let latch = Latch::closed();
        let held = latch.clone();
        let api = Upstream::start(move |request| {
            let latch = held.clone();
            async move {
                match request.uri().path() {
                    "/held" => latch.wait().await,
                    "/large" => return answer(200, vec![b'x'; LARGE]),
                    _ => {}
                }
                answer(200, request.into_body())
            }
        })
        .await;
        let idp = Idp::counting().await;
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let tls = match way {
            Way::Clear => "",
            Way::Tls => {
                let authority = Authority::new();
                authority.write(&place.join("ca.pem"));
                let (certificate, key) = authority.sign(&["api.test"], "");
                std::fs::write(place.join("server.pem"), certificate).unwrap();
                std::fs::write(place.join("server.key"), key).unwrap();
                "tls: {certificate: server.pem, key: server.key}\n"
            }
            Way::Intercepted => {
                write_intercepting(place, &["api.test"]);
                "intercept: {ca: {certificate: ca.pem, key: ca.key}}\n"
            }
        };
        let yaml = format!("{tls}{top}{}", acme(&api.url(), &idp.url(), ""));
        let program =
            Program::start_in(directory, &yaml, "info,bursar::server::accept=trace").await;
        Self {
            api,
            latch,
            _idp: idp,
            program,
            way,
        }
    }

    async fn connect(&self) -> Connection {
        let mut raw = Raw::connect(self.program.listen).await;
        if self.way == Way::Clear {
            return Raw::over(Box::new(raw.into_stream()));
        }
        if self.way == Way::Intercepted {
            raw.write("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
                .await;
            assert_eq!(
                without_request_id(&raw.read_head().await),
                "HTTP/1.1 200 OK"
            );
        }
        let before = self.rests();
        let stream = tls(self.program.directory(), raw.into_stream()).await;
        if self.way == Way::Intercepted {
            // Nobody waits for its first byte to know which HTTP it speaks, so it rests before that.
            self.rest(before).await;
        }
        Raw::over(Box::new(stream))
    }

    fn rests(&self) -> usize {
        let log = self.program.logged();
        log.matches("caller connection rests").count()
    }

    /// Waits until a connection rests.
    async fn rest(&self, before: usize) {
        eventually(|| async { self.rests() == before + 1 }).await;
    }

    /// Waits for as long as it takes another connection to rest that was busy; nothing else rests meanwhile.
    async fn a_while(&self) {
        let mut other = self.connect().await;
        for _ in 0..2 {
            ask_and_rest(self, &mut other, &get("/other")).await;
        }
    }

    fn is_asked_once(&self, path: &str) {
        let seen = self.api.seen();
        let times = seen.iter().filter(|seen| seen.target == path).count();
        assert_eq!(times, 1, "{path}");
    }
}

async fn tls(directory: &Path, stream: TcpStream) -> impl Stream + use<> {
    let config = client(&directory.join("ca.pem"), None, &["http/1.1"]);
    let name = ServerName::try_from("api.test").unwrap();
    let connected = TlsConnector::from(config).connect(name, stream);
    soon(connected).await.unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n")
}

/// A request, or what is left of one, its answer, and the rest after it.
async fn ask_and_rest(rig: &Rig, raw: &mut Connection, request: &str) {
    let before = rig.rests();
    assert_eq!(raw.ask(request).await.status(), 200);
    rig.rest(before).await;
}

/// Requests after a rest, whole and in pieces. Each is sent on once, and nothing that is under way rests.
async fn rests_between_requests_only(way: Way) {
    let rig = Rig::start(way, "").await;
    let mut raw = rig.connect().await;
    ask_and_rest(&rig, &mut raw, &get("/1")).await;
    ask_and_rest(&rig, &mut raw, &get("/2")).await;
    // An empty line is nothing yet; half of one could be more.
    let before = rig.rests();
    raw.write("\r\n").await;
    rig.rest(before).await;
    raw.write("\r").await;
    rig.a_while().await;
    ask_and_rest(&rig, &mut raw, &format!("\n{}", get("/3"))).await;
    // Half a head, behind a request and alone.
    raw.write(format!("{}GET /5 HTT", get("/4"))).await;
    assert_eq!(raw.read_message().await.status(), 200);
    rig.a_while().await;
    let rest = "P/1.1\r\nHost: api.test\r\n\r\n";
    ask_and_rest(&rig, &mut raw, rest).await;
    raw.write("G").await;
    rig.a_while().await;
    ask_and_rest(&rig, &mut raw, get("/6").trim_start_matches('G')).await;
    // Half a body.
    raw.write("POST /7 HTTP/1.1\r\nHost: api.test\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    rig.a_while().await;
    let before = rig.rests();
    assert_eq!(raw.ask("def").await.text(), "abcdef");
    rig.rest(before).await;
    // Two at once, and the answer to the first comes late.
    raw.write(get("/held") + &get("/8")).await;
    rig.latch.reached_by(1).await;
    rig.a_while().await;
    let before = rig.rests();
    rig.latch.open();
    for _ in 0..2 {
        assert_eq!(raw.read_message().await.status(), 200);
    }
    rig.rest(before).await;
    // An answer that is not read.
    raw.write(get("/large")).await;
    assert!(raw.read_head().await.starts_with("HTTP/1.1 200"));
    rig.a_while().await;
    let before = rig.rests();
    assert!(raw.read_exact(LARGE).await.iter().all(|byte| *byte == b'x'));
    rig.rest(before).await;
    for path in ["1", "2", "3", "4", "5", "6", "7", "held", "8", "large"] {
        rig.is_asked_once(&format!("/{path}"));
    }
    // Its caller leaves.
    raw.finish().await;
    assert_eq!(raw.read_to_end().await.unwrap(), b"");
}

#[tokio::test]
async fn in_clear_a_connection_rests_between_requests_only() {
    rests_between_requests_only(Way::Clear).await;
}

#[tokio::test]
async fn with_tls_a_connection_rests_between_requests_only() {
    rests_between_requests_only(Way::Tls).await;
}

#[tokio::test]
async fn in_an_intercepted_tunnel_a_connection_rests_between_requests_only() {
    rests_between_requests_only(Way::Intercepted).await;
}

/// The time is long, because it runs from the first byte on, and a busy machine may need seconds until the rest begins.
async fn a_rest_ends_with_idle_timeout(way: Way) {
    let rig = Rig::start(way, "limits: {idle_timeout: 15s}\n").await;
    let mut raw = rig.connect().await;
    ask_and_rest(&rig, &mut raw, &get("/1")).await;
    assert_eq!(raw.read_to_end().await.unwrap(), b"", "{way:?}");
    // It is counted once the connection is closed.
    let labels = [("limit", "idle_timeout")];
    eventually(|| async {
        let scrape = Scrape::of(rig.program.admin).await;
        scrape.get("bursar_limit_reached_total", &labels) == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn a_rest_ends_with_idle_timeout_and_is_counted() {
    let ways = [Way::Clear, Way::Tls, Way::Intercepted];
    let [clear, tls, intercepted] = ways.map(a_rest_ends_with_idle_timeout);
    tokio::join!(clear, tls, intercepted);
}

#[tokio::test]
async fn a_head_that_ends_a_rest_has_its_own_time() {
    let rig = Rig::start(Way::Clear, "limits: {head_timeout: 500ms}\n").await;
    let mut raw = rig.connect().await;
    ask_and_rest(&rig, &mut raw, &get("/1")).await;
    assert_eq!(raw.ask("GET /2 HTTP/1.1\r\n").await.status(), 408);
    raw.closed().await;
}

#[tokio::test]
async fn connections_that_rest_are_closed_at_the_end_and_serve_until_then() {
    for way in [Way::Clear, Way::Tls, Way::Intercepted] {
        let rig = Rig::start(way, "drain_delay: 4s\ndrain_timeout: 600s\n").await;
        let mut raw = rig.connect().await;
        ask_and_rest(&rig, &mut raw, &get("/1")).await;
        let mut used = rig.connect().await;
        ask_and_rest(&rig, &mut used, &get("/2")).await;
        rig.program.signal("TERM").await;
        eventually(|| async { rig.program.logged().contains("drain") }).await;
        let last = used.ask(get("/3")).await;
        assert_eq!(
            (last.status(), last.field("connection")),
            (200, Some("close"))
        );
        assert_eq!(raw.read_to_end().await.unwrap(), b"", "{way:?}");
        let (status, _) = rig.program.ended().await;
        assert_eq!(status, Some(0), "{way:?}");
    }
}

#[tokio::test]
async fn a_connection_becomes_a_tunnel_after_a_rest() {
    let rig = Rig::start(Way::Intercepted, "").await;
    let mut outer = Raw::connect(rig.program.listen).await;
    let before = rig.rests();
    assert_eq!(outer.ask(get("/1")).await.status(), 200);
    rig.rest(before).await;
    let connect = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n";
    outer.write(connect).await;
    assert_eq!(
        without_request_id(&outer.read_head().await),
        "HTTP/1.1 200 OK"
    );
    let inner = tls(rig.program.directory(), outer.into_stream()).await;
    assert_eq!(Raw::over(inner).ask(get("/2")).await.status(), 200);
}
