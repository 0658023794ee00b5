//! The pool over connections in memory, whose servers do what a test says.

use std::collections::HashMap;
use std::error::Error;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::Full;
use prometheus::IntGauge;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::upstream::connection::Sent;
use crate::upstream::send_error::SendError;
use bursar_http::headers::KeepAlive;
use bursar_http::read_body::read_limited;

const IDLE: Duration = Duration::from_secs(30);
const AGE: Duration = Duration::from_secs(100);

type Body = Full<Bytes>;

fn pool() -> Arc<Pool<Body>> {
    let timeouts = Timeouts {
        connect: IDLE,
        head: IDLE,
        idle: IDLE,
        pool_idle: IDLE,
        pool_age: AGE,
    };
    Pool::new(&timeouts, &DroppedFields::unregistered().unwrap())
}

/// A new stream, counted.
fn opened(gauge: &IntGauge) -> Open {
    Open {
        counted: Counted::new(gauge),
        peer: Peer::new("one.test:443", None),
    }
}

fn gauge() -> IntGauge {
    IntGauge::new("connections", "Open connections.").unwrap()
}

fn origin(name: &str) -> Origin {
    Origin::new(Scheme::HTTP, name, 80).unwrap()
}

/// Until every task waits for something that only time or the test can bring.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What a server does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Responds; the connection stays open.
    Respond,
    /// The same, and says that it waits for so many seconds for another request.
    RespondPatiently(u64),
    /// Responds and says that it closes, and does.
    RespondAndClose,
    /// Responds and closes, without a word.
    RespondAndLeave,
    /// Closes in the middle of the response's body.
    BreakOff,
    /// Sends what is no response.
    Babble,
    /// Closes, whether or not there is a request.
    Close,
}

/// One connection as its server sees it.
struct Server {
    acts: mpsc::Sender<Act>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    /// Requests without a response.
    open: usize,
    /// The most there were at once.
    most: usize,
    /// Whether the other side has closed.
    is_over: bool,
}

impl Server {
    fn start() -> (Self, DuplexStream) {
        let (inner, outer) = tokio::io::duplex(1 << 16);
        let (acts, todo) = mpsc::channel(8);
        let seen = Arc::default();
        tokio::spawn(serve(inner, todo, Arc::clone(&seen)));
        (Self { acts, seen }, outer)
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests
    }

    async fn act(&self, act: Act) {
        // It may be gone, because the other side has closed.
        let _ = self.acts.try_send(act);
        settle().await;
    }
}

async fn serve(mut stream: DuplexStream, mut todo: mpsc::Receiver<Act>, seen: Arc<Mutex<Seen>>) {
    let mut read = Vec::new();
    loop {
        let act = tokio::select! {
            act = todo.recv() => act,
            bytes = stream.read_buf(&mut read) => {
                let mut seen = seen.lock().unwrap();
                if bytes.unwrap_or(0) == 0 {
                    seen.is_over = true;
                    return;
                }
                let heads = read.windows(4).filter(|four| four == b"\r\n\r\n").count();
                seen.open += heads - seen.requests;
                seen.requests = heads;
                seen.most = seen.most.max(seen.open);
                continue;
            }
        };
        let Some(act) = act else { return };
        let response = match act {
            Act::Respond | Act::RespondAndLeave => {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
            }
            Act::RespondPatiently(seconds) => format!(
                "HTTP/1.1 200 OK\r\nKeep-Alive: timeout={seconds}\r\nContent-Length: 2\r\n\r\nok"
            ),
            Act::RespondAndClose => {
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_owned()
            }
            Act::BreakOff => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no".to_owned(),
            Act::Babble => "250 ok\r\n".to_owned(),
            Act::Close => return,
        };
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
        {
            let mut seen = seen.lock().unwrap();
            seen.open = seen.open.saturating_sub(1);
        }
        if !matches!(act, Act::Respond | Act::RespondPatiently(_) | Act::Babble) {
            return;
        }
    }
}

/// A request that was sent.
struct UnderWay {
    server: usize,
    connection: Connection<Body>,
    response: tokio::task::JoinHandle<Sent<Body>>,
}

/// What is known of a connection besides what the pool knows.
struct Known {
    origin: usize,
    server: Server,
    opened: Instant,
    /// For how long it may wait for a request.
    idle: Duration,
    is_closed: bool,
}

