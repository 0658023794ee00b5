use std::io;
use std::path::Path;
use std::pin::pin;

use bytes::Bytes;
use http::Request;
use http::uri::Scheme;
use http_body_util::channel::{Channel, Sender};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;

use super::*;
use bursar_config::Config;
use bursar_http::headers::TrailerRules;
use bursar_http::replay_body::{ReplayLimits, ReplayMemory, Sending};

const HEAD: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(4);

type Stream = Channel<Bytes, io::Error>;

/// A provider at that port of this machine, with what else its configuration says.
fn upstream(port: u16, more: &str) -> Upstream<Sending<Stream>> {
    let text = format!(
        "providers: {{acme: {{upstream: 'http://127.0.0.1:{port}', hosts: [api.test], client_id: a, client_secret: b, token: {{url: 'https://x/t'}}, {more}}}}}"
    );
    let config = Config::parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{error:?}"));
    let metrics = Metrics::new(&config).unwrap();
    let egress = Egress::new(&config.egress, &metrics);
    Upstream::new(&config.providers[0], &metrics, &egress)
}

fn origin(port: u16) -> Origin {
    Origin::new(Scheme::HTTP, "127.0.0.1", port).unwrap()
}

#[tokio::test]
async fn why_a_handshake_failed_can_be_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = upstream(port, "http: '2'");
    let origin = origin(port);
    let closing = tokio::spawn(async move {
        for _ in 0..=MAX_UNSENT {
            drop(listener.accept().await.unwrap());
        }
    });
    let need = Need {
        moves_money: true,
        ..Need::default()
    };
    let connecting = upstream.connection(&origin, need, Instant::now());
    let error = connecting.await.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Closed { .. }), "{error:?}");
    assert_eq!(error.cause(), Some(Cause::Reset));
    let source = error.source().expect("something went wrong underneath");
    assert!(source.source().is_some(), "{error:?}");
    closing.await.unwrap();
}

/// A request whose body comes from a caller, to a server that both do what a test says.
struct Rig {
    caller: Option<Sender<Bytes, io::Error>>,
    server: DuplexStream,
}

impl Rig {
    /// Sends the request, has the test do something meanwhile, and says what became of it and when.
    async fn send<F>(
        meanwhile: impl FnOnce(Self) -> F,
    ) -> (Result<Box<Response<Incoming>>, SendError>, Duration)
    where
        F: Future<Output = Self>,
    {
        let timeouts = format!(
            "timeouts: {{head: {}s, idle: {}s}}",
            HEAD.as_secs(),
            IDLE.as_secs()
        );
        let upstream = upstream(80, &timeouts);
        let (server, stream) = tokio::io::duplex(1 << 16);
        let open = Open {
            counted: Counted::new(&upstream.connections.upstream),
            peer: Peer::new("127.0.0.1:80", None),
        };
        let opening = upstream.pool.open_http1(&origin(80), stream, open).await;
        let mut connection = opening.unwrap();
        let (caller, body) = Channel::new(1);
        let limits = ReplayLimits {
            buffer: 1024,
            memory: ReplayMemory::new(1024),
        };
        let body = ReplayBody::new(body, TrailerRules::default(), limits).unwrap();
        let request = Request::post("/").header("transfer-encoding", "chunked");
        let request = request
            .body(UploadBody::new(body.begin_sending().unwrap()))
            .unwrap();
        let started = Instant::now();
        let sending = pin!(connection.send(request));
        let rig = Self {
            caller: Some(caller),
            server,
        };
        let waiting = upstream.response(&mut connection, sending, Some(&body), started);
        let waiting = async { (waiting.await, started.elapsed()) };
        let (response, _rig) = tokio::join!(waiting, meanwhile(rig));
        response
    }

    async fn bring(&mut self, data: &'static str) {
        let caller = self.caller.as_mut().unwrap();
        caller
            .send_data(Bytes::from_static(data.as_bytes()))
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_sends_nothing_for_too_long_is_to_blame() {
    let (response, waited) = Rig::send(|mut rig| async {
        for _ in 0..3 {
            tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
            rig.bring("a").await;
        }
        rig
    })
    .await;
    assert!(
        matches!(response, Err(SendError::CallerStalled)),
        "{response:?}"
    );
    assert_eq!(waited, (IDLE - Duration::from_secs(1)) * 3 + IDLE);
}

#[tokio::test(start_paused = true)]
async fn the_time_for_a_head_counts_from_the_last_byte_of_the_body() {
    let (response, waited) = Rig::send(|mut rig| async {
        tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
        rig.bring("a").await;
        rig.caller = None;
        rig
    })
    .await;
    assert!(matches!(response, Err(SendError::TimedOut)), "{response:?}");
    assert_eq!(waited, IDLE - Duration::from_secs(1) + HEAD);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_body_breaks_off_is_gone() {
    let (response, _) = Rig::send(|mut rig| async {
        rig.bring("a").await;
        let caller = rig.caller.take().unwrap();
        caller.abort(io::ErrorKind::UnexpectedEof.into());
        rig
    })
    .await;
    assert!(
        matches!(response, Err(SendError::CallerGone)),
        "{response:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_without_a_response_leaves_the_request_in_doubt() {
    let (response, _) = Rig::send(|mut rig| async {
        rig.bring("a").await;
        rig.server.read_exact(&mut [0; 16]).await.unwrap();
        rig.server.shutdown().await.unwrap();
        rig
    })
    .await;
    assert!(matches!(response, Err(SendError::Broken)), "{response:?}");
}

#[tokio::test(start_paused = true)]
async fn a_response_may_come_before_the_body_is_sent() {
    let (response, _) = Rig::send(|mut rig| async {
        rig.bring("a").await;
        rig.server.read_exact(&mut [0; 16]).await.unwrap();
        let response = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
        rig.server.write_all(response).await.unwrap();
        rig
    })
    .await;
    assert_eq!(response.unwrap().status(), 401);
}
