//! Limits of connections and requests: who reaches one gets a clear answer, nobody else notices, and it is
//! counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::caller::{Caller, basic};
use crate::support::idp::Idp;
use crate::support::metrics::Scrape;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::{Message, Raw};
use crate::support::upstream::{Upstream, answer};
use crate::support::{Latch, acme, eventually};

/// Servers, and the proxy before them with these lines at the top of its file.
struct Rig {
    _api: Upstream,
    _idp: Idp,
    proxy: Proxy,
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n";

impl Rig {
    async fn start(top: &str) -> Self {
        let api = Upstream::start(|_| async { answer(200, "fine") }).await;
        Self::of(api, top, "").await
    }

    async fn of(api: Upstream, top: &str, provider: &str) -> Self {
        let idp = Idp::counting().await;
        let yaml = acme(&api.url(), &idp.url(), provider);
        let proxy = Proxy::start(&format!("{top}\n{yaml}")).await;
        Self {
            _api: api,
            _idp: idp,
            proxy,
        }
    }

    async fn raw(&self) -> Raw {
        Raw::connect(self.proxy.listen).await
    }

    async fn reached(&self, limit: &str, times: f64) {
        let labels = [("limit", limit)];
        self.proxy
            .metric_becomes("bursar_limit_reached_total", &labels, times)
            .await;
    }

    /// Nobody else has noticed anything.
    async fn is_well(&self) {
        assert_eq!(self.raw().await.ask(GET).await.status(), 200);
    }
}

fn is_refused(message: &Message, status: u16, reason: &str) {
    assert_eq!(message.status(), status, "{}", message.head);
    assert!(message.text().contains(&format!("\"{reason}\"")));
}

#[tokio::test]
async fn heads_and_targets_beyond_their_limits_are_refused_and_counted() {
    let rig = Rig::start("limits: {headers: 10, header_size: 8KiB, target_size: 100B}").await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "x".repeat(100)
    );
    is_refused(&rig.raw().await.ask(long).await, 414, "target_too_long");
    let absolute = format!(
        "GET http://api.test/{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(85)
    );
    is_refused(&rig.raw().await.ask(absolute).await, 414, "target_too_long");
    let fits = format!(
        "GET http://api.test/{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(84)
    );
    assert_eq!(rig.raw().await.ask(fits).await.status(), 200);
    let many = format!(
        "GET /x HTTP/1.1\r\nHost: api.test\r\n{}\r\n",
        "A: b\r\n".repeat(10)
    );
    is_refused(&rig.raw().await.ask(many).await, 431, "headers_too_large");
    let as_many_as_allowed = format!(
        "GET /x HTTP/1.1\r\nHost: api.test\r\n{}\r\n",
        "A: b\r\n".repeat(9)
    );
    assert_eq!(rig.raw().await.ask(as_many_as_allowed).await.status(), 200);
    let large = format!(
        "GET /x HTTP/1.1\r\nHost: api.test\r\nA: {}\r\n\r\n",
        "b".repeat(9000)
    );
    assert_eq!(rig.raw().await.ask(large).await.status(), 431);
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    assert_eq!(
        caller
            .send("GET", &format!("/{}", "x".repeat(100)), "")
            .await
            .status,
        414
    );
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    rig.reached("target_size", 3.0).await;
    rig.reached("headers", 2.0).await;
    rig.is_well().await;
}