/// A pool, its servers, and a model of what it has to do.
struct Rig {
    pool: Arc<Pool<Body>>,
    open: IntGauge,
    known: Vec<Known>,
    /// The connections of each origin that were given back, the latest last, and until when they are good.
    idle: HashMap<usize, Vec<(usize, Instant)>>,
    under_way: Vec<UnderWay>,
}

impl Rig {
    fn new() -> Self {
        Self {
            pool: pool(),
            open: gauge(),
            known: Vec::new(),
            idle: HashMap::new(),
            under_way: Vec::new(),
        }
    }

    fn is_closed(&self, server: usize) -> bool {
        self.known[server].is_closed
    }

    /// Which connection the pool has to hand out: the one that was given back last of those that are open and in time.
    fn expected(&mut self, origin: usize, now: Instant) -> Option<usize> {
        let idle = self.idle.entry(origin).or_default();
        while let Some((server, end)) = idle.pop() {
            if now < end && !self.known[server].is_closed {
                return Some(server);
            }
        }
        None
    }

    /// A request takes a connection, or opens one.
    async fn ask(&mut self, origin_number: usize) {
        let origin = origin(["one.test", "two.test"][origin_number]);
        let now = Instant::now();
        let expected = self.expected(origin_number, now);
        let taken = self.pool.take(&origin, Need::default(), now);
        let mut connection = match taken {
            Some(connection) => connection,
            None => {
                assert_eq!(expected, None, "there is one to be had");
                let (server, stream) = Server::start();
                let open = opened(&self.open);
                self.known.push(Known {
                    origin: origin_number,
                    server,
                    opened: now,
                    idle: IDLE,
                    is_closed: false,
                });
                let opening = self.pool.open_http1(&origin, stream, open);
                opening.await.unwrap()
            }
        };
        let before: Vec<usize> = self.requests();
        let request = Request::get("/").header("host", "x");
        let response = connection.send(request.body(UploadBody::new(Body::default())).unwrap());
        let response = tokio::spawn(response);
        settle().await;
        let served = self
            .requests()
            .iter()
            .zip(&before)
            .map(|(now, before)| now - before)
            .collect::<Vec<_>>();
        assert_eq!(served.iter().sum::<usize>(), 1, "it gets to one server");
        let server = served.iter().position(|count| *count == 1).unwrap();
        assert_eq!(server, expected.unwrap_or(self.known.len() - 1));
        assert_eq!(self.known[server].origin, origin_number);
        self.under_way.push(UnderWay {
            server,
            connection,
            response,
        });
    }

    fn requests(&self) -> Vec<usize> {
        self.known
            .iter()
            .map(|known| known.server.requests())
            .collect()
    }

    /// A server does something about a request that is under way; the response is read, and the connection given back.
    async fn end(&mut self, number: usize, act: Act) {
        let UnderWay {
            server,
            mut connection,
            response,
        } = self.under_way.swap_remove(number);
        self.known[server].server.act(act).await;
        let sent = response.await.unwrap();
        let response = connection.sender.classify_outcome(sent);
        self.known[server].is_closed = !matches!(act, Act::Respond | Act::RespondPatiently(_));
        match act {
            Act::Close | Act::Babble => {
                assert!(
                    matches!(response, Err(SendError::Broken)),
                    "{act:?}: {response:?}"
                );
                drop(connection);
            }
            Act::BreakOff => {
                let body = response.unwrap().into_body();
                read_limited(body, 8).await.unwrap_err();
                // As after an error nobody does, and it must not matter.
                self.pool.give_back(connection);
            }
            _ => {
                let response = response.unwrap();
                connection.heed(KeepAlive::read(response.headers()));
                read_limited(response.into_body(), 8).await.unwrap();
                self.pool.give_back(connection);
                self.given_back(server, act);
            }
        }
        settle().await;
    }

    fn given_back(&mut self, server: usize, act: Act) {
        let known = &mut self.known[server];
        if let Act::RespondPatiently(seconds) = act {
            known.idle = IDLE.min(Duration::from_secs(seconds.saturating_sub(1)));
        }
        let now = Instant::now();
        let end = (now + known.idle).min(known.opened + AGE);
        if now < end {
            self.idle
                .entry(known.origin)
                .or_default()
                .push((server, end));
        }
    }

    /// The request is given up: nobody waits for its response any more.
    async fn give_up(&mut self, number: usize) {
        let UnderWay {
            server, response, ..
        } = self.under_way.swap_remove(number);
        response.abort();
        self.known[server].is_closed = true;
        settle().await;
    }

    /// A server does something on a connection on which nothing is under way.
    async fn surprise(&mut self, act: Act) {
        let busy: Vec<usize> = self
            .under_way
            .iter()
            .map(|under_way| under_way.server)
            .collect();
        let mut idle = (0..self.known.len())
            .filter(|server| !busy.contains(server) && !self.is_closed(*server));
        if let Some(server) = idle.next_back() {
            self.known[server].server.act(act).await;
            self.known[server].is_closed = true;
        }
    }

    /// Lets go of everything, and waits until the pool has closed what it holds.
    async fn over(mut self) {
        for under_way in self.under_way.drain(..) {
            under_way.response.abort();
        }
        tokio::time::sleep(IDLE + IDLE).await;
        assert_eq!(self.open.get(), 0, "every connection is closed");
        let servers = self.pool.servers();
        assert!(servers.idle.is_empty() && !servers.sweeping);
        for known in &self.known {
            let seen = known.server.seen.lock().unwrap();
            assert!(seen.most <= 1, "two requests at once: {seen:?}");
            assert!(seen.is_over || known.is_closed, "{seen:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Ask(usize),
    /// What the server does with one of the requests that are under way.
    End(usize, Act),
    GiveUp(usize),
    /// What a server does on an idle connection.
    Surprise(Act),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        6 => Just(Act::Respond),
        1 => (0_u64..40).prop_map(Act::RespondPatiently),
        1 => Just(Act::RespondAndClose),
        1 => Just(Act::RespondAndLeave),
        1 => Just(Act::BreakOff),
        1 => Just(Act::Babble),
        1 => Just(Act::Close),
    ];
    prop_oneof![
        8 => (0_usize..2).prop_map(Step::Ask),
        8 => (0_usize..8, act).prop_map(|(number, act)| Step::End(number, act)),
        1 => (0_usize..8).prop_map(Step::GiveUp),
        1 => prop_oneof![Just(Act::Close), Just(Act::Babble)].prop_map(Step::Surprise),
        2 => (0_u64..40).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A connection carries one request at a time; one that is broken, too old or idle for too long is not handed out;
    /// the latest goes first; and all are closed in the end.
    #[test]
    fn whatever_servers_and_requests_do_a_connection_is_handed_out_as_it_should(
        steps in prop::collection::vec(step(), 0..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut rig = Rig::new();
            for step in steps {
                let busy = rig.under_way.len();
                match step {
                    Step::Ask(origin) => rig.ask(origin).await,
                    Step::End(number, act) if number < busy => rig.end(number, act).await,
                    Step::GiveUp(number) if number < busy => rig.give_up(number).await,
                    Step::End(..) | Step::GiveUp(_) => {}
                    Step::Surprise(act) => rig.surprise(act).await,
                    Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                }
            }
            rig.over().await;
        });
    }
}

/// A server that speaks HTTP/2. It responds when it is told to, and says what it is told to.
async fn http2_server(stream: DuplexStream, streams: u32, mut responds: mpsc::Receiver<bool>) {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(streams)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((_, respond))) => waiting.push(respond),
                _ => return,
            },
            responds = responds.recv() => match responds {
                Some(true) => for mut respond in waiting.drain(..) {
                    respond.send_response(Response::new(()), true).unwrap();
                },
                Some(false) => connection.graceful_shutdown(),
                None => return,
            },
        }
    }
}

struct Http2 {
    pool: Arc<Pool<Body>>,
    origin: Origin,
    open: IntGauge,
    /// True: respond to all. False: take no more.
    tell: mpsc::Sender<bool>,
}

impl Http2 {
    /// A server that takes so many requests at once, and the connection that was opened for the first.
    async fn start(streams: u32, need: Need) -> (Self, Connection<Body>) {
        let (pool, origin, open) = (pool(), origin("one.test"), gauge());
        let (inner, outer) = tokio::io::duplex(1 << 16);
        let (tell, told) = mpsc::channel(8);
        tokio::spawn(http2_server(inner, streams, told));
        let opening = pool.open_http2(&origin, TokioIo::new(outer), opened(&open), need);
        let connection = opening.await.unwrap();
        settle().await;
        let rig = Self {
            pool,
            origin,
            open,
            tell,
        };
        (rig, connection)
    }

    fn take(&self) -> Option<Connection<Body>> {
        self.pool
            .take(&self.origin, Need::default(), Instant::now())
    }
}