#[tokio::test]
async fn a_slow_head_is_408_and_an_idle_connection_is_none() {
    let rig = Rig::start("limits: {head_timeout: 300ms, idle_timeout: 1h}").await;
    let mut idle = rig.raw().await;
    assert_eq!(idle.ask(GET).await.status(), 200);
    let mut slow = rig.raw().await;
    assert_eq!(slow.ask(GET).await.status(), 200);
    // Dribbling buys no time.
    let started = Instant::now();
    for byte in b"GET /x HTTP/1.1\r\nHost: api.test\r\nX: "
        .iter()
        .chain(&[b'y'; 1000])
    {
        slow.write([*byte]).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        if started.elapsed() > Duration::from_millis(600) {
            break;
        }
    }
    assert_eq!(slow.read_message().await.status(), 408);
    slow.closed().await;
    rig.reached("head_timeout", 1.0).await;
    assert_eq!(idle.ask(GET).await.status(), 200);
    rig.reached("idle_timeout", 0.0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_begun_head_is_not_idle() {
    let rig = Rig::start("limits: {head_timeout: 1h, idle_timeout: 500ms}").await;
    let (mut begun, mut idle) = (rig.raw().await, rig.raw().await);
    begun.write("GET /x HTTP/1.1\r\n").await;
    assert_eq!(idle.ask(GET).await.status(), 200);
    assert_eq!(idle.read_to_end().await.unwrap(), b"");
    let mut unused = rig.raw().await;
    assert_eq!(unused.read_to_end().await.unwrap(), b"");
    rig.reached("idle_timeout", 2.0).await;
    assert_eq!(begun.ask("Host: api.test\r\n\r\n").await.status(), 200);
}

#[tokio::test]
async fn an_unused_http_2_connection_is_told_to_go() {
    let rig = Rig::start("limits: {idle_timeout: 300ms}").await;
    let mut caller = rig.raw().await;
    caller
        .write([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat())
        .await;
    assert_eq!(goaway(&mut caller).await, 0);
    rig.reached("idle_timeout", 1.0).await;
}

#[tokio::test]
async fn an_http_2_connection_that_is_used_now_and_then_is_kept() {
    let idle = Duration::from_secs(3);
    let rig = Rig::start("limits: {idle_timeout: 3s}").await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    let begun = Instant::now();
    // Longer than one that carries nothing would last.
    while begun.elapsed() < idle + idle / 2 {
        assert_eq!(caller.send("GET", "/x", "").await.status, 200);
        tokio::time::sleep(idle / 20).await;
    }
    rig.reached("idle_timeout", 0.0).await;
}

#[tokio::test]
async fn an_http_2_caller_is_told_how_many_streams_and_how_large_a_head_it_may_have() {
    const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
    const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];
    let rig = Rig::start("limits: {streams: 5, header_size: 9KiB}").await;
    let mut caller = rig.raw().await;
    caller
        .write([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat())
        .await;
    let head = caller.read_exact(9).await;
    assert_eq!(head[3], SETTINGS);
    let settings = caller.read_exact(usize::from(head[2])).await;
    let has = |name: [u8; 2], value: u32| {
        let wanted = [&name[..], &value.to_be_bytes()].concat();
        settings.chunks(6).any(|setting| setting == wanted)
    };
    assert!(has(MAX_CONCURRENT_STREAMS, 5), "{settings:?}");
    assert!(has(MAX_HEADER_LIST_SIZE, 9 * 1024), "{settings:?}");
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_closed() {
    let rig = Rig::start("limits: {connections: 2}").await;
    let (mut first, mut second) = (rig.raw().await, rig.raw().await);
    for caller in [&mut first, &mut second] {
        assert_eq!(caller.ask(GET).await.status(), 200);
    }
    let mut third = rig.raw().await;
    let told = third.ask(GET).await;
    assert_eq!((told.status(), told.field("retry-after")), (503, Some("1")));
    is_refused(&told, 503, "overloaded");
    let problem: serde_json::Value = serde_json::from_str(told.text()).unwrap();
    assert_eq!(problem["request_sent"], "no");
    assert_eq!(third.read_to_end().await.unwrap(), b"");
    rig.reached("connections", 1.0).await;
    let overloaded = [("reason", "overloaded")];
    let refusals = rig.proxy.metric("bursar_refusals_total", &overloaded).await;
    assert_eq!(refusals, 1.0);
    assert_eq!(second.ask(GET).await.status(), 200);
    drop(first);
    eventually(|| async {
        let reply = rig.raw().await.ask(GET).await;
        reply.status() == 200
    })
    .await;
}

#[tokio::test]
async fn a_callers_connections_are_its_own() {
    let callers = "callers:\n  shop: {password: pw, allow: [acme], limits: {connections: 1}}\n  till: {password: pw, allow: [acme]}";
    let rig = Rig::start(callers).await;
    let get = |name: &str| {
        let password = basic(name, "pw");
        format!("GET /x HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: {password}\r\n\r\n")
    };
    let mut first = rig.raw().await;
    assert_eq!(first.ask(get("shop")).await.status(), 200);
    for request in [
        get("shop"),
        get("shop").replace("GET /x", "CONNECT api.test:80"),
    ] {
        let mut second = rig.raw().await;
        let told = second.ask(request).await;
        is_refused(&told, 429, "caller_limit_exceeded");
        assert_eq!(told.field("connection"), Some("close"));
        assert_eq!(second.read_to_end().await.unwrap(), b"");
    }
    rig.reached("caller_connections", 2.0).await;
    let mut other = rig.raw().await;
    for _ in 0..2 {
        assert_eq!(first.ask(get("shop")).await.status(), 200);
        assert_eq!(other.ask(get("till")).await.status(), 200);
    }
    drop(first);
    // A tunnel is a connection, and what it carries is none.
    let connect = get("shop").replace("GET /x", "CONNECT api.test:80");
    let mut tunnel = rig.raw().await;
    eventually(|| async {
        let mut caller = rig.raw().await;
        caller.ask(get("shop")).await.status() == 200
    })
    .await;
    while tunnel.ask(&connect).await.status() != 200 {
        tunnel = rig.raw().await;
    }
    assert_eq!(tunnel.ask(GET).await.status(), 200);
    assert_eq!(rig.raw().await.ask(get("shop")).await.status(), 429);
}

#[tokio::test]
async fn requests_and_tunnels_beyond_their_number_are_503() {
    let latch = Latch::closed();
    let api = Upstream::held("fine", &latch);
    let rig = Rig::of(api.await, "limits: {requests: 1, tunnels: 1}", "").await;
    let mut waiting = rig.raw().await;
    waiting.write(GET.replace("/x", "/held")).await;
    latch.reached_by(1).await;
    let told = rig.raw().await.ask(GET).await;
    is_refused(&told, 503, "overloaded");
    assert_eq!(told.field("retry-after"), Some("1"));
    latch.open();
    assert_eq!(waiting.read_message().await.status(), 200);
    rig.reached("requests", 1.0).await;
    let connect = "CONNECT api.test:80 HTTP/1.1\r\nHost: api.test:80\r\n\r\n";
    let mut tunnel = rig.raw().await;
    assert_eq!(tunnel.ask(connect).await.status(), 200);
    is_refused(&rig.raw().await.ask(connect).await, 503, "overloaded");
    rig.reached("tunnels", 1.0).await;
    assert_eq!(tunnel.ask(GET).await.status(), 200);
    rig.is_well().await;
}

#[tokio::test]
async fn bodies_that_do_not_come_and_answers_that_are_not_read_end_and_are_counted() {
    let api = Upstream::start(|_| async { answer(200, vec![b'x'; 32 << 20]) }).await;
    let rig = Rig::of(api, "", "timeouts: {idle: 500ms}").await;
    let mut slow = rig.raw().await;
    let told = slow
        .ask("POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    is_refused(&told, 408, "request_timeout");
    rig.reached("body_timeout", 1.0).await;
    let mut deaf = rig.raw().await;
    deaf.write(GET).await;
    rig.reached("write_timeout", 1.0).await;
    rig.is_well().await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 5;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Answers pings until the peer says that it goes, and why.
async fn goaway(caller: &mut Raw) -> u32 {
    loop {
        let head = caller.read_exact(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = caller.read_exact(usize::try_from(length).unwrap()).await;
        match (head[3], head[4]) {
            (GOAWAY, _) => return u32::from_be_bytes(*payload[4..].first_chunk().unwrap()),
            (PING, 0) => caller.write(frame(PING, 1, 0, &payload)).await,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    let rig = Rig::start("").await;
    let mut other = Caller::connect_http2(rig.proxy.listen).await;
    assert_eq!(other.send("GET", "/x", "").await.status, 200);
    // `:method GET`, `:scheme http`, `:path /` of the static table, and an authority.
    let block = [&[0x82, 0x86, 0x84, 0x41, 8][..], b"api.test"].concat();
    let mut flood = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    for stream in (1..800).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let mut caller = rig.raw().await;
    caller.write(flood).await;
    assert_eq!(goaway(&mut caller).await, ENHANCE_YOUR_CALM);
    caller.closed().await;
    rig.reached("resets", 1.0).await;
    assert_eq!(other.send("GET", "/x", "").await.status, 200);
    rig.is_well().await;
}

#[tokio::test]
async fn without_file_descriptors_accepting_pauses_and_goes_on_afterwards() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let yaml = format!("process: {{dumpable: true}}\n{yaml}");
    let program = Program::start_with_files(200, &yaml, "warn,bursar::server=info").await;
    program.limit_files(program.open_files()).await;
    let since = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..64 {
        callers.push(Raw::connect(program.listen).await);
    }
    let complaints = || {
        program
            .logged()
            .matches("cannot accept connections")
            .count()
    };
    eventually(|| async { complaints() > 0 }).await;
    drop(callers);
    program.limit_files(200).await;
    let refused = "GET http://other.test/ HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        Raw::connect(program.listen)
            .await
            .ask(refused)
            .await
            .status(),
        403
    );
    // How often it has tried in vain: with pauses, and not as often as a processor can.
    let tries = Scrape::of(program.admin)
        .await
        .value("bursar_limit_reached_total", &[("limit", "accept")]);
    assert!(
        tries >= 1.0 && tries < since.elapsed().as_secs_f64() * 20.0 + 10.0,
        "{tries}"
    );
    assert_eq!(complaints(), 1);
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
}