#[tokio::test(start_paused = true)]
async fn requests_share_an_http2_connection_up_to_what_its_server_takes() {
    let (rig, first) = Http2::start(3, Need::default()).await;
    let second = rig.take().unwrap();
    let third = rig.take().unwrap();
    assert!(rig.take().is_none());
    drop(second);
    let fourth = rig.take().unwrap();
    assert!(rig.take().is_none(), "only one place was free");
    drop((first, third, fourth));
    let all: Vec<_> = std::iter::from_fn(|| rig.take()).collect();
    assert_eq!(all.len(), 3, "the places return");
    assert_eq!(rig.open.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_to_a_server_that_did_not_respond_in_time_is_not_handed_out() {
    let (rig, connection) = Http2::start(3, Need::default()).await;
    rig.pool.distrust(&rig.origin);
    assert!(rig.take().is_none());
    assert_eq!(rig.open.get(), 1, "a request may be under way");
    drop(connection);
    settle().await;
    assert_eq!(rig.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_its_response_is_let_go_of() {
    let (rig, mut connection) = Http2::start(1, Need::default()).await;
    let request = Request::get("http://one.test/").body(UploadBody::new(Body::default()));
    let sent = tokio::spawn(connection.send(request.unwrap()));
    settle().await;
    assert!(rig.take().is_none());
    rig.tell.try_send(true).unwrap();
    let response = connection
        .sender
        .classify_outcome(sent.await.unwrap())
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(rig.take().is_none(), "its connection is still held");
    rig.pool.give_back(connection);
    assert!(rig.take().is_some());
}

#[tokio::test(start_paused = true)]
async fn after_goaway_a_connection_is_not_handed_out_and_ends_with_its_last_request() {
    let (rig, mut connection) = Http2::start(3, Need::default()).await;
    let request = Request::get("http://one.test/").body(UploadBody::new(Body::default()));
    let sent = tokio::spawn(connection.send(request.unwrap()));
    settle().await;
    rig.tell.try_send(false).unwrap();
    settle().await;
    assert!(rig.take().is_none());
    assert_eq!(rig.open.get(), 1, "a request is under way");
    rig.tell.try_send(true).unwrap();
    connection
        .sender
        .classify_outcome(sent.await.unwrap())
        .unwrap();
    drop(connection);
    tokio::time::sleep(IDLE).await;
    assert_eq!(rig.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_is_closed_when_it_is_idle_for_too_long_and_not_before() {
    let (rig, connection) = Http2::start(3, Need::default()).await;
    tokio::time::sleep(IDLE + IDLE / 3).await;
    assert_eq!(rig.open.get(), 1, "a request is under way all the time");
    drop(connection);
    // When the last request ended is known to half of the time.
    tokio::time::sleep(IDLE / 2 - Duration::from_secs(1)).await;
    drop(rig.take().expect("it is in time"));
    tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
    assert_eq!(rig.open.get(), 1, "it was used");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.open.get(), 0);
    assert!(rig.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_old_http2_connection_gets_no_further_request() {
    let (rig, first) = Http2::start(3, Need::default()).await;
    tokio::time::sleep(AGE - Duration::from_secs(1)).await;
    drop(rig.take().expect("it is young enough"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.take().is_none());
    assert_eq!(rig.open.get(), 1, "what is under way comes to its end");
    drop(first);
    tokio::time::sleep(IDLE).await;
    assert_eq!(rig.open.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_http1_gets_no_request_on_the_http2_connections_that_are_open() {
    let (rig, _first) = Http2::start(3, Need::default()).await;
    assert!(!rig.pool.wants_http1(&rig.origin));
    rig.pool.use_http1(&rig.origin);
    assert!(rig.pool.wants_http1(&rig.origin));
    assert!(rig.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_settings_never_come_is_told_apart_from_one_that_is_no_http() {
    let need = Need {
        moves_money: true,
        ..Need::default()
    };
    let (inner, outer) = tokio::io::duplex(1 << 16);
    drop(inner);
    let (pool, origin, open) = (pool(), origin("one.test"), gauge());
    let opening = pool.open_http2(&origin, TokioIo::new(outer), opened(&open), need);
    let error = opening.await.unwrap_err();
    assert!(matches!(error, HandshakeError::Settings(_)), "{error:?}");
    assert!(Error::source(&error).is_some());
    settle().await;
    assert_eq!(open.get(), 0);
}
